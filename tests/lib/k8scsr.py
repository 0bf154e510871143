"""Servers and agents with NodeAttestor k8s_csr."""

import spire

JOIN_TOKEN = 'NodeAttestor "join_token" {\n        plugin_data {}\n    }'


def server_plugin(**clusters):
    """clusters: name = (CA files, further options)"""
    text = "".join(f'"{name}" = {{ client_ca_files = {[str(f) for f in files]} {more} }}\n'.replace("'", '"')
                   for name, (files, more) in clusters.items())
    return f'NodeAttestor "k8s_csr" {{ plugin_data {{ clusters = {{ {text} }} }} }}'


def server(world, name="server", **clusters):
    return world.server(name, plugins=server_plugin(**clusters)).start()


def agent(world, srv, id_dir, cluster="demo", name="agent", more="", **kw):
    """Not started."""
    a = world.agent(srv, name, **kw)
    text = a.conf_path.read_text()
    assert JOIN_TOKEN in text
    a.conf_path.write_text(text.replace(JOIN_TOKEN, f'''NodeAttestor "k8s_csr" {{
        plugin_data {{
            cluster = "{cluster}"
            id_dir = "{id_dir}"
            {more}
        }}
    }}'''))
    return a


def await_refusal(a, text, limit=30):
    """The agent says this, and has not attested."""
    spire.wait_for(f"{text!r} in the agent's log", lambda: text in a.log(), limit)
    assert a.cli("healthcheck", check=False).returncode != 0
