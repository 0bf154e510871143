"""SVIDStore "gcp_secretmanager" of our agent and of SPIRE's, each with the same story: the same calls of Secret Manager in
the same order, the same secrets, the same lines in the log. SPIRE's agent knows only Google's address; it gets there
through a proxy that leads to the stand-in (tests/lib/gcp.py), with gRPC, where ours has REST.

Needs CSPIRE_UPSTREAM_BIN: a folder with spire-server and spire-agent of SPIRE 1.15.
"""

import base64
import json
import os

import pytest

import gcp
from plugins import agent as plugin_agent, log_lines, server as plugin_server
from spire import BIN, PATIENCE, UPSTREAM, wait_for

W = "spiffe://example.org/w"
TYPE = "gcp_secretmanager"
ROLE, MEMBER = "roles/secretmanager.viewer", "reader@my-project.iam.gserviceaccount.com"
pytestmark = pytest.mark.skipif(UPSTREAM is None,
                                reason="CSPIRE_UPSTREAM_BIN does not name a folder with SPIRE's programs")


@pytest.fixture(autouse=True)
def environment(monkeypatch, tmp_path):
    for name in [n for n in os.environ if n.startswith(("GOOGLE_", "CLOUDSDK_", "GCE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NO_GCE_CHECK", "true")


class Story:
    """One agent, with a Google of its own unless it is given one."""

    def __init__(self, world, server, bindir, monkeypatch, folder, cloud=None):
        folder.mkdir()
        self.cloud, self.server, self.name = cloud or gcp.Cloud(), server, folder.name
        self.account = gcp.Account(self.cloud, folder / "account.json")
        self.tunnel = gcp.Tunnel(self.cloud, folder)
        if bindir == UPSTREAM:
            monkeypatch.setenv("HTTPS_PROXY", self.tunnel.url)
            monkeypatch.setenv("SSL_CERT_FILE", str(self.tunnel.ca))
        else:
            monkeypatch.delenv("HTTPS_PROXY", raising=False)
            monkeypatch.delenv("SSL_CERT_FILE", raising=False)
            monkeypatch.setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_SECRETMANAGER", self.cloud.url)
        self.agent = plugin_agent(world, server, f'SVIDStore "{TYPE}" {{ plugin_data {{ service_account_file = '
                                                 f'"{self.account.path}" }} }}', name="agent-" + folder.name)
        self.agent.bin = bindir
        self.parent = f"spiffe://{server.td}/spire/agent/join_token/{(token := server.token())}"
        self.agent.start("-joinToken", token)

    def close(self):
        self.tunnel.close()
        self.cloud.close()

    def entry(self, path, *selectors, **more):
        return self.server.entry(self.parent, f"{W}/{self.name}{path}", *[f"{TYPE}:{s}" for s in selectors], storeSVID=True,
                                 **more)

    def versions(self, name, n=1):
        wait_for(f"version {n} of {name}", lambda: len(self.cloud.api.of("my-project", name).versions) >= n, 40)

    def gone(self, name):
        wait_for(f"the end of {name}", lambda: ("projects/123456789012", name) not in self.cloud.api.stored, 40)

    def calls(self):
        """Without what differs from time to time, nor repetitions: SPIRE tries what failed every 5 s."""
        out = []
        for method, call in self.cloud.api.calls:
            call = json.loads(json.dumps(call))
            if "payload" in call:
                doc = json.loads(base64.b64decode(call["payload"]["data"]))
                call["payload"]["data"] = {k: sorted(v) if isinstance(v, dict) else v.count("-----BEGIN")
                                           for k, v in doc.items()}
            for holder in (call, call.get("policy", {})):
                if "etag" in holder:
                    holder["etag"] = "E"
            if (method, call) not in out[-1:]:
                out.append((method, call))
        return out


def tell(story):
    """The calls, and the lines of the plugin and the service."""
    with_policy = ["name:two", "projectid:my-project", f"role:{ROLE}", f"serviceaccount:{MEMBER}"]
    one = story.entry("/1", "name:one", "projectid:my-project")
    story.versions("one")
    two = story.entry("/2", *with_policy, federatesWith="spiffe://far.test")
    story.versions("two")
    story.entry("/3", "name:three", "projectid:my-project", "regions:europe-north1,,europe-west1")
    story.versions("three")
    story.server.cli("entry", "delete", "-entryID", one)
    story.gone("one")
    story.server.cli("entry", "delete", "-entryID", two)
    story.gone("two")
    wait_for("the last word", lambda: story.agent.log().count('msg="Secret deleted"') == 2)
    calls = story.calls()
    story.agent.stop()
    said = [(line["level"], line["msg"], tuple(sorted(set(line) - {"time", "subsystem_name"})))
            for line in log_lines(story.agent.log()) if line["msg"].startswith("Secret ")]
    return calls, said


def fail(story):
    """What is said of entries that cannot be stored, by their kind."""
    story.cloud.api.denied = {"secretmanager.versions.add"}
    story.cloud.api.CreateSecret(gcp.MESSAGES["CreateSecret"](
        secret_id="theirs", secret={"replication": {"automatic": {}}}), "projects/123456789012", "", "")
    story.cloud.api.CreateSecret(gcp.MESSAGES["CreateSecret"](
        secret_id="bound", secret={"replication": {"automatic": {}}, "labels": {
            "spire-svid": "20116dfd6774a9e7b32eddfea3f6cb094e38fc3f"}}), "projects/123456789012", "", "")
    kinds = {"theirs": ["name:theirs", "projectid:my-project"], "denied": ["name:denied", "projectid:my-project"],
             "nobodys": ["name:n", "projectid:nobodys"], "colon": ["nonsense"], "name": ["projectid:my-project"],
             "project": ["name:n"], "role": ["name:n", "projectid:p", "serviceaccount:a"],
             "account": ["name:n", "projectid:p", f"role:{ROLE}"], "regions": ["name:n", "projectid:p", "regions:,"],
             "unbound": ["name:unbound", "projectid:my-project", "role:nonsense", f"serviceaccount:{MEMBER}"],
             "bound": ["name:bound", "projectid:my-project", "role:nonsense", f"serviceaccount:{MEMBER}"]}
    for kind, selectors in kinds.items():
        story.entry("/" + kind, *selectors)

    def errors():
        found = {}
        for line in log_lines(story.agent.log()):
            if line["msg"] == "Failed to put X509-SVID":
                found.setdefault(line["spiffe_id"].rsplit("/", 1)[1], line["error"])
        return found
    wait_for("all to fail", lambda: set(errors()) == set(kinds), 60)
    return errors()


@pytest.mark.parametrize("part", [tell, fail])
def test_both_agents_say_and_do_the_same(world, monkeypatch, tmp_path, part):
    server, far = plugin_server(world).start(), plugin_server(world, name="far", td="far.test").start()
    (tmp_path / "far.pem").write_text(far.bundle_pem())
    server.cli("bundle", "set", "-id", "spiffe://far.test", "-path", tmp_path / "far.pem")
    told = []
    for name, bindir in (("theirs", UPSTREAM), ("ours", BIN)):
        story = Story(world, server, bindir, monkeypatch, tmp_path / name)
        told.append(part(story))
        assert (bindir == UPSTREAM) == bool(story.tunnel.connects)
        story.close()
    assert told[0] == told[1]
    assert told[0]


@pytest.mark.parametrize("first, second", [("theirs", "ours"), ("ours", "theirs")])
def test_a_secret_changes_hands(world, monkeypatch, tmp_path, first, second):
    """What one agent has stored the other knows as SPIRE's: it renews it, leaves its policy alone, deletes it."""
    bins, server = {"theirs": UPSTREAM, "ours": BIN}, plugin_server(world).start()
    selectors = ["name:one", "projectid:my-project", f"role:{ROLE}", f"serviceaccount:{MEMBER}"]
    a = Story(world, server, bins[first], monkeypatch, tmp_path / first)
    a.entry("", *selectors)
    a.versions("one")
    a.agent.stop()
    del a.cloud.api.calls[:]
    a.cloud.accounts.clear()
    b = Story(world, server, bins[second], monkeypatch, tmp_path / second, a.cloud)
    entry = b.entry("", *selectors)
    b.versions("one", 2)
    assert [m for m, _ in a.cloud.api.calls] == ["GetSecret", "GetIamPolicy", "AddSecretVersion"]
    server.cli("entry", "delete", "-entryID", entry)
    b.gone("one")
    for story in (a, b):
        story.close()


def test_both_agents_refuse_the_same_configurations(world, tmp_path):
    """With the same words, as far as they are not those of Go's JSON and keys."""
    server, cloud = plugin_server(world).start(), gcp.Cloud()
    files = {"odd": {"kind": "odd"}, "none": {"type": None}}
    for name, changes in files.items():
        gcp.Account(cloud, tmp_path / name, **changes)
    configs = ["b = 1\na = 2", 'service_account_file = ["x"]', "service_account_file = 5 7", "nonsense",
               *[f'service_account_file = "{tmp_path / name}"' for name in (*files, "missing")]]
    told = {}
    for who, bindir in (("theirs", UPSTREAM), ("ours", BIN)):
        for n, text in enumerate(configs):
            agent = plugin_agent(world, server, f'SVIDStore "{TYPE}" {{\nplugin_data {{\n{text}\n}}\n}}', name=f"{who}-{n}")
            agent.bin = bindir
            assert agent.spawn().proc.wait(20 * PATIENCE) == 1, text
            told.setdefault(who, []).append([line["error"] for line in log_lines(agent.log())
                                             if line["msg"] == "Failed to configure plugin"] or "of the file")
    cloud.close()
    assert told["ours"] == told["theirs"]
    assert sum(t != "of the file" for t in told["ours"]) >= 5
