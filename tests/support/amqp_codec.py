"""AMQP 0-9-1 field tables and basic properties, both ways, with the letter of every value's type.

Our own, so that tests see what is on the wire and not what the worker's client library makes of it.
Reading never fails: whatever a hostile publisher sent that cannot be read comes out as bytes.
"""

import struct
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Final, TypeAlias

from attrs import define, frozen

__all__ = [
    "FIELD_TYPES",
    "NUMBERS",
    "Field",
    "Headers",
    "Properties",
    "Reader",
    "header_payload",
    "read_header_payload",
    "short_text",
    "table",
]

Field: TypeAlias = tuple[str, object]
"""A type letter and the value. How values look:

`t` bool · `b B s u I i l T` int · `f d` float · `D` Decimal · `V` None · `x` bytes · `S` str, or bytes if not UTF-8 ·
`F` a dict of fields by name · `A` a list of fields. Bytes for `F`, `A` and `t` stand for their encoding, as it is.
What could not be read is the bytes of it, with the letter `?`; this is never written.
"""
Headers: TypeAlias = Mapping[str, Field]
"""A table. Bytes of a name that are not UTF-8 are lone surrogates, as `surrogateescape` makes them."""
Properties: TypeAlias = Mapping[str, object]
"""The basic properties that are present, by AMQP's names, without the headers."""

NUMBERS: Final = {
    "b": ">b",
    "B": ">B",
    "s": ">h",
    "u": ">H",
    "I": ">i",
    "i": ">I",
    "l": ">q",
    "f": ">f",
    "d": ">d",
    "T": ">Q",
}
FIELD_TYPES: Final = "tbBsuIilfdDSATFVx"
"""All that RabbitMQ knows."""
MAX_DEPTH: Final = 64
"""Deeper tables stay bytes: reading them must not need Python's stack."""

FLAGS: Final = {
    "content_type": 15,
    "content_encoding": 14,
    "headers": 13,
    "delivery_mode": 12,
    "priority": 11,
    "correlation_id": 10,
    "reply_to": 9,
    "expiration": 8,
    "message_id": 7,
    "timestamp": 6,
    "type": 5,
    "user_id": 4,
    "app_id": 3,
    "cluster_id": 2,
}
"""The bit that says whether a property is there, in the order in which they are written."""
PROPERTY_NUMBERS: Final = {"delivery_mode": ">B", "priority": ">B", "timestamp": ">Q"}
"""The other ones are short texts."""


# --- writing --------------------------------------------------------------------------------------------------------


def short_text(text: object) -> bytes:
    """A text of up to 255 bytes; bytes stand for themselves."""
    data = _encoded(text)
    return bytes([len(data)]) + data


def table(fields: Headers) -> bytes:
    """A field table with its length. Raises `ValueError` or `struct.error` for what does not fit a letter."""
    return _sized(b"".join(short_text(name) + _field(field) for name, field in fields.items()))


def header_payload(properties: Properties, headers: Headers | None) -> tuple[int, bytes]:
    """The flags and the property list of a content header; `None` for headers is not the same as empty ones."""
    flags, parts = 0, []
    for name, bit in FLAGS.items():
        if name == "headers":
            if headers is not None:
                flags |= 1 << bit
                parts.append(table(headers))
        elif name in properties:
            flags |= 1 << bit
            form = PROPERTY_NUMBERS.get(name)
            parts.append(struct.pack(form, properties[name]) if form else short_text(properties[name]))
    if unknown := properties.keys() - FLAGS.keys():
        raise ValueError(f"no basic properties: {sorted(unknown)}")
    return flags, b"".join(parts)


def _field(field: Field) -> bytes:
    letter, value = field
    return letter.encode("latin-1") + _content(letter, value)


def _content(letter: str, value: object) -> bytes:
    if letter in NUMBERS:
        return struct.pack(NUMBERS[letter], value)
    match letter, value:
        case "t", bool() | bytes():
            return value if isinstance(value, bytes) else bytes([value])
        case "V", None:
            return b""
        case "S" | "x", str() | bytes():
            return _sized(_encoded(value))
        case "F" | "A", bytes():
            return _sized(value)
        case "F", Mapping():
            return table(value)
        case "A", Sequence():
            return _sized(b"".join(map(_field, value)))
        case "D", Decimal():
            sign, digits, exponent = value.as_tuple()
            return struct.pack(">BI", -int(exponent), int("".join(map(str, digits))) * (-1 if sign else 1))
    raise ValueError(f"{value!r} cannot be a field of type {letter!r}")


