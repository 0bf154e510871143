"""SVIDs in a SCONE CAS: our server and agent with the SVIDStore sconecas_sessionmanager, and the stand-in for the CAS."""

import re
import threading

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from pki import root_pem
from plugins import Plugin, agent as plugin_agent, server as plugin_server
from sconecas import APP, HASH, await_versions, block, caslib, entry
from spire import REPO, wait_for

SHORT = 'ca_ttl = "60s"\n    default_x509_svid_ttl = "12s"'


@pytest.fixture
def cas(tmp_path_factory):
    made = caslib.Cas(tmp_path_factory.mktemp("cas"))
    yield made
    made.stop()


def secret(cas, session, name):
    last = cas.last(session)
    return last.secrets[name]["value"] if last else None


def leaf(cas, session="NS/app-injector"):
    return x509.load_pem_x509_certificate(secret(cas, session, "svid").encode())


def assert_no_secrets(agent, cas):
    """No line of a key that ever was in a session is in the log."""
    log = agent.log()
    found = re.findall(r"-----BEGIN PRIVATE KEY-----\s+([A-Za-z0-9+/=\s]+?)\s+-----END", "\n".join(r["body"] for r in cas.requests))
    assert found and "PRIVATE KEY" not in log
    for key in found:
        lines = key.split()
        for line in lines[1:]:  # the first is the same in all keys of a kind
            for at in range(0, max(1, len(line) - 16), 8):
                assert line[at:at + 16] not in log


def test_sessions_are_what_the_original_posts(world, cas, tmp_path):
    server = plugin_server(world).start()
    agent = plugin_agent(world, server, block(cas, tmp_path / "pred" / "deep")).join()
    entry(server, agent)
    await_versions(cas, "NS/app-injector", 1)
    await_versions(cas, "NS/ca-injector", 1)
    assert cas.posts == ["NS/app-injector", "NS/ca-injector"]
    first, second = cas.requests
    assert (first["path"], first["type"]) == ("/session", "application/text")
    # byte for byte: eight blanks after each line end of a PEM
    pem = {n: secret(cas, "NS/app-injector", n) for n in ("svid", "svid_key")}
    indent = lambda text: text.rstrip("\n").replace("\n", "\n        ") + "\n        "
    want = (REPO / "examples/scone/svid.yaml").read_text()
    for word, value in (("predecessor", "~"), ("svid", indent(pem["svid"])), ("svid-intermediates", ""),
                        ("svid-key", indent(pem["svid_key"])), ("session-name-selector", "NS/app"),
                        ("session-hash-selector", HASH)):
        want = want.replace(f"<\\{word}>", value)
    assert first["body"] == want
    want = (REPO / "examples/scone/bundle.yaml").read_text()
    for word, value in (("predecessor", "~"), ("trust-bundle-session-name", "NS/ca"), ("trust-bundle", indent(server.bundle_pem()))):
        want = want.replace(f"<\\{word}>", value)
    assert second["body"] == want
    # what a workload gets of it
    cert = leaf(cas)
    key = serialization.load_pem_private_key(pem["svid_key"].encode(), None)
    assert key.public_key() == cert.public_key()
    assert cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(
        x509.UniformResourceIdentifier) == [APP]
    # predecessors
    for name in ("NS/app-injector", "NS/ca-injector"):
        path = tmp_path / "pred" / "deep" / name
        wait_for("the predecessor", lambda: path.exists() and path.read_text() == cas.last(name).hash)
        assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700
    agent.await_log("SVID stored successfully")
    assert_no_secrets(agent, cas)


def test_rotation_names_the_predecessor_and_posts_nothing_twice(world, cas, tmp_path):
    server = plugin_server(world, server=SHORT).start()
    agent = plugin_agent(world, server, block(cas, tmp_path)).join()
    entry(server, agent)
    versions = await_versions(cas, "NS/app-injector", 3, 40)
    for before, after in zip(versions, versions[1:]):
        assert after.data["predecessor"] == before.hash
    texts = [(r["body"].split("\n")[0], re.sub("predecessor: .*", "", r["body"])) for r in cas.requests]
    assert len(texts) == len(set(texts)), "the same session was posted again"
    assert len(cas.versions("NS/app-injector")) + len(cas.versions("NS/ca-injector")) == len(cas.requests), "a post was refused"
    assert_no_secrets(agent, cas)


