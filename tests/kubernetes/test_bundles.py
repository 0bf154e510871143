"""Notifier k8sbundle and BundlePublisher k8s_configmap against a real API server, with the rights of their pages and no
other. What SPIRE's server does with the same configuration is compared where CSPIRE_UPSTREAM_BIN names it.
"""

import base64
import json
import re

import pytest
import yaml
from cluster import ADMISSION, AGGREGATION, path_of
from spire import BIN, REPO, UPSTREAM, wait_for

SERVERS = [pytest.param(BIN, id="ours")] + ([pytest.param(UPSTREAM, id="theirs")] if UPSTREAM else [])
LABELS = '''
            webhook_label = "{name}.example.org/webhook"
            api_service_label = "{name}.example.org/api"'''


def page_rules(page, name):
    """The rules that a page asks for, with its ConfigMap named `name`."""
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", (REPO / "docs" / "plugins" / page).read_text(), re.S | re.M)
    (rules,) = [d["rules"] for d in yaml.safe_load_all(text) if "rules" in d]
    for r in rules:
        if "resourceNames" in r:
            r["resourceNames"] = [name]
    return rules


def notifier(config, name, more=""):
    return f'''
    Notifier "k8sbundle" {{
        plugin_data {{
            kube_config_file_path = "{config}"
            config_map = "{name}"
            {more.format(name=name)}
        }}
    }}'''


@pytest.fixture
def config(cluster, name):
    return cluster.user_config(name, page_rules("server-notifier-k8sbundle.md", name))


def hook(name):
    return {"name": name, "admissionReviewVersions": ["v1"], "sideEffects": "None", "failurePolicy": "Ignore",
            "clientConfig": {"service": {"name": "s", "namespace": "n", "path": "/p"}},
            "rules": [{"apiGroups": ["no.example.org"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["x"]}]}


def webhooks(cluster, resource, name, label, hooks=("a.example.org", "b.example.org"), labelled="true"):
    kind = {"m": "MutatingWebhookConfiguration", "v": "ValidatingWebhookConfiguration"}[resource[0]]
    return cluster.call("POST", f"{ADMISSION}/{resource}", {
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
        "metadata": {"name": name, "labels": {f"{label}.example.org/webhook": labelled}}, "webhooks": [hook(h) for h in hooks]})


def api_service(cluster, name, label):
    return cluster.call("POST", f"{AGGREGATION}/apiservices", {
        "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": f"v1.{name}.example.org", "labels": {f"{label}.example.org/api": "true"}},
        "spec": {"group": f"{name}.example.org", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 15,
                 "service": {"name": "s", "namespace": "n"}}})


def bundles(cluster, resource, name):
    return [base64.b64decode(w["clientConfig"].get("caBundle", "")).decode()
            for w in cluster.call("GET", f"{ADMISSION}/{resource}/{name}")["webhooks"]]


MUTATING, VALIDATING = "mutatingwebhookconfigurations", "validatingwebhookconfigurations"


@pytest.mark.parametrize("server_bin", SERVERS)
def test_the_bundle_gets_everywhere(world, cluster, config, name, server_bin):
    cluster.create("ConfigMap", name, "spire", data={"other": "stays"})
    made = webhooks(cluster, MUTATING, name, name)
    webhooks(cluster, VALIDATING, name, name)
    webhooks(cluster, VALIDATING, f"{name}-not", name, labelled="false")
    service = api_service(cluster, name, name)
    server = world.server(bindir=server_bin, plugins=notifier(config, name, LABELS)).start()
    bundle = server.bundle_pem()
    wait_for("the ConfigMap", lambda: cluster.config_map(name) == {"bundle.crt": bundle, "other": "stays"})
    for resource in (MUTATING, VALIDATING):
        wait_for(resource, lambda: bundles(cluster, resource, name) == [bundle] * 2)
    assert bundles(cluster, VALIDATING, f"{name}-not") == ["", ""]
    kept = cluster.call("GET", f"{ADMISSION}/{MUTATING}/{name}")["webhooks"]
    for was, now in zip(made["webhooks"], kept):
        now["clientConfig"].pop("caBundle")
        assert was == now
    where = f"{AGGREGATION}/apiservices/v1.{name}.example.org"
    wait_for("the API service", lambda: cluster.call("GET", where)["spec"] == {
        **service["spec"], "caBundle": base64.b64encode(bundle.encode()).decode()})
    # made while the server runs, and changed by somebody else
    webhooks(cluster, MUTATING, f"{name}-late", name)
    wait_for("what is new", lambda: bundles(cluster, MUTATING, f"{name}-late") == [bundle] * 2)
    cluster.patch(where, spec={"caBundle": base64.b64encode(b"wrong").decode()})
    wait_for("what was changed", lambda: cluster.call("GET", where)["spec"]["caBundle"] == base64.b64encode(
        bundle.encode()).decode())
    assert " level=error " not in server.log()


