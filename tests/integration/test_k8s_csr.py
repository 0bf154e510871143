"""NodeAttestor k8s_csr with our server and agent: who becomes which node, and who does not."""

import datetime

import k8scsr
import nodecerts
import pytest
from cryptography.x509 import DNSName
from cryptography.x509.oid import ExtendedKeyUsageOID
from spire import run, wait_for

ID = "spiffe://example.org/spire/agent/k8s_csr"
WORKLOAD = "spiffe://example.org/app"


@pytest.fixture
def ca(world):
    return authority(world, "ca.crt")


def authority(world, file):
    made = nodecerts.Authority()
    made.file = world.dir / file
    made.file.write_bytes(made.pem)
    return made


def test_a_node_attests_and_serves_workloads(world, ca):
    server = k8scsr.server(world, demo=([ca.file], ""))
    nodecerts.write_identity(world.dir / "id", ca.node("n1"))
    agent = k8scsr.agent(world, server, world.dir / "id").start()
    assert server.agent_ids() == [f"{ID}/demo/n1"]
    known = server.agents()[0]
    assert known["can_reattest"] and known["attestation_type"] == "k8s_csr"
    assert sorted(f"{s['type']}:{s['value']}" for s in known["selectors"]) == ["k8s_csr:cluster:demo",
                                                                             "k8s_csr:node_name:n1"]
    # an alias by cluster, as one would for a DaemonSet
    server.entry("spiffe://example.org/spire/server", "spiffe://example.org/demo", "k8s_csr:cluster:demo", node=True)
    server.entry("spiffe://example.org/demo", WORKLOAD)
    agent.await_ids(WORKLOAD)


def test_an_evicted_agent_comes_back_with_a_new_certificate(world, ca):
    server = k8scsr.server(world, demo=([ca.file], ""))
    nodecerts.write_identity(world.dir / "id", ca.node("n1"))
    agent = k8scsr.agent(world, server, world.dir / "id").start()
    agent.stop()
    server.cli("agent", "evict", "-spiffeID", f"{ID}/demo/n1")
    nodecerts.write_identity(world.dir / "id", ca.node("n1"))
    for f in (agent.dir / "data").iterdir():
        if f.is_file():
            f.unlink()
    agent.start()
    assert server.agent_ids() == [f"{ID}/demo/n1"]


def test_a_cluster_may_have_several_authorities_and_there_may_be_several_clusters(world, ca):
    second, other = authority(world, "ca2.crt"), authority(world, "other.crt")
    server = k8scsr.server(world, demo=([ca.file, second.file], ""), two=([other.file], ""))
    for i, (cluster, by) in enumerate((("demo", ca), ("demo", second), ("two", other))):
        folder = world.dir / f"id{i}"
        nodecerts.write_identity(folder, by.node(f"n{i}"))
        k8scsr.agent(world, server, folder, cluster, f"agent{i}").start()
    assert sorted(server.agent_ids()) == [f"{ID}/demo/n0", f"{ID}/demo/n1", f"{ID}/two/n2"]


HOSTILE = {
    "another cluster's CA": (lambda ca: nodecerts.Authority().node("n1"), "certificate signed by unknown authority"),
    "a serving certificate": (lambda ca: ca.node("n1", usages=[ExtendedKeyUsageOID.SERVER_AUTH]),
                              "certificate specifies an incompatible key usage"),
    "for clients and servers": (lambda ca: ca.node("n1", usages=[ExtendedKeyUsageOID.CLIENT_AUTH,
                                                                 ExtendedKeyUsageOID.SERVER_AUTH]),
                                "certificate is not for client authentication alone"),
    "with a name": (lambda ca: ca.node("n1", sans=[DNSName("n1")]), "certificate has subject alternative names"),
    "a user": (lambda ca: ca.pair(nodecerts.name("spire", "spire-agent")), "the subject is not O=system:nodes"),
    "an administrator": (lambda ca: ca.pair(nodecerts.name("system:masters", "system:node:n1")),
                         "the subject is not O=system:nodes"),
    "a path": (lambda ca: ca.node("../n1"), "CN does not hold the name of a node"),
    "expired": (lambda ca: ca.node("n1", life=datetime.timedelta(seconds=-60)), "certificate has expired"),
    "not on the list": (lambda ca: ca.node("n9"), 'is not in node_allow_list of cluster'),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_other_certificates_do_not_attest(world, ca, what):
    make, text = HOSTILE[what]
    server = k8scsr.server(world, demo=([ca.file], 'node_allow_list = ["n1"]'))
    nodecerts.write_identity(world.dir / "id", make(ca))
    agent = k8scsr.agent(world, server, world.dir / "id").spawn()
    wait_for("the refusal in the server's log", lambda: text in server.log())
    wait_for("the refusal in the agent's log", lambda: text in agent.log())
    assert server.agents() == []


def test_a_stolen_certificate_is_of_no_use(world, ca):
    server = k8scsr.server(world, demo=([ca.file], ""))
    cert, _ = ca.node("n1")
    _, key = ca.node("n1")
    nodecerts.write_identity(world.dir / "id", (cert, key))
    agent = k8scsr.agent(world, server, world.dir / "id").spawn()
    wait_for("the agent to refuse", lambda: "is not the certificate of" in agent.log())
    assert server.agents() == []


def test_faults_of_the_configuration_are_told_by_validate(world, ca):
    server = world.server(plugins='NodeAttestor "k8s_csr" { plugin_data { clusters = { "demo" = {} } } }')
    done = run([server.bin / "spire-server", "validate", "-config", server.conf_path], check=False)
    assert 'cluster "demo": client_ca_files is required' in done.stdout + done.stderr
