"""External plugins that others could have written, in Go with SPIRE's plugin SDK: every kind does its job in our
server and agent, end to end. All of it also holds for SPIRE's own programs (CSPIRE_BIN)."""

import base64
import hashlib
import json
import os
import signal

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import spire
from pki import root_pem, write_whole
from plugins import OWN_KEYS, UPSTREAM, Plugin, agent as plugin_agent, gone, server as plugin_server
from spire import wait_for

W = "spiffe://example.org/w"


@pytest.fixture
def make(plugins, tmp_path):
    """Makes plugins: make("server", "Notifier", "one", field=value, ...)."""
    return lambda *words, **data: Plugin(plugins, tmp_path / words[0], *words, **data)


def join(world, server, *more, **kw):
    """An agent with a join token, running."""
    made = plugin_agent(world, server, *more, **kw)
    made.id = f"spiffe://{server.td}/spire/agent/join_token/{(token := server.token())}"
    return made.start("-joinToken", token)


def leaf(agent):
    return x509.load_der_x509_certificate(chain(agent)[0])


def chain(agent):
    """The certificates of the only SVID, DER each."""
    der = base64.b64decode(agent.fetch_x509()["svids"][0]["x509_svid"])
    out = []
    while der:
        cert = x509.load_der_x509_certificate(der[:4 + int.from_bytes(der[2:4], "big")])
        out.append(cert.public_bytes(serialization.Encoding.DER))
        der = der[len(out[-1]):]
    return out


def claims(token):
    body = token.split(".")[1]
    return json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))


def bundle(server):
    return x509.load_pem_x509_certificates(server.bundle_pem().encode())


@pytest.mark.parametrize("key_type", ["ec-p384", "rsa-2048"])
def test_key_manager_signs_and_survives_a_restart(world, make, tmp_path, key_type):
    keys = make("server", "KeyManager", "own", keys=tmp_path / "keys")
    server = plugin_server(world, conf=OWN_KEYS, plugins=keys.block(), server=f'ca_key_type = "{key_type}"').start()
    agent = join(world, server)
    server.entry(agent.id, W)
    agent.await_ids(W)
    made = {c["id"] for c in keys.calls("GenerateKey")}
    assert {"x509-CA-A", "JWT-Signer-A"} <= made
    signed = {c["id"] for c in keys.calls("SignData")}
    assert "x509-CA-A" in signed
    assert agent.fetch_jwt("a") and "JWT-Signer-A" in {c["id"] for c in keys.calls("SignData")}
    before = server.bundle_pem()
    server.restart()
    assert server.bundle_pem() == before
    assert "x509-CA-A" not in [c["id"] for c in keys.calls("GenerateKey")][len(made):]
    server.entry(agent.id, "spiffe://example.org/x")
    agent.await_ids(W, "spiffe://example.org/x", limit=40)


def test_key_manager_without_memory_makes_new_keys(world, make):
    """After a restart its keys are gone: the server goes on with a new authority."""
    keys = make("server", "KeyManager", "own")
    server = plugin_server(world, conf=OWN_KEYS, plugins=keys.block()).start()
    before = server.bundle_pem()
    server.restart()
    assert before in server.bundle_pem() and len(bundle(server)) == 2


def test_agent_key_manager(world, make, tmp_path):
    server = plugin_server(world).start()
    keys = make("agent", "KeyManager", "own", keys=tmp_path / "keys")
    agent = join(world, server, keys=keys.block())
    server.entry(agent.id, W)
    agent.await_ids(W)
    assert keys.calls("GenerateKey") and keys.calls("SignData")
    made = len(keys.calls("GenerateKey"))
    agent.restart()
    agent.await_ids(W)
    assert len(keys.calls("GenerateKey")) == made, "the agent's key was not found again"


@pytest.mark.parametrize("rounds", [0, 1, 3])
def test_node_attested_with_challenges(world, make, rounds):
    theirs = make("server", "NodeAttestor", "interop", secret="s3cret", rounds=rounds, selectors=["zone:b", "rack:1"],
                  can_reattest=True)
    server = plugin_server(world, plugins=theirs.block()).start()
    ours = make("agent", "NodeAttestor", "interop", secret="s3cret")
    ours.fields["name"] = "node-7"
    agent = plugin_agent(world, server, attestor=ours.block())
    agent.start()
    agent.id = "spiffe://example.org/spire/agent/interop/node-7"
    assert server.agent_ids() == [agent.id]
    told = server.agents()[0]
    assert told["attestation_type"] == "interop" and told["can_reattest"] is True
    values = sorted(s["value"] for s in told["selectors"])
    assert {s["type"] for s in told["selectors"]} == {"interop"}
    assert values == ["ip:127.0.0.1", "name:node-7", "rack:1", "zone:b"]
    assert len(ours.calls("Challenge")) == rounds
    call = theirs.calls("Attest")[0]
    assert call["ip"] == "127.0.0.1"
    assert call["identity"] == "spiffe://example.org/spire/server of example.org with 1 roots"
    assert call["agent"] == "rpc error: code = NotFound desc = no such agent" and call["metrics"] == "ok"
    server.cli("entry", "create", "-node", "-spiffeID", "spiffe://example.org/rack", "-selector", "interop:rack:1")
    server.entry("spiffe://example.org/rack", W)
    agent.await_ids(W)


