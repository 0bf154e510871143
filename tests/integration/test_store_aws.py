"""SVIDStore "aws_secretsmanager" in the real agent, against moto: what is stored, renewed, deleted and restored; that
requests are signed; where credentials come from."""

import http.server
import json
import os
import subprocess
import sys
import threading

import boto3
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from plugins import agent as plugin_agent, server as plugin_server
from spire import free_port, wait_for

W = "spiffe://example.org/w"
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "secretsmanager:*", "Resource": "*"}]}


class Moto:
    """AWS on a free port. checked: requests must be signed, but for the first so many."""

    def __init__(self, checked=None):
        self.url = f"http://127.0.0.1:{(port := free_port())}"
        env = {**os.environ, **({"INITIAL_NO_AUTH_ACTION_COUNT": str(checked)} if checked else {})}
        self.proc = subprocess.Popen([sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], env=env,
                                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.keys = {"aws_access_key_id": "AKIAIOSFODNN7EXAMPLE", "aws_secret_access_key": "none"}

    def client(self, name):
        return boto3.client(name, region_name="us-east-1", endpoint_url=self.url, **self.keys)

    def close(self):
        self.proc.terminate()
        self.proc.wait()


@pytest.fixture
def aws(monkeypatch, tmp_path):
    made = []

    def make(**kw):
        moto = Moto(**kw)
        made.append(moto)
        wait_for("moto", lambda: __import__("urllib.request").request.urlopen(moto.url + "/moto-api/"), 60)
        monkeypatch.setenv("AWS_ENDPOINT_URL", moto.url)
        return moto
    for name in [n for n in os.environ if n.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))  # no shared files
    yield make
    for moto in made:
        moto.close()


def join(world, server, data=""):
    block = f'SVIDStore "aws_secretsmanager" {{\nplugin_data {{\nregion = "us-east-1"\n{data}\n}}\n}}\n'
    made = plugin_agent(world, server, block)
    made.id = f"spiffe://{server.td}/spire/agent/join_token/{(token := server.token())}"
    return made.start("-joinToken", token)


def value(client, name):
    try:
        doc = json.loads(client.get_secret_value(SecretId=name)["SecretBinary"])
    except client.exceptions.ClientError as err:
        raise LookupError(str(err)) from None
    leaf = x509.load_pem_x509_certificate(doc["x509SVID"].encode())
    key = serialization.load_pem_private_key(doc["x509SVIDKey"].encode(), None)
    assert key.public_key() == leaf.public_key() and doc["spiffeID"] == W
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(doc["bundle"].encode()))
    return doc


def test_a_secret_comes_changes_goes_and_comes_back(world, aws):
    moto = aws()
    server = plugin_server(world).start()
    agent = join(world, server, 'access_key_id = "AKIAIOSFODNN7EXAMPLE"\nsecret_access_key = "s"')
    sm = moto.client("secretsmanager")
    selectors = ["aws_secretsmanager:secretname:web/tls", "aws_secretsmanager:kmskeyid:alias/mine"]
    entry = server.entry(agent.id, W, *selectors, storeSVID=True, x509SVIDTTL=10)
    first = wait_for("the secret", lambda: value(sm, "web/tls"), 30)
    about = sm.describe_secret(SecretId="web/tls")
    assert about["Tags"] == [{"Key": "spire-svid", "Value": "true"}] and about["KmsKeyId"] == "alias/mine"
    assert list(first) == ["spiffeID", "x509SVID", "x509SVIDKey", "bundle"]
    wait_for("a renewal", lambda: value(sm, "web/tls")["x509SVID"] != first["x509SVID"], 30)
    server.cli("entry", "delete", "-entryID", entry)
    wait_for("the deletion", lambda: "DeletedDate" in sm.describe_secret(SecretId="web/tls"), 30)
    server.entry(agent.id, W, *selectors, storeSVID=True)
    wait_for("the secret again", lambda: "DeletedDate" not in sm.describe_secret(SecretId="web/tls") and
             value(sm, "web/tls"), 30)
    log = agent.log()
    for said in ("Secret created", "Secret value updated", "Secret deleted",
                 "Secret was scheduled for deletion and has been restored"):
        assert said in log
    assert "PRIVATE KEY" not in log


