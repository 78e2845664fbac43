"""The bytes from the broker, cut into frames: what concerns messages becomes events, the rest goes on to aiormq.

Messages do not go through the client library: it would decode them with pamqp (see `decoding`), spend an asyncio task
on each, and tell returned messages apart by ids it makes up itself. What is left to it is what it is good at:
handshake, channels, declaring, heartbeats, closing. Here is no I/O: bytes in, events and bytes out.
"""

import struct
from typing import Final, TypeAlias

from attrs import define, field, frozen

from milvaion_trio.broker.aiopika import decoding
from milvaion_trio.model.envelope import Message

__all__ = [
    "HEARTBEAT",
    "BlockedEvent",
    "CancelledEvent",
    "ChannelClosedEvent",
    "ConfirmedEvent",
    "ConnectionClosedEvent",
    "DeliveredEvent",
    "Event",
    "Frames",
    "ReturnedEvent",
]

METHOD, HEADER, BODY = 1, 2, 3
FRAME_END: Final = 0xCE
HEARTBEAT: Final = b"\x08\0\0\0\0\0\0\xce"

CONNECTION_CLOSE, BLOCKED, UNBLOCKED, CHANNEL_CLOSE = (10, 50), (10, 60), (10, 61), (20, 40)
CONSUMER_CANCEL, RETURN, DELIVER, ACK, NACK = (60, 30), (60, 50), (60, 60), (60, 80), (60, 120)


@frozen
class DeliveredEvent:
    """A message came to a consumer."""

    channel: int
    delivery_tag: int
    redelivered: bool
    routing_key: str
    message: Message


@frozen
class ReturnedEvent:
    """No queue took a message; its confirm still follows."""

    channel: int
    exchange: str
    routing_key: str
    message: Message


@frozen
class ConfirmedEvent:
    """The answer to one publish, or to all up to it."""

    channel: int
    delivery_tag: int
    multiple: bool
    is_stored: bool


@frozen
class CancelledEvent:
    """The broker ended a consumer, e.g. because its queue was deleted."""

    channel: int


@frozen
class ChannelClosedEvent:
    """The broker closed a channel because of an error."""

    channel: int
    why: str


@frozen
class ConnectionClosedEvent:
    """The broker closes the connection."""

    code: int
    why: str


@frozen
class BlockedEvent:
    """The broker has stopped reading publishes, or reads them again (`why` is empty)."""

    why: str


Event: TypeAlias = (
    DeliveredEvent
    | ReturnedEvent
    | ConfirmedEvent
    | CancelledEvent
    | ChannelClosedEvent
    | ConnectionClosedEvent
    | BlockedEvent
)


@define(eq=False)
class _Content:
    """A message that is still arriving: its method, then its header, then its body."""

    method: tuple[int, int]
    arguments: bytes
    header: bytes | None = field(default=None, init=False)
    body: list[bytes] = field(factory=list, init=False)
    missing: int = field(default=0, init=False)
    """Bytes of the body."""


@define(eq=False)
class Frames:
    """The incoming side of one connection."""

    _unread: bytes = field(default=b"", init=False)
    _contents: dict[int, _Content] = field(factory=dict, init=False)
    """By channel: frames of different channels may alternate."""
    _is_foreign: bool = field(default=False, init=False)
    """It is not AMQP 0-9-1 what comes; aiormq finds the words for it."""

    def feed(self, data: bytes) -> tuple[list[Event], bytes]:
        """What happened, and the bytes for aiormq."""
        data = self._unread + data if self._unread else data
        self._unread = b""
        if self._is_foreign or data.startswith(b"AMQP"):
            return [], data
        events: list[Event] = []
        others: list[bytes] = []
        at, length = 0, len(data)
        while at + 7 <= length:
            kind, channel, size = struct.unpack_from(">BHI", data, at)
            end = at + 8 + size
            if end > length:
                break
            if data[end - 1] != FRAME_END:
                self._is_foreign = True
                return events, b"".join(others) + data[at:]
            if not self._take(kind, channel, data[at + 7 : end - 1], events):
                others.append(data[at:end])
            at = end
        self._unread = data[at:]
        return events, b"".join(others)

    def _take(self, kind: int, channel: int, payload: bytes, events: list[Event]) -> bool:
        """Take a frame that concerns a message; `False` for one that aiormq is to see."""
        if kind == METHOD:
            return self._take_method(channel, payload, events)
        content = self._contents.get(channel)
        if content is None:
            return False
        if kind == HEADER:
            content.header = payload
            content.missing = decoding.body_size(payload)
        elif kind == BODY:
            content.body.append(payload)
            content.missing -= len(payload)
        if content.header is not None and content.missing <= 0:
            del self._contents[channel]
            events.append(_complete(channel, content, content.header))
        return True

    def _take_method(self, channel: int, payload: bytes, events: list[Event]) -> bool:
        number = struct.unpack_from(">HH", payload)
        arguments = payload[4:]
        if number in (DELIVER, RETURN):
            self._contents[channel] = _Content(number, arguments)
        elif number in (ACK, NACK):
            tag, bits = struct.unpack_from(">QB", arguments)
            events.append(ConfirmedEvent(channel, tag, bool(bits & 1), number == ACK))
        else:
            events.extend(_news(number, channel, arguments))
            return False
        return True


def _complete(channel: int, content: _Content, header: bytes) -> Event:
    message = decoding.message(header, b"".join(content.body))
    if content.method == RETURN:
        _, at = _short_text(content.arguments, 2)  # behind the reply code
        exchange, at = _short_text(content.arguments, at)
        routing_key, _ = _short_text(content.arguments, at)
        return ReturnedEvent(channel, exchange, routing_key, message)
    _, at = _short_text(content.arguments, 0)  # the consumer's tag: each consumer has a channel of its own
    tag, redelivered = struct.unpack_from(">Q?", content.arguments, at)
    _, at = _short_text(content.arguments, at + 9)  # the exchange
    routing_key, _ = _short_text(content.arguments, at)
    return DeliveredEvent(channel, tag, redelivered, routing_key, message)


def _news(number: tuple[int, int], channel: int, arguments: bytes) -> list[Event]:
    """What aiormq handles and we must know as well, in the broker's words."""
    if number == CHANNEL_CLOSE:
        return [ChannelClosedEvent(channel, _short_text(arguments, 2)[0])]
    if number == CONNECTION_CLOSE:
        return [ConnectionClosedEvent(struct.unpack_from(">H", arguments)[0], _short_text(arguments, 2)[0])]
    if number == CONSUMER_CANCEL:
        return [CancelledEvent(channel)]
    if number == BLOCKED:
        return [BlockedEvent(_short_text(arguments, 0)[0] or "no reason given")]
    if number == UNBLOCKED:
        return [BlockedEvent("")]
    return []


def _short_text(data: bytes, at: int) -> tuple[str, int]:
    """The text, and where it ends."""
    end = at + 1 + data[at]
    return data[at + 1 : end].decode("utf-8", "replace"), end
