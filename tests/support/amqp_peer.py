"""The broker's side of AMQP 0-9-1 as bytes, for tests of what is spoken without I/O.

Separate from the plain client, which speaks the other side. Written with the tests' own codec, so that a mistake in the
worker's is not made twice.
"""

import struct
from typing import Final

from tests.support.amqp_codec import Headers, header_payload, short_text, table

from milvaion_trio.broker.amqp.protocol import Login, Protocol

__all__ = [
    "CHANNEL_CLOSE_OK",
    "CLOSE_OK",
    "OPEN_OK",
    "close",
    "cut",
    "delivery",
    "frame",
    "greeting",
    "login",
    "method",
    "open_channel",
    "opened",
    "returned",
    "tune",
]


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """A frame."""
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def method(channel: int, class_id: int, number: int, arguments: bytes = b"") -> bytes:
    """A method frame."""
    return frame(1, channel, struct.pack(">HH", class_id, number) + arguments)


def cut(data: bytes) -> list[tuple[int, int, bytes]]:
    """Kind, channel and payload of each frame."""
    found = []
    while data:
        kind, channel, size = struct.unpack_from(">BHI", data)
        assert data[7 + size] == 0xCE
        found.append((kind, channel, data[7 : 7 + size]))
        data = data[8 + size :]
    return found


# --- the handshake --------------------------------------------------------------------------------------------------

OPEN_OK: Final = method(0, 10, 41, b"\0")
CLOSE_OK: Final = method(0, 10, 51)


def greeting(
    properties: Headers | None = None, mechanisms: bytes = b"PLAIN AMQPLAIN", version: bytes = b"\0\x09"
) -> bytes:
    """Connection.Start."""
    told: Headers = {"product": ("S", "RabbitMQ")} if properties is None else properties
    return method(0, 10, 10, version + table(told) + _long(mechanisms) + _long(b"en_US"))


def tune(channel_max: int = 2047, frame_max: int = 131_072, heartbeat: int = 60) -> bytes:
    """Connection.Tune."""
    return method(0, 10, 30, struct.pack(">HIH", channel_max, frame_max, heartbeat))


def close(channel: int = 0, code: int = 320, text: str = "CONNECTION_FORCED") -> bytes:
    """Connection.Close, or Channel.Close."""
    arguments = struct.pack(">H", code) + short_text(text) + bytes(4)
    return method(channel, 20, 40, arguments) if channel else method(0, 10, 50, arguments)


def login(**changes: object) -> Login:
    """Of a guest."""
    facts: dict[str, object] = {
        "mechanism": "PLAIN",
        "response": b"\0guest\0secret",
        "virtual_host": "/",
        "heartbeat": 10,
        "client_properties": {"product": "tests"},
    }
    return Login(**{**facts, **changes})  # type: ignore[arg-type]


def opened(tuning: bytes | None = None, **changes: object) -> Protocol:
    """An open connection, with nothing to send."""
    protocol = Protocol(login(**changes))
    protocol.start()
    protocol.feed(greeting() + (tuning or tune()) + OPEN_OK)
    protocol.output()
    return protocol


# --- channels -------------------------------------------------------------------------------------------------------

CHANNEL_OPEN_OK: Final = struct.pack(">HH", 20, 11) + bytes(4)
CHANNEL_CLOSE_OK: Final = struct.pack(">HH", 20, 41)


def open_channel(protocol: Protocol) -> int:
    """The number of an open channel, with nothing to send."""
    channel, _ = protocol.open_channel()
    protocol.feed(frame(1, channel, CHANNEL_OPEN_OK))
    protocol.output()
    return channel


def delivery(channel: int, tag: int, body: bytes = b"", *, size: int | None = None, piece: int = 131_064) -> bytes:
    """A delivered message, with a body of that size (the body's) in pieces."""
    deliver = short_text("consumer") + struct.pack(">QB", tag, 0) + short_text("exchange") + short_text("key")
    return method(channel, 60, 60, deliver) + _content(channel, body, len(body) if size is None else size, piece)


def returned(channel: int, body: bytes = b"", *, size: int | None = None) -> bytes:
    """A message that no queue took."""
    arguments = struct.pack(">H", 312) + short_text("NO_ROUTE") + short_text("exchange") + short_text("key")
    return method(channel, 60, 50, arguments) + _content(channel, body, len(body) if size is None else size, 131_064)


def _content(channel: int, body: bytes, size: int, piece: int) -> bytes:
    flags, properties = header_payload({"message_id": "m"}, {"name": ("S", "value")})
    header = frame(2, channel, struct.pack(">HHQH", 60, 0, size, flags) + properties)
    return header + b"".join(frame(3, channel, body[at : at + piece]) for at in range(0, len(body), piece))


def _long(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
