"""SVIDStore "gcp_secretmanager" in the real agent, against a stand-in made of Google's own messages (tests/lib/gcp.py) and
read with Google's own client: what is stored, renewed and deleted; the policy; where credentials come from; what goes
wrong."""

import hashlib
import json
import os
import re

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from google.api_core import exceptions
from google.cloud import secretmanager_v1 as sm
from google.cloud.secretmanager_v1.services.secret_manager_service.transports import SecretManagerServiceRestTransport
from google.iam.v1 import policy_pb2
from google.oauth2.credentials import Credentials

import gcp
from plugins import agent as plugin_agent, server as plugin_server
from spire import PATIENCE, wait_for

W = "spiffe://example.org/w"
TYPE = "gcp_secretmanager"
LABEL = {"spire-svid": hashlib.sha1(b"example.org").hexdigest()}
EMULATOR = os.environ.get("CSPIRE_GCP_EMULATOR_BIN")
ROLE, MEMBER = "roles/secretmanager.viewer", "reader@my-project.iam.gserviceaccount.com"


@pytest.fixture
def cloud(monkeypatch, tmp_path):
    made = gcp.Cloud()
    for name in [n for n in os.environ if n.startswith(("GOOGLE_", "CLOUDSDK_", "GCE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER", made.url + "/")
    yield made
    made.close()


@pytest.fixture
def google(cloud):
    """Google's own client, with a token that the stand-in gave out."""
    token = Credentials(cloud.token()["access_token"])
    transport = SecretManagerServiceRestTransport(host=cloud.host, url_scheme="http", credentials=token)
    return sm.SecretManagerServiceClient(transport=transport)


def configured(world, server, file=None, name="agent"):
    line = f'service_account_file = "{file}"' if file else ""
    return plugin_agent(world, server, f'SVIDStore "{TYPE}" {{\nplugin_data {{\n{line}\n}}\n}}\n', name=name)


def join(world, server, file=None):
    made = configured(world, server, file)
    made.id = f"spiffe://{server.td}/spire/agent/join_token/{(token := server.token())}"
    return made.start("-joinToken", token)


def place(name="web-tls", project="my-project", **more):
    more = {"name": name, "projectid": project, **more}
    return [f"{TYPE}:{key}:{text}" for key, text in more.items()]


def value(google, name="web-tls"):
    """The latest version, as a workload reads it."""
    try:
        data = google.access_secret_version(name=f"projects/my-project/secrets/{name}/versions/latest").payload.data
    except exceptions.NotFound as err:
        raise LookupError(str(err)) from None
    doc = json.loads(data)
    leaf = x509.load_pem_x509_certificate(doc["x509SVID"].encode())
    key = serialization.load_pem_private_key(doc["x509SVIDKey"].encode(), None)
    assert key.public_key() == leaf.public_key() and doc["spiffeID"].startswith(W)
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(doc["bundle"].encode()))
    return doc


def gone(google, name="web-tls"):
    try:
        google.get_secret(name=f"projects/my-project/secrets/{name}")
    except exceptions.NotFound:
        return True
    return False


def test_a_secret_comes_changes_goes_and_comes_back(world, cloud, google, tmp_path):
    account = gcp.Account(cloud, tmp_path / "account.json")
    server = plugin_server(world).start()
    agent = join(world, server, account.path)
    entry = server.entry(agent.id, W, *place(), storeSVID=True, x509SVIDTTL=10)
    first = wait_for("the secret", lambda: value(google), 30)
    assert list(first) == ["spiffeID", "x509SVID", "x509SVIDKey", "bundle"]
    about = google.get_secret(name="projects/my-project/secrets/web-tls")
    assert dict(about.labels) == LABEL and "automatic" in about.replication
    wait_for("a renewal", lambda: value(google)["x509SVID"] != first["x509SVID"], 30)
    server.cli("entry", "delete", "-entryID", entry)
    wait_for("the deletion", lambda: gone(google), 30)
    server.entry(agent.id, W, *place(), storeSVID=True)
    wait_for("the secret again", lambda: value(google), 30)
    log = agent.log()
    for said in ('msg="Secret created"', 'msg="Secret payload updated"', 'msg="Secret deleted"', "state=ENABLED",
                 "secret_name=projects/123456789012/secrets/web-tls"):
        assert said in log
    assert cloud.asked == ["token"]  # one for all calls
    for secret in ("PRIVATE KEY", "ya29", "eyJ"):
        assert secret not in log
    creates = [c for m, c in cloud.api.calls if m == "CreateSecret"]
    assert creates[0] == {"parent": "projects/my-project", "secretId": "web-tls",
                          "secret": {"replication": {"automatic": {}}, "labels": LABEL}}
    delete = next(c for m, c in cloud.api.calls if m == "DeleteSecret")
    assert delete["name"] == "projects/123456789012/secrets/web-tls" and delete["etag"]


@pytest.mark.skipif(not EMULATOR, reason="CSPIRE_GCP_EMULATOR_BIN does not name the emulator's program")
def test_an_emulator_of_others(world, cloud, google, tmp_path):
    """blackwell-systems/gcp-secret-manager-emulator, over gRPC behind our REST: its own errors over REST are not Google's."""
    cloud.api = gcp.Emulator(EMULATOR)
    try:
        account = gcp.Account(cloud, tmp_path / "account.json")
        server = plugin_server(world).start()
        agent = join(world, server, account.path)
        google.create_secret(parent="projects/my-project", secret_id="theirs", secret={"replication": {"automatic": {}}})
        entry = server.entry(agent.id, W, *place(), storeSVID=True, x509SVIDTTL=10)
        server.entry(agent.id, W + "/2", *place("theirs"), storeSVID=True)
        first = wait_for("the secret", lambda: value(google), 30)
        assert dict(google.get_secret(name="projects/my-project/secrets/web-tls").labels) == LABEL
        wait_for("a renewal", lambda: value(google)["x509SVID"] != first["x509SVID"], 30)
        agent.await_log("secret is not managed by this SPIRE deployment", 30)
        server.cli("entry", "delete", "-entryID", entry)
        wait_for("the deletion", lambda: gone(google), 30)
        assert not gone(google, "theirs")
    finally:
        cloud.api.close()


def test_regions_and_federation(world, cloud, google, tmp_path):
    account = gcp.Account(cloud, tmp_path / "account.json")
    server, far = plugin_server(world).start(), plugin_server(world, name="far", td="far.test").start()
    (tmp_path / "far.pem").write_text(far.bundle_pem())
    server.cli("bundle", "set", "-id", "spiffe://far.test", "-path", tmp_path / "far.pem")
    agent = join(world, server, account.path)
    server.entry(agent.id, W, *place(regions="europe-north1,,europe-west1"), storeSVID=True,
                 federatesWith="spiffe://far.test")
    doc = wait_for("the secret", lambda: value(google), 30)
    assert doc["federatedBundles"] == {"spiffe://far.test": far.bundle_pem()}
    about = google.get_secret(name="projects/my-project/secrets/web-tls")
    assert [r.location for r in about.replication.user_managed.replicas] == ["europe-north1", "europe-west1"]


def test_the_policy(world, cloud, google, tmp_path):
    """Set on a new secret; left alone when it is right; put right when it is not, and not past a change in between."""
    account = gcp.Account(cloud, tmp_path / "account.json")
    server = plugin_server(world).start()
    agent = join(world, server, account.path)
    server.entry(agent.id, W, *place(role=ROLE, serviceaccount=MEMBER), storeSVID=True)
    wait_for("the secret", lambda: value(google), 30)
    resource = "projects/my-project/secrets/web-tls"

    def bindings():
        return [(b.role, list(b.members)) for b in google.get_iam_policy(request={"resource": resource}).bindings]
    want = [(ROLE, [f"serviceAccount:{MEMBER}"])]
    assert bindings() == want
    policies = [c for m, c in cloud.api.calls if m == "SetIamPolicy"]
    assert policies == [{"resource": resource, "policy": {
        "bindings": [{"role": ROLE, "members": [f"serviceAccount:{MEMBER}"]}]}}]
    assert 'msg="Secret IAM Policy updated"' in agent.log()

    def restart():
        """All SVIDs are put again."""
        agent.stop()
        versions = len(cloud.api.of("my-project", "web-tls").versions)
        del cloud.api.calls[:]
        agent.start()
        wait_for("a new version", lambda: len(cloud.api.of("my-project", "web-tls").versions) > versions, 30)
    restart()
    assert [m for m, _ in cloud.api.calls] == ["GetSecret", "GetIamPolicy", "AddSecretVersion"]

    stored = cloud.api.of("my-project", "web-tls")
    other = policy_pb2.Policy(bindings=[{"role": "roles/owner", "members": [f"serviceAccount:{MEMBER}"]}])
    cloud.api.change_policy(stored, other)
    cloud.api.before["SetIamPolicy"] = [lambda: cloud.api.change_policy(stored, other)]
    restart()
    assert bindings() == want
    methods = [m for m, _ in cloud.api.calls if m != "AccessSecretVersion"]
    assert methods[:6] == ["GetSecret", "GetIamPolicy", "SetIamPolicy", "GetIamPolicy", "SetIamPolicy", "AddSecretVersion"]
    assert all(c["policy"]["etag"] for m, c in cloud.api.calls if m == "SetIamPolicy")


def test_secrets_of_others_and_malformed_selectors(world, cloud, google, tmp_path):
    account = gcp.Account(cloud, tmp_path / "account.json")
    for name, labels in (("bare", {}), ("theirs", {"spire-svid": hashlib.sha1(b"other.test").hexdigest()})):
        made = google.create_secret(parent="projects/my-project", secret_id=name,
                                    secret={"replication": {"automatic": {}}, "labels": labels})
        google.add_secret_version(parent=made.name, payload={"data": b"x"})
    server = plugin_server(world).start()
    agent = join(world, server, account.path)
    entries = [server.entry(agent.id, W, *place("bare"), storeSVID=True),
               server.entry(agent.id, W + "/2", *place("theirs"), storeSVID=True)]
    bad = {"name is required": [f"{TYPE}:projectid:my-project"],
           "projectid is required": [f"{TYPE}:name:n"],
           'invalid metadata: metadata does not contain a colon: \\"nonsense\\"': [f"{TYPE}:nonsense"],
           "role is required when service account is set": place(serviceaccount=MEMBER),
           "service account is required when role is set": place(role=ROLE),
           "need to specify at least one region": place(regions=","),
           'name \\"../x\\" cannot be that of a secret': place("../x"),
           'projectid \\"..\\" cannot be that of a project': place(project="..")}
    for n, selectors in enumerate(bad.values()):
        entries.append(server.entry(agent.id, f"{W}/bad/{n}", *selectors, storeSVID=True))
    for text in ["secret is not managed by this SPIRE deployment", *bad]:
        agent.await_log(f"svidstore({TYPE}): {text}", 30)
    for each in entries:
        server.cli("entry", "delete", "-entryID", each)
    wait_for("all to be given up", lambda: agent.log().count(
        "Failed to delete SVID because of malformed selectors") == len(entries), 30)
    for name in ("bare", "theirs"):
        assert google.access_secret_version(
            name=f"projects/my-project/secrets/{name}/versions/latest").payload.data == b"x"
    assert {m for m, _ in cloud.api.calls if "my-project/secrets/web" in str(_)} == set()


def test_what_google_refuses(world, cloud, google, tmp_path):
    account = gcp.Account(cloud, tmp_path / "account.json")
    server = plugin_server(world).start()
    agent = join(world, server, account.path)
    cloud.api.denied = {"secretmanager.versions.add"}
    server.entry(agent.id, W, *place(), storeSVID=True)
    server.entry(agent.id, W + "/2", *place("n", project="nobodys"), storeSVID=True)
    agent.await_log(f"svidstore({TYPE}): failed to add secret version: rpc error: code = PermissionDenied desc = Permission "
                    "'secretmanager.versions.add' denied for resource 'projects/123456789012/secrets/web-tls'", 30)
    agent.await_log(f"svidstore({TYPE}): failed to get secret: rpc error: code = PermissionDenied desc = Permission "
                    "'secretmanager.secrets.get' denied for resource 'projects/nobodys/secrets/n'", 30)
    cloud.api.denied = set()
    wait_for("the secret", lambda: value(google), 40)


def test_an_unsteady_service(world, cloud, google, tmp_path):
    """What passes is repeated; what a proxy says is no word of Google's; another agent may be faster."""
    account = gcp.Account(cloud, tmp_path / "account.json")
    server = plugin_server(world).start()
    agent = join(world, server, account.path)
    html = {"Content-Type": "text/html"}
    cloud.token_faults = [(503, {}, b"")]
    cloud.faults = [(429, {"Retry-After": "1"}, b""), (502, html, b"<html>")]
    cloud.api.before["CreateSecret"] = [lambda: cloud.api.CreateSecret(gcp.MESSAGES["CreateSecret"](
        secret_id="web-tls", secret={"replication": {"automatic": {}}, "labels": LABEL}), "projects/123456789012", "", "")]
    entry = server.entry(agent.id, W, *place(), storeSVID=True)
    wait_for("the secret", lambda: value(google), 30)
    assert "failed to" not in agent.log() and cloud.asked == ["token", "token"]
    cloud.faults = [(404, html, b"<html>Not found</html>")]
    server.cli("entry", "delete", "-entryID", entry)
    agent.await_log("failed to get secret: rpc error: code = Unimplemented desc = the answer has status 404 and no error of "
                    "Google's", 30)
    wait_for("the deletion", lambda: gone(google), 30)
    cloud.faults = [(200, {}, b"{" * 100000), (200, {}, b"x" * 300000), (200, {}, b'{"name": "projects/p/secrets/other"}')]
    server.entry(agent.id, W, *place("n2"), storeSVID=True)
    server.entry(agent.id, W + "/3", *place("n3"), storeSVID=True)
    server.entry(agent.id, W + "/4", *place("n4"), storeSVID=True)
    for text in ("the answer is no JSON object", "the response has more than 262144 bytes",
                 'the answer is about \\"projects/p/secrets/other\\"'):
        agent.await_log(text, 40)
    for n in ("n2", "n3", "n4"):
        wait_for(n, lambda: value(google, n), 40)


def test_a_revoked_token_and_a_wrong_key(world, cloud, google, tmp_path):
    account = gcp.Account(cloud, tmp_path / "account.json")
    server = plugin_server(world).start()
    agent = join(world, server, account.path)
    server.entry(agent.id, W, *place("one"), storeSVID=True)
    wait_for("the secret", lambda: value(google, "one"), 30)
    mine = google.transport._credentials.token
    for token in [t for t in cloud.tokens if t != mine]:
        cloud.tokens[token] = 0
    server.entry(agent.id, W + "/2", *place("two"), storeSVID=True)
    wait_for("the second secret", lambda: value(google, "two"), 30)
    assert cloud.asked == ["token"] * 2 and "Failed to put X509-SVID" not in agent.log()
    for token in [t for t in cloud.tokens if t != mine]:
        cloud.tokens[token] = 0
    account.key = gcp.rsa.generate_private_key(65537, 2048)  # Google knows another one by now
    server.entry(agent.id, W + "/3", *place("three"), storeSVID=True)
    agent.await_log(f"failed to get secret: no access token: {cloud.url}/token: invalid_grant: Invalid JWT: ", 30)
    assert "eyJ" not in agent.log()


def test_a_short_life_is_renewed_in_time(world, cloud, google, tmp_path):
    cloud.life = 226  # a second of use
    account = gcp.Account(cloud, tmp_path / "account.json")
    server = plugin_server(world).start()
    agent = join(world, server, account.path)
    server.entry(agent.id, W, *place(), storeSVID=True, x509SVIDTTL=8)
    wait_for("renewals", lambda: len(cloud.api.of("my-project", "web-tls").versions) > 2, 40)
    assert cloud.asked.count("token") > 2 and "failed to" not in agent.log()
    assert value(google)


@pytest.mark.parametrize("how", ["variable", "gcloud", "metadata"])
def test_default_credentials(world, cloud, google, monkeypatch, tmp_path, how):
    if how == "metadata":
        monkeypatch.setenv("GCE_METADATA_HOST", cloud.host)
    elif how == "variable":
        account = gcp.Account(cloud, tmp_path / "account.json")
        monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(account.path))
    else:
        (tmp_path / ".config" / "gcloud").mkdir(parents=True)
        gcp.Account(cloud, tmp_path / ".config" / "gcloud" / "application_default_credentials.json", "authorized_user")
    server = plugin_server(world).start()
    agent = join(world, server)
    server.entry(agent.id, W, *place(), storeSVID=True)
    wait_for("the secret", lambda: value(google), 30)
    assert cloud.asked == ["metadata" if how == "metadata" else "token"]
    projects = {h.get("X-Goog-User-Project") for h in cloud.headers if h["User-Agent"] == "spire-agent"}
    assert projects == {"my-project" if how == "gcloud" else None}
    assert agent.alive()


