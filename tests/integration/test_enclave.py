"""An agent in enclave mode with the test module: attestation, files, the Workload API over TCP, proxies, the end."""

import os
import signal
import socket
import stat
import threading

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

import nitro
import spire
from nitro import ConnectProxy, enclave, module, read_generation
from spire import run, wait_for

WORKLOAD = "spiffe://example.org/app"


def server_for(world, nsm, server="", name="server", **options):
    return world.server(name, server=nitro.SERVER_OPTIONS + server, plugins=nsm.plugin(**options)).start()


@pytest.fixture
def nsm(world):
    return module(world)


def leaf_of(pem):
    return x509.load_pem_x509_certificates(pem)[0]


def uri_of(cert):
    san = cert.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return san.get_values_for_type(x509.UniformResourceIdentifier)


def fits(svid, key):
    return leaf_of(svid).public_key() == serialization.load_pem_private_key(key, None).public_key()


def test_an_enclave_gets_files_and_tokens(world, nsm):
    server = server_for(world, nsm)
    e = enclave(world, server, nsm)
    server.entry(e.id, WORKLOAD, "nitro_enclave:*")
    e.start()
    assert server.agent_ids() == [e.id]
    svid = e.await_file("svid.pem")
    key, bundle = e.await_file("svid_key.pem"), e.await_file("svid_bundle.pem")
    for f in (svid, key, bundle):
        assert stat.S_IMODE(f.stat().st_mode) == 0o600, f
    assert uri_of(leaf_of(svid.read_bytes())) == [WORKLOAD]
    assert fits(svid.read_bytes(), key.read_bytes())
    assert run(["openssl", "verify", "-x509_strict", "-CAfile", bundle, svid]).stdout.strip().endswith(": OK")

    token = e.fetch_jwt("db")[0]
    assert token["spiffe_id"] == WORKLOAD
    checked = e.cli("api", "validate", "jwt", "-audience", "db", "-svid", token["svid"])
    assert WORKLOAD in checked.stdout


def test_selectors_do_not_matter_and_all_entries_are_served(world, nsm):
    server = server_for(world, nsm)
    e = enclave(world, server, nsm, enclave='hint = "db"')
    server.entry(e.id, WORKLOAD, "unix:uid:4711")
    server.entry(e.id, "spiffe://example.org/db", "k8s:ns:none", "k8s:sa:none", hint="db")
    e.start()
    assert e.x509_ids() == [WORKLOAD, "spiffe://example.org/db"]
    assert uri_of(leaf_of(e.await_file().read_bytes())) == ["spiffe://example.org/db"]


def test_files_change_together_under_readers(world, nsm):
    server = server_for(world, nsm)
    e = enclave(world, server, nsm)
    server.entry(e.id, WORKLOAD, "nitro_enclave:*", x509SVIDTTL=4)
    e.start()
    e.await_file("svid_bundle.pem")
    seen, wrong, stop = set(), [], threading.Event()

    def by_folder():
        while not stop.is_set():
            got = read_generation(e.svids)
            if got and not fits(got[0], got[1]):
                wrong.append("folder")
            if got:
                seen.add(got[0])

    def by_name():
        while not stop.is_set():
            try:
                svid, key = (e.svids / "svid.pem").read_bytes(), (e.svids / "svid_key.pem").read_bytes()
                again = (e.svids / "svid.pem").read_bytes()
            except FileNotFoundError as err:
                wrong.append(err)
                return
            if svid == again and not fits(svid, key):
                wrong.append("name")

    threads = [threading.Thread(target=t) for t in (by_folder, by_name)]
    for t in threads:
        t.start()
    try:
        wait_for("three renewals", lambda: len(seen) >= 4, 40)
    finally:
        stop.set()
        for t in threads:
            t.join()
    assert not wrong
    # never one that had run out: the present one is good
    now = leaf_of((e.svids / "svid.pem").read_bytes())
    assert now.not_valid_after_utc.timestamp() > os.stat(e.svids / "..data/svid.pem").st_mtime


