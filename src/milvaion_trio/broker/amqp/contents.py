"""Messages put together from their frames: a method, a content header, and the pieces of the body.

Separate because both drivers need it, however they treat the other frames. Frames of different channels may alternate;
on one channel nothing may come between them.
"""

import struct
import sys
from typing import Final

from attrs import define, field

from milvaion_trio.broker.amqp import decoding
from milvaion_trio.broker.amqp.events import DeliveredEvent, OversizedEvent, ProtocolError, ReturnedEvent
from milvaion_trio.broker.amqp.framing import BODY, END, HEADER, PREFIX

__all__ = ["DELIVER", "Contents", "short_text"]

DELIVER: Final = b"\0\x3c\0\x3c"
"""Class and number of the method, with which a message begins."""
DELIVERY: Final = struct.Struct(">Q?B")
"""Behind the consumer's tag: the delivery's number, whether it came before, and the length of the exchange's name."""
CONTENT: Final = struct.Struct(">HHQ")
"""Class, weight (unused), and the length of the body."""
CONTENT_FRAME: Final = struct.Struct(">BHIHHQ")
"""A content header from the beginning of its frame."""
BASIC: Final = 60


@define(eq=False)
class _Content:
    """A message that is arriving. A returned one has no number, a delivered one's exchange is of no interest."""

    delivery_tag: int
    is_redelivered: bool
    exchange: str
    routing_key: str
    is_returned: bool
    header: bytes | None = None
    body: list[bytes] = field(factory=list)
    missing: int = 0
    """Bytes of the body that have not come."""


@define(eq=False)
class Contents:
    """The messages of one connection that are arriving, by channel."""

    _max_body: int = sys.maxsize
    """Larger bodies are not kept."""
    arriving: dict[int, _Content] = field(factory=dict, init=False)

    def whole(self, channel: int, data: bytes, at: int, end: int, limit: int) -> tuple[DeliveredEvent, int] | None:
        """The message of a `basic.deliver` that lies in `data` as a whole, and where it ends; `None` if it does not.

        `at` is where the method begins, `end` where the next frame does, `limit` how long a payload may be.
        Most messages come so, and take less time so. What is unusual or wrong is left to the other methods.
        """
        try:
            kind, its_channel, size, class_id, _, length = CONTENT_FRAME.unpack_from(data, end)
            header_end = end + 7 + size
            body_kind, body_channel, body_size = PREFIX.unpack_from(data, header_end + 1)
            body_end = header_end + 8 + body_size
            tag_at = at + 5 + data[at + 4]
            tag, is_redelivered, exchange_length = DELIVERY.unpack_from(data, tag_at)
            key_at = tag_at + 11 + exchange_length
            key_end = key_at + data[key_at - 1]
            if not (
                kind == HEADER
                and body_kind == BODY
                and its_channel == body_channel == channel
                and class_id == BASIC
                and data[header_end] == data[body_end] == END
                and 14 <= size <= limit
                and length == body_size <= limit
                and length <= self._max_body
                and key_end < end
                and channel not in self.arriving
            ):
                return None
        except (struct.error, IndexError):
            return None
        key = data[key_at:key_end].decode("utf-8", "replace")
        message = decoding.message(data[end + 7 : header_end], data[header_end + 8 : body_end])
        return DeliveredEvent(channel, tag, is_redelivered, key, message), body_end + 1

    def delivered(self, channel: int, method: bytes) -> None:
        """A `basic.deliver`: header and body follow. `method` is all of it; raises `ProtocolError` if it is broken."""
        try:
            at = 5 + method[4]  # the consumer's tag: each consumer has a channel of its own
            tag, is_redelivered, length = DELIVERY.unpack_from(method, at)
            routing_key, _ = short_text(method, at + 10 + length)
        except (struct.error, IndexError):
            raise _too_short(channel, "basic.deliver", method) from None
        self._begin(channel, _Content(tag, is_redelivered, "", routing_key, is_returned=False))

    def returned(self, channel: int, method: bytes) -> None:
        """A `basic.return`; otherwise as `delivered`."""
        try:
            _, at = short_text(method, 6)  # behind the reply code
            exchange, at = short_text(method, at)
            routing_key, _ = short_text(method, at)
        except IndexError:
            raise _too_short(channel, "basic.return", method) from None
        self._begin(channel, _Content(0, False, exchange, routing_key, is_returned=True))

    def header(self, channel: int, payload: bytes) -> DeliveredEvent | ReturnedEvent | OversizedEvent | None:
        """A content header; the event if the message is complete with it. Raises `ProtocolError` out of place."""
        content = self.arriving.get(channel)
        if content is None or content.header is not None:
            raise ProtocolError(f"the broker sent a content header on channel {channel}, where none was to come")
        if len(payload) < 14:
            raise _too_short(channel, "content header", payload)
        class_id, _, content.missing = CONTENT.unpack_from(payload)
        if class_id != BASIC:
            raise ProtocolError(
                f"the broker sent a content header of class {class_id} on channel {channel}; only {BASIC} has contents"
            )
        content.header = payload
        if content.missing:
            return None
        del self.arriving[channel]
        return self._complete(channel, content, payload)

    def body(self, channel: int, payload: bytes) -> DeliveredEvent | ReturnedEvent | OversizedEvent | None:
        """A piece of a body; the event if it is the last one. Raises `ProtocolError` out of place."""
        content = self.arriving.get(channel)
        if content is None or content.header is None:
            raise ProtocolError(f"the broker sent a piece of a body on channel {channel}, where none was to come")
        content.missing -= len(payload)
        if content.missing < 0:
            raise ProtocolError(
                f"the broker sent {-content.missing} bytes more on channel {channel} than the content header announced"
            )
        if payload and decoding.body_size(content.header) <= self._max_body:
            content.body.append(payload)
        if content.missing:
            return None
        del self.arriving[channel]
        return self._complete(channel, content, content.header)

    def forget(self, channel: int) -> None:
        """Nothing more will come on this channel."""
        self.arriving.pop(channel, None)

    def _begin(self, channel: int, content: _Content) -> None:
        if channel in self.arriving:
            raise ProtocolError(f"the broker began a message on channel {channel} before the one before was complete")
        self.arriving[channel] = content

    def _complete(
        self, channel: int, content: _Content, header: bytes
    ) -> DeliveredEvent | ReturnedEvent | OversizedEvent:
        parts = content.body
        message = decoding.message(header, parts[0] if len(parts) == 1 else b"".join(parts))
        if content.is_returned:
            return ReturnedEvent(channel, content.exchange, content.routing_key, message)
        if (size := decoding.body_size(header)) > self._max_body:
            return OversizedEvent(channel, content.delivery_tag, size)
        return DeliveredEvent(channel, content.delivery_tag, content.is_redelivered, content.routing_key, message)


def short_text(data: bytes, at: int) -> tuple[str, int]:
    """The text, and where it ends; raises `IndexError` for one that ends too early."""
    end = at + 1 + data[at]
    if end > len(data):
        raise IndexError(end)
    return data[at + 1 : end].decode("utf-8", "replace"), end


def _too_short(channel: int, what: str, payload: bytes) -> ProtocolError:
    return ProtocolError(f"the broker sent a {what} on channel {channel} that ends too early: {payload[:40]!r}")