def test_restart_goes_on_from_the_files(world, cas, tmp_path):
    server = plugin_server(world).start()
    agent = plugin_agent(world, server, block(cas, tmp_path)).join()
    entry(server, agent)
    await_versions(cas, "NS/ca-injector", 1)
    agent.await_log("SVID stored successfully")
    agent.kill()
    (tmp_path / "NS/app-injector").write_text(cas.last("NS/app-injector").hash + "\n")  # as an editor leaves it
    agent.start()
    second = await_versions(cas, "NS/app-injector", 2)[1]
    assert second.data["predecessor"] == cas.versions("NS/app-injector")[0].hash
    agent.await_log("SVID stored successfully")
    assert all(r["body"].count("predecessor: ~") for r in cas.requests[:2])
    assert len(cas.requests) == len(cas.posts)


def test_federated_bundles_sorted_and_with_two_roots(world, cas, tmp_path):
    server = plugin_server(world).start()
    agent = plugin_agent(world, server, block(cas, tmp_path)).join()
    roots = {}
    for td, n in (("zeta.test", 1), ("alpha.test", 2)):
        certs = [root_pem(tmp_path / f"{td}.{i}", f"{td} {i}") for i in range(n)]
        roots[td] = [c.public_bytes(serialization.Encoding.PEM).decode() for c in certs]
        server.cli("bundle", "set", "-id", f"spiffe://{td}", stdin="".join(roots[td]))
    entry(server, agent, federated="NS/fed", federatesWith=["spiffe://zeta.test", "spiffe://alpha.test"])
    await_versions(cas, "NS/fed", 1)
    assert cas.posts == ["NS/app-injector", "NS/ca-injector", "NS/fed"]
    got = x509.load_pem_x509_certificates(secret(cas, "NS/fed", "spire-federated-bundles").encode())
    names = [c.subject.rfc4514_string() for c in got]
    assert names == ["CN=alpha.test 0", "CN=alpha.test 1", "CN=zeta.test 0"]
    # one of them changes: that session alone is posted
    root_pem(tmp_path / "new", "zeta.test new")
    new = x509.load_pem_x509_certificate((tmp_path / "new").read_bytes()).public_bytes(serialization.Encoding.PEM).decode()
    server.cli("bundle", "set", "-id", "spiffe://zeta.test", stdin=roots["zeta.test"][0] + new)
    await_versions(cas, "NS/fed", 2)
    assert cas.posts[3:] == ["NS/fed"]


def test_a_failure_in_the_middle_is_resumed_there(world, cas, tmp_path):
    broken = ["status 500: broken"]
    cas.fault = lambda name, body: ("status", 500, "down \x1b[31m for now") if name == "NS/ca-injector" and broken else None
    server = plugin_server(world).start()
    agent = plugin_agent(world, server, block(cas, tmp_path)).join()
    entry(server, agent)
    agent.await_log("unable to post bundle into cas: status 500: error=")
    assert "\x1b" not in agent.log()
    wait_for("a second try", lambda: sum("name: NS/ca-injector" in r["body"] for r in cas.requests) >= 2)
    assert [r["body"].split("\n")[0] for r in cas.requests].count("name: NS/app-injector") == 1
    broken.clear()
    await_versions(cas, "NS/ca-injector", 1)
    agent.await_log("SVID stored successfully")
    assert cas.posts == ["NS/app-injector", "NS/ca-injector"]


