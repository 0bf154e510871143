"""Garbage, floods and slow peers: clear errors, the process alive, memory bounded."""

import os
import socket
import ssl
import time

import grpc
import pytest

from spire import PATIENCE, wait_for

# sanitizers keep freed memory for a while
ROOM = 8 if PATIENCE > 1 else 1

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def unix(path):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    s.connect(str(path))
    return s


def tls(port):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    raw = socket.create_connection(("127.0.0.1", port), 30)
    return context.wrap_socket(raw)


def ended(s):
    """Read until the peer ends the connection."""
    try:
        while s.recv(65536):
            pass
    except (ConnectionError, ssl.SSLError):
        pass
    return True


def send_all(s, data):
    try:
        s.sendall(data)
    except (ConnectionError, ssl.SSLError):
        pass


def call(channel, method, request, timeout=20):
    try:
        channel.unary_unary(method, request_serializer=bytes, response_deserializer=bytes)(request, timeout=timeout)
    except grpc.RpcError as err:
        return err.code(), err.details()
    return grpc.StatusCode.OK, ""


def test_grpc_errors_name_the_fault(world):
    server = world.server().start()
    with grpc.insecure_channel(f"unix:{server.socket}") as channel:
        entry = "/spire.api.server.entry.v1.Entry/"
        code, text = call(channel, entry + "BatchCreateEntry", b"\xff\xff\xff")
        assert code == grpc.StatusCode.INTERNAL and "unmarshal" in text
        code, text = call(channel, entry + "BatchCreateEntry", b"\x0a\xff\xff\xff\xff\x0f")
        assert code == grpc.StatusCode.INTERNAL
        code, text = call(channel, entry + "GetEntry", b"\x0a\x02\xff\xfe")  # not UTF-8
        assert code == grpc.StatusCode.INTERNAL and "UTF-8" in text
        big = b"\x0a\x80\x80\xc0\x02" + b"a" * (5 * 1024 * 1024)
        code, text = call(channel, entry + "GetEntry", big)
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert text.startswith("grpc: received message larger than max (")
        assert call(channel, "/no.such.Service/Method", b"") == (grpc.StatusCode.UNIMPLEMENTED, "unknown service no.such.Service")
        code, text = call(channel, entry + "Nope", b"")
        assert (code, text) == (grpc.StatusCode.UNIMPLEMENTED, "unknown method Nope for service spire.api.server.entry.v1.Entry")
        code, text = call(channel, entry + "GetAuthorizedEntries", b"")
        assert (code, text) == (grpc.StatusCode.PERMISSION_DENIED,
                                f"authorization denied for method {entry}GetAuthorizedEntries")
        code, text = call(channel, "/spire.api.server.svid.v1.SVID/MintX509SVID", b"\x0a\x03abc")
        assert code == grpc.StatusCode.INVALID_ARGUMENT and "malformed CSR" in text


def test_garbage_on_both_listeners(world):
    server = world.server().start()
    base = server.rss_kib()
    for i in range(60):
        data = os.urandom(1 + i * 97)
        for s in (unix(server.socket), socket.create_connection(("127.0.0.1", server.port), 30)):
            with s:
                send_all(s, data)
        with tls(server.port) as s:
            send_all(s, data)
        with unix(server.socket) as s:
            send_all(s, PREFACE + frame(4, 0, 0) + data)
    server.cli("healthcheck")
    assert server.rss_kib() - base < 16384 * ROOM


@pytest.mark.parametrize("what,attack", [
    ("rapid reset", lambda n: b"".join(frame(1, 5, 2 * i + 1, b"\x83\x86\x44\x01/\x41\x01a") + frame(3, 0, 2 * i + 1, b"\0\0\0\x08")
                                       for i in range(n))),
    ("settings flood", lambda n: frame(4, 0, 0, b"\0\x04\0\0\xff\xff") * n),
    ("ping flood", lambda n: frame(6, 0, 0, b"12345678") * n),
    ("continuation flood", lambda n: frame(1, 0, 1, b"\x83") + frame(9, 0, 1, b"\0\x01a\x7f" + b"b" * 126) * n),
])
def test_floods_hurt_nobody_else(world, what, attack):
    server = world.server().start()
    base = server.rss_kib()
    with unix(server.socket) as s:
        s.settimeout(5)
        try:
            s.sendall(PREFACE + frame(4, 0, 0) + attack(30000))
        except (ConnectionError, TimeoutError):
            pass  # cut off, or no longer read from: both stop the flood
        server.cli("healthcheck")
    assert server.rss_kib() - base < 32768 * ROOM, what


