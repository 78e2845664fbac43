"""What a RabbitMQ behind a proxy can be made to do to publishers: hold its confirms back, refuse messages.

Both are real answers of a real broker: a confirm that is late, and the negative one of a full queue, to which a
publish is led.
"""

import struct

from attrs import define, field
from tests.support.amqp_codec import short_text
from tests.support.proxy import Passage, Proxy

__all__ = ["FULL_QUEUE", "PublisherFaults", "consuming_channel", "is_kind", "methods_sent", "swallow_deliveries"]

FULL_QUEUE = "full"
PUBLISH, ACK, DECLARE_QUEUE = (1, 60, 40), (1, 60, 80), (1, 50, 10)
CONSUME, DELIVER = (1, 60, 20), (1, 60, 60)


def methods_sent(passage: Passage) -> list[tuple[int, int]]:
    """The methods that the client sent, in order."""
    found = map(_method, _Frames().feed(bytes(passage.up.seen))[1:])
    return [(number[1], number[2]) for number in found if number is not None]


def is_kind(passage: Passage, kind: str) -> bool:
    """Whether a connection says of itself that it is `publishing` or `consuming`."""
    return kind.encode() in passage.up.seen[:2000]


def consuming_channel(passage: Passage, queue: str) -> int:
    """The channel over which the client consumes the queue; it must do so."""
    for frame in _Frames().feed(bytes(passage.up.seen))[1:]:
        if _method(frame) == CONSUME and frame[14 : 14 + frame[13]].decode() == queue:
            return _channel(frame)
    raise LookupError(f"{queue!r} is not consumed over this connection")


def swallow_deliveries(passage: Passage, channel: int) -> None:
    """Let the broker deliver on this channel, and nothing of it arrive; to be begun between two frames."""
    down = _Frames(skip=0)

    def is_delivery(frame: bytes) -> bool:  # all content that a consumer's channel carries down
        return _channel(frame) == channel and (frame[0] in (2, 3) or _method(frame) == DELIVER)

    passage.down.change = lambda data: b"".join(frame for frame in down.feed(data) if not is_delivery(frame))


@define(eq=False)
class PublisherFaults:
    """Installs itself on every connection of a proxy."""

    _proxy: Proxy
    refusals: int = field(default=0, init=False)
    """How many of the next publishes go to the full queue instead."""
    declared: set[str] = field(factory=set, init=False)
    """The queues that were declared, or asked for, over these connections."""
    _holding: bool = field(default=False, init=False)
    _held: dict[Passage, list[bytes]] = field(factory=dict, init=False)

    def install(self) -> None:
        """Do it to every connection that is made from now on."""
        self._proxy.on_passage = self._on_passage

    def hold_confirms(self) -> None:
        """Keep confirms, and only those."""
        self._holding = True

    async def release_confirms(self) -> None:
        """Send those that were kept, to connections that still live. If cancelled, some may be lost."""
        self._holding = False
        held, self._held = self._held, {}
        for passage, frames in held.items():
            if passage in self._proxy.passages:
                await passage.down.send(b"".join(frames))

    def _on_passage(self, passage: Passage) -> None:
        up, down = _Frames(), _Frames(skip=0)
        passage.up.change = lambda data: b"".join(map(self._lead_astray, up.feed(data)))
        passage.down.change = lambda data: b"".join(
            frame for frame in down.feed(data) if not self._is_held(passage, frame)
        )

    def _is_held(self, passage: Passage, frame: bytes) -> bool:
        if not self._holding or _method(frame) != ACK:
            return False
        self._held.setdefault(passage, []).append(frame)
        return True

    def _lead_astray(self, frame: bytes) -> bytes:
        if _method(frame) == DECLARE_QUEUE:
            self.declared.add(frame[14 : 14 + frame[13]].decode())
        if not self.refusals or _method(frame) != PUBLISH:
            return frame
        self.refusals -= 1
        payload = frame[7:13] + short_text("") + short_text(FULL_QUEUE) + b"\x01"
        return struct.pack(">BHI", 1, *struct.unpack_from(">H", frame, 1), len(payload)) + payload + b"\xce"


@define(eq=False)
class _Frames:
    """Cuts a stream into frames; the client's begins with eight bytes of another kind."""

    skip: int = 8
    _unread: bytes = field(default=b"", init=False)

    def feed(self, data: bytes) -> list[bytes]:
        data = self._unread + data
        found = []
        if self.skip:
            found, data, self.skip = [data[: self.skip]], data[self.skip :], 0
        while len(data) >= 7 and len(data) >= (size := struct.unpack_from(">I", data, 3)[0] + 8):
            found.append(data[:size])
            data = data[size:]
        self._unread = data
        return found


def _channel(frame: bytes) -> int:
    return int.from_bytes(frame[1:3], "big")


def _method(frame: bytes) -> tuple[int, int, int] | None:
    return (1, *struct.unpack_from(">HH", frame, 7)) if frame[0] == 1 else None
