"""Reaching RabbitMQ, and saying in words for people why it cannot be reached.

Separate from the link because only here do settings matter: each text names the one to look at.
TCP is connected by Trio: a slow name server or a silent host is cancelled at once, which asyncio's threads are not.
"""

import socket

import trio

from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.settings import RabbitMQSettings

__all__ = ["connect_tcp", "detach", "refusal"]


async def connect_tcp(settings: RabbitMQSettings) -> trio.SocketStream:
    """A connected stream; raises `LinkLost`. If cancelled, there is none."""
    where = f"{settings.host}:{settings.port}"
    try:
        return await trio.open_tcp_stream(settings.host, settings.port)
    except OSError as error:
        raise LinkLost(
            f"nothing can be reached at {where} ({_reason(error)}); "
            "does RabbitMQ run there (Worker:RabbitMQ:Host, Worker:RabbitMQ:Port)?"
        ) from error
    except ValueError as error:  # a name that no name can be, e.g. with an empty label
        raise LinkLost(f"{settings.host!r} is no host name (Worker:RabbitMQ:Host): {error}") from error


def detach(stream: trio.SocketStream) -> socket.socket:
    """The stream's socket, non-blocking, which the stream no longer closes."""
    connected = socket.socket(fileno=stream.socket.detach())
    connected.setblocking(False)
    return connected


def refusal(settings: RabbitMQSettings, said: str, error: Exception) -> str:
    """Why the handshake failed, from what the broker said before it closed the connection."""
    where = f"RabbitMQ at {settings.host}:{settings.port}"
    text = said or str(error)
    if "ACCESS_REFUSED" in text:
        return (
            f"{where} refused the login of user {settings.username!r} "
            "(Worker:RabbitMQ:Username, Worker:RabbitMQ:Password); guest may log in from the broker's own machine only"
        )
    if "NOT_ALLOWED" in text:
        return (
            f"{where} does not let user {settings.username!r} into virtual host {settings.virtual_host!r} "
            f"(Worker:RabbitMQ:VirtualHost): {_after(text, 'NOT_ALLOWED - ')}"
        )
    return f"the handshake with {where} failed: {text or repr(error)}"


def _reason(error: OSError) -> str:
    """The words of the system, which trio keeps in the cause; several addresses may have failed in several ways."""
    cause = error.__cause__
    errors = cause.exceptions if isinstance(cause, ExceptionGroup) else [cause]
    words = dict.fromkeys(one.strerror for one in errors if isinstance(one, OSError) and one.strerror)
    return ", ".join(words) or error.strerror or str(error)


def _after(text: str, mark: str) -> str:
    return text.partition(mark)[2] or text
