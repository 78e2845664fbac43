"""What goes wrong between two sides that try TLS, in words for people.

Separate from the other refusals because OpenSSL is the one that knows the reason, in its own short names; here stands
what each of them means for somebody who has settings to look at.
"""

import ssl
from collections.abc import Iterator, Mapping
from typing import Final

from milvaion_trio.model.settings import RabbitMQSettings

__all__ = ["tls_words"]

_EXPIRED, _NOT_YET = 10, 9
_UNTRUSTED: Final = {2, 18, 19, 20, 21}
_OTHER_NAME: Final = {62, 64}
"""Results of looking at a certificate, of OpenSSL's x509_vfy.h: the issuer is unknown; name or address differ."""

_NO_TLS: Final = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "HTTPS_PROXY_REQUEST"}
_TOO_OLD: Final = {"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE", "VERSION_TOO_LOW"}
_NOTHING_IN_COMMON: Final = {"SSLV3_ALERT_HANDSHAKE_FAILURE", "TLSV1_ALERT_INSUFFICIENT_SECURITY", "NO_SHARED_CIPHER"}
_DEMANDED: Final = {"TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_NO_CERTIFICATE"}
_OURS_REFUSED: Final[Mapping[str, str]] = {
    "TLSV1_ALERT_UNKNOWN_CA": "nobody whom it trusts has signed it (ssl_options.cacertfile of rabbitmq.conf)",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it is out of date: get a new one",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it was revoked: get a new one",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it may be for another purpose than that of a client; RabbitMQ's log says more",
    "SSLV3_ALERT_BAD_CERTIFICATE": "RabbitMQ's log says why",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "it may be for another purpose than that of a client",
    "TLSV1_ALERT_DECRYPT_ERROR": "RabbitMQ's log says why",
    "TLSV1_ALERT_ACCESS_DENIED": "RabbitMQ's log says why",
}


def tls_words(settings: RabbitMQSettings, where: str, error: BaseException) -> tuple[str, bool]:
    """Why, and whether it stays so until somebody changes something."""
    broker = f"what listens at {where}"
    failure = next((one for one in _chain(error) if isinstance(one, ssl.SSLError)), None)
    if isinstance(failure, ssl.SSLCertVerificationError):
        return _of_certificate(settings, where, failure), True
    reason = (failure.reason or "") if failure is not None else ""
    if reason in _NO_TLS:
        return (
            f"{broker} speaks no TLS; RabbitMQ's port for TLS is 5671 unless configured otherwise "
            "(Worker:RabbitMQ:Port), and Worker:RabbitMQ:Tls false is for plain text"
        ), True
    if reason in _TOO_OLD:
        return (
            f"{broker} speaks only versions of TLS that are no longer safe; this worker needs 1.2 or newer: set "
            "ssl_options.versions of rabbitmq.conf"
        ), True
    if reason in _DEMANDED or (reason in _NOTHING_IN_COMMON and not settings.tls_certificate_file):
        return _demanded(settings, where, reason in _DEMANDED), True
    if reason in _OURS_REFUSED:
        return (
            f"RabbitMQ at {where} refused the certificate {settings.tls_certificate_file} "
            f"(Worker:RabbitMQ:TlsCertificateFile): {_OURS_REFUSED[reason]}"
        ), True
    if reason in _NOTHING_IN_COMMON:
        return f"{broker} and this worker found no way of TLS that both take; RabbitMQ's log says more", True
    if failure is None or isinstance(failure, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return (
            f"{broker} closed the connection while TLS was agreed upon; is RabbitMQ still starting, has it no usable "
            "certificate (its log says so), or is it something else (Worker:RabbitMQ:Host, Worker:RabbitMQ:Port)?"
        ), False
    return f"TLS with {broker} failed: {_plain(failure)} (Worker:RabbitMQ:Tls)", False


def _of_certificate(settings: RabbitMQSettings, where: str, failure: ssl.SSLCertVerificationError) -> str:
    certificate = f"the certificate of RabbitMQ at {where}"
    code = failure.verify_code
    if code == _EXPIRED:
        return f"{certificate} is out of date: it needs a new one, or a clock is wrong"
    if code == _NOT_YET:
        return f"{certificate} is not valid yet: is the clock of this machine right?"
    if code in _OTHER_NAME:
        if settings.tls_server_name:
            wanted = f"{settings.tls_server_name!r} (Worker:RabbitMQ:TlsServerName)"
            return f"{certificate} is for another name than {wanted}"
        return (
            f"{certificate} is for another name; call it by one that is in there (Worker:RabbitMQ:Host), or say which "
            "it is (Worker:RabbitMQ:TlsServerName)"
        )
    if code in _UNTRUSTED:
        if settings.tls_ca_file:
            return (
                f"{certificate} is signed by none of those in {settings.tls_ca_file} (Worker:RabbitMQ:TlsCaFile): the "
                "certificate of its issuer must be in there"
            )
        return (
            f"{certificate} is signed by nobody whom this machine trusts; name a file with the certificate of its "
            "issuer (Worker:RabbitMQ:TlsCaFile)"
        )
    return f"{certificate} cannot be accepted: {failure.verify_message} (Worker:RabbitMQ:TlsCaFile)"


def _demanded(settings: RabbitMQSettings, where: str, is_sure: bool) -> str:
    if settings.tls_certificate_file:
        return (
            f"RabbitMQ at {where} demands a certificate, and was not shown {settings.tls_certificate_file} "
            "(Worker:RabbitMQ:TlsCertificateFile): nobody whom it trusts has signed it"
        )
    start = f"RabbitMQ at {where} demands a certificate of this worker"
    if not is_sure:
        start = f"RabbitMQ at {where} gave up TLS, most likely as it demands a certificate of this worker"
    return f"{start}; name one that it trusts (Worker:RabbitMQ:TlsCertificateFile, Worker:RabbitMQ:TlsKeyFile)"


def _plain(failure: ssl.SSLError) -> str:
    """Without the place in OpenSSL's or Python's source code."""
    return (failure.reason or failure.strerror or str(failure)).replace("_", " ").lower()


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    for _ in range(10):  # deeper than any, and an end for a circle
        if seen is None:
            return
        yield seen
        seen = seen.__cause__ or seen.__context__
