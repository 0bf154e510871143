"""Bundles brought to Kubernetes by our server, Notifier k8sbundle and BundlePublisher k8s_configmap, with a stand-in for
the API server."""

import base64
import json

import pytest

import kubeapi
from spire import run, wait_for

ADMISSION = "/apis/admissionregistration.k8s.io/v1"
AGGREGATION = "/apis/apiregistration.k8s.io/v1"
LABELLED = {f"{verb} {resource}" for verb in ("get", "list", "watch", "patch")
            for resource in ("mutatingwebhookconfigurations", "validatingwebhookconfigurations", "apiservices")}


@pytest.fixture
def api(tmp_path):
    a = kubeapi.KubeApi(tmp_path / "k8s")
    a.allowed = {"get configmaps", "patch configmaps"}
    yield a
    a.close()


def notifier(api, options=""):
    return f'''
    Notifier "k8sbundle" {{
        plugin_data {{
            kube_config_file_path = "{api.kubeconfig()}"
            {options}
        }}
    }}'''


def started(server):
    """Healthy, and the bundle was brought to where it belongs, which a server does not wait for."""
    server.start()
    server.await_log('msg="Notifier handled event" event="bundle loaded" notifier=k8sbundle')
    return server


def webhook(api, resource, name, labelled=True, hooks=("a.example.org", "b.example.org"), bundle=""):
    labels = {"spiffe.io/webhook": "true" if labelled else "false"}
    return api.put(ADMISSION, resource, name, labels=labels, webhooks=[
        {"name": h, "admissionReviewVersions": ["v1"], "sideEffects": "None",
         "clientConfig": {"service": {"name": "s", "namespace": "n"}, **({"caBundle": bundle} if bundle else {})}}
        for h in hooks])


def bundles(api, resource, name):
    return [base64.b64decode(w["clientConfig"].get("caBundle", "")).decode()
            for w in api.get(ADMISSION, resource, name)["webhooks"]]


def test_the_config_map_has_the_bundle(world, api):
    api.config_map("spire", "spire-bundle", other="stays")
    server = started(world.server(plugins=notifier(api)))
    bundle = server.bundle_pem()
    assert api.data_of("spire", "spire-bundle") == {"bundle.crt": bundle, "other": "stays"}
    # it is there already: nothing is written again
    assert len(api.seen("PATCH", "configmaps")) == 1
    server.stop()
    server.log_path.unlink()
    started(server)
    assert len(api.seen("PATCH", "configmaps")) == 1 and len(api.seen("GET", "configmaps")) >= 2
    assert {u for m, p, u in api.requests} == {"admin"}


def test_an_absent_config_map_stops_the_start(world, api):
    server = world.server(plugins=notifier(api)).spawn()
    wait_for("the end", lambda: not server.alive())
    assert ('notifier(k8sbundle): unable to update: spire/spire-bundle: unable to get object: configmaps '
            '\\"spire-bundle\\" not found') in server.log()


def test_other_names_and_other_clusters(world, api, tmp_path):
    far = kubeapi.KubeApi(tmp_path / "far")
    try:
        api.config_map("infra", "agents")
        far.config_map("spire", "spire-bundle")
        server = started(world.server(plugins=notifier(api, f'''
            namespace = "infra"
            config_map = "agents"
            config_map_key = "bootstrap.crt"
            clusters = [ {{ kube_config_file_path = "{far.kubeconfig(cert=far.ca.issue("server"))}" }} ]''')))
        assert api.data_of("infra", "agents") == {"bootstrap.crt": server.bundle_pem()}
        assert far.data_of("spire", "spire-bundle") == {"bundle.crt": server.bundle_pem()}
    finally:
        far.close()


def test_a_conflict_is_settled(world, api):
    """Another server writes between our reading and our writing."""
    api.config_map("spire", "spire-bundle")
    left = [2]

    def interfere(h, method, path):
        if method == "PATCH" and left[0] > 0:
            left[0] -= 1
            api.config_map("spire", "spire-bundle", **{"bundle.crt": "of another server"})
        return False

    api.trouble.append(interfere)
    server = started(world.server(plugins=notifier(api)))
    assert left == [0]
    assert api.data_of("spire", "spire-bundle") == {"bundle.crt": server.bundle_pem()}