def test_node_with_a_wrong_answer_is_refused(world, make):
    theirs = make("server", "NodeAttestor", "interop", secret="s3cret", rounds=1)
    server = plugin_server(world, plugins=theirs.block()).start()
    ours = make("agent", "NodeAttestor", "interop", secret="guess")
    agent = plugin_agent(world, server, attestor=ours.block()).spawn()
    agent.await_log("the response does not answer the challenge")
    server.await_log("odeattestor(interop): the response does not answer the challenge")
    assert server.agent_ids() == []
    agent.kill()


def test_attested_again_the_agent_is_known(world, make):
    theirs = make("server", "NodeAttestor", "interop", can_reattest=True)
    server = plugin_server(world, plugins=theirs.block()).start()
    ours = make("agent", "NodeAttestor", "interop")
    ours.fields["name"] = "n"
    agent = plugin_agent(world, server, attestor=ours.block()).start()
    agent.stop()
    for f in (agent.dir / "data").iterdir():
        f.unlink()
    agent.start()
    assert [c["agent"] for c in theirs.calls("Attest")][-1] == "spiffe://example.org/spire/agent/interop/n"
    assert len(server.agent_ids()) == 1


def test_upstream_authority(world, make, tmp_path):
    root, later = root_pem(tmp_path / "root", "upstream root"), tmp_path / "later"
    key_file = tmp_path / "key"
    up = make("server", "UpstreamAuthority", "own", root=tmp_path / "root", next_root=later, next_key=key_file)
    server = plugin_server(world, plugins=up.block()).start()
    assert bundle(server) == [root]
    agent = join(world, server)
    server.entry(agent.id, W)
    agent.await_ids(W)
    certs = [x509.load_der_x509_certificate(der) for der in chain(agent)]
    assert len(certs) == 2 and certs[1].issuer == root.subject
    certs[1].verify_directly_issued_by(root)
    certs[0].verify_directly_issued_by(certs[1])
    assert up.calls("PublishJWTKeyAndSubscribe")

    second = root_pem(later, "second root")
    wait_for("the pushed root", lambda: sorted(c.subject.rfc4514_string() for c in bundle(server)) ==
             sorted(c.subject.rfc4514_string() for c in (root, second)))
    wait_for("the pushed root at the agent", lambda: second.public_bytes(serialization.Encoding.DER) in
             base64.b64decode(agent.fetch_x509()["svids"][0]["bundle"]), 30)
    public = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write_whole(key_file, public)
    wait_for("the pushed key", lambda: "pushed" in [
        k.get("kid") for k in json.loads(server.cli("bundle", "show", "-format", "spiffe").stdout)["keys"]])

    later.unlink()
    server.restart()
    assert len(chain(agent)) == 2


def test_upstream_authority_is_followed_after_a_restart(world, make, tmp_path):
    """Without a mint, since the CA of before is still good; the plugin is asked for the bundle after 5 s. (SPIRE looks
    for its CA by the SHA-1 of the key, does not find the one that Go's library named otherwise, and mints.)"""
    root_pem(tmp_path / "root", "upstream root")
    up = make("server", "UpstreamAuthority", "own", root=tmp_path / "root", next_root=tmp_path / "later", whole_bundle=True)
    server = plugin_server(world, plugins=up.block()).start()
    minted = len(up.calls("MintX509CAAndSubscribe"))
    server.restart()
    root_pem(tmp_path / "later", "second root")
    wait_for("the pushed root", lambda: len(bundle(server)) == 2, 30)
    wait_for("a subscription", lambda: up.calls("SubscribeToLocalBundle"), 30)
    assert UPSTREAM or len(up.calls("MintX509CAAndSubscribe")) == minted


def test_upstream_authority_without_jwt_keys(world, make, tmp_path):
    root = root_pem(tmp_path / "root", "upstream root")
    up = make("server", "UpstreamAuthority", "own", root=tmp_path / "root", no_jwt=True)
    server = plugin_server(world, plugins=up.block()).start()
    assert bundle(server) == [root]
    agent = join(world, server)
    server.entry(agent.id, W)
    agent.await_ids(W)
    assert agent.fetch_jwt("a")


