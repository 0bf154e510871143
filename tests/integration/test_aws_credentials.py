"""Which AWS credentials the agent signs with: the same as botocore in the same environment with the same files; and how
long it does. One stand-in plays Secrets Manager, STS and the endpoints of containers and instances."""

import json
import os
import pathlib
import subprocess
import sys

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from awscases import CASES, REFUSALS, SAME, Case, Place
from awscloud import Cloud
from conftest import World
from plugins import agent as plugin_agent, server as plugin_server
from spire import wait_for

W = "spiffe://example.org/w"
BLOCK = 'SVIDStore "aws_secretsmanager" {{\nplugin_data {{\nregion = "us-east-1"\n{}\n}}\n}}\n'


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """One server for all agents of this file."""
    w = World(tmp_path_factory.mktemp("w"))
    w.one = plugin_server(w).start()
    yield w
    w.close()


@pytest.fixture
def cloud():
    c = Cloud()
    yield c
    c.close()


def started(world, server, name, block):
    agent = plugin_agent(world, server, block, name=name)
    agent.id = f"spiffe://{server.td}/spire/agent/join_token/{(token := server.token())}"
    return agent.start("-joinToken", token)


def stored(server, agent, cloud, name="w", count=1):
    server.entry(agent.id, f"{W}/{agent.dir.name}/{name}", f"aws_secretsmanager:secretname:{name}", storeSVID=True)
    return wait_for("CreateSecret", lambda: len([c for c in cloud.seen("secretsmanager") if c.action == "CreateSecret"]) >= count
                    and cloud.seen("secretsmanager"), 30)


def check_signature(call, url):
    """Signed anew by botocore, with the same time: the same signature."""
    secret = {"AKIA": "s", "ASIA": "s"}[call.key[:4]] if not call.key.startswith(("ASIAROLE", "ASIAWEB")) else "s/+="
    given = call.headers["authorization"]
    names = given.split("SignedHeaders=")[1].split(",")[0].split(";")
    assert {"host", "x-amz-date"} <= set(names)
    request = AWSRequest("POST", url + "/", headers={n: call.headers[n] for n in names}, data=call.raw)
    request.context["timestamp"] = call.headers["x-amz-date"]
    signer = SigV4Auth(Credentials(call.key, secret), call.service, "us-east-1")
    text = signer.string_to_sign(request, signer.canonical_request(request))
    assert given.endswith("Signature=" + signer.signature(text, request))


@pytest.mark.parametrize("number", range(len(CASES)), ids=[c.name.replace(" ", "-") for c in CASES])
def test_the_same_key_as_botocore(shared, cloud, monkeypatch, tmp_path, number):
    case = CASES[number]
    place = Place(case, tmp_path / "home", cloud)
    if case.botocore is not None:
        assert place.botocore() == (case.key if case.botocore is SAME else case.botocore)
        theirs = [c.key for c in cloud.seen("sts")]
        cloud.calls.clear()
    place.apply(monkeypatch)
    agent = started(shared, shared.one, f"a{number}", BLOCK.format(case.plugin))
    calls = stored(shared.one, agent, cloud)
    assert {c.key for c in calls} == {case.key}
    if case.botocore is SAME: # roles were assumed with the same keys, too
        assert [c.key for c in cloud.seen("sts")] == theirs
    for call in cloud.seen():
        if call.key:
            check_signature(call, cloud.url)
    has_token = case.key.startswith("ASIA") or case.key in ("AKIAENV",) or "aws_session_token" in case.credentials
    assert all(("x-amz-security-token" in c.headers) == has_token for c in calls)
    agent.stop()
    log = agent.log()
    assert "eyJ" not in log and "s/+=" not in log and "t+ASIA" not in log


@pytest.mark.parametrize("number", range(len(REFUSALS)), ids=[r.name.replace(" ", "-") for r in REFUSALS])
def test_what_contradicts_itself_is_refused_at_the_start(shared, cloud, monkeypatch, tmp_path, number):
    case = REFUSALS[number]
    Place(case, tmp_path / "home", cloud).apply(monkeypatch)
    agent = plugin_agent(shared, shared.one, BLOCK.format(""), name=f"r{number}")
    agent.spawn("-joinToken", shared.one.token())
    wait_for("the end", lambda: not agent.alive(), 20)
    assert f"failed to create secrets manager client: {case.text}" in agent.log().replace('\\"', '"')
    assert cloud.seen() == []


@pytest.mark.parametrize("line,name", [("credential_process = /bin/false", "credential_process"),
                                       ("login_session = x", "login_session"),
                                       ("sso_session = x", "IAM Identity Center (sso_*)")])
def test_what_is_not_done_is_refused_by_name(shared, cloud, monkeypatch, tmp_path, line, name):
    Place(Case("", {}, f"[default]\n{line}\n", "", ""), tmp_path / "home", cloud).apply(monkeypatch)
    agent = plugin_agent(shared, shared.one, BLOCK.format(""), name="n" + name[:3])
    agent.spawn("-joinToken", shared.one.token())
    wait_for("the end", lambda: not agent.alive(), 20)
    assert f"profile default: {name} is not supported" in agent.log()


