"""Run in a network of its own: AWS is at port 80 of every address, and no URL but Secrets Manager's says where."""

import json
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from awscloud import Cloud  # noqa: E402
from conftest import World  # noqa: E402
from plugins import agent as plugin_agent, server as plugin_server  # noqa: E402
from spire import wait_for  # noqa: E402

world = World(pathlib.Path(sys.argv[1]))
cloud = Cloud(address=("0.0.0.0", 80))
os.environ.update(HOME=sys.argv[1], AWS_ENDPOINT_URL_SECRETS_MANAGER="http://127.0.0.1")
try:
    server = plugin_server(world).start()
    agent = plugin_agent(world, server, 'SVIDStore "aws_secretsmanager" { plugin_data { region = "us-east-1" } }')
    parent = f"spiffe://{server.td}/spire/agent/join_token/{(token := server.token())}"
    agent.start("-joinToken", token)
    server.entry(parent, "spiffe://example.org/w", "aws_secretsmanager:secretname:w", storeSVID=True)
    wait_for("CreateSecret", lambda: [c for c in cloud.seen() if c.action == "CreateSecret"], 40)
finally:
    world.close()
    cloud.close()
print(json.dumps([c[:3] for c in cloud.seen()]))
