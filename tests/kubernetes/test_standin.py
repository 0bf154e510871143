"""The stand-in of the other tests (tests/lib/kubeapi.py) against the real API server: the same calls, the same answers."""

import json
import re
import time
import urllib.error
import urllib.request

import kubeapi
import pytest
from cluster import ADMISSION, APPLY, Refused, path_of

NODE, POD = "si-node", "si-pod"
CONFIG_MAPS = "/api/v1/namespaces/spire/configmaps"
STRATEGIC = "application/strategic-merge-patch+json"


class Both:
    """The two servers, each with a node, a pod, and a user who may do what `allowed` says."""

    def __init__(self, cluster, folder):
        self.cluster = cluster
        self.fake = kubeapi.KubeApi(folder)
        self.context = kubeapi.ssl.create_default_context(cafile=folder / "ca.crt")
        self.tokens = {"admin": self.fake.user("admin"), "nobody": self.fake.user("system:serviceaccount:spire:si-nobody")}
        if cluster.find(path_of("Node", NODE)) is None:
            cluster.node(NODE)
            cluster.pod(POD, NODE)
            cluster.account("si-nobody")
        self.real_pod = cluster.get("Pod", POD, "spire")
        self.fake.node(NODE)
        self.fake_pod = self.fake.pod("spire", POD, NODE)

    def ask_fake(self, method, path, body, content_type, who):
        headers = {"Authorization": f"Bearer {self.tokens.get(who, who)}", "Content-Type": content_type}
        self.fake.allowed = set() if who == "nobody" else None
        request = urllib.request.Request(f"https://127.0.0.1:{self.fake.port}{path}", method=method, headers=headers,
                                         data=json.dumps(body).encode() if body is not None else None)
        try:
            with urllib.request.urlopen(request, context=self.context, timeout=20) as answer:
                return answer.status, json.loads(answer.readline() if "watch=1" in path else answer.read())
        except urllib.error.HTTPError as err:
            text = err.read().decode()
            return err.code, json.loads(text) if text.startswith("{") else {"code": err.code, "message": text}

    def ask_real(self, method, path, body, content_type, who):
        token = {"admin": None, "nobody": self.cluster.token("si-nobody", audience=())}.get(who, who)
        if "watch=1" in path:
            return 200, self.cluster.first_event(path)
        try:
            answer = self.cluster.call(method, path, body, content_type, token=token)
            return (201 if method == "POST" else 200), answer
        except Refused as err:
            return err.code, err.status

    def ask(self, method, path, body=None, content_type="application/json", who="admin"):
        """Of both: the status, and of a failure what it says."""
        return [self._refusal(*a(method, path, body, content_type, who)) for a in (self.ask_fake, self.ask_real)]

    @staticmethod
    def _refusal(code, answer):
        return code, (answer.get("reason"), answer.get("message"), answer.get("code")) if code > 299 else None


@pytest.fixture
def both(cluster, tmp_path):
    b = Both(cluster, tmp_path / "k8s")
    yield b
    b.fake.close()


@pytest.mark.parametrize("method, path, who", [
    ("GET", "/api/v1/nodes/si-none", "admin"), ("GET", "/api/v1/namespaces/spire/pods/si-none", "admin"),
    ("GET", f"{ADMISSION}/mutatingwebhookconfigurations/si-none", "admin"),
    ("GET", "/apis/apiregistration.k8s.io/v1/apiservices/v1.si-none", "admin"),
    ("GET", "/apis/certificates.k8s.io/v1/certificatesigningrequests/si-none", "admin"),
    ("GET", "/apis/none.example.org/v1/things", "admin"),
    ("GET", "/apis/certificates.k8s.io/v1beta2/certificatesigningrequests", "admin"),
    ("GET", f"/api/v1/nodes/{NODE}", "nobody"), ("GET", f"/api/v1/namespaces/spire/pods/{POD}", "nobody"),
    ("GET", f"{ADMISSION}/mutatingwebhookconfigurations", "nobody"),
    ("GET", "/apis/certificates.k8s.io/v1/certificatesigningrequests?fieldSelector=metadata.name%3Dx", "nobody"),
    ("GET", f"/api/v1/nodes/{NODE}", "no-token-of-anybody"),
])
def test_what_is_refused(both, method, path, who):
    fake, real = both.ask(method, path, who=who)
    assert fake == real and fake[0] > 299


