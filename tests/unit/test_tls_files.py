"""The files of TLS: good ones are used, bad ones are refused with a sentence that says which it is and what to do."""

import ssl
from pathlib import Path

import pytest
from tests.support.certificates import KEY_PASSWORD, make_certificates

from milvaion_trio.broker.amqp.tls import context


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    make_certificates(folder)
    return folder


@pytest.fixture(autouse=True)
def in_there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that sentences name files as short as they are given."""
    monkeypatch.chdir(folder)


def made(
    ca: str | None = None, certificate: str | None = None, key: str | None = None, password: str | None = None
) -> ssl.SSLContext:
    return context(ca_file=ca, certificate_file=certificate, key_file=key, key_password=password)


def refused(
    ca: str | None = None, certificate: str | None = None, key: str | None = None, password: str | None = None
) -> str:
    with pytest.raises(ValueError, match="Worker:RabbitMQ:Tls") as caught:
        made(ca, certificate, key, password)
    return str(caught.value)


@pytest.mark.parametrize("ca", [None, "", "ca.pem"])
def test_names_and_certificates_are_looked_at_whatever_the_files(ca: str | None) -> None:
    """And what is older than TLS 1.2 is not spoken."""
    context = made(ca)

    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2


def test_only_those_in_the_file_are_trusted() -> None:
    """Not those of the system beside them."""
    assert made("ca.pem").cert_store_stats()["x509_ca"] == 1


def test_without_a_file_the_system_is_asked(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(folder))

    assert made().cert_store_stats()["x509_ca"] == 1


@pytest.mark.parametrize(
    ("certificate", "key", "password"),
    [
        ("worker.pem", "worker.key", None),
        ("worker.pem", "worker.key", "one that is not needed"),
        ("worker-both.pem", None, None),
        ("worker-both.pem", "", ""),
        ("worker.pem", "worker-encrypted.key", KEY_PASSWORD),
    ],
)
def test_a_certificate_may_have_its_key_in_two_places(certificate: str, key: str | None, password: str | None) -> None:
    made("ca.pem", certificate, key, password)


def test_what_cannot_be_read_is_named() -> None:
    """OpenSSL names no file."""
    missing = "cannot be read: No such file or directory"
    assert refused("a.pem") == f"a.pem (Worker:RabbitMQ:TlsCaFile) {missing}"
    assert refused(None, "b.pem", "worker.key") == f"b.pem (Worker:RabbitMQ:TlsCertificateFile) {missing}"
    assert refused(None, "worker.pem", "c.key") == f"c.key (Worker:RabbitMQ:TlsKeyFile) {missing}"
    assert refused(".") == ". (Worker:RabbitMQ:TlsCaFile) cannot be read: Is a directory"
    assert refused("a\0") == "a\0 (Worker:RabbitMQ:TlsCaFile) cannot be read: embedded null byte"


def test_another_form_than_pem_is_told_how_to_become_pem(folder: Path, tmp_path: Path) -> None:
    binary = tmp_path / "ca.der"
    binary.write_bytes(ssl.PEM_cert_to_DER_cert((folder / "ca.pem").read_text()))

    says = "holds no certificate in PEM form, which begins with -----BEGIN CERTIFICATE-----; of other forms it can be"
    assert refused(str(binary)).startswith(f"{binary} (Worker:RabbitMQ:TlsCaFile) {says}")
    assert refused(None, str(binary)).startswith(f"{binary} (Worker:RabbitMQ:TlsCertificateFile) {says}")


def test_a_damaged_certificate_is_named(folder: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.pem"
    damaged.write_text((folder / "ca.pem").read_text()[:200] + "\n-----END CERTIFICATE-----\n")

    assert refused(str(damaged)).startswith(f"{damaged} (Worker:RabbitMQ:TlsCaFile) holds a damaged certificate: ")
    certificate = refused(None, str(damaged), "worker.key")
    assert certificate.startswith(f"the certificate {damaged} (Worker:RabbitMQ:TlsCertificateFile) or the key in worke")


def test_a_missing_key_is_told_where_it_may_be() -> None:
    assert refused(None, "worker.pem") == (
        "worker.pem (Worker:RabbitMQ:TlsCertificateFile) holds no private key in PEM form; where it has a file of its "
        "own, name it (Worker:RabbitMQ:TlsKeyFile)"
    )
    assert refused(None, "worker.pem", "ca.pem") == (
        "ca.pem (Worker:RabbitMQ:TlsKeyFile) holds no private key in PEM form"
    )


@pytest.mark.parametrize("key", ["server.key", "expired.key"])
def test_a_key_of_another_certificate_is_refused(key: str) -> None:
    assert refused(None, "worker.pem", key) == (
        f"the key in {key} (Worker:RabbitMQ:TlsKeyFile) does not belong to the first certificate in worker.pem "
        "(Worker:RabbitMQ:TlsCertificateFile): this worker's own must come first, those of its issuers after it"
    )


def test_a_wrong_password_is_not_shown() -> None:
    assert refused(None, "worker.pem", "worker-encrypted.key", "s3cret") == (
        "the key in worker-encrypted.key (Worker:RabbitMQ:TlsKeyFile) has another password than the given one "
        "(Worker:RabbitMQ:TlsKeyPassword)"
    )


@pytest.mark.parametrize("password", [None, ""])
def test_nobody_is_asked_for_a_password(password: str | None) -> None:
    """OpenSSL would, at the terminal, and wait for ever."""
    assert refused(None, "worker.pem", "worker-encrypted.key", password) == (
        "the key in worker-encrypted.key (Worker:RabbitMQ:TlsKeyFile) is encrypted, and needs its password "
        "(Worker:RabbitMQ:TlsKeyPassword)"
    )


def test_a_key_encrypted_in_the_old_form_is_known_too() -> None:
    """Its headers say so, instead of its first line."""
    assert "is encrypted" in refused(None, "worker.pem", "worker-encrypted-long-ago.key")
    made(None, "worker.pem", "worker-encrypted-long-ago.key", KEY_PASSWORD)
