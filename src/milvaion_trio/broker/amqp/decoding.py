"""A content header of any publisher to a `Message`, whatever its bytes.

Our own because pamqp gives up where the broker does not, and with it goes the connection: on invalid UTF-8 in a name or
a short string, on times after the year 9999, on deep tables. Such a message would come back for ever
(RELIABILITY.md 0.3). Here nothing raises: what cannot be read is replaced, or the rest of the header is left out.
"""

import struct
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final

from milvaion_trio.model.envelope import HeaderValue, Message

__all__ = ["Reader", "UnreadableError", "body_size", "message"]

TEXT: Final = ord("S")
TABLE: Final = ord("F")
ARRAY: Final = ord("A")
LENGTH: Final = struct.Struct(">I")
MAX_DEPTH: Final = 64
"""Deeper tables are read as `None`: they have no meaning here, and reading takes the stack."""
LAST_SECOND: Final = 253_402_300_799
"""Of the year 9999, the last that a `datetime` knows."""


def body_size(header: bytes) -> int:
    """The length of the body that follows."""
    return int.from_bytes(header[4:12])


def message(header: bytes, body: bytes) -> Message:
    """The message of a content header and its body."""
    reader = Reader(header, at=12)
    content_type = correlation_id = message_id = timestamp = None
    headers: dict[str, HeaderValue] = {}
    persistent = False
    try:
        flags = reader.flags()
        if flags & 0x8000:
            content_type = reader.short_text()
        if flags & 0x4000:  # content encoding
            reader.short_text()
        if flags & 0x2000:
            headers = reader.table(headers)
        if flags & 0x1000:
            persistent = reader.octet() == 2
        if flags & 0x0800:  # priority
            reader.skip(1)
        if flags & 0x0400:
            correlation_id = reader.short_text()
        if flags & 0x0200:  # reply to
            reader.short_text()
        if flags & 0x0100:  # expiration
            reader.short_text()
        if flags & 0x0080:
            message_id = reader.short_text()
        if flags & 0x0040:
            timestamp = reader.integer(8)
    except UnreadableError:
        pass  # what was read until here stands; the broker took the rest, so nobody else misses it either
    return Message(
        body=body,
        headers=headers,
        message_id=message_id,
        correlation_id=correlation_id,
        content_type=content_type,
        timestamp=timestamp,
        persistent=persistent,
    )


class UnreadableError(Exception):
    """The bytes end too early, or a letter stands for no type, so that what follows cannot be found."""