def test_webhooks_and_api_services(world, api):
    api.allowed |= LABELLED
    api.config_map("spire", "spire-bundle")
    webhook(api, "mutatingwebhookconfigurations", "m")
    webhook(api, "validatingwebhookconfigurations", "v")
    webhook(api, "validatingwebhookconfigurations", "not-ours", labelled=False)
    api.put(AGGREGATION, "apiservices", "v1.x", labels={"spiffe.io/api": "true"},
            spec={"group": "x", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 15})
    server = started(world.server(plugins=notifier(api, '''
            webhook_label = "spiffe.io/webhook"
            api_service_label = "spiffe.io/api"''')))
    bundle = server.bundle_pem()
    assert bundles(api, "mutatingwebhookconfigurations", "m") == [bundle, bundle]
    assert bundles(api, "validatingwebhookconfigurations", "v") == [bundle, bundle]
    assert bundles(api, "validatingwebhookconfigurations", "not-ours") == ["", ""]
    spec = api.get(AGGREGATION, "apiservices", "v1.x")["spec"]
    assert base64.b64decode(spec["caBundle"]).decode() == bundle and spec["versionPriority"] == 15
    kept = api.get(ADMISSION, "mutatingwebhookconfigurations", "m")["webhooks"][0]
    assert kept["clientConfig"]["service"] == {"name": "s", "namespace": "n"} and kept["sideEffects"] == "None"

    # made, and changed, while the server runs
    wait_for("the watches", lambda: len(api.watchers) == 3)
    webhook(api, "mutatingwebhookconfigurations", "late")
    wait_for("the bundle in what is new", lambda: bundles(api, "mutatingwebhookconfigurations", "late") == [bundle] * 2)
    webhook(api, "validatingwebhookconfigurations", "v", bundle=base64.b64encode(b"wrong").decode())
    wait_for("the bundle again", lambda: bundles(api, "validatingwebhookconfigurations", "v") == [bundle] * 2)

    # watches that break off go on
    api.drop_watches()
    webhook(api, "mutatingwebhookconfigurations", "later", hooks=("c.example.org",))
    wait_for("the bundle after the break", lambda: bundles(api, "mutatingwebhookconfigurations", "later") == [bundle])
    assert "Set bundle for object" in server.log()

    # the API server was started anew, and does not know how things were before
    api.forget()
    webhook(api, "mutatingwebhookconfigurations", "after", hooks=("d.example.org",))
    wait_for("the bundle after the restart", lambda: bundles(api, "mutatingwebhookconfigurations", "after") == [bundle])


def test_what_could_not_be_written_is_written_later(world, api):
    """No event comes of it: an object that was there, one that came, and the ConfigMap after a rotation."""
    api.allowed |= LABELLED
    api.config_map("spire", "spire-bundle")
    server = started(world.server(server='ca_ttl = "60s"\n default_x509_svid_ttl = "12s"',
                                  plugins=notifier(api, 'webhook_label = "spiffe.io/webhook"')))
    first = server.bundle_pem()
    wait_for("the watches", lambda: len(api.watchers) == 2)
    api.allowed.discard("patch mutatingwebhookconfigurations")
    webhook(api, "mutatingwebhookconfigurations", "late")
    server.await_log("Unable to set bundle for object")
    api.allowed.add("patch mutatingwebhookconfigurations")
    wait_for("the bundle", lambda: bundles(api, "mutatingwebhookconfigurations", "late") == [first, first])
    api.allowed.discard("patch configmaps")
    server.await_log('msg="Notifier failed to handle event" error="notifier(k8sbundle): unable to update: '
                     'spire/spire-bundle: configmaps \\"spire-bundle\\" is forbidden', 60)
    assert api.data_of("spire", "spire-bundle") == {"bundle.crt": first}
    api.allowed.add("patch configmaps")
    wait_for("the bundle", lambda: api.data_of("spire", "spire-bundle") == {"bundle.crt": server.bundle_pem()}, 60)



def test_what_may_not_be_watched_is_told_once(world, api):
    api.config_map("spire", "spire-bundle")
    server = world.server(plugins=notifier(api, 'webhook_label = "spiffe.io/webhook"')).spawn()
    wait_for("the end", lambda: not server.alive())
    log = server.log()
    assert ('unable to get list: mutatingwebhookconfigurations.admissionregistration.k8s.io is forbidden: User \\"admin\\" '
            'cannot list resource') in log
    assert log.count("Unable to watch objects; trying again") <= 2


def test_a_server_that_cannot_be_reached_stops_the_start(world, api):
    config = api.kubeconfig()
    api.close()
    server = world.server(plugins=f'Notifier "k8sbundle" {{ plugin_data {{ kube_config_file_path = "{config}" }} }}').spawn()
    wait_for("the end", lambda: not server.alive(), limit=60)
    assert "notifier(k8sbundle): unable to update: spire/spire-bundle: unable to get object: GET " in server.log()


@pytest.mark.parametrize("options, text", [
    ('clusters = [ { namespace = "x" } ]', "cluster configuration is missing kube_config_file_path"),
    ('namespace = { a = "b" }', "plugin configuration is malformed"),
])
def test_validate(world, api, options, text):
    server = world.server(plugins=notifier(api, options))
    done = run([server.bin / "spire-server", "validate", "-config", server.conf_path], check=False)
    assert done.returncode == 1 and text in done.stdout + done.stderr


def test_a_kubeconfig_must_be_there(world, api):
    server = world.server(plugins='Notifier "k8sbundle" { plugin_data { kube_config_file_path = "/nonexistent" } }').spawn()
    wait_for("the end", lambda: not server.alive())
    assert "unable to create new kubeClients: open /nonexistent: no such file or directory" in server.log()
    other = world.server("in-cluster", plugins='Notifier "k8sbundle" { plugin_data {} }').spawn()
    wait_for("the end", lambda: not other.alive())
    assert "unable to load in-cluster configuration, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT" in other.log()