def test_watches_outlive_the_api_server(world, cluster, config, name):
    """It is killed and started again: connections break, and the new one does not know the old versions any more (410), so
    that everything is listed again."""
    cluster.create("ConfigMap", name, "spire")
    server = world.server(plugins=notifier(config, name, LABELS)).start()
    server.await_log('msg="Notifier handled event" event="bundle loaded" notifier=k8sbundle')
    webhooks(cluster, MUTATING, f"{name}-1", name)
    bundle = server.bundle_pem()
    wait_for("the first", lambda: bundles(cluster, MUTATING, f"{name}-1") == [bundle] * 2)
    for n in (2, 3):
        cluster.restart_api()
        webhooks(cluster, VALIDATING, f"{name}-{n}", name)
        api_service(cluster, f"{name}-{n}", name)
        wait_for("what came after", lambda: bundles(cluster, VALIDATING, f"{name}-{n}") == [bundle] * 2, 60)
        wait_for("the API service", lambda: cluster.call(
            "GET", f"{AGGREGATION}/apiservices/v1.{name}-{n}.example.org")["spec"].get("caBundle"), 60)
    answers = cluster.asked(name)
    lists = [n for n, (verb, path, status) in enumerate(answers) if verb == "list"]
    assert any(verb == "watch" and status == 200 for verb, path, status in answers[:lists[-1]])
    assert len(lists) > 2 * 3 and {status for verb, path, status in answers} <= {200, 403, 409}


def test_conflicts_are_settled(world, cluster, config, name):
    """Somebody changes an object again and again, also between our reading and our writing."""
    cluster.create("ConfigMap", name, "spire")
    webhooks(cluster, MUTATING, name, name)
    server = world.server(plugins=notifier(config, name, LABELS)).start()
    bundle = server.bundle_pem()
    wait_for("the first", lambda: bundles(cluster, MUTATING, name) == [bundle] * 2)
    path = f"{ADMISSION}/{MUTATING}/{name}"
    for n in range(300):
        cluster.call("PATCH", path, [{"op": "replace", "path": "/webhooks/1/clientConfig/caBundle",
                                      "value": base64.b64encode(b"wrong %d" % n).decode()}], "application/json-patch+json")
    wait_for("the end", lambda: bundles(cluster, MUTATING, name) == [bundle] * 2)
    answers = [status for verb, where, status in cluster.asked(name) if verb == "patch" and where == path]
    assert set(answers) == {200, 409}


def test_two_servers_write_to_one_place(world, cluster, config, name):
    """Each writes its own bundle whenever it is told of the other's: they settle conflicts, and neither says that it
    failed."""
    cluster.create("ConfigMap", name, "spire")
    first = world.server("first", plugins=notifier(config, name)).start()
    wait_for("the first bundle", lambda: cluster.config_map(name) == {"bundle.crt": first.bundle_pem()})
    second = world.server("second", td="example.com", plugins=notifier(config, name)).start()
    wait_for("the second bundle", lambda: cluster.config_map(name) == {"bundle.crt": second.bundle_pem()})
    first.restart()
    wait_for("the first bundle again", lambda: cluster.config_map(name) == {"bundle.crt": first.bundle_pem()})
    meta = cluster.get("ConfigMap", name, "spire")["metadata"]
    first.restart()
    first.await_log('msg="Notifier handled event" event="bundle loaded" notifier=k8sbundle')
    assert cluster.get("ConfigMap", name, "spire")["metadata"] == meta  # what is there is not written again


def test_what_is_not_allowed_is_said(world, cluster, name):
    cluster.create("ConfigMap", name, "spire")
    config = cluster.user_config(name, [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [name],
                                         "verbs": ["get"]}])
    server = world.server(plugins=notifier(config, name)).spawn()
    wait_for("the end", lambda: not server.alive())
    said = server.log().replace('\\"', '"')
    assert (f'notifier(k8sbundle): unable to update: spire/{name}: configmaps "{name}" is forbidden: User "{name}" cannot '
            'patch resource "configmaps" in API group "" in the namespace "spire"') in said
    config = cluster.user_config(name, [])
    server = world.server("other", plugins=notifier(config, name)).spawn()
    wait_for("the end", lambda: not server.alive())
    assert f'unable to get object: configmaps "{name}" is forbidden: ' in server.log().replace('\\"', '"')