def test_files_of_a_removed_identity_go(world, nsm):
    server = server_for(world, nsm)
    e = enclave(world, server, nsm, agent='experimental { sync_interval = "1s" }')
    entry = server.entry(e.id, WORKLOAD, "nitro_enclave:*")
    e.start()
    e.await_file()
    server.cli("entry", "delete", "-entryID", entry)
    wait_for("an empty folder", lambda: not list(e.svids.iterdir()), 20)
    assert e.x509_ids() == []
    # also those of an agent that was away when the entry went
    server.entry(e.id, WORKLOAD, "nitro_enclave:*")
    e.await_file()
    e.kill()
    server.cli("entry", "delete", "-entryID", server.json("entry", "show", "-spiffeID", WORKLOAD)["entries"][0]["id"])
    e.start()
    wait_for("an empty folder", lambda: not list(e.svids.iterdir()), 20)


def test_restarts_of_both(world, nsm):
    server = server_for(world, nsm)
    e = enclave(world, server, nsm)
    server.entry(e.id, WORKLOAD, "nitro_enclave:*")
    e.start()
    server.restart()
    wait_for("a token after the server's restart", lambda: e.fetch_jwt("a"), 30)
    e.restart()  # with its key in memory only: it attests again
    assert e.fetch_jwt("a")[0]["spiffe_id"] == WORKLOAD
    assert server.agent_ids() == [e.id]
    e.kill()
    e.start()
    assert e.fetch_jwt("a")[0]["spiffe_id"] == WORKLOAD


def test_an_enclave_that_slept_through_its_svid_attests_again(world, nsm):
    # dated back by 10 s: it is renewed no earlier than 5 s after it was made, and is put to sleep before that
    server = server_for(world, nsm, server='agent_ttl = "24s"')
    e = enclave(world, server, nsm)
    server.entry(e.id, WORKLOAD, "nitro_enclave:*")
    e.start()

    def expired():
        a = server.agents()[0]
        return int(a["x509svid_expires_at"]) + 1 < spire.time.time()
    e.proc.send_signal(signal.SIGSTOP)
    try:
        wait_for("the end of the agent's SVID", expired, 60)
    finally:
        e.proc.send_signal(signal.SIGCONT)
    e.await_log("Successfully reattested node", 30)
    wait_for("a token", lambda: e.fetch_jwt("a"), 20)


def test_evicted_it_attests_again_and_banned_it_ends(world, nsm):
    server = server_for(world, nsm)
    e = enclave(world, server, nsm, agent='experimental { sync_interval = "1s" }')
    server.entry(e.id, WORKLOAD, "nitro_enclave:*")
    e.start()
    server.cli("agent", "evict", "-spiffeID", e.id)
    e.await_log("Successfully reattested node", 20)
    wait_for("the agent on the server", lambda: server.agent_ids() == [e.id], 20)
    wait_for("a token", lambda: e.fetch_jwt("a"), 20)
    server.cli("agent", "ban", "-spiffeID", e.id)
    assert e.end() == 1
    assert "banned" in e.log()


def test_strict_servers_and_their_challenge(world, nsm):
    server = server_for(world, nsm, require_key_binding=True)
    e = enclave(world, server, nsm)
    server.entry(e.id, WORKLOAD, "nitro_enclave:*")
    e.start()
    assert e.fetch_jwt("a")[0]["spiffe_id"] == WORKLOAD


@pytest.mark.parametrize("case", ["root", "image", "debug"])
def test_enclaves_that_are_refused(world, nsm, case):
    if case == "root":  # the server trusts another one
        other = module(world, "other")
        server = server_for(world, other)
        e = enclave(world, server, nsm)
    elif case == "image":
        server = server_for(world, nsm, allowed_pcr0=[nitro.OTHER_IMAGE])
        e = enclave(world, server, nsm)
    else:  # an enclave in debug mode has a PCR0 of zeros
        zero = module(world, "zero", root=nsm.root, pcr0=None)
        server = server_for(world, nsm)
        e = enclave(world, server, zero)
    e.spawn()
    assert e.end(30) == 1
    assert "PermissionDenied" in e.log()
    assert server.agents() == []
    assert not e.svids.exists()