@pytest.mark.parametrize("path, kind, body, who", [
    (f"{CONFIG_MAPS}/si-none", STRATEGIC, {"data": {"a": "b"}}, "admin"),
    (f"{CONFIG_MAPS}/si-map", STRATEGIC, {"data": {"a": "b"}}, "nobody"),
    (f"{CONFIG_MAPS}/si-map", STRATEGIC, {"metadata": {"resourceVersion": "1"}, "data": {"a": "b"}}, "admin"),
    (f"{ADMISSION}/mutatingwebhookconfigurations/si-hook", STRATEGIC, {"metadata": {"resourceVersion": "1"}}, "admin"),
])
def test_patches_that_are_refused(both, cluster, path, kind, body, who):
    both.fake.config_map("spire", "si-map")
    both.fake.put(ADMISSION, "mutatingwebhookconfigurations", "si-hook")
    if cluster.find(f"{CONFIG_MAPS}/si-map") is None:
        cluster.create("ConfigMap", "si-map", "spire")
        cluster.call("POST", f"{ADMISSION}/mutatingwebhookconfigurations", {
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": "si-hook"}})
    fake, real = both.ask("PATCH", path, body, kind, who)
    assert fake == real and fake[0] > 299


def test_server_side_apply(both, cluster):
    """Who names a key has it; what its manager does not name any more goes; another's is a conflict."""
    path = f"{CONFIG_MAPS}/si-applied"
    seen = []

    def apply(manager, **data):
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "si-applied", "namespace": "spire"}, "data": data}
        fake, real = both.ask("PATCH", f"{path}?fieldManager={manager}", body, APPLY)
        assert fake[1] == real[1]
        seen.append(fake[1])
        assert both.fake.data_of("spire", "si-applied") == cluster.config_map("si-applied")
        return fake[1]

    assert apply("one", a="1", b="1") is None
    assert apply("two", c="2") is None
    assert apply("two", c="2", a="2") == ("Conflict", 'Apply failed with 1 conflict: conflict with "one": .data.a', 409)
    assert apply("one", b="3") is None
    assert cluster.config_map("si-applied") == {"b": "3", "c": "2"}


def test_a_version_that_is_too_old(both, cluster):
    both.fake.forget()
    cluster.restart_api()
    events = [both.ask_fake("GET", f"{CONFIG_MAPS}?watch=1&resourceVersion=1", None, "", "admin")[1],
              cluster.first_event(f"{CONFIG_MAPS}?watch=1&resourceVersion=1")]
    for e in events:
        e["object"]["message"] = re.sub(r"\d+", "N", e["object"]["message"])
    assert events[0] == events[1]


# --- TokenReview ---

KINDS = ["good", "legacy", "no pod", "audience", "forged", "no token", "expired", "pod gone", "pod replaced"]


def tokens(both, kind):
    """Of the same kind for both."""
    fake, cluster = both.fake, both.cluster
    if kind == "legacy":
        return fake.legacy_token("spire", "spire-agent"), cluster.legacy_token()
    if kind == "no pod":
        return fake.account_token("spire", "spire-agent"), cluster.token()
    if kind == "no token":
        return "no token", "no token"
    if kind.startswith("pod"):
        cluster.pod("si-gone", NODE)
        pods = fake.pod("spire", "si-gone", NODE), cluster.get("Pod", "si-gone", "spire")
    else:
        pods = both.fake_pod, both.real_pod
    audience = ["other"] if kind == "audience" else ["spire-server"]
    made = fake.projected_token(pods[0], audience, -60 if kind == "expired" else 3600), cluster.token(pod=pods[1],
                                                                                                     audience=audience)
    if kind == "expired":
        return made[0], cluster.signed_again(made[1], exp=int(time.time()) - 60)
    if kind == "forged":
        return [".".join(t.split(".")[:2] + ["A" * len(t.split(".")[2])]) for t in made]
    if kind.startswith("pod"):
        del fake.objects["/api/v1", "pods", "spire", "si-gone"]
        cluster.delete(path_of("Pod", "si-gone", "spire"))
        if kind == "pod replaced":
            fake.pod("spire", "si-gone", NODE)
            cluster.pod("si-gone", NODE)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_token_reviews(both, kind):
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    audiences = [] if kind == "legacy" else ["spire-server", "third"]
    statuses = []
    for token, ask in zip(tokens(both, kind), (both.ask_fake, both.ask_real)):
        code, review = ask("POST", path, {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {
            "token": token, **({"audiences": audiences} if audiences else {})}}, "application/json", "admin")
        assert code == 201 and review["kind"] == "TokenReview"
        text = json.dumps(review["status"], sort_keys=True)
        statuses.append(re.sub(r"-token-\w+", "-token", re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}", "UUID", text)))
    assert statuses[0] == statuses[1]
