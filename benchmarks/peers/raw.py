"""AMQP 0-9-1 over a blocking socket, as little as the harness needs: nobody's client is in its figures.

It fills queues with copies, publishes one message after a stamp, and is the bare consumer that workers are held
against. Only the standard library, so that it costs as little as Python can.
"""

import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

from attrs import frozen

__all__ = ["ACK", "DELIVER", "HOST", "Method", "RawAmqp", "RawMessage", "ack_frame", "delivery_tag"]

HOST = "127.0.0.1"
BATCH = 500
"""Messages that leave together."""
PATIENCE = 30.0
"""Seconds without an answer after which a round has failed."""
FRAME_MAX = 131_072

_END = b"\xce"
ACK, DELIVER = (60, 80), (60, 60)
_NACK, _GET_OK, _GET_EMPTY = (60, 120), (60, 71), (60, 72)


Method: TypeAlias = tuple[tuple[int, int], bytes]
"""Class and number, and the arguments."""


@frozen
class RawMessage:
    """A message as it is on the wire, but for the frames."""

    properties: bytes
    """Flags and values of the content header."""
    body: bytes


class RawAmqp:
    """One connection with one channel. What is wrong raises `OSError`."""

    def __init__(self, port: int, vhost: str) -> None:
        self._socket = socket.create_connection((HOST, port), timeout=PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._confirmed_to = 0
        """Publishes of this channel that are to be confirmed, 0 before confirms were asked for."""
        self._socket.sendall(b"AMQP\x00\x00\x09\x01")
        self._expect((10, 10))
        self._send_method(0, (10, 11), struct.pack(">I", 0), _short("PLAIN"), _long(b"\0guest\0guest"), _short("en_US"))
        self._expect((10, 30))
        self._send_method(0, (10, 31), struct.pack(">HIH", 1, FRAME_MAX, 0))
        self._send_method(0, (10, 40), _short(vhost), b"\0\0")
        self._expect((10, 41))
        self._send_method(1, (20, 10), b"\0")
        self._expect((20, 11))

    def close(self) -> None:
        """Leave without a word."""
        self._socket.close()

    def declare(self, queue: str) -> None:
        """Make a durable queue exist."""
        self._send_method(1, (50, 10), b"\0\0", _short(queue), b"\x02", b"\0\0\0\0")
        self._expect((50, 11))

    def ready(self, queue: str) -> int:
        """Messages that wait in the queue, which must be there."""
        self._send_method(1, (50, 10), b"\0\0", _short(queue), b"\x01", b"\0\0\0\0")
        answer = self._expect((50, 11))
        return int(struct.unpack_from(">I", answer, 1 + answer[0])[0])

    def take(self, queue: str) -> RawMessage | None:
        """One message, which is gone with it; none where there is none."""
        self._send_method(1, (60, 70), b"\0\0", _short(queue), b"\x01")
        kind, _ = self._method()
        if kind == _GET_EMPTY:
            return None
        if kind != _GET_OK:
            raise OSError(f"RabbitMQ answered {kind}")
        return self._content()

    def publish(self, queue: str, message: RawMessage) -> bytes:
        """The bytes that publish the message; for `send`, right after a stamp."""
        header = struct.pack(">HHQ", 60, 0, len(message.body)) + message.properties
        piece = FRAME_MAX - 8
        pieces = (message.body[first : first + piece] for first in range(0, len(message.body), piece))
        return b"".join(
            [
                _frame(1, 1, struct.pack(">HHH", 60, 40, 0) + _short("") + _short(queue) + b"\0"),
                _frame(2, 1, header),
                *(_frame(3, 1, body) for body in pieces),
            ]
        )

    def send(self, data: bytes) -> None:
        """What `publish` made."""
        self._socket.sendall(data)

    def fill(self, queue: str, messages: Iterable[RawMessage]) -> int:
        """Publish all of them, and return how many when the broker has confirmed each."""
        self.ask_for_confirms()
        waiting: set[int] = set()
        batch: list[bytes] = []
        total = 0
        for message in messages:
            batch.append(self.publish(queue, message))
            waiting.add(self._confirmed_to)
            self._confirmed_to += 1
            total += 1
            if len(batch) == BATCH:
                self._deliver(batch, waiting)
        self._deliver(batch, waiting)
        return total

    def ask_for_confirms(self) -> None:
        """From now on each publish is confirmed; they are numbered from 1."""
        if not self._confirmed_to:
            self._send_method(1, (85, 10), b"\0")
            self._expect((85, 11))
            self._confirmed_to = 1

    def begin_consuming(self, queue: str, prefetch: int) -> None:
        """Have messages delivered, so many at a time."""
        self._send_method(1, (60, 10), struct.pack(">IHB", 0, prefetch, 0))
        self._expect((60, 11))
        self._send_method(1, (60, 20), b"\0\0", _short(queue), _short(""), b"\0", b"\0\0\0\0")
        self._expect((60, 21))

    def consume(self, queue: str, prefetch: int) -> Iterator[RawMessage]:
        """Every message, acknowledged when the next one is asked for."""
        self.begin_consuming(queue, prefetch)
        while True:
            kind, arguments = self._method()
            if kind == DELIVER:
                yield self._content()
                self.send(ack_frame(delivery_tag(arguments)))

    def fileno(self) -> int:
        """For a selector."""
        return self._socket.fileno()

    def received(self) -> Sequence[Method]:
        """The methods that have come after one read, maybe none; contents are passed over.

        It reads once only: who waits for the rest of a message here hears nothing on another connection.
        """
        self._receive()
        return self.kept()

    def kept(self) -> Sequence[Method]:
        """The methods that have come already, along with an answer say, and show on no socket any more."""
        data, at, methods = bytes(self._buffer), 0, []
        while len(data) - at >= 8 and (end := at + 8 + int.from_bytes(data[at + 3 : at + 7])) <= len(data):
            if data[at] == 1:
                methods.append((struct.unpack_from(">HH", data, at + 7), data[at + 11 : end - 1]))
            at = end
        del self._buffer[:at]
        return methods

    def _deliver(self, batch: list[bytes], waiting: set[int]) -> None:
        self._socket.sendall(b"".join(batch))
        batch.clear()
        while waiting:
            kind, arguments = self._method()
            tag, is_multiple = struct.unpack_from(">QB", arguments)
            if kind == _NACK:
                raise OSError("RabbitMQ refused a message")
            waiting -= {number for number in waiting if number <= tag} if is_multiple else {tag}

    def _send_method(self, channel: int, kind: tuple[int, int], *parts: bytes) -> None:
        self._socket.sendall(_frame(1, channel, struct.pack(">HH", *kind) + b"".join(parts)))

    def _expect(self, wanted: tuple[int, int]) -> bytes:
        kind, arguments = self._method()
        if kind != wanted:
            raise OSError(f"RabbitMQ answered {kind} instead of {wanted}: {arguments[:200]!r}")
        return arguments

    def _method(self) -> tuple[tuple[int, int], bytes]:
        while True:
            kind, payload = self._read_frame()
            if kind == 1:
                return struct.unpack_from(">HH", payload), payload[4:]

    def _content(self) -> RawMessage:
        _, header = self._read_frame()
        size = int.from_bytes(header[4:12], "big")
        body = b""
        while len(body) < size:
            body += self._read_frame()[1]
        return RawMessage(header[12:], body)

    def _read_frame(self) -> tuple[int, bytes]:
        kind, _, size = struct.unpack(">BHI", self._read(7))
        return kind, self._read(size + 1)[:-1]

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._receive()
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _receive(self) -> None:
        data = self._socket.recv(262_144)
        if not data:
            raise OSError("RabbitMQ closed the connection")
        self._buffer += data


def delivery_tag(arguments: bytes) -> int:
    """The number of a message, of the arguments of its `DELIVER`."""
    return int.from_bytes(arguments[1 + arguments[0] :][:8])


def ack_frame(number: int) -> bytes:
    """The bytes that acknowledge one message; for `send`."""
    return _frame(1, 1, struct.pack(">HHQB", *ACK, number, 0))


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + _END


def _short(text: str) -> bytes:
    return bytes([len(text.encode())]) + text.encode()


def _long(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data