def _sized(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _encoded(text: object) -> bytes:
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is no text")
    return text.encode("utf-8", "surrogateescape")


# --- reading --------------------------------------------------------------------------------------------------------


@define
class Reader:
    """Reads from the front of `data`. Raises `Truncated` at its end; nothing else is wrong to it."""

    data: bytes
    at: int = 0

    @property
    def is_at_end(self) -> bool:
        """Whether everything is read."""
        return self.at >= len(self.data)

    def rest(self) -> bytes:
        """Everything that is left."""
        return self.take(len(self.data) - self.at)

    def take(self, size: int) -> bytes:
        """The next bytes."""
        if self.at + size > len(self.data):
            raise Truncated
        self.at += size
        return self.data[self.at - size : self.at]

    def integer(self, size: int) -> int:
        """An unsigned integer of that many bytes."""
        return int.from_bytes(self.take(size), "big")

    def short_text(self) -> str:
        """A text of up to 255 bytes."""
        return self.take(self.integer(1)).decode("utf-8", "surrogateescape")

    def long_bytes(self) -> bytes:
        """Bytes with a length of 32 bits before them."""
        return self.take(self.integer(4))

    def table(self, depth: int = 0) -> dict[str, Field]:
        """A field table. What cannot be read of it is one field `?` without a name."""
        fields: dict[str, Field] = {}
        inner = Reader(self.long_bytes())
        while not inner.is_at_end:
            start = inner.at
            try:
                name = inner.short_text()
                fields[name] = inner.field(depth)
            except Truncated:
                fields[""] = ("?", inner.data[start:])
                break
        return fields

    def array(self, depth: int = 0) -> list[Field]:
        """A field array. What cannot be read of it is one field `?`."""
        fields: list[Field] = []
        inner = Reader(self.long_bytes())
        while not inner.is_at_end:
            start = inner.at
            try:
                fields.append(inner.field(depth))
            except Truncated:
                fields.append(("?", inner.data[start:]))
                break
        return fields

    def field(self, depth: int = 0) -> Field:
        """A type letter and a value; an unknown letter takes all that is left."""
        start = self.at
        letter = self.take(1).decode("latin-1")
        if letter in NUMBERS:
            form = NUMBERS[letter]
            return letter, struct.unpack(form, self.take(struct.calcsize(form)))[0]
        if depth >= MAX_DEPTH and letter in "FA":
            return letter, self.long_bytes()
        simple = _SIMPLE.get(letter)
        if simple is not None:
            return letter, simple(self)
        if letter == "F":
            return letter, self.table(depth + 1)
        if letter == "A":
            return letter, self.array(depth + 1)
        self.at = start
        return "?", self.rest()


class Truncated(Exception):
    """The data ends before what it announces."""


def _decimal(reader: Reader) -> Decimal:
    scale, value = reader.integer(1), reader.integer(4)
    return Decimal((0, tuple(map(int, str(value))), -scale))


def _flag(reader: Reader) -> bool | bytes:
    data = reader.take(1)
    return bool(data[0]) if data[0] < 2 else data


def _text_or_bytes(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


_SIMPLE: Final[dict[str, Callable[[Reader], object]]] = {
    "t": _flag,
    "V": lambda _: None,
    "S": lambda reader: _text_or_bytes(reader.long_bytes()),
    "x": Reader.long_bytes,
    "D": _decimal,
}


@frozen
class HeaderPayload:
    """What a content header says."""

    body_size: int
    properties: dict[str, object]
    """A property that cannot be read, and all behind it, are the bytes under the name `?`."""
    headers: dict[str, Field]


def read_header_payload(payload: bytes) -> HeaderPayload:
    """The payload of a content header frame: class, weight, body size, flags, property list."""
    reader = Reader(payload)
    reader.take(4)
    body_size, flags = reader.integer(8), reader.integer(2)
    properties: dict[str, object] = {}
    headers: dict[str, Field] = {}
    for name, bit in FLAGS.items():
        if not flags & 1 << bit:
            continue
        start = reader.at
        try:
            if name == "headers":
                headers = reader.table()
            elif form := PROPERTY_NUMBERS.get(name):
                properties[name] = reader.integer(struct.calcsize(form))
            else:
                properties[name] = _text_or_bytes(reader.take(reader.integer(1)))
        except Truncated:
            properties["?"] = payload[start:]
            break
    return HeaderPayload(body_size, properties, headers)