def test_notifiers_and_publishers(world, make, tmp_path):
    notifiers = [make("server", "Notifier", n) for n in ("one", "two")]
    publishers = [make("server", "BundlePublisher", n, path=tmp_path / n) for n in ("one", "two")]
    root_pem(tmp_path / "root", "upstream root")
    up = make("server", "UpstreamAuthority", "own", root=tmp_path / "root", next_root=tmp_path / "later")
    server = plugin_server(world, plugins="".join(p.block() for p in [up, *notifiers, *publishers])).start()
    mine = bundle(server)[0].public_bytes(serialization.Encoding.DER)
    for n in notifiers:
        loaded = n.await_call("NotifyAndAdvise")
        assert (loaded["trust_domain"], loaded["roots"], len(loaded["kids"]), loaded["tainted"]) == ("example.org", 1, 1, 0)
    for p in publishers:
        def written():
            got = json.loads(p.fields["path"].read_text())
            return got if got["kids"] else None
        got = wait_for("the bundle", written)
        assert [base64.b64decode(c) for c in got["certificates"]] == [mine]
        assert got["trust_domain"] == "example.org" and got["sequence"] >= 1
    root_pem(tmp_path / "later", "second root")
    for n in notifiers:
        told = n.await_call("Notify", lambda c: c["roots"] == 2)
        assert told["host"]["identity"].startswith("spiffe://example.org/spire/server of example.org with ")
        assert told["host"]["metrics"] == "ok"
    for p in publishers:
        wait_for("both roots", lambda: len(json.loads(p.fields["path"].read_text())["certificates"]) == 2)
    server.stop()
    assert all(n.calls("Close") for n in notifiers + publishers)


def test_a_notifier_that_refuses_the_bundle_stops_the_start(world, make):
    n = make("server", "Notifier", "one", faults={"NotifyAndAdvise": {"do": "error", "text": "not this bundle"}})
    server = plugin_server(world, plugins=n.block()).spawn()
    assert server.proc.wait(20) == 1
    assert "not this bundle" in server.log() and "notifier(one)" in server.log()


def test_a_notifier_that_does_not_care(world, make):
    """Unimplemented is no refusal; SPIRE takes it for one."""
    n = make("server", "Notifier", "one", faults={"NotifyAndAdvise": {"do": "error", "text": "not mine", "code": 12}})
    server = plugin_server(world, plugins=n.block()).spawn()
    if UPSTREAM:
        assert server.proc.wait(20) == 1
        return
    server.await_log("Notifier handled event")
    server.cli("healthcheck")


def test_composers_change_what_is_signed(world, make):
    one = make("server", "CredentialComposer", "one", ou="first unit", oid="1.3.6.1.4.1.55555.1", claim="one")
    two = make("server", "CredentialComposer", "two", ou="second unit", oid="1.3.6.1.4.1.55555.2", claim="two")
    server = plugin_server(world, plugins=one.block() + two.block()).start()
    ca = bundle(server)[0]
    units = lambda cert: [a.value for a in cert.subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)]
    assert units(ca) == ["first unit", "second unit"]
    policies = ca.extensions.get_extension_for_class(x509.CertificatePolicies).value
    assert {p.policy_identifier.dotted_string for p in policies} == {"1.3.6.1.4.1.55555.1.9", "1.3.6.1.4.1.55555.2.9"}
    agent = join(world, server)
    server.entry(agent.id, W, dns=["a.example.org"])
    agent.await_ids(W)
    cert = leaf(agent)
    assert units(cert) == ["first unit", "second unit"]
    for n, name in ((1, "one"), (2, "two")):
        oid = x509.ObjectIdentifier(f"1.3.6.1.4.1.55555.{n}")
        assert cert.extensions.get_extension_for_oid(oid).value.value.endswith(f"made by {name}".encode())
    got = claims(agent.fetch_jwt("a")[0]["svid"])
    for name in ("one", "two"):
        assert got[name] == {"by": name, "list": [1, "two", True, None, 0.5], "large": 9007199254740991,
                             "text": "\u00fc \"quoted\""}
    assert got["sub"] == W and isinstance(got["exp"], int)
    assert one.calls("ComposeServerX509CA") and one.calls("ComposeServerX509SVID")
    assert one.calls("ComposeAgentX509SVID")[0]["id"] == agent.id
    call = next(c for c in two.calls("ComposeWorkloadX509SVID") if c["id"] == W)
    assert call["key"] > 80 and call["dns"] == ["a.example.org"] and "first unit" in call["subject"]


