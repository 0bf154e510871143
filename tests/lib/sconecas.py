"""The SVIDStore sconecas_sessionmanager in tests: its block in a configuration, its entries, and the stand-in for a CAS."""

import sys

from spire import REPO, wait_for

sys.path.insert(0, str(REPO / "tests" / "scone"))
import cas as caslib  # noqa: E402

TYPE = "sconecas_sessionmanager"
HASH = "3f" * 32
APP = "spiffe://example.org/app"


def block(cas, folder, templates=REPO / "examples" / "scone", **changes):
    options = {
        "cas_connection_string": cas.url,
        "cas_client_certificate": cas.dir / "session.crt",
        "cas_client_key": cas.dir / "session.key",
        "trust_anchor_certificate": cas.dir / "cas.crt",
        "cas_predecessor_dir": folder,
        "svid_session_template_file": templates / "svid.yaml",
        "bundle_session_template_file": templates / "bundle.yaml",
        "federated_bundles_session_template_file": templates / "federated-bundles.yaml",
        **changes,
    }
    lines = "\n".join(f'{k} = "{v}"' for k, v in options.items())
    return f'SVIDStore "{TYPE}" {{ plugin_data {{\n{lines}\n}} }}'


def entry(server, agent, spiffe_id=APP, session="NS/app", bundle="NS/ca", federated=None, **flags):
    selectors = [f"{TYPE}:session_name:{session}", f"{TYPE}:session_hash:{HASH}"]
    selectors += [f"{TYPE}:trust_bundle_session_name:{bundle}"] if bundle else []
    selectors += [f"{TYPE}:fed_bundles_session_name:{federated}"] if federated else []
    return server.entry(agent.id, spiffe_id, *selectors, storeSVID=True, **flags)


def await_versions(cas, session, n, limit=20):
    return wait_for(f"version {n} of {session}", lambda: len(cas.versions(session)) >= n and cas.versions(session), limit)
