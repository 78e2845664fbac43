"""Messages to AMQP frames: publishes and settlements, byte by byte, for any value a message may hold.

Our own because of the types: pamqp writes the smallest integer that fits, and a .NET worker reads those as 0, which
for `x-retry-count` means for ever (WIRE.md 0.2, RELIABILITY.md 2.6 W7). It is total as well: a retry copy keeps the
headers of foreign publishers, whatever came in them, and must never fail to be published.
"""

import calendar
import logging
import math
import struct
from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Final

from milvaion_trio.broker.amqp.framing import BODY, END, ENVELOPE, HEADER, METHOD, PREFIX, frame
from milvaion_trio.model.envelope import HeaderValue, Message

__all__ = ["ack_frame", "as_sent", "fits", "nack_frame", "publish_frames", "short_text", "table"]

MANDATORY: Final = 1
MULTIPLE: Final = 1
REQUEUE: Final = 2
MAX_SHORT: Final = 255
"""Bytes of a short string: keys, names, ids."""
MAX_DEPTH: Final = 64
"""Deeper tables are written as nothing; nobody reads them, and reading takes the reader's stack."""
BASIC: Final = 60
NAMES_KEPT: Final = 1024
"""Destinations, content types and header names whose bytes are kept: a worker's own are a handful, in all messages."""

LENGTHS: Final = tuple(bytes((length,)) for length in range(MAX_SHORT + 1))
CONTENT: Final = struct.Struct(">HHQH")
"""Class, weight (unused), length of the body, and which properties follow."""
SETTLEMENT: Final = struct.Struct(">BHIHHQBB")
"""A whole frame: its prefix, class and number, delivery tag, bits, and its end."""
LENGTH: Final = struct.Struct(">I")
LETTER_LENGTH: Final = struct.Struct(">cI")
LETTER_INT32: Final = struct.Struct(">ci")
LETTER_INT64: Final = struct.Struct(">cq")

_logger = logging.getLogger("milvaion_trio.broker")


def publish_frames(channel: int, exchange: str, routing_key: str, message: Message, frame_max: int) -> bytes:
    """A mandatory publish: method, header and as many body frames as the negotiated size asks for."""
    size = frame_max - ENVELOPE
    header = _header(message, size)
    body = message.body
    parts = [_method_frame(channel, exchange, routing_key), PREFIX.pack(HEADER, channel, len(header)), header, b"\xce"]
    if 0 < len(body) <= size:
        parts += (PREFIX.pack(BODY, channel, len(body)), body, b"\xce")
    else:
        parts += (frame(BODY, channel, body[at : at + size]) for at in range(0, len(body), size))
    return b"".join(parts)


def ack_frame(channel: int, delivery_tag: int, *, multiple: bool = False) -> bytes:
    """The broker forgets the message, or all up to it."""
    return SETTLEMENT.pack(METHOD, channel, 13, BASIC, 80, delivery_tag, MULTIPLE if multiple else 0, END)


def nack_frame(channel: int, delivery_tag: int, *, requeue: bool, multiple: bool = False) -> bytes:
    """The message, or all up to it, goes back to its queue, or is dead-lettered."""
    flags = (REQUEUE if requeue else 0) | (MULTIPLE if multiple else 0)
    return SETTLEMENT.pack(METHOD, channel, 13, BASIC, 120, delivery_tag, flags, END)


def short_text(text: str) -> bytes:
    """A short string; what does not fit is cut, at a character."""
    encoded = _utf8(text)
    if len(encoded) > MAX_SHORT:
        encoded = encoded[:MAX_SHORT].decode("utf-8", "ignore").encode()
    return LENGTHS[len(encoded)] + encoded


def as_sent(text: str | None) -> str | None:
    """How a text looks that was sent as a short string."""
    return None if text is None else short_text(text)[1:].decode()


@lru_cache(NAMES_KEPT)
def fits(name: str) -> bool:
    """Whether there can be an exchange, a queue or a binding of this name."""
    try:
        return len(name.encode()) <= MAX_SHORT
    except UnicodeEncodeError:
        return False