def test_secrets_of_others_are_left_alone(world, aws):
    moto = aws()
    server = plugin_server(world).start()
    sm = moto.client("secretsmanager")
    arn = sm.create_secret(Name="theirs", SecretString="x")["ARN"]
    agent = join(world, server, 'access_key_id = "AKIAIOSFODNN7EXAMPLE"\nsecret_access_key = "s"')
    one = server.entry(agent.id, W, f"aws_secretsmanager:arn:{arn}", storeSVID=True)
    server.entry(agent.id, W + "/2", "aws_secretsmanager:kmskeyid:k", storeSVID=True)
    server.entry(agent.id, W + "/3", "aws_secretsmanager:arn:arn:aws:secretsmanager:us-east-1:1:secret:no", storeSVID=True)
    agent.await_log("svidstore(aws_secretsmanager): secret does not contain the 'spire-svid' tag", 30)
    agent.await_log("svidstore(aws_secretsmanager): either the secret name or ARN is required")
    agent.await_log("svidstore(aws_secretsmanager): failed to create secret: name selector is required")
    server.cli("entry", "delete", "-entryID", one)
    agent.await_log("Failed to delete SVID because of malformed selectors", 30)
    assert sm.get_secret_value(SecretId="theirs")["SecretString"] == "x"


@pytest.mark.parametrize("good", [True, False])
def test_requests_are_signed(world, aws, monkeypatch, good):
    """moto checks signatures here; with the wrong key it refuses."""
    moto = aws(checked=3)
    iam = moto.client("iam")
    iam.create_user(UserName="agent")
    iam.put_user_policy(UserName="agent", PolicyName="p", PolicyDocument=json.dumps(POLICY))
    key = iam.create_access_key(UserName="agent")["AccessKey"]
    moto.keys = {"aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"] if good else key["SecretAccessKey"].swapcase())
    server = plugin_server(world).start()
    agent = join(world, server)
    server.entry(agent.id, W, "aws_secretsmanager:secretname:w", storeSVID=True)
    if good:
        wait_for("the secret", lambda: value(moto.client("secretsmanager"), "w"), 30)
    else:
        agent.await_log("failed to describe secret: ", 30)
        assert "https response error StatusCode: 403" in agent.log()
        assert key["SecretAccessKey"][1:] not in agent.log()


def test_credentials_by_web_identity(world, aws, monkeypatch, tmp_path):
    moto = aws()
    (tmp_path / "token").write_text("ey.J.x\n")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/agent")
    server = plugin_server(world).start()
    agent = join(world, server)
    server.entry(agent.id, W, "aws_secretsmanager:secretname:w", storeSVID=True)
    wait_for("the secret", lambda: value(moto.client("secretsmanager"), "w"), 30)


class Metadata(http.server.BaseHTTPRequestHandler):
    def answer(self, text, status=200):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def do_PUT(self):
        good = self.path == "/latest/api/token" and int(self.headers["X-aws-ec2-metadata-token-ttl-seconds"]) > 0
        self.answer("session" if good else "", 200 if good else 400)

    def do_GET(self):
        self.server.seen.append(self.path)
        if self.headers["X-aws-ec2-metadata-token"] != "session":
            return self.answer("", 401)
        roles = "/latest/meta-data/iam/security-credentials/"
        doc = {"Code": "Success", "AccessKeyId": "ASIAIOSFODNN7EXAMPLE", "SecretAccessKey": "s", "Token": "t",
               "Expiration": "2099-01-01T00:00:00Z"}
        return self.answer({roles: "a-role", roles + "a-role": json.dumps(doc)}.get(self.path, ""))

    def log_message(self, *args):
        pass


def test_credentials_of_the_instance(world, aws, monkeypatch):
    moto = aws()
    metadata = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata)
    metadata.seen = []
    threading.Thread(target=metadata.serve_forever, daemon=True).start()
    try:
        monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "false")
        monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", f"http://127.0.0.1:{metadata.server_port}")
        server = plugin_server(world).start()
        agent = join(world, server)
        server.entry(agent.id, W, "aws_secretsmanager:secretname:w", storeSVID=True)
        wait_for("the secret", lambda: value(moto.client("secretsmanager"), "w"), 30)
        assert len(metadata.seen) == 2 # kept, and not asked for with every call
    finally:
        metadata.shutdown()
        metadata.server_close()


def test_no_credentials_is_an_error_that_says_so(world, aws):
    aws()
    server = plugin_server(world).start()
    agent = join(world, server)
    server.entry(agent.id, W, "aws_secretsmanager:secretname:w", storeSVID=True)
    agent.await_log("failed to describe secret: operation error Secrets Manager: DescribeSecret, get identity: get "
                    "credentials: failed to refresh cached credentials, no EC2 IMDS role found, ", 30)
