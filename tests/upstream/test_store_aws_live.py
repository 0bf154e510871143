"""SVIDStore "aws_secretsmanager" of ours and of SPIRE (AWS's SDK for Go): the same story against moto, the same
situations and refusals against the stand-in: the same requests in the same order, the same keys, the same texts.

Needs CSPIRE_UPSTREAM_BIN: a folder with spire-server and spire-agent of SPIRE 1.15.
"""

import base64
import json
import re
import subprocess
import sys

import boto3
import pytest

from awscases import CASES, KEYS, REFUSALS, Case, Place
from awscloud import Cloud
from conftest import World
from plugins import agent as plugin_agent, log_lines, server as plugin_server
from spire import BIN, UPSTREAM, free_port, wait_for

W = "spiffe://example.org/w"
BLOCK = 'SVIDStore "aws_secretsmanager" {{\nplugin_data {{\nregion = "us-east-1"\n{}\n}}\n}}\n'
BOTH = {"ours": BIN, "theirs": UPSTREAM}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    w = World(tmp_path_factory.mktemp("w"))
    w.one = plugin_server(w).start()
    yield w
    w.close()


@pytest.fixture(scope="module")
def moto():
    url = f"http://127.0.0.1:{(port := free_port())}"
    proc = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for("moto", lambda: __import__("urllib.request").request.urlopen(url + "/moto-api/"), 60)
    yield url
    proc.terminate()
    proc.wait()


def fresh(shared, whose, name, block=BLOCK.format("")):
    agent = plugin_agent(shared, shared.one, block, name=f"{name}-{whose}")
    agent.bin = BOTH[whose]
    return agent


def join(shared, agent):
    agent.id = f"spiffe://{shared.one.td}/spire/agent/join_token/{(token := shared.one.token())}"
    return agent.start("-joinToken", token)


def plain(call, names):
    """A request without what differs from call to call; the secret as JSON with what is in it shortened."""
    body = json.dumps(call.body, sort_keys=True)
    doc = json.loads(body)
    doc.pop("ClientRequestToken", None)
    if "SecretBinary" in doc:
        secret = json.loads(base64.b64decode(doc["SecretBinary"]))
        doc["SecretBinary"] = [(k, "PEM" if "BEGIN" in v else v) for k, v in secret.items()]
    text = json.dumps(doc)
    for given, said in names.items():
        text = text.replace(given, said)
    return call.action, re.sub(r"secret:SECRET-\w+", "secret:ARN", text), call.headers["content-type"]


def story(shared, moto, whose, monkeypatch, tmp_path):
    cloud = Cloud(behind=moto)
    try:
        Place(Case("", KEYS, "", "", ""), tmp_path / whose, cloud).apply(monkeypatch)
        monkeypatch.delenv("AWS_SESSION_TOKEN")
        agent = join(shared, fresh(shared, whose, "story"))
        sm = boto3.client("secretsmanager", region_name="us-east-1", endpoint_url=moto, aws_access_key_id="A",
                          aws_secret_access_key="s")
        secret, path = f"secret-{whose}", f"{W}/{whose}"
        others = sm.create_secret(Name=f"others-{whose}", SecretString="x")["ARN"]
        server, calls = shared.one, lambda action: [c for c in cloud.seen() if c.action == action]
        selectors = [f"aws_secretsmanager:secretname:{secret}", "aws_secretsmanager:kmskeyid:alias/k"]
        entry = server.entry(agent.id, path, *selectors, storeSVID=True, dns="w.example.org")
        wait_for("the secret", lambda: calls("CreateSecret"), 40)
        agent.await_log("Secret created", 40)
        server.cli("entry", "update", "-entryID", entry, "-spiffeID", path, "-parentID", agent.id, "-storeSVID",
                   *[x for s in selectors for x in ("-selector", s)], "-dns", "x.example.org")
        agent.await_log("Secret value updated", 40)
        server.cli("entry", "delete", "-entryID", entry)
        agent.await_log("Secret deleted", 40)
        entry = server.entry(agent.id, path, *selectors, storeSVID=True)
        agent.await_log("Secret was scheduled for deletion and has been restored", 40)
        wait_for("the value", lambda: len(calls("PutSecretValue")) == 2, 40)
        story_calls = len(cloud.seen())
        server.entry(agent.id, path + "/o", f"aws_secretsmanager:arn:{others}", storeSVID=True)
        agent.await_log("secret does not contain the 'spire-svid' tag", 40)
        server.entry(agent.id, path + "/k", "aws_secretsmanager:kmskeyid:k", storeSVID=True)
        agent.await_log("either the secret name or ARN is required", 40)
        server.entry(agent.id, path + "/n", "aws_secretsmanager:arn:arn:aws:secretsmanager:us-east-1:1:secret:no", storeSVID=True)
        agent.await_log("failed to create secret: name selector is required", 40)
        agent.stop()
        names = {secret: "SECRET", path: "PATH"}
        said = {(line["level"], line["msg"], tuple(sorted(set(line) - {"time"})), line.get("error"))
                for line in log_lines(agent.log())
                if line.get("plugin_name") == "aws_secretsmanager" and line["msg"].startswith("Secret")
                or line.get("svid_store") == "aws_secretsmanager" and "context canceled" not in line.get("error", "context canceled")}
        return [plain(c, names) for c in cloud.seen()[:story_calls]], said
    finally:
        cloud.close()