def test_an_oversized_frame_is_refused(world):
    server = world.server().start()
    with unix(server.socket) as s:
        send_all(s, PREFACE + frame(4, 0, 0) + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01")
        assert ended(s)
    server.cli("healthcheck")


def test_silent_peers_cost_nobody_else_anything(world):
    server, agent = world.pair()
    idle = [socket.create_connection(("127.0.0.1", server.port), 30) for _ in range(100)]
    idle += [unix(server.socket) for _ in range(100)] + [unix(agent.socket) for _ in range(100)]
    half = [unix(server.socket) for _ in range(20)]
    for s in half:
        s.sendall(PREFACE[:10])
    try:
        start = time.monotonic()
        server.cli("healthcheck")
        agent.cli("healthcheck")
        assert time.monotonic() - start < 5
        server.entry(agent.id, "spiffe://example.org/w")
        agent.await_ids("spiffe://example.org/w")
    finally:
        for s in idle + half:
            s.close()


def test_workload_api_needs_the_security_header(world):
    server, agent = world.pair()
    with grpc.insecure_channel(f"unix:{agent.socket}") as channel:
        stream = channel.unary_stream("/SpiffeWorkloadAPI/FetchX509SVID", request_serializer=bytes, response_deserializer=bytes)
        with pytest.raises(grpc.RpcError) as caught:
            next(iter(stream(b"", timeout=20)))
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert caught.value.details() == "security header missing from request"


def test_a_foreign_client_certificate_dies_in_the_handshake(world, tmp_path):
    """The chain a client presents is verified at the handshake."""
    from spire import run
    server = world.server().start()
    run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-keyout",
         tmp_path / "k.pem", "-out", tmp_path / "c.pem", "-subj", "/CN=x", "-addext",
         "subjectAltName=URI:spiffe://example.org/spire/agent/join_token/x"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    context.load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        with context.wrap_socket(socket.create_connection(("127.0.0.1", server.port), 30)) as s:
            s.sendall(PREFACE + frame(4, 0, 0))
            if s.recv(1) == b"":
                raise ConnectionError("ended")
            while s.recv(1000):
                pass
            raise ConnectionError("ended")
    server.cli("healthcheck")


def test_the_server_port_speaks_for_the_trust_domain(world):
    server = world.server().start()
    with tls(server.port) as s:
        assert s.selected_alpn_protocol() == "h2"
        assert s.version() in ("TLSv1.2", "TLSv1.3")
        der = s.getpeercert(True)
    from cryptography import x509
    san = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert san.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://example.org/spire/server"]


def test_streams_end_when_the_peer_is_gone(world):
    """Callers that vanish leave no descriptors behind."""
    server, agent = world.pair()
    server.entry(agent.id, "spiffe://example.org/w")
    agent.await_ids("spiffe://example.org/w")

    def descriptors():
        return len(os.listdir(f"/proc/{agent.proc.pid}/fd"))
    base = descriptors()
    sockets = [unix(agent.socket) for _ in range(100)]
    for s in sockets:
        s.sendall(PREFACE + frame(4, 0, 0))
    wait_for("the connections", lambda: descriptors() >= base + 100)
    for s in sockets:
        s.close()
    wait_for("the descriptors to be given back", lambda: descriptors() <= base + 5)


@pytest.mark.parametrize("values, good", [((), False), (("false",), False), (("true",), True), (("true", "true"), False),
                                          (("true", "false"), False)])
def test_the_workload_api_wants_its_header_exactly_once(world, values, good):
    """Whoever can be talked into a request to the socket does not know of the header."""
    server, agent = world.pair()
    with grpc.insecure_channel(f"unix:{agent.socket}") as channel:
        fetch = channel.unary_stream("/SpiffeWorkloadAPI/FetchX509SVID", request_serializer=bytes, response_deserializer=bytes)
        with pytest.raises(grpc.RpcError) as refused:
            next(fetch(b"", metadata=[("workload.spiffe.io", v) for v in values], timeout=20))
        code, text = refused.value.code(), refused.value.details()
    if good:  # known, but there is no entry for it
        assert (code, text) == (grpc.StatusCode.PERMISSION_DENIED, "no identity issued")
    else:
        assert (code, text) == (grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")