# --- k8s_configmap ---

def publisher(config, name, key="bundle", formats=("spiffe", "jwks", "pem")):
    text = "".join(f'''
                "{f}" = {{
                    kubeconfig_path = "{config}"
                    namespace = "spire"
                    configmap_name = "{name}"
                    configmap_key = "{key}.{f}"
                    format = "{f}"
                }}''' for f in formats)
    return f'BundlePublisher "k8s_configmap" {{ plugin_data {{ clusters = {{ {text} }} }} }}'


def without(rules, verb):
    return [{**r, "verbs": [v for v in r["verbs"] if v != verb]} for r in rules]


@pytest.mark.parametrize("server_bin", SERVERS)
@pytest.mark.parametrize("there", [True, False], ids=["there", "made"])
def test_bundles_are_published(world, cluster, name, server_bin, there):
    """Into a ConfigMap that is there, without the right to make one; and into one that is not."""
    rules = page_rules("server-bundlepublisher-k8s_configmap.md", name)
    if there:
        cluster.create("ConfigMap", name, "spire", data={"mine": "stays"})
        rules = without(rules, "create")
    config = cluster.user_config(name, rules, "spire")
    formats = ("pem",) if server_bin != BIN else ("spiffe", "jwks", "pem")
    server = world.server(bindir=server_bin, plugins=publisher(config, name, formats=formats)).start()
    bundle = server.bundle_pem()
    found = cluster.await_object(path_of("ConfigMap", name, "spire"), lambda o: "bundle.pem" in o.get("data", {}))
    assert found["data"]["bundle.pem"] == bundle
    assert found["data"].get("mine") == ("stays" if there else None)
    assert "spire-bundlepublisher-k8s_configmap" in {m["manager"] for m in found["metadata"]["managedFields"]}


@pytest.mark.parametrize("server_bin", SERVERS)
def test_the_right_to_create_by_name_is_enough(world, cluster, name, server_bin):
    """Where the API server knows the name beforehand, as with server-side apply."""
    config = cluster.user_config(name, [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": [name],
                                         "verbs": ["create", "patch"]}], "spire")
    server = world.server(bindir=server_bin, plugins=publisher(config, name, formats=("pem",))).start()
    found = cluster.await_object(path_of("ConfigMap", name, "spire"))
    assert found["data"] == {"bundle.pem": server.bundle_pem()}


def test_what_others_own_is_not_taken_from_them(world, cluster, name):
    config = cluster.user_config(name, page_rules("server-bundlepublisher-k8s_configmap.md", name), "spire")
    cluster.apply(path_of("ConfigMap", name, "spire"), "ConfigMap", metadata={"name": name}, data={"bundle.pem": "mine"})
    said = []
    for s, server_bin in [("ours", BIN)] + ([("theirs", UPSTREAM)] if UPSTREAM else []):
        server = world.server(s, bindir=server_bin, plugins=publisher(config, name, formats=("pem",))).start()
        server.await_log("failed to apply ConfigMap for cluster")
        said.append(re.search(r"failed to apply ConfigMap for cluster .*?(?=\"[ \n])", server.log()).group(0))
        server.stop()
    assert cluster.config_map(name) == {"bundle.pem": "mine"}
    assert len(set(said)) == 1 and "Apply failed with 1 conflict: conflict with" in said[0]


def test_several_keys_of_one_config_map(world, cluster, name):
    """What is applied takes away what the same field manager applied before and does not name now, so SPIRE's server leaves
    one of these."""
    config = cluster.user_config(name, page_rules("server-bundlepublisher-k8s_configmap.md", name), "spire")
    server = world.server(plugins=publisher(config, name)).start()
    wait_for("all three", lambda: server.log().count("Bundle published to Kubernetes ConfigMap") == 3)
    assert sorted(cluster.config_map(name)) == ["bundle.jwks", "bundle.pem", "bundle.spiffe"]
    assert cluster.config_map(name)["bundle.pem"] == server.bundle_pem()
    assert {tuple(json.loads(cluster.config_map(name)[f"bundle.{f}"])) for f in ("jwks", "spiffe")} == {
        ("keys",), ("keys", "spiffe_sequence")}
