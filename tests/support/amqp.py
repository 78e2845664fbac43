"""A plain AMQP 0-9-1 client for tests, which shows what is on the wire.

It shares no code with the client library of the worker: it keeps the type letter of every header, publishes any bytes,
and reads whatever comes. See `amqp_codec` for how values look.
"""

import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from itertools import islice
from typing import Final

import trio
from attrs import define, field, frozen
from tests.support.amqp_codec import (
    Headers,
    Properties,
    header_payload,
    read_header_payload,
    short_text,
    table,
)
from tests.support.amqp_connection import (
    BODY,
    HEADER,
    METHOD,
    ChannelClosed,
    Closed,
    Connection,
    ConnectionClosed,
    Line,
    Method,
    Slot,
    frame,
    method,
)

__all__ = [
    "Channel",
    "ChannelClosed",
    "Client",
    "Closed",
    "ConnectionClosed",
    "Nacked",
    "WireMessage",
    "connect",
]

HOST: Final = "127.0.0.1"
GET_OK: Final = (60, 71)
DELIVER, RETURN, CANCEL, ACK, NACK = (60, 60), (60, 50), (60, 30), (60, 80), (60, 120)


class Nacked(Exception):
    """The broker refused a message."""


@frozen
class WireMessage:
    """A message as it came, with everything the broker said about it."""

    exchange: str
    routing_key: str
    redelivered: bool
    properties: Properties
    headers: Headers
    body: bytes
    delivery_tag: int


@define(eq=False)
class _Unconfirmed(Slot):
    """A publish that the broker has not confirmed yet. A return names no number: it is known by what was sent."""

    sent: tuple[str, str, bytes]
    is_returned: bool = field(default=False, init=False)


@asynccontextmanager
async def connect(
    port: int, vhost: str = "/", user: str = "guest", password: str = "guest", heartbeat: int = 0
) -> "AsyncIterator[Client]":
    """A connection to the broker on this host, with one channel open; more by `Client.channel`.

    Raises `OSError` when nothing listens there, `ConnectionClosed` when the broker refuses or, later, from the first
    call after the connection was lost. If cancelled, it is closed in an orderly way for at most two seconds.
    """
    stream = await trio.open_tcp_stream(HOST, port)
    connection = Connection(stream, heartbeat)
    failure: Exception | None = None
    async with stream:
        await connection.open(vhost, user, password)
        async with trio.open_nursery() as nursery:
            # Shielded, since closing needs them: a cancellation from outside reaches only what stands in the context.
            traffic = trio.CancelScope(shield=True)
            nursery.start_soon(_carry, connection, traffic)
            try:
                client = Client(connection)
                await client.open()
                yield client
            except Exception as error:
                failure = error  # raised out there, so that it does not come in a group
            finally:
                await connection.close()
                traffic.cancel()
    if failure is not None:
        raise failure


async def _carry(connection: Connection, scope: trio.CancelScope) -> None:
    with scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.read)
            nursery.start_soon(connection.write)