@pytest.mark.parametrize("fault,text", [
    (("raw", b"\x00\xff nonsense\r\n\r\n"), "unable to post svid into cas"),
    (("raw", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n" + b"x" * 200000), "the response has more than 65536 bytes"),
    (("drop",), "unable to post svid into cas"),
    (("status", 401, "who are you"), 'status 401: error=\\"who are you\\"'),
    (("status", 503, ""), "status 503"),
    (("status", 201, "<html>"), "cannot decode JSON response from CAS"),
    (("status", 201, '{"hash": "../../x\\nname: y"}'), "the CAS took the session and did not say its hash"),
    (("status", 302, "over there"), "status 302"),
], ids=["nonsense", "endless", "dropped", "401", "503", "html", "bad-hash", "redirect"])
def test_bad_answers_are_said_and_tried_again(world, cas, tmp_path, fault, text):
    bad = [fault]
    cas.fault = lambda name, body: bad[0] if bad else None
    server = plugin_server(world).start()
    agent = plugin_agent(world, server, block(cas, tmp_path)).join()
    entry(server, agent)
    agent.await_log(text)
    assert not list(tmp_path.rglob("*-injector"))
    bad.clear()
    await_versions(cas, "NS/ca-injector", 1)
    agent.await_log("SVID stored successfully")
    assert_no_secrets(agent, cas)


def test_an_answer_that_repeats_the_key_is_not_logged(world, cas, tmp_path):
    bad = [True]
    cas.fault = lambda name, body: ("status", 400, "bad line: " + body[body.index("<", 0) if "<" in body else body.index("PRIVATE KEY") + 40:]) if bad else None
    server = plugin_server(world).start()
    agent = plugin_agent(world, server, block(cas, tmp_path)).join()
    entry(server, agent)
    agent.await_log("the CAS repeats what was posted, so its answer is not shown")
    bad.clear()
    await_versions(cas, "NS/ca-injector", 1)
    assert_no_secrets(agent, cas)


def test_slow_cas_loses_no_hash_and_holds_up_nobody(world, cas, tmp_path):
    """The CAS takes longer for one session than anybody waits; the others go on, and its hash is kept."""
    answer = threading.Event()
    cas.fault = lambda name, body: ("silent", answer) if name == "NS/slow-injector" else None
    server = plugin_server(world).start()
    agent = plugin_agent(world, server, block(cas, tmp_path)).join()
    entry(server, agent, "spiffe://example.org/slow", "NS/slow")
    wait_for("the slow session", lambda: cas.last("NS/slow-injector"))
    for i in range(20):
        entry(server, agent, f"spiffe://example.org/{i}", f"NS/{i}")
    for i in range(20):
        await_versions(cas, f"NS/{i}-injector", 1, 8)
    path = tmp_path / "NS/slow-injector"
    agent.await_log("unable to post svid into cas: no answer of the CAS yet")
    assert not path.exists()
    answer.set()
    wait_for("the slow one's hash", lambda: path.exists() and path.read_text() == cas.last("NS/slow-injector").hash)
    wait_for("all stored", lambda: agent.log().count("SVID stored successfully") == 21, 30)
    assert len(cas.versions("NS/slow-injector")) == 1, "the slow session was posted twice"


def test_many_stuck_sessions_are_bounded(world, cas, tmp_path):
    cas.fault = lambda name, body: ("slow", threading.Event())
    server = plugin_server(world).start()
    agent = plugin_agent(world, server, block(cas, tmp_path)).join()
    for i in range(4):
        entry(server, agent, f"spiffe://example.org/{i}", f"NS/{i}")
    wait_for("four posts", lambda: cas.under_way == 4, 40)
    assert agent.stop() == 0, "the end waits for a CAS that hangs"
    assert cas.most_under_way == 4


def test_cas_that_forgot_everything_is_filled_again(world, cas, tmp_path):
    server = plugin_server(world, server=SHORT).start()
    agent = plugin_agent(world, server, block(cas, tmp_path)).join()
    entry(server, agent)
    agent.await_log("SVID stored successfully")
    cas.forget()
    wait_for("both sessions", lambda: cas.last("NS/app-injector") and cas.last("NS/ca-injector"), 30)
    assert cas.versions("NS/app-injector")[0].data["predecessor"] is None
    path = tmp_path / "NS/app-injector"
    wait_for("the new hash", lambda: path.read_text() == cas.last("NS/app-injector").hash)


def test_404_of_something_else_costs_no_predecessor(world, cas, tmp_path):
    server = plugin_server(world, server=SHORT).start()
    agent = plugin_agent(world, server, block(cas, tmp_path)).join()
    entry(server, agent)
    agent.await_log("SVID stored successfully")
    gone = [True]
    cas.fault = lambda name, body: ("status", 404, "no such page") if gone else None
    agent.await_log("Predecessor may be not needed for session", 30)
    held = cas.last("NS/app-injector").hash
    assert (tmp_path / "NS/app-injector").read_text() == held
    gone.clear()
    second = await_versions(cas, "NS/app-injector", 2)[1]
    assert second.data["predecessor"] == held


def test_lost_predecessor_while_running_does_no_harm(world, cas, tmp_path):
    server = plugin_server(world, server=SHORT).start()
    agent = plugin_agent(world, server, block(cas, tmp_path)).join()
    entry(server, agent)
    agent.await_log("SVID stored successfully")
    (tmp_path / "NS/app-injector").unlink()
    versions = await_versions(cas, "NS/app-injector", 2, 30)
    assert versions[1].data["predecessor"] == versions[0].hash


def test_unknown_predecessor_is_explained_and_mended_by_hand(world, cas, tmp_path):
    server = plugin_server(world).start()
    agent = plugin_agent(world, server, block(cas, tmp_path)).join()
    entry(server, agent)
    agent.await_log("SVID stored successfully")
    agent.stop()
    (tmp_path / "NS/app-injector").unlink()
    agent.start()
    agent.await_log("unknown predecessor hash needed for the session=NS/app-injector Reconfigure your CAS")
    line = next(x for x in agent.log().splitlines() if "Write the hash of that version to the file" in x)
    assert f"{tmp_path}/NS/app-injector" in line
    (tmp_path / "NS/app-injector").write_text(cas.last("NS/app-injector").hash)
    await_versions(cas, "NS/app-injector", 2)


def test_a_session_that_was_taken_without_a_hash_is_explained(world, cas, tmp_path):
    bad = [True]
    cas.fault = lambda name, body: ("forget-hash",) if bad else None
    server = plugin_server(world).start()
    agent = plugin_agent(world, server, block(cas, tmp_path)).join()
    entry(server, agent)
    agent.await_log("the CAS took the session and did not say its hash")
    bad.clear()
    agent.await_log("unknown predecessor hash needed for the session=NS/app-injector Reconfigure your CAS")
    (tmp_path / "NS").mkdir(exist_ok=True)
    (tmp_path / "NS/app-injector").write_text(cas.last("NS/app-injector").hash)
    await_versions(cas, "NS/app-injector", 2, 30)
    agent.await_log("SVID stored successfully")


def test_full_disk_does_not_lose_the_hash(world, cas, tmp_path):
    (tmp_path / "NS").write_text("in the way")
    server = plugin_server(world).start()
    agent = plugin_agent(world, server, block(cas, tmp_path)).join()
    entry(server, agent)
    agent.await_log("cannot write predecessor for session")
    assert "SVID stored successfully" not in agent.log()
    (tmp_path / "NS").unlink()
    agent.await_log("SVID stored successfully")
    assert (tmp_path / "NS/app-injector").read_text() == cas.last("NS/app-injector").hash
    assert len(cas.versions("NS/app-injector")) == 1


@pytest.mark.parametrize("session", ["../../evil", "/etc/x", "a//b", "a/../b", "x: y", "a\nb: c"])
def test_names_that_could_escape_are_refused(world, cas, tmp_path, session):
    server = plugin_server(world).start()
    agent = plugin_agent(world, server, block(cas, tmp_path / "in")).join()
    entry(server, agent, session=session)
    agent.await_log("cannot be the name of a session")
    assert not cas.requests and [p.name for p in tmp_path.iterdir()] == ["in"]


def test_two_stores_of_which_one_is_stuck(world, cas, tmp_path, plugins):
    cas.fault = lambda name, body: ("slow", threading.Event())
    server = plugin_server(world).start()
    other = Plugin(plugins, tmp_path, "agent", "SVIDStore", "shelf", folder=tmp_path / "shelf")
    agent = plugin_agent(world, server, block(cas, tmp_path / "pred"), other.block()).join()
    entry(server, agent)
    wait_for("the stuck post", lambda: cas.under_way == 1)
    server.entry(agent.id, "spiffe://example.org/other", "shelf:name:a", storeSVID=True)
    server.entry(agent.id, "spiffe://example.org/w")
    other.await_call("PutX509SVID", limit=8)
    agent.await_ids("spiffe://example.org/w", limit=8)
    assert cas.under_way == 1


def config_error(world, cas, server, folder, **changes):
    agent = plugin_agent(world, server, block(cas, folder, **changes), name="bad")
    agent.spawn("-joinToken", server.token())
    assert agent.proc.wait(20) != 0
    log, agent.proc = agent.log(), None
    return log


@pytest.mark.parametrize("option,text,want", [
    ("svid_session_template_file", "version: 1\n", "cannot find session name in template"),
    ("svid_session_template_file", "name: x\n\n  - <\\svid-keys>\n", 'line 3: unknown placeholder'),
    ("bundle_session_template_file", "name: x\n<\\svid>\n", 'line 2: unknown placeholder'),
    ("trust_anchor_certificate", "no certificate", "cannot append trust anchor certificate to CA pool"),
    ("cas_client_key", "nothing", "no private key"),
])
def test_faults_of_configuration_end_the_start(world, cas, tmp_path, option, text, want):
    server = plugin_server(world).start()
    bad = tmp_path / "bad"
    bad.write_text(text)
    assert want in config_error(world, cas, server, tmp_path / "p", **{option: bad})


def test_client_key_of_another(world, cas, tmp_path):
    caslib.issue("other", tmp_path)
    server = plugin_server(world).start()
    log = config_error(world, cas, server, tmp_path / "p", cas_client_key=tmp_path / "other.key")
    assert "private key does not match public key" in log


def test_cas_that_is_not_trusted_gets_nothing(world, cas, tmp_path):
    caslib.issue("stranger", tmp_path)
    server = plugin_server(world).start()
    agent = plugin_agent(world, server, block(cas, tmp_path, trust_anchor_certificate=tmp_path / "stranger.crt")).join()
    entry(server, agent)
    agent.await_log("unable to post svid into cas: POST")
    assert "certificate" in agent.log() and not cas.requests
    # and the same server with verification switched off gets all
    agent.stop()
    text = agent.conf_path.read_text().replace("cas_connection_string", "insecure_skip_verify_tls = true\ncas_connection_string")
    agent.conf_path.write_text(text)
    agent.start()
    await_versions(cas, "NS/ca-injector", 1)
    assert "will trust any CAS" in agent.log()


def test_entry_that_goes_leaves_its_session(world, cas, tmp_path):
    server = plugin_server(world).start()
    agent = plugin_agent(world, server, block(cas, tmp_path)).join()
    made = entry(server, agent)
    agent.await_log("SVID stored successfully")
    server.cli("entry", "delete", "-entryID", made)
    agent.await_log("SVID deleted successfully")
    assert (tmp_path / "NS/app-injector").read_text() == cas.last("NS/app-injector").hash
    entry(server, agent)
    versions = await_versions(cas, "NS/app-injector", 2)
    assert versions[1].data["predecessor"] == versions[0].hash


def test_bundle_session_without_its_selector_is_not_posted(world, cas, tmp_path):
    server = plugin_server(world).start()
    agent = plugin_agent(world, server, block(cas, tmp_path)).join()
    entry(server, agent, bundle=None)
    agent.await_log("SVID stored successfully")
    assert cas.posts == ["NS/app-injector"]


def test_many_entries_share_a_bundle_session(world, cas, tmp_path):
    server = plugin_server(world).start()
    agent = plugin_agent(world, server, block(cas, tmp_path)).join()
    for i in range(30):
        entry(server, agent, f"spiffe://example.org/{i}", f"NS/{i}")
    wait_for("all stored", lambda: agent.log().count("SVID stored successfully") == 30, 40)
    assert cas.posts.count("NS/ca-injector") == 1 and len(cas.posts) == 31
    assert cas.most_under_way <= 16
