"""Reaching RabbitMQ, and saying in words for people why it cannot be reached.

Separate from the link because only here do settings matter: each text names the one to look at, and `where` is the
place that was tried, as there may be several.
TCP is connected by Trio: a slow name server or a silent host is cancelled at once, which asyncio's threads are not.
"""

import errno
import ipaddress
import os
import re
import socket
from collections.abc import Iterable

import trio

from milvaion_trio.broker.tls_words import tls_words
from milvaion_trio.model.broker_address import BrokerAddress
from milvaion_trio.model.errors import LinkLost, LinkRefused
from milvaion_trio.model.settings import RabbitMQSettings

__all__ = ["EntryRefused", "connect_tcp", "detach", "foreign", "mechanism_refusal", "refusal", "silence", "tls_refusal"]

_PLACE = "Worker:RabbitMQ:Host, Worker:RabbitMQ:Port"
_NO_SUCH_LOGIN = "takes no login with"
"""The words of `amqp.handshake`, which knows what is offered."""
_TLS_ALERT, _TLS_HANDSHAKE = 0x15, 0x16


class EntryRefused(LinkRefused):
    """No such user, password or virtual host: what all hosts of one cluster say alike, so that one is enough."""


async def connect_tcp(host: str, port: int) -> trio.SocketStream:
    """A connected stream; raises `LinkLost`. If cancelled, there is none."""
    where = BrokerAddress(host, port)
    try:
        return await trio.open_tcp_stream(host, port)
    except OSError as error:
        raise LinkLost(
            f"nothing can be reached at {where} ({_reason(error)}); does RabbitMQ run there ({_PLACE})?"
        ) from error
    except ValueError as error:  # a name that no name can be, e.g. with an empty label
        raise LinkRefused(f"{host!r} is no host name (Worker:RabbitMQ:Host): {error}") from error


def detach(stream: trio.SocketStream) -> socket.socket:
    """The stream's socket, non-blocking, which the stream no longer closes."""
    connected = socket.socket(fileno=stream.socket.detach())
    connected.setblocking(False)
    return connected


def refusal(settings: RabbitMQSettings, where: str, said: str, error: Exception) -> LinkLost:
    """Why the handshake failed, from what the broker said before it closed the connection."""
    broker = f"RabbitMQ at {where}"
    text = said or str(error)
    user = "this worker" if settings.authentication == "EXTERNAL" else f"user {settings.username!r}"
    if _NO_SUCH_LOGIN in text:
        offered = text.partition(", only with ")[2]
        return mechanism_refusal(settings, where, offered.split(", ") if offered else ())
    if "unknown authentication mechanism" in text:
        return mechanism_refusal(settings, where, ())
    if "ACCESS_REFUSED" in text and settings.authentication == "EXTERNAL":
        return LinkRefused(
            f"{broker} refused the login by certificate (Worker:RabbitMQ:Authentication, "
            "Worker:RabbitMQ:TlsCertificateFile): either it has no user of the name in the certificate, which is its "
            "whole subject unless ssl_cert_login_from says otherwise, e.g. common_name; make one, rabbitmqctl add_user."
            " Or it does not ask for certificates; ssl_options.verify = verify_peer changes that"
        )
    if "ACCESS_REFUSED" in text:
        hint = ""
        if settings.username == "guest" and not _is_this_machine(where):
            hint = "; guest may log in from the broker's own machine only, so make a user: rabbitmqctl add_user"
        return EntryRefused(
            f"{broker} refused the login of {user} (Worker:RabbitMQ:Username, "
            f"Worker:RabbitMQ:Password): the name or the password is wrong{hint}"
        )
    if "NOT_ALLOWED" in text and "limit" in text and "is reached" in text:
        return LinkLost(
            f"{broker} takes no more connections (Worker:RabbitMQ:VirtualHost, Worker:RabbitMQ:Username): "
            f"{_after(text, 'NOT_ALLOWED - ')}; close some, or raise the limit: rabbitmqctl set_vhost_limits, "
            "rabbitmqctl set_user_limits, or connection_max of rabbitmq.conf"
        )
    if "NOT_ALLOWED" in text:
        name = settings.virtual_host
        hint = ""
        if "not found" in text:
            hint = f"; make it with rabbitmqctl add_vhost {name}"
            if name.startswith("/"):
                hint += f", or name another one: few begin with a slash, so perhaps {name[1:]!r} is meant"
        elif "refused" in text:
            whom = "USER" if settings.authentication == "EXTERNAL" else settings.username
            hint = f"; allow it with rabbitmqctl set_permissions -p {name} {whom} '.*' '.*' '.*'"
        return EntryRefused(
            f"{broker} does not let {user} into virtual host {name!r} "
            f"(Worker:RabbitMQ:VirtualHost): {_after(text, 'NOT_ALLOWED - ')}{hint}"
        )
    if not said or re.search(r"\bbroke\b", said):  # as TCP tells it: closed without a word
        return LinkLost(
            f"what listens at {where} closed the connection without a word; is RabbitMQ still "
            f"starting, or is it something else ({_PLACE})?"
        )
    return LinkLost(f"the handshake with {broker} failed: {text}")


