"""What TLS needs before it can begin: whom to trust, and who this worker is; read from files.

Separate from the connection because files are wrong in ways of their own, and OpenSSL tells few of them apart.
There is no way to switch the looking at certificates off: who cannot be known is not talked to.
"""

import ssl
from pathlib import Path

__all__ = ["context"]

_CA, _CERTIFICATE, _KEY, _PASSWORD = (
    f"Worker:RabbitMQ:{name}" for name in ("TlsCaFile", "TlsCertificateFile", "TlsKeyFile", "TlsKeyPassword")
)


def context(
    *, ca_file: str | None, certificate_file: str | None, key_file: str | None, key_password: str | None
) -> ssl.SSLContext:
    """How to speak TLS 1.2 or newer to somebody whose certificate and name are looked at.

    Without `ca_file` those are trusted whom the system trusts. Without `key_file` the key is in the certificate's file.
    Empty is the same as `None`. Raises `ValueError` with words that say which file is wrong, and what to do.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    # What is in the file is trusted as it is: an issuer need not bring the chain above it along.
    made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if ca_file:
        _trust(made, ca_file)
    else:
        made.load_default_certs()
    if certificate_file:
        _identify(made, certificate_file, key_file, key_password)
    return made


def _trust(made: ssl.SSLContext, file: str) -> None:
    _require_certificate(_read(file, _CA), file, _CA)
    try:
        made.load_verify_locations(cafile=file)
    except ssl.SSLError as error:
        raise ValueError(f"{file} ({_CA}) holds a damaged certificate: {_plain(error)}") from error


def _identify(made: ssl.SSLContext, certificate: str, key: str | None, password: str | None) -> None:
    _require_certificate(_read(certificate, _CERTIFICATE), certificate, _CERTIFICATE)
    where, setting = (key, _KEY) if key else (certificate, _CERTIFICATE)
    text = _read(where, setting)
    if b"PRIVATE KEY-----" not in text:
        instead = "" if key else f"; where it has a file of its own, name it ({_KEY})"
        raise ValueError(f"{where} ({setting}) holds no private key in PEM form{instead}")
    is_encrypted = b"ENCRYPTED" in text
    if is_encrypted and not password:
        raise ValueError(f"the key in {where} ({setting}) is encrypted, and needs its password ({_PASSWORD})")
    try:
        # Never without a password: OpenSSL would ask for one at the terminal, and wait.
        made.load_cert_chain(certificate, key or None, lambda: password or "")
    except ssl.SSLError as error:
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            raise ValueError(
                f"the key in {where} ({setting}) does not belong to the first certificate in {certificate} "
                f"({_CERTIFICATE}): this worker's own must come first, those of its issuers after it"
            ) from error
        if is_encrypted:
            raise ValueError(
                f"the key in {where} ({setting}) has another password than the given one ({_PASSWORD})"
            ) from error
        raise ValueError(
            f"the certificate {certificate} ({_CERTIFICATE}) or the key in {where} is damaged: {_plain(error)}"
        ) from error


def _read(file: str, setting: str) -> bytes:
    """What is in the file: OpenSSL does not say which one it could not read."""
    try:
        return Path(file).read_bytes()
    except (OSError, ValueError) as error:  # the latter for a name that no file can have
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ValueError(f"{file} ({setting}) cannot be read: {why}") from error


def _require_certificate(text: bytes, file: str, setting: str) -> None:
    if b"CERTIFICATE-----" not in text:
        raise ValueError(
            f"{file} ({setting}) holds no certificate in PEM form, which begins with -----BEGIN CERTIFICATE-----; "
            f"of other forms it can be made: openssl x509 -in {file} -out FILE"
        )


def _plain(error: ssl.SSLError) -> str:
    """Without the place in OpenSSL's or Python's source code."""
    return (error.reason or str(error)).replace("_", " ").lower()
