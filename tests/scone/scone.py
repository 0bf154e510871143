"""What `scone` and the SCONE runtime do for a confidential service, on a machine without SGX and with the stand-in for a CAS
(cas.py): nothing here protects anything.

    scone.py session create FILE     posts a session, with ${VARIABLES} of the environment put in, and prints its hash
    scone.py run SESSION/SERVICE     fetches what the service is given, and runs it

CAS is the address of the stand-in, CAS_DIR its folder.
"""

import json
import os
import pathlib
import re
import select
import shlex
import signal
import socket
import ssl
import string
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request


def call(path, body=None):
    folder = pathlib.Path(os.environ["CAS_DIR"])
    context = ssl.create_default_context(cafile=folder / "cas.crt")
    context.load_cert_chain(folder / "session.crt", folder / "session.key")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        request = urllib.request.Request(os.environ["CAS"] + path, data=body)
        with opener.open(request, timeout=10) as answer:
            return json.loads(answer.read())
    except urllib.error.HTTPError as err:
        sys.exit(f"scone: {err.code}: {err.read(4096).decode(errors='replace')}")


def create(path):
    # $$SCONE::...$$ is the CAS's
    text = pathlib.Path(path).read_text().replace("$$", "$$$$")
    print(call("/session", string.Template(text).substitute(os.environ).encode())["hash"])


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def relay(outer, inner):
    """Until either side ends. One thread, since a TLS connection has one user at a time."""
    while True:
        ready = [outer] if outer.pending() else select.select([outer, inner], [], [])[0]
        for source, sink in ((outer, inner), (inner, outer)):
            if source in ready:
                data = source.recv(65536)
                if not data:
                    return
                sink.sendall(data)


def shield(port, identity, inside):
    """TLS at `port` with the identity, plain to `inside`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w") as pem:
        pem.write("\n".join(line.strip() for line in identity.splitlines() if line.strip()) + "\n")
        pem.flush()
        context.load_cert_chain(pem.name)
    listener = socket.create_server(("127.0.0.1", port))

    def serve(plain):
        try:
            with context.wrap_socket(plain, server_side=True) as outer, socket.create_connection(("127.0.0.1", inside)) as inner:
                relay(outer, inner)
        except OSError as err:
            print(f"shield: {err}", file=sys.stderr)

    def accept():
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
    threading.Thread(target=accept, daemon=True).start()


def run(path):
    config = call("/stand-in/config/" + path)
    env = config["environment"]
    with tempfile.TemporaryDirectory() as folder:  # in place of the enclave's own files
        at = {}
        for name, content in config["files"].items():
            file = pathlib.Path(folder) / name.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch(mode=0o600)
            file.write_text(content)
            at[name] = str(file)
        env = {k: at.get(v, v) for k, v in env.items()}
        if env.get("SCONE_NETWORK_SHIELD_SERVER_1") == "protected":
            env["PORT"] = str(free_port())
            port = re.fullmatch(r"TCP:(\d+)", env["SCONE_NETWORK_SHIELD_SERVER_1_PORT"]).group(1)
            shield(int(port), env.pop("SCONE_NETWORK_SHIELD_SERVER_1_IDENTITY"), int(env["PORT"]))
        child = subprocess.Popen(shlex.split(config["command"]), env={"PATH": os.environ["PATH"], **env})
        signal.signal(signal.SIGTERM, lambda *_: child.terminate())
        return child.wait()


def main():
    if sys.argv[1:3] == ["session", "create"] and len(sys.argv) == 4:
        create(sys.argv[3])
    elif sys.argv[1:2] == ["run"] and len(sys.argv) == 3:
        sys.exit(run(sys.argv[2]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
