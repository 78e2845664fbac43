"""Which settings of RabbitMQ contradict each other about TLS and the login.

Separate from all other contradictions, because these give something away: whoever connects asks for them, a worker and
a client alike, and nothing is sent while there are any.
"""

from collections.abc import Iterator, Sequence

from milvaion_trio.model.settings import RabbitMQSettings

__all__ = ["login_contradictions"]


def login_contradictions(rabbitmq: RabbitMQSettings) -> Iterator[str]:
    """Each would leave a connection other than its settings seem to say: in plain text, or as somebody else."""
    certificate = rabbitmq.tls_certificate_file
    for_tls = {
        "TlsCaFile": rabbitmq.tls_ca_file,
        "TlsCertificateFile": certificate,
        "TlsKeyFile": rabbitmq.tls_key_file,
        "TlsKeyPassword": rabbitmq.tls_key_password,
        "TlsServerName": rabbitmq.tls_server_name,
    }
    given = [_key(name) for name, value in for_tls.items() if value]
    if rabbitmq.tls and rabbitmq.driver == "aio-pika":
        yield (
            f"RabbitMQ is to be reached over TLS ({_key('Tls')}), which aio-pika does not do here: set "
            f"{_key('Driver')} to amqp, or leave it out."
        )
    if given and not rabbitmq.tls:
        them = "it" if len(given) == 1 else "them"
        yield f"{' and '.join(given)} {_is(given)} given, but no TLS: set {_key('Tls')} to true, or leave {them} out."
    if rabbitmq.authentication == "EXTERNAL" and not (rabbitmq.tls and certificate):
        missing = _key("TlsCertificateFile") if rabbitmq.tls else f"{_key('Tls')} true and {_key('TlsCertificateFile')}"
        yield f"{_key('Authentication')} EXTERNAL logs in by a certificate, and needs {missing}."
    key = [_key(name) for name in ("TlsKeyFile", "TlsKeyPassword") if for_tls[name]]
    if key and not certificate:
        yield f"{' and '.join(key)} {_is(key)} given, but not the key's certificate: {_key('TlsCertificateFile')}."


def _key(name: str) -> str:
    return f"Worker:RabbitMQ:{name}"


def _is(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"
