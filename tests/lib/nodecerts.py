"""A cluster's CA, and the certificates it signs: for nodes, for users, for what should not attest."""

import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PEM = serialization.Encoding.PEM


def name(organization=None, common_name=None):
    parts = []
    if organization is not None:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    if common_name is not None:
        parts.append(x509.NameAttribute(NameOID.COMMON_NAME, common_name))
    return x509.Name(parts)


def key_pem(key, form=serialization.PrivateFormat.TraditionalOpenSSL):
    return key.private_bytes(PEM, form, serialization.NoEncryption())


class Authority:
    def __init__(self, common_name="kubernetes"):
        self.key = ec.generate_private_key(ec.SECP256R1())
        subject = name(common_name=common_name)
        self.cert = (self._builder(subject, self.key.public_key(), datetime.timedelta(days=1), subject)
                     .add_extension(x509.BasicConstraints(True, None), True)
                     .add_extension(x509.KeyUsage(False, False, False, False, False, True, True, False, False), True)
                     .sign(self.key, hashes.SHA256()))

    @staticmethod
    def _builder(subject, public_key, life, issuer):
        now = datetime.datetime.now(datetime.timezone.utc)
        return (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public_key)
                .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(minutes=5))
                .not_valid_after(now + life))

    @property
    def pem(self):
        return self.cert.public_bytes(PEM)

    def sign(self, subject, public_key, life=datetime.timedelta(hours=1), usages=(ExtendedKeyUsageOID.CLIENT_AUTH,),
             sans=()):
        builder = (self._builder(subject, public_key, life, self.cert.subject)
                   .add_extension(x509.BasicConstraints(False, None), True)
                   .add_extension(x509.KeyUsage(True, False, True, False, False, False, False, False, False), True)
                   .add_extension(x509.ExtendedKeyUsage(usages), False))
        if sans:
            builder = builder.add_extension(x509.SubjectAlternativeName(sans), False)
        return builder.sign(self.key, hashes.SHA256())

    def pair(self, subject, **kw):
        """Certificate and key, PEM."""
        key = ec.generate_private_key(ec.SECP256R1())
        return self.sign(subject, key.public_key(), **kw).public_bytes(PEM), key_pem(key)

    def node(self, node, **kw):
        return self.pair(name("system:nodes", f"system:node:{node}"), **kw)


def write_identity(folder, pair):
    """As `node-attestor` leaves them."""
    folder.mkdir(mode=0o700, exist_ok=True)
    (folder / "id-doc.crt").write_bytes(pair[0])
    key = folder / "id-doc.key"
    key.touch(mode=0o600)
    key.write_bytes(pair[1])