def test_a_module_that_comes_late_is_waited_for(world, nsm):
    server = server_for(world, nsm)
    e = enclave(world, server, nsm)
    server.entry(e.id, WORKLOAD, "nitro_enclave:*")
    nsm.stop()
    nsm.socket.unlink()
    e.spawn()
    e.await_log(f"NSM: open {nsm.socket}: no such file or directory")
    nsm.start()
    e.await_ready(30)


def test_the_workload_api_wants_its_header(world, nsm):
    server = server_for(world, nsm)
    e = enclave(world, server, nsm)
    server.entry(e.id, WORKLOAD, "nitro_enclave:*")
    e.start()
    with grpc.insecure_channel(e.api) as channel:
        call = channel.unary_stream("/SpiffeWorkloadAPI/FetchX509SVID")
        with pytest.raises(grpc.RpcError) as caught:
            next(call(b"", timeout=10))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        stream = call(b"", timeout=10, metadata=[("workload.spiffe.io", "true")])
        assert WORKLOAD.encode() in next(stream)
        stream.cancel()


# --- The way to the server ---


def test_through_a_proxy_that_resolves_the_name(world, nsm):
    server = server_for(world, nsm)
    proxy = ConnectProxy(names={"server.invalid": "127.0.0.1"})
    e = enclave(world, server, nsm, address="server.invalid", enclave=f'server_proxy = "http://127.0.0.1:{proxy.port}"')
    server.entry(e.id, WORKLOAD, "nitro_enclave:*")
    e.start()
    assert e.fetch_jwt("a")[0]["spiffe_id"] == WORKLOAD
    assert proxy.targets and set(proxy.targets) == {("CONNECT", f"server.invalid:{server.port}")}
    proxy.close()


@pytest.mark.skipif(not nitro.has_vsock(), reason="no vsock loopback in this kernel")
@pytest.mark.parametrize("scheme", ["vsock", "http+vsock"])
def test_over_vsock(world, nsm, scheme):
    server = server_for(world, nsm)
    proxy = ConnectProxy(vsock=True, fixed=("127.0.0.1", server.port) if scheme == "vsock" else None)
    e = enclave(world, server, nsm, enclave=f'server_proxy = "{scheme}://1:{proxy.port}"')
    server.entry(e.id, WORKLOAD, "nitro_enclave:*")
    e.start()
    assert e.fetch_jwt("a")[0]["spiffe_id"] == WORKLOAD
    assert proxy.targets
    proxy.close()


def test_a_proxy_that_refuses_is_named(world, nsm):
    server = server_for(world, nsm)
    proxy = ConnectProxy(answer=b"HTTP/1.1 403 Not \x1b[31mthere\r\n\r\n")
    e = enclave(world, server, nsm, enclave=f'server_proxy = "http://127.0.0.1:{proxy.port}"')
    e.spawn()
    e.await_log(f"proxy http://127.0.0.1:{proxy.port}: CONNECT 127.0.0.1:{server.port}: it answered HTTP/1.1 403 Not ?[31mthere")
    proxy.close()


def test_a_silent_proxy_does_not_hold_up_the_end(world, nsm):
    server = server_for(world, nsm)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        e = enclave(world, server, nsm, enclave=f'server_proxy = "http://127.0.0.1:{silent.getsockname()[1]}"')
        e.spawn()
        connection, _ = silent.accept()
        assert connection.recv(7) == b"CONNECT"
        assert e.stop(limit=5) is not None
        connection.close()


def test_a_bad_proxy_stops_the_start(world, nsm):
    server = server_for(world, nsm)
    e = enclave(world, server, nsm, enclave='server_proxy = "https://127.0.0.1:1"')
    e.spawn()
    assert e.end() == 1
    assert "must begin with http://, http+vsock:// or vsock://" in e.log()


