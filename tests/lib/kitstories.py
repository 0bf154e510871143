"""What the examples of the plugin kit do, whoever loads them: each story takes the folders of the server's and
the agent's programs."""

import base64
import json
import os
import pathlib
import signal
import subprocess

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

import kit as k
from pki import root_pem
from plugins import OWN_KEYS, agent as plugin_agent, log_lines, server as plugin_server
from spire import REPO, wait_for

W = "spiffe://example.org/w"


def own_sockets(world, monkeypatch):
    """Plugins make the folders of their sockets in world.sockets."""
    world.sockets = world.dir / "t"
    world.sockets.mkdir()
    monkeypatch.setenv("TMPDIR", str(world.sockets))


def workload_program(agent):
    """The program that asks: spire-agent, as the command that fetches."""
    return (agent.cli_bin or agent.bin) / "spire-agent"


def attest_and_fetch(world, kit, server_bin, agent_bin):
    """Node and workload attested by the kit's plugins, checksums and all; again after restarts of all parts."""
    server = k.server(world, kit, bindir=server_bin)
    k.secret_file(server.secrets / "n1")
    agent = k.agent(world, kit, server, bindir=agent_bin).start()
    program = workload_program(agent)
    assert server.agent_ids() == [agent.id]
    shown = server.json("agent", "show", "-spiffeID", agent.id)
    assert {"type": "shared_secret", "value": "name:n1"} in shown["selectors"]
    server.entry(agent.id, W, f"process:sha256:{k.sha256(program)}", f"process:exe:{program}")
    server.entry(agent.id, W + "/other", "process:exe:/bin/false")
    agent.await_ids(W)
    for child in (kit.secret_server, kit.secret_agent, kit.process):
        assert len(k.alive(child)) == 1
    agent.restart()
    agent.await_ids(W)
    server.restart()
    server.entry(agent.id, W + "/again", f"process:exe:{program}")
    agent.await_ids(W, W + "/again", limit=60)
    server.stop()
    agent.stop()
    for child in (kit.secret_server, kit.secret_agent, kit.process):
        assert k.alive(child) == []
    assert list(world.sockets.iterdir()) == []


def attest_again_after_a_new_data_directory(world, kit, server_bin, agent_bin):
    server = k.server(world, kit, bindir=server_bin)
    k.secret_file(server.secrets / "n1")
    agent = k.agent(world, kit, server, bindir=agent_bin).start()
    agent.stop()
    for file in (agent.dir / "data").iterdir():
        file.unlink()
    agent.start()
    assert server.agent_ids() == [agent.id]


def refuse_wrong_secret(world, kit, server_bin, agent_bin):
    """The agent learns nothing but the refusal; the server's log has the reason, as a line with fields."""
    server = k.server(world, kit, bindir=server_bin)
    k.secret_file(server.secrets / "n1", "x" * 40)
    agent = k.agent(world, kit, server, bindir=agent_bin).spawn()
    server.await_log("the response does not fit the secret")
    agent.await_log("nodeattestor(shared_secret): the proof is wrong")
    assert "does not fit" not in agent.log() and k.SECRET not in server.log() + agent.log()
    line = next(x for x in log_lines(server.log()) if x["msg"] == "Node attestation refused")
    assert line["level"] == "warning" and line["node_name"] == "n1"
    assert server.agent_ids() == []
    agent.kill()


def refuse_wrong_configuration(world, kit, server_bin, agent_bin):
    server = k.server(world, kit, bindir=server_bin)
    agent = k.agent(world, kit, server, bindir=agent_bin,
                    workload=k.block("WorkloadAttestor", "process", kit.process, "max_sise = 1")).spawn()
    agent.await_log('failed to configure plugin \\"process\\"')
    agent.await_log('unknown option \\"max_sise\\"')
    assert wait_for("the end of the agent", lambda: not agent.alive())
    assert k.alive(kit.process) == []


def end_with_a_dead_host(world, kit, server_bin, agent_bin):
    """No plugin outlives a host that was killed."""
    k.server(world, kit, bindir=server_bin).kill()
    wait_for("the end of the plugin", lambda: not k.alive(kit.secret_server))


