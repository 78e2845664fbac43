"""Methods that are asked and answered, as pamqp's objects, to bytes and back.

The objects are pamqp's, so that whoever asks can use either driver; the bytes are our own. pamqp refuses names that
RabbitMQ takes, writes tables with the smallest integers (see `encoding`), and gives up where a broker's text is not
UTF-8 (see `decoding`). What comes with every message does not pass through here.
"""

import struct
from collections.abc import Callable
from typing import Any, Final, cast

from pamqp.base import Frame
from pamqp.commands import INDEX_MAPPING

from milvaion_trio.broker.amqp import encoding, framing
from milvaion_trio.broker.amqp.decoding import Reader, UnreadableError
from milvaion_trio.broker.amqp.events import ProtocolError

__all__ = ["ANSWERS", "INDEXES", "METHODS", "frame_of", "method_of", "name_of"]

METHODS: Final = cast("dict[int, type[Frame]]", INDEX_MAPPING)
"""All of AMQP's, by class and number."""
INDEXES: Final = {method.name: struct.pack(">I", index) for index, method in METHODS.items()}
"""Class and number as they begin a frame."""
ANSWERS: Final[dict[str, frozenset[str]]] = {
    method.name: frozenset(method.valid_responses)
    for method in METHODS.values()
    if method.valid_responses
    and not method.name.startswith("Connection.")
    # These change the channel's state, and a message that was asked for would need a way of its own.
    and method.name not in {"Channel.Open", "Channel.Close", "Basic.Get"}
}
"""What can be asked on an open channel, and the names of its answers."""


def frame_of(channel: int, method: Frame) -> bytes:
    """The frame of a method; raises `ProtocolError` for a text that does not fit its place."""
    parts: list[bytes] = []
    bits: list[bool] = []
    for name in method.attributes():
        kind, value = method.amqp_type(name), getattr(method, name)
        if kind == "bit":
            bits.append(bool(value))
            continue
        if bits:
            parts.append(_packed(bits))
            bits = []
        if kind == "shortstr" and not encoding.fits(value):
            raise ProtocolError(f"{method.name}: {name} {value!r} is no text of up to 255 bytes of UTF-8")
        parts.append(WRITERS[kind](value))
    if bits:
        parts.append(_packed(bits))
    return framing.frame(framing.METHOD, channel, struct.pack(">I", method.index) + b"".join(parts))


def method_of(payload: bytes) -> Frame:
    """The method of a frame; raises `ProtocolError` for one that AMQP does not know, or that ends too early."""
    reader = Reader(payload)
    try:
        index = reader.integer(4)
        if index not in METHODS:
            raise ProtocolError(f"the broker sent {name_of(payload)}, which AMQP 0-9-1 has not")
        method = METHODS[index]()
        _read_arguments(reader, method)
    except UnreadableError:
        raise ProtocolError(f"the broker sent a method that ends too early: {payload[:40]!r}") from None
    return method


def name_of(payload: bytes) -> str:
    """The name of the method of a frame, or its numbers; raises `ProtocolError` for less than that."""
    if len(payload) < 4:
        raise ProtocolError(f"the broker sent a method that ends too early: {payload!r}")
    index = int.from_bytes(payload[:4])
    return METHODS[index].name if index in METHODS else f"method {index >> 16}.{index & 0xFFFF}"


def _read_arguments(reader: Reader, method: Frame) -> None:
    bits = position = 0
    for name in method.attributes():
        kind = method.amqp_type(name)
        if kind != "bit":
            position = 0
            setattr(method, name, READERS[kind](reader))
            continue
        if position == 0:
            bits = reader.integer(1)
        setattr(method, name, bool(bits >> position & 1))
        position = (position + 1) % 8


def _packed(bits: list[bool]) -> bytes:
    return bytes((sum(bit << position for position, bit in enumerate(bits)),))


def _long_text(value: str | bytes) -> bytes:
    data = value if isinstance(value, bytes) else value.encode("utf-8", "replace")
    return struct.pack(">I", len(data)) + data


def _read_long_text(reader: Reader) -> str:
    return reader.take(reader.integer(4)).decode("utf-8", "replace")


WRITERS: Final[dict[str, Callable[[Any], bytes]]] = {
    "octet": struct.Struct(">B").pack,
    "short": struct.Struct(">H").pack,
    "long": struct.Struct(">I").pack,
    "longlong": struct.Struct(">Q").pack,
    "shortstr": encoding.short_text,
    "longstr": _long_text,
    "table": encoding.table,
}
READERS: Final[dict[str, Callable[[Reader], object]]] = {
    "octet": lambda reader: reader.integer(1),
    "short": lambda reader: reader.integer(2),
    "long": lambda reader: reader.integer(4),
    "longlong": lambda reader: reader.integer(8),
    "shortstr": Reader.short_text,
    "longstr": _read_long_text,
    "table": lambda reader: reader.table({}),
}
