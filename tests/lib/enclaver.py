"""Enclaves of AWS Nitro for tests: a root of the test's own, documents of it, and agents that attest with them."""

import json
import os
import pathlib
import subprocess

import spire
from spire import Failed, run

IMAGE = "0ec1a7e0" + "0" * 88  # PCR0 of nitro-document unless told otherwise
OTHER_IMAGE = "ab" * 48
DEFAULT_ID = f"spiffe://example.org/spire/agent/nitro-enclave/{IMAGE}"
QUICK = 'ratelimit {\n        attestation = false\n    }\n    experimental {\n        cache_reload_interval = "1s"\n    }'
DATA = pathlib.Path(os.environ.get("CSPIRE_NITRO_DATA") or spire.REPO.parent / "shared" / "data" / "nitro")


def maker():
    """nitro-document, which is built beside the programs under test, or in the usual place."""
    for folder in (spire.BIN.parent, spire.REPO / "build"):
        if (folder / "tests" / "nitro-document").exists():
            return folder / "tests" / "nitro-document"
    raise Failed("nitro-document is not built")


class Nitro:
    """A root, and the agents of enclaves below it, which speak to one server."""

    def __init__(self, folder, agent):
        self.dir = pathlib.Path(folder) / "nitro"
        self.dir.mkdir()
        self.agent = agent
        self.root = self.dir / "root.pem"
        run([maker(), "root", self.dir])
        self.server = None
        self.runs = 0

    def serve(self, world, *options, name="server", plugin=None, **kw):
        """A server with the built-in plugin, or with the text of another."""
        block = plugin or self.plugin(*options)
        self.server = world.server(name, plugins=block, **{"server": QUICK, **kw}).start()
        self.bundle = self.server.dir / "bundle.pem"
        self.bundle.write_text(self.server.bundle_pem())
        return self.server

    def plugin(self, *options, root=True):
        lines = ([f'root_ca_path = "{self.root}"'] if root else []) + list(options)
        return 'NodeAttestor "nitro_enclave" {\n plugin_data {\n' + "\n".join(lines) + "\n }\n}"

    def document(self, *words):
        """A file with a new document."""
        self.runs += 1
        path = self.dir / f"document{self.runs}"
        with open(path, "wb") as out:
            subprocess.run([str(maker()), "make", str(self.dir), *words], stdout=out, check=True, timeout=60)
        return path

    def attest(self, *words, document=None, bind="none", answer="ignore", key=None, until="attest"):
        """What came of it; the file with the same is under "path"."""
        self.runs += 1
        args = [self.agent, "-server", f"127.0.0.1:{self.server.port}", "-bundle", self.bundle, "-bind", bind, "-answer", answer,
                "-until", until]
        args += ["-document", document] if document else ["-maker", " ".join(map(str, [maker(), "make", self.dir, *words]))]
        args += ["-key", key or self.dir / f"key{self.runs}"]
        done = run(args, limit=120)
        path = self.dir / f"result{self.runs}"
        path.write_text(done.stdout)
        return {**json.loads(done.stdout), "path": path, "key": args[-1]}

    def again(self, earlier):
        """The agent SVID of an earlier attestation, used once more."""
        done = run([self.agent, "-server", f"127.0.0.1:{self.server.port}", "-bundle", self.bundle, "-key", earlier["key"],
                    "-again", earlier["path"]])
        return json.loads(done.stdout)