class Reader:
    """Takes values from the front of some bytes; each raises `UnreadableError` where they end too early."""

    __slots__ = ("_at", "_data", "_end")

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self._at = at
        self._end = len(data)

    def skip(self, count: int) -> None:
        """Pass over some bytes."""
        self._at += count
        if self._at > self._end:
            raise UnreadableError

    def take(self, count: int) -> bytes:
        """Some bytes."""
        at = self._at
        self._at = end = at + count
        if end > self._end:
            raise UnreadableError
        return self._data[at:end]

    def integer(self, size: int, *, signed: bool = False) -> int:
        """A number of that many bytes."""
        at = self._at
        self._at = end = at + size
        if end > self._end:
            raise UnreadableError
        return int.from_bytes(self._data[at:end], signed=signed)

    def octet(self) -> int:
        """A number of one byte; `integer` reads it as well, in twice the time, and each delivery has some."""
        at = self._at
        if at >= self._end:
            raise UnreadableError
        self._at = at + 1
        return self._data[at]

    def length(self) -> int:
        """How long what follows is; as for `octet`."""
        at = self._at
        self._at = at + 4
        if at + 4 > self._end:
            raise UnreadableError
        length: int = LENGTH.unpack_from(self._data, at)[0]
        return length

    def flags(self) -> int:
        """The first word; each word says in its last bit whether another follows, which means nothing yet."""
        first = word = self.integer(2)
        while word & 1:
            word = self.integer(2)
        return first

    def short_text(self) -> str:
        """A text of up to 255 bytes; what is no UTF-8 is replaced."""
        at = self._at
        if at >= self._end:
            raise UnreadableError
        self._at = end = at + 1 + self._data[at]
        if end > self._end:
            raise UnreadableError
        return self._data[at + 1 : end].decode("utf-8", "replace")

    def long_text(self) -> str | bytes:
        """A text of any length; the bytes of it where they are no UTF-8."""
        data = self.take(self.length())
        try:
            return data.decode()
        except UnicodeDecodeError:
            return data

    def table(self, into: dict[str, HeaderValue], depth: int = 0) -> dict[str, HeaderValue]:
        """Fill the dict as far as the table can be read, and go on behind it."""
        end, outer = self._part()
        data, at = self._data, self._at
        try:
            while at < end:
                name_at = at + 1
                at = name_at + data[at]
                name = data[name_at:at].decode("utf-8", "replace")
                if at >= end:
                    break
                # Most values are texts, and this is where the time of a delivery goes; `field` reads them as well.
                if data[at] == TEXT and (behind := at + 5 + LENGTH.unpack_from(data, at + 1)[0]) <= end:
                    text = data[at + 5 : behind]
                    try:
                        into[name] = text.decode()
                    except UnicodeDecodeError:
                        into[name] = text
                    at = behind
                else:
                    self._at = at
                    into[name] = self.field(depth)
                    at = self._at
        except (UnreadableError, struct.error):
            pass
        self._at, self._end = end, outer
        return into

    def array(self, depth: int) -> list[HeaderValue]:
        """The values as far as they can be read; goes on behind all of them."""
        end, outer = self._part()
        values: list[HeaderValue] = []
        try:
            while self._at < end:
                values.append(self.field(depth))
        except UnreadableError:
            pass
        self._at, self._end = end, outer
        return values

    def field(self, depth: int) -> HeaderValue:
        """The value behind its type letter: all that RabbitMQ knows, and those that others write."""
        letter = self.octet()
        read = READERS.get(letter)
        if read is not None:
            return read(self)
        if letter in b"FA" and depth >= MAX_DEPTH:
            self.skip(self.length())
            return None
        if letter == TABLE:
            return self.table({}, depth + 1)
        if letter == ARRAY:
            return self.array(depth + 1)
        raise UnreadableError

    def timestamp(self) -> datetime | int:
        """A time, or the seconds where no `datetime` knows it."""
        seconds = self.integer(8)
        return datetime.fromtimestamp(seconds, UTC) if seconds <= LAST_SECOND else seconds

    def decimal(self) -> Decimal:
        """A number with a scale."""
        scale, number = self.octet(), self.integer(4)
        return Decimal(number).scaleb(-scale)

    def _part(self) -> tuple[int, int]:
        """Begin a part with its length in front: where it ends, and where what it stands in ends."""
        length = self.length()
        outer, end = self._end, self._at + length
        if end > outer:
            raise UnreadableError
        self._end = end
        return end, outer


READERS: Final[dict[int, Callable[[Reader], HeaderValue]]] = {
    ord("S"): Reader.long_text,
    ord("I"): lambda reader: reader.integer(4, signed=True),
    ord("t"): lambda reader: reader.octet() != 0,
    ord("l"): lambda reader: reader.integer(8, signed=True),
    ord("L"): lambda reader: reader.integer(8, signed=True),
    ord("b"): lambda reader: reader.integer(1, signed=True),
    ord("B"): lambda reader: reader.integer(1),
    ord("s"): lambda reader: reader.integer(2, signed=True),
    ord("u"): lambda reader: reader.integer(2),
    ord("i"): lambda reader: reader.integer(4),
    ord("f"): lambda reader: struct.unpack(">f", reader.take(4))[0],
    ord("d"): lambda reader: struct.unpack(">d", reader.take(8))[0],
    ord("D"): Reader.decimal,
    ord("T"): Reader.timestamp,
    ord("V"): lambda _: None,
    ord("x"): lambda reader: bytearray(reader.take(reader.length())),
}