def table(values: Mapping[str, HeaderValue], depth: int = 0) -> bytes:
    """A field table.

    An int is an int32 (`I`) where it fits, else an int64 (`l`), beyond that the nearest int64; a float is a double.
    What AMQP has no form for, or RabbitMQ takes no connection with (NaN), becomes text or nothing.
    """
    parts = []
    for name, value in values.items():
        parts.append(_known_text(name))
        parts.append(_field(value, depth))
    return _counted(b"".join(parts))


@lru_cache(NAMES_KEPT)
def _method_frame(channel: int, exchange: str, routing_key: str) -> bytes:
    destination = short_text(exchange) + short_text(routing_key)
    return frame(METHOD, channel, struct.pack(">HHH", BASIC, 40, 0) + destination + bytes((MANDATORY,)))


@lru_cache(NAMES_KEPT, typed=True)
def _known_text(text: object) -> bytes:
    return short_text(text if isinstance(text, str) else str(text))


def _header(message: Message, limit: int) -> bytes:
    """The content header; where it exceeds the limit, which no broker would take, the largest headers are left out."""
    header = _header_of(message, message.headers)
    if len(header) > limit:
        by_size = sorted(message.headers, key=lambda name: len(_field(message.headers[name])))
        while by_size and len(header) > limit:
            _logger.warning("header %r is left out of message %r: too large", by_size.pop()[:100], message.message_id)
            kept = set(by_size)
            header = _header_of(message, {name: value for name, value in message.headers.items() if name in kept})
    return header


def _header_of(message: Message, headers: Mapping[str, HeaderValue]) -> bytes:
    flags = 0x1000  # delivery mode, always
    parts = [b""]  # flags and length, which come first, are known last
    if message.content_type is not None:
        flags |= 0x8000
        parts.append(_known_text(message.content_type))
    if headers:
        flags |= 0x2000
        parts.append(table(headers))
    parts.append(b"\x02" if message.persistent else b"\x01")
    if message.correlation_id is not None:
        flags |= 0x0400
        parts.append(short_text(message.correlation_id))
    if message.message_id is not None:
        flags |= 0x0080
        parts.append(short_text(message.message_id))
    if message.timestamp is not None:
        flags |= 0x0040
        parts.append(_timestamp(message.timestamp))
    parts[0] = CONTENT.pack(BASIC, 0, len(message.body), flags)
    return b"".join(parts)


def _field(value: HeaderValue, depth: int = 0) -> bytes:
    """The type letter and the value."""
    match value:
        case str():
            text = _utf8(value)
            return LETTER_LENGTH.pack(b"S", len(text)) + text
        case bool():
            return b"t\x01" if value else b"t\x00"
        case int():
            return _integer(value)
        case None:
            return b"V"
        case bytes():  # what came as a long string that is no UTF-8
            return b"S" + _counted(value)
        case bytearray():
            return b"x" + _counted(bytes(value))
        case float():
            return b"d" + struct.pack(">d", value) if math.isfinite(value) else b"V"
        case datetime():
            return b"T" + _timestamp(calendar.timegm(value.utctimetuple()))
        case Decimal():
            return _decimal(value)
        case Mapping() | list() | tuple() if depth >= MAX_DEPTH:
            return b"V"
        case Mapping():
            return b"F" + table(value, depth + 1)
        case list() | tuple():
            return b"A" + _array(value, depth + 1)
        case _:
            return b"S" + _counted(_utf8(str(value)))


def _integer(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return LETTER_INT32.pack(b"I", value)
    return LETTER_INT64.pack(b"l", min(max(value, -(2**63)), 2**63 - 1))


def _decimal(value: Decimal) -> bytes:
    sign, digits, exponent = value.as_tuple()
    if isinstance(exponent, int) and -255 <= exponent <= 0 and not sign and len(digits) <= 10:
        number = int("".join(map(str, digits)))
        if number < 2**32:
            return struct.pack(">cBI", b"D", -exponent, number)
    return b"S" + _counted(_utf8(str(value)))


def _array(values: Iterable[HeaderValue], depth: int) -> bytes:
    return _counted(b"".join(_field(value, depth) for value in values))


def _timestamp(seconds: int) -> bytes:
    return struct.pack(">Q", min(max(seconds, 0), 2**64 - 1))


def _counted(data: bytes) -> bytes:
    return LENGTH.pack(len(data)) + data


def _utf8(text: str) -> bytes:
    """UTF-8; a lone surrogate, which has no form in it, becomes `?`."""
    return text.encode("utf-8", "replace")