def test_credentials_that_do_not_do_end_the_start(world, cloud, monkeypatch, tmp_path):
    server = plugin_server(world).start()
    path = tmp_path / "c.json"

    def refused(text, file=path, name="agent", **changes):
        if changes or file == path:
            gcp.Account(cloud, path, **changes)
        agent = configured(world, server, file, name).spawn()
        assert agent.proc.wait(20 * PATIENCE) == 1
        log = agent.log()
        assert "Failed to configure plugin" in log
        assert re.search(r'error="rpc error: code = Internal desc = failed to create secretmanager client: '
                         + re.escape(text), log), log
    refused('credentials: type \\"external_account\\" is not supported', kind="external_account", name="a")
    refused('credentials: unsupported filetype \\"odd\\"', kind="odd", name="b")
    refused("credentials: could not parse key: no PEM blocks", private_key="x", name="c")
    refused('credentials: universe_domain \\"elsewhere.cloud\\" is not supported', universe_domain="elsewhere.cloud", name="d")
    refused('credentials: token_uri: \\"http://example.org/token\\": http:// is for this machine only',
            token_uri="http://example.org/token", name="e")
    refused("open /nowhere/c.json: no such file or directory", file="/nowhere/c.json", name="f")
    refused("credentials: could not find default credentials. See "
            "https://cloud.google.com/docs/authentication/external/set-up-adc for more information", file=None, name="g")


def test_an_endpoint_that_is_elsewhere_gets_nothing_in_clear(world, cloud, monkeypatch, tmp_path):
    monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER", "http://secrets.example.org/")
    account = gcp.Account(cloud, tmp_path / "account.json")
    server = plugin_server(world).start()
    agent = join(world, server, account.path)
    server.entry(agent.id, W, *place(), storeSVID=True)
    agent.await_log('CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER: \\"http://secrets.example.org/\\": http:// is for this '
                    'machine only', 30)
    assert cloud.api.calls == [] and cloud.asked == []
