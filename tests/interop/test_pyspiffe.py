"""py-spiffe on our agent."""

from spiffe import JwtSource, SpiffeId, WorkloadApiClient, X509Source

W = "spiffe://example.org/w"


def test_clients_and_sources(world):
    server, agent = world.pair()
    server.entry(agent.id, W)
    agent.await_ids(W)
    path = f"unix:{agent.socket}"
    with WorkloadApiClient(path) as client:
        assert str(client.fetch_x509_svid().spiffe_id) == W
        jwt = client.fetch_jwt_svid(audience={"aud"})
        assert str(jwt.spiffe_id) == W
        assert str(client.validate_jwt_svid(jwt.token, audience="aud").spiffe_id) == W
    with X509Source(socket_path=path) as source:
        assert str(source.svid.spiffe_id) == W
        second = "spiffe://example.org/x"
        server.entry(agent.id, second)
        agent.await_ids(W, second)
        assert len(source.get_bundle_for_trust_domain(source.svid.spiffe_id.trust_domain).x509_authorities) >= 1
    with JwtSource(socket_path=path) as source:
        assert str(source.fetch_svid(audience={"aud"}, subject=SpiffeId(W)).spiffe_id) == W