def survive_interrupts(world, kit, server_bin, agent_bin):
    """A terminal's ^C goes to the plugins, too: their host decides when they end."""
    server = k.server(world, kit, bindir=server_bin)
    child = k.alive(kit.secret_server)[0]
    os.kill(child, signal.SIGINT)
    k.secret_file(server.secrets / "n1")
    agent = k.agent(world, kit, server, bindir=agent_bin).start()
    assert server.agent_ids() == [agent.id]
    assert k.alive(kit.secret_server) == [child]


def serve_built_ins(world, kit, server_bin, agent_bin):
    """Our own KeyManagers, UpstreamAuthority and WorkloadAttestor as external plugins."""
    def external(program, kind, name, data=""):
        return k.block(kind, name, kit.built_ins, data, plugin_args=[program, kind, name])

    root = root_pem(world.dir / "root.pem", "the upstream root")
    cert, _, key = (world.dir / "root.pem").read_text().partition("-----BEGIN PRIVATE KEY")
    (world.dir / "cert.pem").write_text(cert)
    (world.dir / "key.pem").write_text("-----BEGIN PRIVATE KEY" + key)
    server = plugin_server(world, conf=OWN_KEYS, bindir=server_bin, plugins="\n".join([
        external("server", "KeyManager", "memory"),
        external("server", "UpstreamAuthority", "disk", f'cert_file_path = "{world.dir}/cert.pem"\n'
                                                        f'key_file_path = "{world.dir}/key.pem"')])).start()
    assert root.public_bytes(Encoding.PEM).decode() in server.bundle_pem()
    agent = plugin_agent(world, server, keys=external("agent", "KeyManager", "memory"),
                         workload=external("agent", "WorkloadAttestor", "unix"))
    agent.bin = agent_bin
    agent.start("-joinToken", token := server.token())
    server.entry(f"spiffe://{server.td}/spire/agent/join_token/{token}", W)
    agent.await_ids(W)
    assert agent.fetch_jwt("aud")[0]["spiffe_id"] == W


def other(world, kit, kind, word):
    """A block of the test's own plugin of this kind, and what reads its journal."""
    path = world.dir / f"{word}.journal"
    text = k.block(kind, word, kit.others, f'journal = "{path}"', plugin_args=[word])
    return text, lambda: path.read_text().splitlines() if path.exists() else []


def await_line(lines, start, limit=15):
    return wait_for(f"{start!r} in a journal", lambda: next((x for x in lines() if x.startswith(start)), None), limit)


def tell_notifiers_and_publishers(world, kit, server_bin, agent_bin):
    """They see the bundle, and the host's services answer them."""
    notifier, told = other(world, kit, "Notifier", "notifier")
    publisher, published = other(world, kit, "BundlePublisher", "publisher")
    server = plugin_server(world, bindir=server_bin, server='ca_ttl = "30s"', plugins=notifier + publisher).start()
    assert await_line(told, "loaded") == "loaded td=example.org roots=1 jwt=1"
    assert await_line(published, "publish") == "publish td=example.org roots=1 jwt=1"
    for n in range(1, 6):
        assert await_line(told, f"metric kind={n}") == f"metric kind={n} code=0"
    assert await_line(told, "updated td=example.org roots=2", 60)  # the next CA is made after half its life
    assert await_line(told, "identity chain=") in ("identity chain=1 key=1 td=example.org roots=2",
                                                  "identity chain=1 key=1 td=example.org roots=1")
    assert await_line(told, "agent") == "agent code=5 no such agent"
    assert await_line(published, "publish td=example.org roots=2")
    assert "a line on standard output" in server.log()
    server.stop()
    assert told()[-1] == published()[-1] == "destroy"


