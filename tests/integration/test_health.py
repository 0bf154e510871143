"""The health listener: live and ready."""

import json
import urllib.error
import urllib.request

from spire import free_port, wait_for


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as r:
            return r.status, json.load(r)
    except urllib.error.HTTPError as err:
        return err.code, err.read()


def block(port, more=""):
    return f'''health_checks {{
        listener_enabled = true
        bind_address = "127.0.0.1"
        bind_port = "{port}"
        {more}
    }}'''


def test_server_and_agent(world):
    sp, ap = free_port(), free_port()
    server, agent = world.pair(server={"top": block(sp)}, agent={"top": block(ap)})
    for port, name in ((sp, "server"), (ap, "agent")):
        status, body = wait_for("ready", lambda: (lambda r: r if r[0] == 200 else None)(get(port, "/ready")), 20)
        assert name in body, body
        assert get(port, "/live")[0] == 200
        assert get(port, "/nothing")[0] == 404


def test_own_paths_replace_the_default_ones(world):
    port = free_port()
    world.server(top=block(port, 'live_path = "/l"\n ready_path = "/r"')).start()
    wait_for("live", lambda: get(port, "/l")[0] == 200)
    assert get(port, "/live")[0] == 404 and get(port, "/ready")[0] == 404