# --- The workload as a child ---


def test_the_workload_is_started_with_an_identity_and_its_status_is_ours(world, nsm):
    server = server_for(world, nsm)
    out = world.dir / "said"
    script = f'echo $SPIFFE_ENDPOINT_SOCKET > {out}; ls {world.dir}/enclave/spiffe >> {out}; exit 7'
    e = enclave(world, server, nsm, enclave=f'command = ["/bin/sh", "-c", "{script}"]',
                agent='experimental { sync_interval = "1s" }')
    e.spawn()
    e.await_log("Starting agent APIs")
    assert not out.exists()
    server.entry(e.id, WORKLOAD, "nitro_enclave:*")
    assert e.end(30) == 7
    assert out.read_text().split() == [f"tcp://{e.api}", "svid.pem", "svid_bundle.pem", "svid_key.pem"]


def test_signals_reach_the_workload_first(world, nsm):
    server = server_for(world, nsm)
    out = world.dir / "said"
    script = f"trap 'echo ended > {out}; exit 0' TERM; echo ready > {out}; while :; do sleep 0.1; done"
    e = enclave(world, server, nsm, enclave=f'command = ["/bin/sh", "-c", "{script}"]')
    server.entry(e.id, WORKLOAD, "nitro_enclave:*")
    e.start()
    wait_for("the workload", lambda: out.exists() and out.read_text() == "ready\n")
    e.proc.send_signal(signal.SIGTERM)
    assert e.end() == 0
    assert out.read_text() == "ended\n"
    assert "Agent stopped gracefully" in e.log()


def test_a_workload_that_is_killed_or_missing(world, nsm):
    server = server_for(world, nsm)
    e = enclave(world, server, nsm, enclave='command = ["/bin/sh", "-c", "kill -9 $$"]')
    server.entry(e.id, WORKLOAD, "nitro_enclave:*")
    e.spawn()
    assert e.end(30) == 128 + 9
    e = enclave(world, server, nsm, name="missing", enclave='command = ["/nonexistent/app"]')
    e.spawn()
    assert e.end(30) == 1
    assert "failed to start the workload: fork/exec /nonexistent/app: no such file or directory" in e.log()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change users")
def test_the_workload_runs_as_its_user_and_owns_the_files(world, nsm):
    server = server_for(world, nsm)
    out = world.dir / "said"
    out.touch()
    out.chmod(0o666)
    for d in [world.dir, *list(world.dir.parents)[:3]]:
        d.chmod(d.stat().st_mode | 0o011)
    script = f"id -u > {out}; id -G >> {out}; umask >> {out}; head -c 10 {world.dir}/enclave/spiffe/svid_key.pem >> {out}"
    e = enclave(world, server, nsm, enclave=f'command = ["/bin/sh", "-c", "{script}"] uid = 1000 gid = 1001')
    (world.dir / "enclave").chmod(0o711)
    server.entry(e.id, WORKLOAD, "nitro_enclave:*")
    e.spawn()
    assert e.end(30) == 0
    assert out.read_text() == "1000\n1001\n0022\n-----BEGIN"
    assert (e.svids / "svid_key.pem").stat().st_uid == 1000


def test_evicted_while_it_was_away(world, nsm):
    """With its key and SVID kept on disk, which the server does not take any more."""
    server = server_for(world, nsm)
    folder = world.dir / "keys"
    e = enclave(world, server, nsm, keymanager=f'KeyManager "disk" {{ plugin_data {{ directory = "{folder}" }} }}')
    server.entry(e.id, WORKLOAD, "nitro_enclave:*")
    e.start()
    e.restart()
    assert e.log().count("Node attestation was successful") == 1  # not with the first start's SVID on disk
    e.stop()
    server.cli("agent", "evict", "-spiffeID", e.id)
    e.start()
    assert "Successfully reattested node" in e.log()
    assert server.agent_ids() == [e.id]
    assert e.fetch_jwt("a")[0]["spiffe_id"] == WORKLOAD
