"""Reaching RabbitMQ, and saying in words for people why it cannot be reached.

Separate from the link because only here do settings matter: each text names the one to look at.
TCP is connected by Trio: a slow name server or a silent host is cancelled at once, which asyncio's threads are not.
"""

import errno
import ipaddress
import os
import socket

import trio

from milvaion_trio.model.errors import LinkLost, LinkRefused
from milvaion_trio.model.settings import RabbitMQSettings

__all__ = ["connect_tcp", "detach", "foreign", "refusal", "silence"]

_PLACE = "Worker:RabbitMQ:Host, Worker:RabbitMQ:Port"
_TLS_ALERT, _TLS_HANDSHAKE = 0x15, 0x16


async def connect_tcp(settings: RabbitMQSettings) -> trio.SocketStream:
    """A connected stream; raises `LinkLost`. If cancelled, there is none."""
    where = f"{settings.host}:{settings.port}"
    try:
        return await trio.open_tcp_stream(settings.host, settings.port)
    except OSError as error:
        raise LinkLost(
            f"nothing can be reached at {where} ({_reason(error)}); does RabbitMQ run there ({_PLACE})?"
        ) from error
    except ValueError as error:  # a name that no name can be, e.g. with an empty label
        raise LinkRefused(f"{settings.host!r} is no host name (Worker:RabbitMQ:Host): {error}") from error


def detach(stream: trio.SocketStream) -> socket.socket:
    """The stream's socket, non-blocking, which the stream no longer closes."""
    connected = socket.socket(fileno=stream.socket.detach())
    connected.setblocking(False)
    return connected


def refusal(settings: RabbitMQSettings, said: str, error: Exception) -> LinkLost:
    """Why the handshake failed, from what the broker said before it closed the connection."""
    where = f"RabbitMQ at {settings.host}:{settings.port}"
    text = said or str(error)
    if "ACCESS_REFUSED" in text:
        hint = ""
        if settings.username == "guest" and not _is_this_machine(settings.host):
            hint = "; guest may log in from the broker's own machine only, so make a user: rabbitmqctl add_user"
        return LinkRefused(
            f"{where} refused the login of user {settings.username!r} (Worker:RabbitMQ:Username, "
            f"Worker:RabbitMQ:Password): the name or the password is wrong{hint}"
        )
    if "NOT_ALLOWED" in text:
        name = settings.virtual_host
        hint = ""
        if "not found" in text:
            hint = f"; make it with rabbitmqctl add_vhost {name}"
            if name.startswith("/"):
                hint += f", or name another one: few begin with a slash, so perhaps {name[1:]!r} is meant"
        elif "refused" in text:
            hint = f"; allow it with rabbitmqctl set_permissions -p {name} {settings.username} '.*' '.*' '.*'"
        return LinkRefused(
            f"{where} does not let user {settings.username!r} into virtual host {name!r} "
            f"(Worker:RabbitMQ:VirtualHost): {_after(text, 'NOT_ALLOWED - ')}{hint}"
        )
    if not said or "broke" in said:  # as TCP tells it: closed without a word
        return LinkLost(
            f"what listens at {settings.host}:{settings.port} closed the connection without a word; is RabbitMQ still "
            f"starting, or is it something else ({_PLACE})?"
        )
    return LinkLost(f"the handshake with {where} failed: {text}")


def foreign(settings: RabbitMQSettings, data: bytes) -> str | None:
    """Why it cannot be RabbitMQ that begins with this; `None` where it can."""
    if data[0] == 1:  # a method frame, as AMQP 0-9-1 begins
        return None
    what = f"what listens at {settings.host}:{settings.port}"
    if data.startswith(b"AMQP"):
        return f"{what} speaks another version of AMQP than 0-9-1; is it RabbitMQ ({_PLACE})?"
    if data[0] in (_TLS_ALERT, _TLS_HANDSHAKE):
        return (
            f"{what} speaks TLS, and this version reaches RabbitMQ in plain text only; RabbitMQ's port for that is "
            f"5672 unless configured otherwise ({_PLACE})"
        )
    if data.startswith(b"HTTP/"):
        return f"{what} is a web server; RabbitMQ's port for AMQP is 5672 unless configured otherwise ({_PLACE})"
    return f"{what} is no RabbitMQ: it begins with {data[:16]!r} ({_PLACE})"


def silence(settings: RabbitMQSettings, seconds: float) -> LinkLost:
    """Why nothing came within the time for a connection."""
    return LinkLost(
        f"{settings.host}:{settings.port} did not answer as RabbitMQ does within {seconds:g} s; is it well, and is it "
        f"RabbitMQ that listens there ({_PLACE})?"
    )


def _is_this_machine(host: str) -> bool:
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