def test_a_rotated_bundle_follows(world, api):
    api.config_map("spire", "spire-bundle")
    server = started(world.server(server='ca_ttl = "60s"\n default_x509_svid_ttl = "12s"', plugins=notifier(api)))
    first = api.data_of("spire", "spire-bundle")["bundle.crt"]
    grown = wait_for("the next authority", lambda: (b := api.data_of("spire", "spire-bundle")["bundle.crt"]) != first and b, 60)
    assert grown.startswith(first) and grown == server.bundle_pem()


# --- k8s_configmap ---

def publisher(clusters):
    text = "".join(f'''
                "{name}" = {{
                    {options}
                }}''' for name, options in clusters.items())
    return f'''
    BundlePublisher "k8s_configmap" {{
        plugin_data {{
            clusters = {{{text}
            }}
        }}
    }}'''


def cluster(config, name, fmt, key="bundle", more=""):
    return (f'kubeconfig_path = "{config}"\nnamespace = "spire"\nconfigmap_name = "{name}"\nconfigmap_key = "{key}"\n'
            f'format = "{fmt}"\n{more}')


def test_bundles_are_published(world, api):
    api.allowed = {"patch configmaps"}
    config = api.kubeconfig()
    api.config_map("spire", "pem", mine="stays")
    server = world.server(plugins=publisher({
        "p": cluster(config, "pem", "pem"), "s": cluster(config, "spiffe", "spiffe", more='refresh_hint = "10m"'),
        "j": cluster(config, "jwks", "JWKS")})).start()
    wait_for("the third ConfigMap", lambda: api.data_of("spire", "jwks"))
    assert api.data_of("spire", "pem") == {"mine": "stays", "bundle": server.bundle_pem()}
    document = json.loads(api.data_of("spire", "spiffe")["bundle"])
    assert document["spiffe_refresh_hint"] == 600 and document["spiffe_sequence"] > 0
    assert sorted(k["use"] for k in document["keys"]) == ["jwt-svid", "x509-svid"]
    plain = json.loads(api.data_of("spire", "jwks")["bundle"])
    assert set(plain) == {"keys"} and len(plain["keys"]) == 2 and not any("use" in k for k in plain["keys"])
    assert all("fieldManager=spire-bundlepublisher-k8s_configmap" in p for m, p, u in api.seen("PATCH", ""))
    server.await_log('msg="Bundle published to Kubernetes ConfigMap"')


def test_several_keys_of_one_config_map(world, api):
    """They are applied together: one after the other, each would take away the one before."""
    config = api.kubeconfig()
    server = world.server(plugins=publisher({
        f: cluster(config, "all", f, f"bundle.{f}") for f in ("pem", "spiffe", "jwks")})).start()
    wait_for("all of them", lambda: len(api.data_of("spire", "all")) == 3)
    assert api.data_of("spire", "all")["bundle.pem"] == server.bundle_pem()
    wait_for("what is said", lambda: server.log().count("Bundle published to Kubernetes ConfigMap") == 3)
    assert len(api.seen("PATCH", "configmaps/all")) == 1


def test_one_cluster_that_is_away_does_not_keep_others_waiting(world, api, tmp_path):
    far = kubeapi.KubeApi(tmp_path / "far")
    away = far.kubeconfig()
    far.close()
    server = world.server(plugins=publisher({"away": cluster(away, "a", "pem"),
                                             "near": cluster(api.kubeconfig(), "b", "pem")})).start()
    wait_for("the ConfigMap", lambda: api.data_of("spire", "b") == {"bundle": server.bundle_pem()}, 40)
    server.await_log('failed to apply ConfigMap for cluster \\"away\\": PATCH', 40)


@pytest.mark.parametrize("change, text", [
    (('format = "pem"', 'format = "der"'), 'could not parse bundle format from cluster "x": unknown bundle format: "der"'),
    (('format = "pem"', ""), 'missing bundle format in cluster "x"'),
    (('namespace = "spire"', ""), 'missing namespace in cluster "x"'),
    (('configmap_name = "n"', ""), 'missing configmap name in cluster "x"'),
    (('configmap_key = "bundle"', ""), 'missing configmap key in cluster "x"'),
    (('format = "pem"', 'format = "pem"\nrefresh_hint = "soon"'),
     'could not parse refresh_hint from cluster "x": could not parse refresh hint "soon": time: invalid duration "soon"'),
])
def test_publisher_validate(world, api, change, text):
    server = world.server(plugins=publisher({"x": cluster(api.kubeconfig(), "n", "pem").replace(*change)}))
    done = run([server.bin / "spire-server", "validate", "-config", server.conf_path], check=False)
    assert done.returncode == 1 and text in done.stdout + done.stderr
