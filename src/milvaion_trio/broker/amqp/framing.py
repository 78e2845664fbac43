"""What an AMQP frame looks like, and what has come of one that is not complete yet.

Separate because it is where a reader becomes quadratic: joining what is there with each piece that comes copies a large
frame as often as it has pieces. Here the pieces wait until there are enough of them, and are joined once.
"""

import struct
from typing import Final

from attrs import define, field

from milvaion_trio.broker.amqp.events import ProtocolError

__all__ = [
    "BEAT",
    "BODY",
    "END",
    "ENVELOPE",
    "HEADER",
    "HEARTBEAT",
    "KINDS",
    "METHOD",
    "PREFIX",
    "Unread",
    "frame",
    "refusal",
]

METHOD, HEADER, BODY, BEAT = 1, 2, 3, 8
KINDS: Final = frozenset({METHOD, HEADER, BODY, BEAT})
PREFIX: Final = struct.Struct(">BHI")
"""Kind, channel, and the length of the payload."""
END: Final = 0xCE
ENVELOPE: Final = 8
"""Bytes of a frame around its payload."""
HEARTBEAT: Final = b"\x08\0\0\0\0\0\0\xce"


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """The bytes of a frame."""
    return b"%b%b\xce" % (PREFIX.pack(kind, channel, len(payload)), payload)


def refusal(data: bytes, limit: int) -> ProtocolError:
    """Why what begins here is no frame that is allowed."""
    if data.startswith(b"AMQP"):
        version = "-".join(str(part) for part in data[4:8])
        return ProtocolError(f"the broker refuses AMQP 0-9-1 (0-0-9-1 in its words) and offers {version}")
    kind, channel, size = PREFIX.unpack_from(data)
    if kind not in KINDS:
        return ProtocolError(
            f"the broker sent a frame of kind {kind}; methods (1), headers (2), bodies (3) and heartbeats (8) are "
            f"allowed: {data!r}"
        )
    return ProtocolError(f"the broker announced a frame of {size} bytes on channel {channel}; {limit} are allowed")


@define(eq=False)
class Unread:
    """The beginning of a frame, in the pieces in which it came."""

    _pieces: list[bytes] = field(factory=list, init=False)
    _size: int = field(default=0, init=False)
    _needed: int = field(default=0, init=False)

    def with_more(self, data: bytes) -> bytes:
        """All that is unread and now can be read: nothing before as much is there as `keep` was told."""
        if not self._pieces:
            return data
        self._pieces.append(data)
        self._size += len(data)
        if self._size < self._needed:
            return b""
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data

    def keep(self, data: bytes, needed: int) -> None:
        """Keep what cannot be read before there are as many bytes as `needed`."""
        if data:
            self._pieces.append(data)
            self._size, self._needed = len(data), needed