def mechanism_refusal(settings: RabbitMQSettings, where: str, offered: Iterable[str]) -> LinkRefused:
    """Why nobody logs in where the broker takes no login of the kind that is set, but only the `offered` ones."""
    kind, others = settings.authentication, [name for name in offered if name != settings.authentication]
    hint = "name it in auth_mechanisms of rabbitmq.conf"
    if kind == "EXTERNAL":
        hint = f"enable it, rabbitmq-plugins enable rabbitmq_auth_mechanism_ssl, and {hint}"
    takes = f" but {', '.join(others)}" if others else ""
    return LinkRefused(
        f"RabbitMQ at {where} does not take logins of the kind {kind}{takes} (Worker:RabbitMQ:Authentication); {hint}"
    )


def tls_refusal(settings: RabbitMQSettings, where: str, error: BaseException) -> LinkLost:
    """Why there is no TLS with what listens there; the error is what the stream raised, also at its first reading.

    With TLS 1.3 a server refuses a certificate only after the handshake has ended well for its client.
    """
    words, is_final = tls_words(settings, where, error)
    return LinkRefused(words) if is_final else LinkLost(words)


def foreign(where: str, data: bytes) -> str | None:
    """Why it cannot be RabbitMQ that begins with this; `None` where it can."""
    if data[0] == 1:  # a method frame, as AMQP 0-9-1 begins
        return None
    what = f"what listens at {where}"
    if data.startswith(b"AMQP"):
        return f"{what} speaks another version of AMQP than 0-9-1; is it RabbitMQ ({_PLACE})?"
    if data[0] in (_TLS_ALERT, _TLS_HANDSHAKE):
        return (
            f"{what} speaks TLS, and this worker plain text; switch TLS on (Worker:RabbitMQ:Tls), or name RabbitMQ's "
            f"port for plain text, 5672 unless configured otherwise ({_PLACE})"
        )
    if data.startswith(b"HTTP/"):
        return f"{what} is a web server; RabbitMQ's port for AMQP is 5672 unless configured otherwise ({_PLACE})"
    return f"{what} is no RabbitMQ: it begins with {data[:16]!r} ({_PLACE})"


def silence(where: str, seconds: float) -> LinkLost:
    """Why nothing came within the time for a connection."""
    return LinkLost(
        f"{where} did not answer as RabbitMQ does within {round(seconds, 2) or seconds:g} s; is it well, and is it "
        f"RabbitMQ that listens there ({_PLACE})?"
    )


def _is_this_machine(where: str) -> bool:
    host = where.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _reason(error: OSError) -> str:
    """The words of the system, which trio keeps in the cause; several addresses may have failed in several ways."""
    cause = error.__cause__
    errors = cause.exceptions if isinstance(cause, ExceptionGroup) else [cause]
    words = dict.fromkeys(_word(one) for one in errors if isinstance(one, OSError))
    return ", ".join(filter(None, words)) or error.strerror or str(error)


def _word(error: OSError) -> str:
    """The system's word without trio's `Error connecting to`, as the place is told anyway."""
    if error.errno is None or error.errno not in errno.errorcode or isinstance(error, socket.gaierror):
        return error.strerror or ""
    return os.strerror(error.errno)


def _after(text: str, mark: str) -> str:
    return text.partition(mark)[2] or text