def test_credentials_are_kept_until_shortly_before_their_end(shared, cloud, monkeypatch, tmp_path):
    case = next(c for c in CASES if c.name == "the container with a token in a file")
    place = Place(case, tmp_path / "home", cloud)
    place.apply(monkeypatch)
    agent = started(shared, shared.one, "kept", BLOCK.format(""))
    for i in range(3):
        stored(shared.one, agent, cloud, f"w{i}", i + 1)
    assert len(cloud.seen("container")) == 1
    # the token's file is renewed, as the kubelet does it: beside, and renamed
    (place.dir / "new").write_text("eyJ.pod")
    os.replace(place.dir / "new", place.dir / "pod")
    cloud.lasts = 299  # less than five minutes: asked for again at the next call
    stored(shared.one, agent, cloud, "w3", 4)
    assert len(cloud.seen("container")) >= 2
    before = len(cloud.seen("container"))
    stored(shared.one, agent, cloud, "w4", 5)
    assert len(cloud.seen("container")) > before
    # those at hand are used on while the endpoint refuses
    cloud.container_token = "another"
    stored(shared.one, agent, cloud, "w5", 6)
    agent.await_log("Failed to refresh AWS credentials; those at hand are used on")
    assert {c.key for c in cloud.seen("secretsmanager")} == {"ASIACONTAINER"}
    assert "eyJ" not in agent.log()


def test_another_key_in_the_file_is_used_at_once(shared, cloud, monkeypatch, tmp_path):
    case = next(c for c in CASES if c.name == "the credentials file")
    place = Place(case, tmp_path / "home", cloud)
    place.apply(monkeypatch)
    agent = started(shared, shared.one, "files", BLOCK.format(""))
    stored(shared.one, agent, cloud, "w0", 1)
    path = place.dir / ".aws" / "credentials"
    path.write_text(path.read_text().replace("AKIAFILE", "AKIANEXT"))
    cloud.calls.clear()
    assert {c.key for c in stored(shared.one, agent, cloud, "w1", 1)} == {"AKIANEXT"}


def test_refusals_of_sts_are_told(shared, cloud, monkeypatch, tmp_path):
    case = next(c for c in CASES if c.name == "web identity")
    Place(case, tmp_path / "home", cloud).apply(monkeypatch)
    cloud.sts = lambda handler, form: handler.reply(
        "<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>Not authorized to perform "
        "sts:AssumeRoleWithWebIdentity</Message></Error><RequestId>7-8</RequestId></ErrorResponse>", 403, "text/xml")
    agent = started(shared, shared.one, "sts", BLOCK.format(""))
    shared.one.entry(agent.id, W + "/sts", "aws_secretsmanager:secretname:w", storeSVID=True)
    agent.await_log("failed to describe secret: operation error Secrets Manager: DescribeSecret, get identity: get credentials: "
                    "failed to refresh cached credentials, failed to retrieve credentials, operation error STS: "
                    "AssumeRoleWithWebIdentity, https response error StatusCode: 403, RequestID: 7-8, api error AccessDenied: Not "
                    "authorized to perform sts:AssumeRoleWithWebIdentity", 30)
    assert cloud.seen("secretsmanager") == []


# A network of its own, in which this machine has the addresses of ECS and of EC2's metadata service.
ALONE = ["unshare", "--map-root-user", "--net", "sh", "-c",
         'ip link set lo up && ip addr add 169.254.170.2/32 dev lo && ip addr add 169.254.169.254/32 dev lo && exec "$@"', "sh"]
ALONE_STORY = pathlib.Path(__file__).parent.parent / "lib" / "awsalone.py"


@pytest.mark.parametrize("name,value,key", [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/container/v2?id=1", "ASIACONTAINER"),
                                            ("AWS_EC2_METADATA_DISABLED", "false", "ASIAINSTANCE")])
def test_at_the_addresses_that_aws_has(tmp_path_factory, name, value, key):
    if subprocess.run([*ALONE, "true"], capture_output=True).returncode != 0:
        pytest.skip("no network namespaces here")
    env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    done = subprocess.run([*ALONE, sys.executable, ALONE_STORY, tmp_path_factory.mktemp("w")], env={**env, name: value},
                          capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    calls = json.loads(done.stdout.splitlines()[-1])
    assert [c[:2] for c in calls if c[0] != "secretsmanager"] == (
        [["container", "/container/v2"]] if key == "ASIACONTAINER" else
        [["metadata", "token"], ["metadata", "/latest/meta-data/iam/security-credentials/"],
         ["metadata", "/latest/meta-data/iam/security-credentials/a-role"]])
    assert {c[2] for c in calls if c[0] == "secretsmanager"} == {key}