@define(eq=False)
class Channel:
    """One channel, with publisher confirms. Everything but `ack` and `nack` waits for the broker's answer.

    Raises `ChannelClosed` or `ConnectionClosed` when the broker closes it instead, and from then on. If a call is
    cancelled, what it asked for may have been done or not, and the channel stays good.
    """

    _connection: Connection
    _line: Line = field(init=False)
    _published: int = field(default=0, init=False)
    _unconfirmed: dict[int, _Unconfirmed] = field(factory=dict, init=False)
    _consumers: dict[str, trio.MemorySendChannel[WireMessage]] = field(factory=dict, init=False)

    async def open(self) -> None:
        """Open it at the broker. If cancelled, it is of no use."""
        self._line = self._connection.line(self._hear, self._lose)
        await self._ask((20, 10), short_text(""))
        await self._ask((85, 10), b"\0")

    # --- topology ---------------------------------------------------------------------------------------------------

    async def declare_queue(
        self, name: str, arguments: Headers | None = None, passive: bool = False, durable: bool = True
    ) -> tuple[int, int]:
        """Messages that are ready, and consumers. Cancelled: see `Channel`."""
        flags = bytes([passive | durable << 1])
        reply = await self._ask((50, 10), bytes(2), short_text(name), flags, table(arguments or {}))
        reply.arguments.short_text()
        return reply.arguments.integer(4), reply.arguments.integer(4)

    async def declare_exchange(self, name: str, kind: str = "topic", passive: bool = False) -> None:
        """A durable exchange. Cancelled: see `Channel`."""
        await self._ask((40, 10), bytes(2), short_text(name), short_text(kind), bytes([passive | 2]), table({}))

    async def delete_exchange(self, name: str) -> None:
        """Delete it, whoever uses it. Cancelled: see `Channel`."""
        await self._ask((40, 20), bytes(2), short_text(name), b"\0")

    async def bind(self, queue: str, exchange: str, key: str) -> None:
        """Bind the queue. Cancelled: see `Channel`."""
        await self._ask((50, 20), bytes(2), *map(short_text, (queue, exchange, key)), b"\0", table({}))

    async def delete_queue(self, name: str) -> int:
        """Delete it, whoever uses it, and return how many messages it held. Cancelled: see `Channel`."""
        return (await self._ask((50, 40), bytes(2), short_text(name), b"\0")).arguments.integer(4)

    async def purge(self, name: str) -> int:
        """Drop what is ready in it and return how many messages that were. Cancelled: see `Channel`."""
        return (await self._ask((50, 30), bytes(2), short_text(name), b"\0")).arguments.integer(4)

    # --- publishing -------------------------------------------------------------------------------------------------

    async def publish(
        self,
        exchange: str,
        routing_key: str,
        body: bytes,
        properties: Properties | None = None,
        headers: Headers | None = None,
        mandatory: bool = True,
    ) -> bool:
        """Publish and wait for the confirm; false when the message was returned as unroutable.

        Raises `Nacked`. Cancelled: see `Channel`.
        """
        flags, data = header_payload(properties or {}, headers)
        return await self.publish_raw(exchange, routing_key, flags, data, body, mandatory)

    async def publish_raw(
        self,
        exchange: str,
        routing_key: str,
        property_flags: int,
        property_bytes: bytes,
        body: bytes,
        mandatory: bool = True,
    ) -> bool:
        """As `publish`, with any bytes as properties. Cancelled: see `Channel`."""
        number = self._line.number
        destination = short_text(exchange) + short_text(routing_key)
        header = struct.pack(">HHQH", 60, 0, len(body), property_flags) + property_bytes
        frames = [
            frame(METHOD, number, method((60, 40), bytes(2), destination, bytes([mandatory]))),
            frame(HEADER, number, header),
        ]
        size = self._connection.frame_max - 8
        frames += [frame(BODY, number, body[at : at + size]) for at in range(0, len(body), size)]
        entry = _Unconfirmed((exchange, routing_key, body))
        if self._line.closed is not None:
            entry.put(self._line.closed)
        else:
            self._published += 1
            self._unconfirmed[self._published] = entry
            self._connection.send(b"".join(frames))
        if (await entry.get()).id == NACK:
            raise Nacked(routing_key)
        return not entry.is_returned

    # --- consuming --------------------------------------------------------------------------------------------------

    async def get(self, queue: str, no_ack: bool = False) -> WireMessage | None:
        """The next message of the queue, which is to be acked unless `no_ack`. Cancelled: see `Channel`."""
        reply = await self._ask((60, 70), bytes(2), short_text(queue), bytes([no_ack]))
        return _message(reply) if reply.id == GET_OK else None

    async def consume(
        self, queue: str, prefetch: int = 100, no_ack: bool = False
    ) -> trio.MemoryReceiveChannel[WireMessage]:
        """The queue's messages as they come. They end when the broker cancels the consumer or anything closes.

        Cancelled: see `Channel`.
        """
        await self._ask((60, 10), struct.pack(">IHB", 0, prefetch, 0))
        # Without a limit here: the broker sends no more than `prefetch` before the first of them is settled.
        sending, receiving = trio.open_memory_channel[WireMessage](float("inf"))
        tag = f"{queue}.{len(self._consumers)}"[-200:]
        self._consumers[tag] = sending
        names = short_text(queue) + short_text(tag)
        await self._ask((60, 20), bytes(2), names, bytes([no_ack << 1]), table({}))
        return receiving

    async def ack(self, delivery_tag: int, multiple: bool = False) -> None:
        """Settle a message, or all up to it. The broker does not answer. If cancelled, nothing is sent."""
        await self._tell((60, 80), struct.pack(">QB", delivery_tag, multiple))

    async def nack(self, delivery_tag: int, requeue: bool) -> None:
        """Give a message back, or have it dead-lettered. If cancelled, nothing is sent."""
        await self._tell((60, 120), struct.pack(">QB", delivery_tag, requeue << 1))

    async def _ask(self, number: tuple[int, int], *parts: bytes) -> Method:
        return await self._connection.ask(self._line, method(number, *parts))

    async def _tell(self, number: tuple[int, int], *parts: bytes) -> None:
        await trio.lowlevel.checkpoint_if_cancelled()
        if self._line.closed is not None:
            raise self._line.closed.again()
        self._connection.send(frame(METHOD, self._line.number, method(number, *parts)))
        await trio.lowlevel.cancel_shielded_checkpoint()

    # --- what the broker says by itself -----------------------------------------------------------------------------

    def _hear(self, said: Method) -> None:
        arguments = said.arguments
        if said.id in (DELIVER, CANCEL):
            consumer = self._consumers.get(arguments.short_text())
            if consumer is not None and said.id == CANCEL:
                consumer.close()
            elif consumer is not None:
                with suppress(trio.BrokenResourceError):  # nobody listens any more: it stays unsettled
                    consumer.send_nowait(_message(said))
        elif said.id == RETURN:
            arguments.take(2)
            arguments.short_text()
            sent = (arguments.short_text(), arguments.short_text(), said.body)
            # The first of equal ones: which of them it was makes no difference.
            like = (entry for entry in self._unconfirmed.values() if entry.sent == sent and not entry.is_returned)
            for entry in islice(like, 1):
                entry.is_returned = True
        else:  # ack or nack
            tag, multiple = arguments.integer(8), arguments.integer(1) & 1
            for number in [n for n in self._unconfirmed if n == tag or (multiple and n <= tag)]:
                self._unconfirmed.pop(number).put(said)

    def _lose(self, failure: Closed) -> None:
        for entry in self._unconfirmed.values():
            entry.put(failure)
        for consumer in self._consumers.values():
            consumer.close()


class Client(Channel):
    """A connection and its first channel."""

    @asynccontextmanager
    async def channel(self) -> AsyncIterator[Channel]:
        """Another channel, e.g. for a question that may close it. If cancelled, the channel may stay open."""
        channel = Channel(self._connection)
        await channel.open()
        try:
            yield channel
        finally:
            if channel._line.closed is None:
                with trio.move_on_after(2, shield=True):
                    await channel._ask((20, 40), struct.pack(">H", 200), short_text("bye"), bytes(4))
            channel._line.lose(ChannelClosed(0, "closed here"))
            self._connection.forget(channel._line)


def _message(said: Method) -> WireMessage:
    arguments = said.arguments
    tag, redelivered = arguments.integer(8), bool(arguments.integer(1))
    exchange, routing_key = arguments.short_text(), arguments.short_text()
    header = read_header_payload(said.header)
    return WireMessage(exchange, routing_key, redelivered, header.properties, header.headers, said.body, tag)