def test_both_agents_tell_aws_the_same(shared, moto, monkeypatch, tmp_path):
    (ours, our_words), (theirs, their_words) = (story(shared, moto, w, monkeypatch, tmp_path) for w in BOTH)
    assert [c[0] for c in ours] == ["DescribeSecret", "CreateSecret", "DescribeSecret", "PutSecretValue", "DescribeSecret",
                                    "DeleteSecret", "DescribeSecret", "RestoreSecret", "PutSecretValue"]
    assert ours == theirs
    assert our_words == their_words


@pytest.mark.parametrize("number", range(len(CASES)), ids=[c.name.replace(" ", "-") for c in CASES])
def test_the_same_key_as_the_sdk(shared, monkeypatch, tmp_path, number):
    case, keys, roles = CASES[number], {}, {}
    for whose in BOTH:
        cloud = Cloud()
        try:
            Place(case, tmp_path / whose, cloud).apply(monkeypatch)
            agent = join(shared, fresh(shared, whose, f"k{number}", BLOCK.format(case.plugin)))
            shared.one.entry(agent.id, f"{W}/{whose}/{number}", "aws_secretsmanager:secretname:w", storeSVID=True)
            wait_for("CreateSecret", lambda: [c for c in cloud.seen() if c.action == "CreateSecret"], 40)
            agent.stop()
            keys[whose] = {c.key for c in cloud.seen("secretsmanager")}
            roles[whose] = [(c.action, c.key, {k: v for k, v in c.body.items() if k != "RoleSessionName"})
                            for c in cloud.seen("sts")]
        finally:
            cloud.close()
    assert keys["ours"] == keys["theirs"] == {case.key}
    assert roles["ours"] == roles["theirs"]


def failure(agent):
    """What the daemon ended with, as text."""
    errors = [line["error"] for line in log_lines(agent.log()) if line["level"] == "error" and "error" in line]
    return errors[-1] if errors else agent.log()


@pytest.mark.parametrize("number", range(len(REFUSALS)), ids=[r.name.replace(" ", "-") for r in REFUSALS])
def test_the_same_refusals(shared, monkeypatch, tmp_path, number):
    said = {}
    for whose in BOTH:
        cloud = Cloud()
        try:
            Place(REFUSALS[number], tmp_path / whose, cloud).apply(monkeypatch)
            agent = fresh(shared, whose, f"r{number}")
            agent.spawn("-joinToken", shared.one.token())
            wait_for("the end", lambda: not agent.alive(), 40)
            said[whose] = failure(agent)
        finally:
            cloud.close()
    assert REFUSALS[number].text in said["ours"]
    assert said["ours"] == said["theirs"]


ANSWERS = [
    ("DescribeSecret", 400, "AccessDeniedException", "User: x is not authorized"),
    ("DescribeSecret", 400, "InvalidParameterException", "bad"),
    ("CreateSecret", 400, "InvalidRequestException", "You can't"),
    ("CreateSecret", 400, "EncryptionFailure", "no key"),
    ("CreateSecret", 400, "UnrecognizedClientException", "The security token included in the request is invalid."),
]


@pytest.mark.parametrize("answer", ANSWERS, ids=[a[2] for a in ANSWERS])
def test_the_same_words_for_what_aws_refuses(shared, monkeypatch, tmp_path, answer):
    said, code = {}, {}
    action, status, kind, text = answer
    for whose in BOTH:
        cloud = Cloud()
        cloud.refuse[action] = (status, kind, text)
        try:
            Place(Case("", KEYS, "", "", ""), tmp_path / whose, cloud).apply(monkeypatch)
            agent = join(shared, fresh(shared, whose, "w" + kind))
            shared.one.entry(agent.id, f"{W}/{whose}/{kind}", "aws_secretsmanager:secretname:w", storeSVID=True)
            agent.await_log("Failed to put X509-SVID", 40)
            said[whose] = next(line["error"] for line in log_lines(agent.log()) if line["msg"] == "Failed to put X509-SVID")
            agent.stop()
        finally:
            cloud.close()
    assert kind in said["ours"] and text in said["ours"]
    assert said["ours"] == said["theirs"]


def test_no_credentials_in_the_same_words(shared, monkeypatch, tmp_path):
    said = {}
    for whose in BOTH:
        cloud = Cloud()
        try:
            Place(Case("", {}, "", "", ""), tmp_path / whose, cloud).apply(monkeypatch)
            agent = join(shared, fresh(shared, whose, "none"))
            shared.one.entry(agent.id, f"{W}/{whose}/none", "aws_secretsmanager:secretname:w", storeSVID=True)
            agent.await_log("Failed to put X509-SVID", 40)
            said[whose] = next(line["error"] for line in log_lines(agent.log()) if line["msg"] == "Failed to put X509-SVID")
            agent.stop()
        finally:
            cloud.close()
    assert said["ours"] == said["theirs"]
