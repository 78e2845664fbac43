"""The other end of a Redis connection: a plain client that publishes bytes, a server that says what a test wants."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from ssl import SSLContext

import trio
from tests.support.servers import HOST

__all__ = ["message", "redis_command", "redis_publish", "scripted_redis", "subscribed"]


async def redis_command(port: int, *parts: bytes, database: int = 0) -> bytes:
    """Send one command to a real server and return the first line of its answer. If cancelled, it may have arrived."""
    async with await trio.open_tcp_stream(HOST, port) as stream:
        if database:
            await stream.send_all(array([b"SELECT", str(database).encode()]))
            assert await stream.receive_some() == b"+OK\r\n"
        await stream.send_all(array(parts))
        answer = b""
        while not answer.endswith(b"\r\n"):
            answer += bytes(await stream.receive_some())
        return answer.rstrip()


async def redis_publish(port: int, channel: str, payload: bytes) -> int:
    """Publish and return how many listen. If cancelled, it may have been published."""
    answer = await redis_command(port, b"PUBLISH", channel.encode(), payload)
    assert answer.startswith(b":"), answer
    return int(answer[1:])


@asynccontextmanager
async def scripted_redis(
    *script: bytes | Callable[[], Awaitable[None]], tls: SSLContext | None = None
) -> AsyncIterator[int]:
    """While the context is open, a server on this port answers each connection's first bytes with the script.

    A callable in it is awaited at its place. After it the connection stays open, and nothing more is said.
    """

    async def converse(stream: trio.abc.Stream) -> None:
        try:
            await stream.receive_some()
            for step in script:
                await (stream.send_all(step) if isinstance(step, bytes) else step())
            while await stream.receive_some():
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client left, or did not like the certificate

    async with trio.open_nursery() as nursery:
        if tls is None:
            plain = await trio.open_tcp_listeners(0, host=HOST)
            await nursery.start(trio.serve_listeners, converse, plain)
            yield plain[0].socket.getsockname()[1]
        else:
            secure = await trio.open_ssl_over_tcp_listeners(0, tls, host=HOST)
            await nursery.start(trio.serve_listeners, converse, secure)
            yield secure[0].transport_listener.socket.getsockname()[1]  # type: ignore[attr-defined]
        nursery.cancel_scope.cancel()


def subscribed(channel: str) -> bytes:
    """The answer to SUBSCRIBE."""
    name = channel.encode()
    return b"*3\r\n$9\r\nsubscribe\r\n$%d\r\n%s\r\n:1\r\n" % (len(name), name)


def message(channel: str, payload: bytes) -> bytes:
    """A published message, as subscribers get it."""
    return array([b"message", channel.encode(), payload])


def array(parts: Sequence[bytes]) -> bytes:
    """An array of texts, which is also the form of a command."""
    return b"*%d\r\n" % len(parts) + b"".join([b"$%d\r\n%s\r\n" % (len(part), part) for part in parts])
