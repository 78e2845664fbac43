"""The bytes from the broker as the aio-pika driver takes them: messages become events, the rest goes on to aiormq.

Messages do not go through the client library: it would decode them with pamqp (see `amqp.decoding`), spend an asyncio
task on each, and tell returned messages apart by ids it makes up itself. What is left to it is what it is good at:
handshake, channels, declaring, heartbeats, closing. Here is no I/O: bytes in, events and bytes out.
"""

import struct
import sys

from attrs import define, field

from milvaion_trio.broker.amqp.contents import DELIVER, Contents, short_text
from milvaion_trio.broker.amqp.events import (
    BlockedEvent,
    CancelledEvent,
    ChannelClosedEvent,
    ConfirmedEvent,
    ConnectionClosedEvent,
    Event,
)
from milvaion_trio.broker.amqp.framing import BODY, END, HEADER, METHOD, PREFIX, Unread

__all__ = ["Frames"]

CONNECTION_CLOSE, BLOCKED, UNBLOCKED = b"\0\x0a\0\x32", b"\0\x0a\0\x3c", b"\0\x0a\0\x3d"
CHANNEL_CLOSE, CONSUMER_CANCEL = b"\0\x14\0\x28", b"\0\x3c\0\x1e"
RETURN, ACK, NACK = b"\0\x3c\0\x32", b"\0\x3c\0\x50", b"\0\x3c\0\x78"


@define(eq=False)
class Frames:
    """The incoming side of one connection."""

    _unread: Unread = field(factory=Unread, init=False)
    _contents: Contents = field(factory=Contents, init=False)
    _is_foreign: bool = field(default=False, init=False)
    """It is not AMQP 0-9-1 what comes; aiormq finds the words for it."""

    def feed(self, data: bytes) -> tuple[list[Event], bytes]:
        """What happened, and the bytes for aiormq."""
        data = self._unread.with_more(data)
        if self._is_foreign or data.startswith(b"AMQP"):
            return [], data
        events: list[Event] = []
        others: list[bytes] = []
        at, length, needed = 0, len(data), 7
        while at + 7 <= length:
            kind, channel, size = PREFIX.unpack_from(data, at)
            end = at + 8 + size
            if end > length:
                needed = 8 + size
                break
            if data[end - 1] != END:
                self._is_foreign = True
                return events, b"".join(others) + data[at:]
            if kind == METHOD and data.startswith(DELIVER, at + 7):
                found = self._contents.whole(channel, data, at + 7, end, sys.maxsize)
                if found is not None:
                    event, at = found
                    events.append(event)
                    continue
            if not self._take(kind, channel, data[at + 7 : end - 1], events):
                others.append(data[at:end])
            at = end
            needed = 7
        self._unread.keep(data[at:], needed)
        return events, b"".join(others)

    def _take(self, kind: int, channel: int, payload: bytes, events: list[Event]) -> bool:
        """Take a frame that concerns a message; `False` for one that aiormq is to see."""
        if kind == METHOD:
            return self._take_method(channel, payload, events)
        if channel not in self._contents.arriving:
            return False
        event = None
        if kind == HEADER:
            event = self._contents.header(channel, payload)
        elif kind == BODY:
            event = self._contents.body(channel, payload)
        if event is not None:
            events.append(event)
        return True

    def _take_method(self, channel: int, payload: bytes, events: list[Event]) -> bool:
        number = payload[:4]
        if number == DELIVER:
            self._contents.delivered(channel, payload)
        elif number == RETURN:
            self._contents.returned(channel, payload)
        elif number in (ACK, NACK):
            tag, bits = struct.unpack_from(">QB", payload, 4)
            events.append(ConfirmedEvent(channel, tag, bool(bits & 1), number == ACK))
        else:
            events.extend(_news(number, channel, payload[4:]))
            return False
        return True


def _news(number: bytes, channel: int, arguments: bytes) -> list[Event]:
    """What aiormq handles and we must know as well, in the broker's words."""
    if number == CHANNEL_CLOSE:
        return [ChannelClosedEvent(channel, short_text(arguments, 2)[0], struct.unpack_from(">H", arguments)[0])]
    if number == CONNECTION_CLOSE:
        return [ConnectionClosedEvent(struct.unpack_from(">H", arguments)[0], short_text(arguments, 2)[0])]
    if number == CONSUMER_CANCEL:
        return [CancelledEvent(channel)]
    if number == BLOCKED:
        return [BlockedEvent(short_text(arguments, 0)[0] or "no reason given")]
    if number == UNBLOCKED:
        return [BlockedEvent("")]
    return []
