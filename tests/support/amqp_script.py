"""A broker that does as it is told, at the other end of a stream in memory: for tests of a connection in virtual time.

Separate from `amqp_peer`, which has the bytes. It answers by itself what every client asks, writes down what came and
when, and fails for what RabbitMQ ends a connection for.
"""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeAlias

import trio
from attrs import define, field
from tests.support import amqp_peer

from milvaion_trio.broker.amqp.connection import Connection
from milvaion_trio.broker.amqp.events import Event
from milvaion_trio.broker.amqp.protocol import Login, Protocol
from milvaion_trio.broker.link import Endpoint
from milvaion_trio.model.broker_address import BrokerAddress
from milvaion_trio.model.settings import RabbitMQSettings

__all__ = ["BEAT", "CountingStream", "ENDPOINT", "Heard", "Method", "ScriptedBroker", "connected", "made"]

Method: TypeAlias = tuple[int, int]

BEAT: Final = amqp_peer.frame(8, 0, b"")
ENDPOINT: Final = Endpoint(
    settings=RabbitMQSettings(),
    address=BrokerAddress("broker", 5672),
    heartbeat=10,
    connect_timeout=10,
    client_name="tests",
)
ANSWERS: Final[dict[Method, bytes]] = {
    (20, 10): amqp_peer.CHANNEL_OPEN_OK,
    (20, 40): amqp_peer.CHANNEL_CLOSE_OK,
    (50, 10): struct.pack(">HH", 50, 11) + b"\x01q" + struct.pack(">II", 7, 0),
}


@define(eq=False)
class Heard:
    """A listener that remembers."""

    events: list[Event] = field(factory=list)

    def hear(self, event: Event) -> None:
        """Something came."""
        self.events.append(event)


@define(eq=False)
class ScriptedBroker:
    """Answers by itself but for what `silent_about` names."""

    stream: trio.abc.Stream
    tuning: bytes = field(factory=lambda: amqp_peer.tune(heartbeat=10))
    silent_about: set[Method] = field(factory=set)
    came: list[tuple[float, int, Method]] = field(factory=list, init=False)
    """When, on which channel, what; a heartbeat is (8, 0), a content header (2, 0), a piece of a body (3, 0)."""
    channels: set[int] = field(factory=set, init=False)
    """Those that are open."""
    _sending: trio.Lock = field(factory=trio.Lock, init=False)
    _news: trio.lowlevel.ParkingLot = field(factory=trio.lowlevel.ParkingLot, init=False)

    async def serve(self) -> None:
        """Until the client is gone. If cancelled, it answers no more."""
        data = b""
        while len(data) < 8:
            data += await self.stream.receive_some()
        assert data[:8] == b"AMQP\0\0\x09\x01"
        data = data[8:]
        await self.say(amqp_peer.greeting())
        while True:
            while len(data) >= 7 and len(data) >= (size := 8 + struct.unpack_from(">I", data, 3)[0]):
                await self._take(data[:size])
                data = data[size:]
            try:
                more = await self.stream.receive_some()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return
            if not more:
                return
            data += more

    async def say(self, data: bytes) -> None:
        """Send this, whoever hears it. If cancelled, a part of it may have been sent."""
        async with self._sending:
            with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self.stream.send_all(data)

    async def until_another(self, method: Method) -> None:
        """Return once that comes from now on. If cancelled, nothing changes."""
        before = self.methods.count(method)
        while self.methods.count(method) == before:
            await self._news.park()

    @property
    def methods(self) -> list[Method]:
        """What came, in order."""
        return [method for _, _, method in self.came]

    async def _take(self, frame: bytes) -> None:
        ((kind, channel, payload),) = amqp_peer.cut(frame)
        method: Method = struct.unpack_from(">HH", payload) if kind == 1 else (kind, 0)
        self.came.append((trio.current_time(), channel, method))
        self._news.unpark_all()
        if channel and method != (20, 41):
            assert (channel in self.channels) is (method != (20, 10)), f"RabbitMQ ends connections for {method}"
        if method in self.silent_about:
            return
        match method:
            case (10, 11):
                await self.say(self.tuning)
            case (10, 40):
                await self.say(amqp_peer.OPEN_OK)
            case (10, 50):
                await self.say(amqp_peer.CLOSE_OK)
            case (20, 10):
                self.channels.add(channel)
            case (20, 40):
                self.channels.remove(channel)
        if method in ANSWERS:
            await self.say(amqp_peer.frame(1, channel, ANSWERS[method]))


@define(eq=False)
class CountingStream(trio.abc.Stream):
    """Remembers what left in which call, and holds it up."""

    stream: trio.abc.Stream
    sent: list[bytes] = field(factory=list)
    held: trio.Event | None = None
    """When it sends again."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """As the stream that it wraps. If cancelled, a part of it may have been sent."""
        self.sent.append(bytes(data))
        if self.held is not None:
            await self.held.wait()
        await self.stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """As the stream that it wraps. If cancelled, nothing changes."""
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """As the stream that it wraps. If cancelled, what came is still there."""
        return await self.stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        """As the stream that it wraps. If cancelled, it is closed without waiting."""
        await self.stream.aclose()


def made(stream: trio.abc.Stream, listener: Heard | None = None, login: Login | None = None) -> Connection:
    """A connection that is not open yet."""
    return Connection(stream, Protocol(login or amqp_peer.login()), ENDPOINT, listener or Heard())


@asynccontextmanager
async def connected(
    connection: Connection, broker: ScriptedBroker, *, is_open: bool = True
) -> AsyncIterator[trio.Nursery]:
    """Both run; closed at the end. If cancelled, it is closed as well."""
    # Who waits for ever is found at once, as time is virtual.
    with trio.fail_after(1_000_000):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(broker.serve)  # noqa: ASYNC113  # both ends wait for the other
            nursery.start_soon(connection.run)
            try:
                if is_open:
                    await connection.open()
                yield nursery
            finally:
                await connection.close()  # noqa: ASYNC102  # shielded and bounded in there
                nursery.cancel_scope.cancel()