def test_workload_attestors(world, make):
    server = plugin_server(world).start()
    one = make("agent", "WorkloadAttestor", "one", selectors=["colour:blue"])
    two = make("agent", "WorkloadAttestor", "two", selectors=["size:9"])
    agent = join(world, server, one.block(), two.block())
    server.entry(agent.id, W, "one:comm:spire-agent", "one:colour:blue", "two:size:9", f"unix:uid:{os.getuid()}")
    server.entry(agent.id, "spiffe://example.org/no", "one:colour:red")
    agent.await_ids(W)
    assert one.calls("Attest") and two.calls("Attest")


def test_a_workload_attestor_that_fails_leaves_the_others(world, make):
    server = plugin_server(world).start()
    bad = make("agent", "WorkloadAttestor", "bad", faults={"Attest": {"do": "error", "text": "no idea"}})
    agent = join(world, server, bad.block())
    server.entry(agent.id, W)
    agent.await_ids(W)
    agent.await_log("workloadattestor(bad): no idea")


def test_svid_store(world, make, tmp_path):
    server = plugin_server(world, server='ca_ttl = "5m"').start()
    far = plugin_server(world, "far", td="far.test").start()
    pem = world.dir / "far.pem"
    pem.write_text(far.bundle_pem())
    server.cli("bundle", "set", "-id", "spiffe://far.test", "-path", pem)
    store = make("agent", "SVIDStore", "shelf", folder=tmp_path / "shelf")
    agent = join(world, server, store.block())
    entry = server.entry(agent.id, W, "shelf:name:db", storeSVID=True, x509SVIDTTL=12, federatesWith="spiffe://far.test")
    put = store.await_call("PutX509SVID", limit=30)
    assert put["id"] == W and put["metadata"] == ["name:db"] and 0 < put["expires_in"] <= 12
    files = tmp_path / "shelf" / "db"
    wait_for("the files", lambda: (files / "svid.pem").exists())
    cert = x509.load_pem_x509_certificate((files / "svid.pem").read_bytes())
    key = serialization.load_pem_private_key((files / "key.pem").read_bytes(), None)
    assert key.public_key() == cert.public_key()
    assert x509.load_pem_x509_certificates((files / "bundle.pem").read_bytes()) == bundle(server)
    assert put["federated"] == ["spiffe://far.test"]
    far_der = bundle(far)[0].public_bytes(serialization.Encoding.DER)
    assert (files / "federated.far.test.der").read_bytes() == far_der
    # rotation comes by itself, the end with the entry
    wait_for("a second SVID", lambda: len(store.calls("PutX509SVID")) >= 2, 40)
    server.cli("entry", "delete", "-entryID", entry)
    store.await_call("DeleteX509SVID", limit=30)
    wait_for("the files to go", lambda: not files.exists())


def test_data_file_is_read_again_at_the_signal(world, make, tmp_path):
    server = plugin_server(world).start()
    one = make("agent", "WorkloadAttestor", "one")
    file = tmp_path / "data.conf"
    file.write_text(one.data(selectors=["colour:blue"]))
    agent = join(world, server, one.block(file=file))
    server.entry(agent.id, W, "one:colour:red")
    agent.proc.send_signal(signal.SIGUSR1)
    agent.await_log("Plugin not reconfigured since the config is unchanged")
    assert agent.x509_ids() == [] and len(one.calls("Configure")) == 1
    file.write_text(one.data(selectors=["colour:red"]))
    agent.proc.send_signal(signal.SIGUSR1)
    agent.await_log("Plugin reconfigured")
    agent.await_ids(W)
    file.write_text(one.data(reject="not this one"))
    agent.proc.send_signal(signal.SIGUSR1)
    agent.await_log("Failed to reconfigure plugin")
    agent.await_log("not this one")
    agent.await_ids(W)
    file.unlink()
    agent.proc.send_signal(signal.SIGUSR1)
    agent.await_log("failed to load plugin data: ")
    assert len(one.pids()) == 1


def test_data_file_of_a_server_plugin(world, make, tmp_path):
    n = make("server", "Notifier", "one")
    file = tmp_path / "data.conf"
    file.write_text(n.data())
    server = plugin_server(world, plugins=n.block(file=file)).start()
    file.write_text(n.data(name="renamed"))
    server.proc.send_signal(signal.SIGUSR1)
    n.await_call("Configure", lambda c: c["name"] == "renamed")
    server.await_log("Plugin reconfigured")