def compose_credentials(world, kit, server_bin, agent_bin):
    composer, seen = other(world, kit, "CredentialComposer", "composer")
    server, agent = world.pair(server={"bindir": server_bin, "plugins": composer}, agent={"bindir": agent_bin})
    server.entry(agent.id, W)
    agent.await_ids(W)
    der = base64.b64decode(agent.fetch_x509()["svids"][0]["x509_svid"])
    units = x509.load_der_x509_certificate(der[:4 + int.from_bytes(der[2:4], "big")]).subject.get_attributes_for_oid(
        NameOID.ORGANIZATIONAL_UNIT_NAME)
    assert [u.value for u in units] == ["composed in C"]
    assert f"svid id={W} key=1 o=SPIRE" in seen()
    body = agent.fetch_jwt("aud")[0]["svid"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=="))
    assert claims["composed"] == ["in", "C"] and claims["sub"] == W and claims["aud"] == ["aud"]
    assert isinstance(claims["exp"], int) and claims["exp"] > claims["iat"]


def store_svids(world, kit, server_bin, agent_bin):
    store, seen = other(world, kit, "SVIDStore", "store")
    server = world.server(bindir=server_bin).start()
    agent = plugin_agent(world, server, store)
    agent.bin = agent_bin
    agent.start("-joinToken", token := server.token())
    entry = server.entry(f"spiffe://{server.td}/spire/agent/join_token/{token}", W, "store:place:1", storeSVID=True)
    assert await_line(seen, "put").startswith(f"put id={W} chain=1 key=1 bundle=1 metadata=place:1 expires=")
    server.cli("entry", "delete", "-entryID", entry)
    assert await_line(seen, "remove") == "remove metadata=place:1"


def follow_the_docs(world, kit, server_bin, agent_bin):
    """The plugin of docs/writing-plugins.md, taken from there and compiled as it says."""
    text = (REPO / "docs" / "writing-plugins.md").read_text()
    (world.dir / "login.c").write_text(text.split("```c\n")[1].split("```")[0])
    command = next(x for x in text.splitlines() if x.startswith("    cc -O2 -Wall -o login"))
    subprocess.run(f"{command} -Werror {kit.env['LDFLAGS']}", shell=True, check=True, cwd=world.dir, env=kit.env)
    assert "WorkloadAttestor plugin" in subprocess.run([world.dir / "login"], capture_output=True, text=True).stderr
    server = world.server(bindir=server_bin).start()
    agent = plugin_agent(world, server, workload=f'''WorkloadAttestor "login" {{
        plugin_cmd = "{world.dir}/login"
        plugin_checksum = "{k.sha256(world.dir / "login")}"
    }}''')
    agent.bin = agent_bin
    agent.start("-joinToken", token := server.token())
    assert "Plugin loaded" in agent.log() and "plugin_name=login" in agent.log()
    uid = pathlib.Path("/proc/self/loginuid").read_text().strip()
    server.entry(f"spiffe://{server.td}/spire/agent/join_token/{token}", W,
                 "login:none" if uid == "4294967295" else f"login:uid:{uid}")
    agent.await_ids(W)


def push_authorities(world, kit, server_bin, agent_bin):
    """A plugin's thread says that there is another root, and an answer is followed by a key from above."""
    first = root_pem(world.dir / "root.pem", "the upstream root")
    server = plugin_server(world, bindir=server_bin, plugins=k.block(
        "UpstreamAuthority", "authority", kit.authority, f'root = "{world.dir}/root.pem"\nmore = "{world.dir}/more.pem"')).start()
    pem = first.public_bytes(Encoding.PEM).decode()
    assert server.bundle_pem() == pem
    keys = lambda: [key["kid"] for key in json.loads(server.cli("bundle", "show", "-format", "spiffe").stdout)["keys"]
                    if key["use"] == "jwt-svid"]
    assert wait_for("the key from above", lambda: "from-above" in keys()) and len(keys()) == 2
    agent = world.agent(server, bindir=agent_bin).join()
    server.entry(agent.id, W)
    agent.await_ids(W)
    second = root_pem(world.dir / "new.pem", "a second upstream root")
    (world.dir / "new.pem").rename(world.dir / "more.pem")
    server.await_log("pushed 2 roots: 0")
    both = {pem, second.public_bytes(Encoding.PEM).decode()}
    split = lambda text: {x + "-----END CERTIFICATE-----\n" for x in text.split("-----END CERTIFICATE-----\n")[:-1]}
    wait_for("the pushed root in the bundle", lambda: split(server.bundle_pem()) == both)
    der = second.public_bytes(Encoding.DER)
    wait_for("the pushed root at the workload", lambda: der in base64.b64decode(agent.fetch_x509()["svids"][0]["bundle"]), 30)


STORIES = [push_authorities, follow_the_docs, serve_built_ins, tell_notifiers_and_publishers, compose_credentials, store_svids, attest_and_fetch, attest_again_after_a_new_data_directory, refuse_wrong_secret, refuse_wrong_configuration,
           end_with_a_dead_host, survive_interrupts]
