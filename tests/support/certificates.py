"""Certificates of every kind that a test of TLS needs, good ones and bad ones, as files in a folder."""

import datetime
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["KEY_PASSWORD", "WORKER", "make_certificates"]

WORKER = "shop-worker"
"""The name in the certificate of the worker."""
KEY_PASSWORD = "not a secret"

_HOSTS = ("localhost", "127.0.0.1")
_LONG_AGO = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
_SOON_AFTER = _LONG_AGO + datetime.timedelta(days=30)
_LATER = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)


def make_certificates(folder: Path) -> None:
    """Write them, each with its key beside it:

    - `ca.pem` and `foreign-ca.pem`, which nobody else trusts;
    - `server.pem`, `expired.pem`, `renamed.pem`: of this machine, of the past, of another host; `numbered.pem` is of
      this machine's address alone, `branch.pem` signed by `branch-ca.pem`, which `ca.pem` has signed;
    - `worker.pem`, `worker-expired.pem`, `worker-foreign.pem`, `nobody.pem`, of a name that is no user's;
    - `worker-both.pem`, the worker's with the key in it, `worker-encrypted.key` and `worker-encrypted-long-ago.key`,
      its key with `KEY_PASSWORD`, in two forms.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ours, foreign = trustme.CA(organization_name="Tests"), trustme.CA(organization_name="Elsewhere")
    ours.cert_pem.write_to_path(folder / "ca.pem")
    foreign.cert_pem.write_to_path(folder / "foreign-ca.pem")
    branch = ours.create_child_ca()
    branch.cert_pem.write_to_path(folder / "branch-ca.pem")
    for name, server in {
        "server": ours.issue_cert(*_HOSTS),
        "expired": ours.issue_cert(*_HOSTS, not_before=_LONG_AGO, not_after=_SOON_AFTER),
        "renamed": ours.issue_cert("rabbit.example"),
        "numbered": ours.issue_cert(_HOSTS[1]),
        "branch": branch.issue_cert(*_HOSTS),
    }.items():
        server.private_key_pem.write_to_path(folder / f"{name}.key")
        server.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
    key = ec.generate_private_key(ec.SECP256R1())
    plain = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for name, client in {
        "worker": _of_a_client(ours, key, WORKER, _LATER),
        "worker-expired": _of_a_client(ours, key, WORKER, _SOON_AFTER),
        "worker-foreign": _of_a_client(foreign, key, WORKER, _LATER),
        "nobody": _of_a_client(ours, key, "nobody", _LATER),
    }.items():
        (folder / f"{name}.key").write_bytes(plain)
        (folder / f"{name}.pem").write_bytes(client)
    (folder / "worker-both.pem").write_bytes(plain + (folder / "worker.pem").read_bytes())
    for name, form in {
        "encrypted": PrivateFormat.PKCS8,
        "encrypted-long-ago": PrivateFormat.TraditionalOpenSSL,
    }.items():
        encrypted = key.private_bytes(Encoding.PEM, form, BestAvailableEncryption(KEY_PASSWORD.encode()))
        (folder / f"worker-{name}.key").write_bytes(encrypted)


def _of_a_client(ca: trustme.CA, key: ec.EllipticCurvePrivateKey, name: str, until: datetime.datetime) -> bytes:
    """Not by `trustme`, whose certificates are for servers as well, and so none of a client for RabbitMQ's Erlang."""
    issuer = x509.load_pem_x509_certificate(ca.cert_pem.bytes())
    issuers_key = load_pem_private_key(ca.private_key_pem.bytes(), None)
    assert isinstance(issuers_key, ec.EllipticCurvePrivateKey)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(_LONG_AGO)
        .not_valid_after(until)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
    )
    return builder.sign(issuers_key, SHA256()).public_bytes(Encoding.PEM)