def test_a_script_in_front_of_a_plugin(world, make, tmp_path):
    """People wrap plugins: the script must know its own place."""
    n = make("server", "Notifier", "one")
    (tmp_path / "real").symlink_to(n.binary)
    script = tmp_path / "wrapper"
    script.write_text('#!/bin/sh\nexec "$(dirname "$0")/real" "$@"\n')
    script.chmod(0o755)
    good = hashlib.sha256(script.read_bytes()).hexdigest()
    for name, options in (("plain", {}), ("summed", {"plugin_checksum": good})):
        plugin_server(world, name, plugins=n.block(plugin_cmd=script, **options)).start().stop()
    assert len(n.calls("NotifyAndAdvise")) == 2


def test_checksum_and_enabled(world, make):
    sound = make("server", "Notifier", "sound")
    off = make("server", "Notifier", "off")
    good = hashlib.sha256(sound.binary.read_bytes()).hexdigest()
    server = plugin_server(world, plugins=sound.block(plugin_checksum=good) + off.block(enabled=False)).start()
    assert "Plugin checksum not configured" not in server.log() and "Not loading plugin; disabled" in server.log()
    assert len(sound.pids()) == 1 and off.pids() == []
    assert sound.await_call("NotifyAndAdvise")

    wrong = make("server", "Notifier", "wrong")
    other = plugin_server(world, "other", plugins=wrong.block(plugin_checksum="0" * 64)).spawn()
    assert other.proc.wait(20) == 1
    assert 'failed to load plugin "wrong": failed to launch plugin: checksums did not match' in unescaped(other.log())
    assert wrong.pids() == [], "the program was started although it is not the one that is wanted"


def unescaped(log):
    return log.replace('\\"', '"')


def test_host_services_of_an_agent_are_metrics_alone(world, make):
    server = plugin_server(world).start()
    store = make("agent", "WorkloadAttestor", "one")
    join(world, server, store.block())
    call = store.calls("Configure")[0]
    assert (call["metrics"], call["identity"], call["agents"]) == (True, False, False)


def test_host_services_of_a_server(world, make):
    n = make("server", "Notifier", "one")
    plugin_server(world, plugins=n.block()).start()
    call = n.calls("Configure")[0]
    assert call["metrics"] and call["identity"] and call["agents"] and call["trust_domain"] == "example.org"


def test_plugins_without_configuration(world, make):
    """A plugin that offers no configuration service is fine as long as there is none to give."""
    n = make("server", "Notifier", "one", flags=["unconfigured"])
    text = n.block().replace("plugin_data {\n" + n.data() + "}", "")
    server = plugin_server(world, plugins=text).start()
    server.stop()
    again = make("server", "Notifier", "two", flags=["unconfigured"])
    other = plugin_server(world, "other", plugins=again.block()).spawn()
    assert other.proc.wait(20) == 1
    assert 'failed to configure plugin "two": no supported configuration interface found' in unescaped(other.log())


def test_validate_asks_external_plugins(world, make):
    good, bad, worse = (make("server", "Notifier", n) for n in ("good", "bad", "worse"))
    server = plugin_server(world, plugins=good.block())
    done = spire.run([server.bin / "spire-server", "validate", "-config", server.conf_path], check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert good.calls("Configure") == []
    other = plugin_server(world, "other", plugins=bad.block(data=bad.data(notes=["first note", "second note"])) +
                         worse.block(data=worse.data(reject="no such luck")))
    done = spire.run([server.bin / "spire-server", "validate", "-config", other.conf_path], check=False)
    assert done.returncode == 1
    text = done.stdout + done.stderr
    for word in ('Notifier "bad":', "first note", "second note", 'Notifier "worse":', "no such luck"):
        assert word in text, text
    wait_for("the plugins to end", lambda: all(gone(p) for x in (good, bad, worse) for p in x.pids()))


@pytest.mark.parametrize("kind,count,text", [
    ("KeyManager", 2, 'plugin type "KeyManager" constraint not satisfied: expected exactly 1 but got 2'),
    ("KeyManager", 0, 'plugin type "KeyManager" constraint not satisfied: expected exactly 1 but got 0'),
    ("UpstreamAuthority", 2, 'plugin type "UpstreamAuthority" constraint not satisfied: expected at most 1 but got 2'),
])
def test_counts(world, make, kind, count, text):
    made = [make("server", kind, f"n{i}") for i in range(count)]
    if kind != "KeyManager":
        made.append(make("server", "KeyManager", "keys"))
    server = plugin_server(world, conf=OWN_KEYS, plugins="".join(p.block() for p in made)).spawn()
    assert server.proc.wait(20) == 1
    assert text in unescaped(server.log())
