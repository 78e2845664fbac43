"""One AMQP 0-9-1 connection of the tests: handshake, frames in and out, and what the broker says to whom.

Separate from the client, whose methods are about queues and messages and never about frames.
"""

import struct
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

import trio
from attrs import define, field
from tests.support.amqp_codec import Reader, short_text, table

__all__ = ["ChannelClosed", "Closed", "Connection", "ConnectionClosed", "Line", "Method", "Slot", "frame", "method"]

METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
FRAME_END: Final = b"\xce"
CARRY_CONTENT: Final = {(60, 50), (60, 60), (60, 71)}
"""basic.return, .deliver, .get-ok."""
UNASKED: Final = {(60, 50), (60, 60), (60, 30), (60, 80), (60, 120)}
"""What the broker sends by itself: basic.return, .deliver, .cancel, .ack, .nack."""
GOODBYE: Final = 2.0
"""Seconds to wait for the broker's answer to a close; one that is frozen or dead never gives it."""

START, START_OK, TUNE, TUNE_OK, OPEN, OPEN_OK = [(10, number) for number in (10, 11, 30, 31, 40, 41)]
CLOSE, CLOSE_OK = (10, 50), (10, 51)
CHANNEL_CLOSE, CHANNEL_CLOSE_OK = (20, 40), (20, 41)


class Closed(Exception):
    """The broker closed the channel or connection, with AMQP's reply code and a text."""

    def __init__(self, code: int, text: str) -> None:
        self.code, self.text = code, text
        super().__init__(f"{code} {text}")

    def again(self) -> "Closed":
        """The same for another raiser: a traceback belongs to one."""
        return type(self)(self.code, self.text)


class ChannelClosed(Closed):
    """Only this channel."""


class ConnectionClosed(Closed):
    """All of them. Code 0: it broke without a word, or it was closed here."""


@define
class Method:
    """What the broker says: a method, whose `arguments` are read by whom it is for, and the content it may carry."""

    id: tuple[int, int]
    arguments: Reader
    header: bytes = b""
    """The payload of the content header, as it is."""
    body: bytes = b""


def method(number: tuple[int, int], *parts: bytes) -> bytes:
    """The payload of a method frame."""
    return struct.pack(">HH", *number) + b"".join(parts)


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    """A whole frame."""
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + FRAME_END


@define(eq=False)
class Slot:
    """A place for one answer."""

    _came: trio.Event = field(factory=trio.Event, init=False)
    _answer: Method | Closed | None = field(default=None, init=False)

    def put(self, answer: Method | Closed) -> None:
        """Give the answer, or the reason why there will be none."""
        self._answer = answer
        self._came.set()

    async def get(self) -> Method:
        """The answer. Raises `Closed`. If cancelled, it is dropped when it comes; the next question has its own."""
        await self._came.wait()
        if isinstance(self._answer, Closed):
            raise self._answer.again()
        assert self._answer is not None
        return self._answer


@define(eq=False)
class Line:
    """One channel as the connection sees it.

    Answers come in the order of the questions; what the broker says by itself goes to `on_unasked`.
    """

    number: int
    _on_unasked: Callable[[Method], None]
    _on_lost: Callable[[Closed], None]
    waiting: deque[Slot] = field(factory=deque, init=False)
    closed: Closed | None = field(default=None, init=False)
    _coming: Method | None = field(default=None, init=False)
    _body: bytearray = field(factory=bytearray, init=False)

    def lose(self, failure: Closed) -> None:
        """Nothing comes any more."""
        if self.closed is None:
            self.closed = failure
            while self.waiting:
                self.waiting.popleft().put(failure)
            self._on_lost(failure)

    def hear(self, kind: int, payload: bytes) -> None:
        """Take a frame of this channel."""
        if kind == METHOD:
            said = read_method(payload)
            if said.id in CARRY_CONTENT:
                self._coming = said
                self._body.clear()
            else:
                self._heard(said)
            return
        assert self._coming is not None
        if kind == HEADER:
            self._coming.header = payload
        else:
            self._body += payload
        if len(self._body) >= int.from_bytes(self._coming.header[4:12], "big"):
            self._coming.body = bytes(self._body)
            self._heard(self._coming)

    def _heard(self, said: Method) -> None:
        if said.id in UNASKED:
            self._on_unasked(said)
        elif self.waiting:
            self.waiting.popleft().put(said)


@define(eq=False)
class Connection:
    """An open connection. Frames leave in the order in which they were sent, by a task of their own."""

    _stream: trio.SocketStream
    _heartbeat: int
    frame_max: int = field(default=131072, init=False)
    server_properties: Mapping[str, object] = field(factory=dict, init=False)
    _lines: dict[int, Line] = field(factory=dict, init=False)
    _buffer: bytearray = field(factory=bytearray, init=False)
    _closed: Closed | None = field(default=None, init=False)
    _said_goodbye: trio.Event = field(factory=trio.Event, init=False)
    _outgoing: deque[bytes] = field(factory=deque, init=False)
    _news: trio.Event = field(factory=trio.Event, init=False)

    # --- for the client ---------------------------------------------------------------------------------------------

    def line(self, on_unasked: Callable[[Method], None], on_lost: Callable[[Closed], None]) -> Line:
        """A channel number that is free, not yet opened at the broker."""
        number = next(number for number in range(1, 2048) if number not in self._lines)
        line = self._lines[number] = Line(number, on_unasked, on_lost)
        if self._closed is not None:
            line.lose(self._closed)
        return line

    def forget(self, line: Line) -> None:
        """The channel is closed and its number free."""
        self._lines.pop(line.number, None)

    def send(self, frames: bytes) -> None:
        """Send whole frames. Raises nothing: that the connection is lost is noticed by who waits for an answer."""
        self._outgoing.append(frames)
        self._news.set()

    async def ask(self, line: Line, payload: bytes) -> Method:
        """Send a method and wait for its answer. Raises `Closed`. If cancelled, the answer is dropped when it comes."""
        slot = Slot()
        if line.closed is not None:
            slot.put(line.closed)
        else:
            line.waiting.append(slot)
            self.send(frame(METHOD, line.number, payload))
        return await slot.get()

    # --- its life ---------------------------------------------------------------------------------------------------

    async def open(self, vhost: str, user: str, password: str) -> None:
        """The handshake. Raises `ConnectionClosed` when the broker refuses. If cancelled, it is of no use."""
        await self._stream.send_all(b"AMQP\x00\x00\x09\x01")
        greeting = (await self._expect(START)).arguments
        greeting.take(2)
        self.server_properties = {name: value for name, (_, value) in greeting.table().items()}
        abilities = ("publisher_confirms", "basic.nack", "consumer_cancel_notify", "authentication_failure_close")
        about = {"product": ("S", "tests"), "capabilities": ("F", dict.fromkeys(abilities, ("t", True)))}
        secret = f"\0{user}\0{password}".encode()
        login = struct.pack(">I", len(secret)) + secret
        await self._write(method(START_OK, table(about), short_text("PLAIN"), login, short_text("en_US")))
        limits = (await self._expect(TUNE)).arguments
        channels, self.frame_max = limits.integer(2), limits.integer(4)
        await self._write(method(TUNE_OK, struct.pack(">HIH", channels, self.frame_max, self._heartbeat)))
        await self._write(method(OPEN, short_text(vhost), short_text(""), b"\0"))
        await self._expect(OPEN_OK)

    async def read(self) -> None:
        """Hand out frames until the connection ends. Raises nothing. If cancelled, nothing comes any more."""
        try:
            while True:
                with trio.move_on_after(2 * self._heartbeat or float("inf")) as patience:
                    kind, channel, payload = await self._frame()
                if patience.cancelled_caught:
                    raise ConnectionClosed(0, "no frame within two heartbeats")
                self._hear(kind, channel, payload)
        except (ConnectionClosed, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self._lose(error if isinstance(error, Closed) else ConnectionClosed(0, f"the connection broke: {error!r}"))

    async def write(self) -> None:
        """Send what is to be sent, and heartbeats. Raises nothing. If cancelled, a frame may be cut in the middle."""
        try:
            while True:
                with trio.move_on_after(self._heartbeat / 2 or float("inf")):
                    await self._news.wait()
                self._news = trio.Event()
                if not self._outgoing:
                    self._outgoing.append(frame(HEARTBEAT, 0, b""))
                while self._outgoing:
                    await self._stream.send_all(self._outgoing.popleft())
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # whoever reads notices as well, and may find a last word of the broker

    async def close(self) -> None:
        """Say goodbye, so that everything sent before has arrived. If cancelled, still for at most `GOODBYE` s."""
        with trio.move_on_after(GOODBYE, shield=True):
            if self._closed is None:
                self.send(frame(METHOD, 0, method(CLOSE, struct.pack(">H", 200), short_text("bye"), bytes(4))))
                await self._said_goodbye.wait()
        self._lose(ConnectionClosed(0, "closed here"))

    def _lose(self, failure: Closed) -> None:
        self._closed = self._closed or failure
        self._said_goodbye.set()
        for line in tuple(self._lines.values()):
            line.lose(failure)

    def _hear(self, kind: int, channel: int, payload: bytes) -> None:
        if kind == HEARTBEAT:
            return
        if channel == 0:
            self._hear_about_connection(read_method(payload))
            return
        line = self._lines.get(channel)
        if kind == METHOD and (said := read_method(payload)).id == CHANNEL_CLOSE:
            self.send(frame(METHOD, channel, method(CHANNEL_CLOSE_OK)))
            if line is not None:
                line.lose(ChannelClosed(*_reason(said.arguments)))
        elif line is not None and line.closed is None:
            line.hear(kind, payload)

    def _hear_about_connection(self, said: Method) -> None:
        if said.id == CLOSE:
            self.send(frame(METHOD, 0, method(CLOSE_OK)))
            raise ConnectionClosed(*_reason(said.arguments))
        if said.id == CLOSE_OK:
            raise ConnectionClosed(0, "closed here")

    async def _expect(self, number: tuple[int, int]) -> Method:
        _, _, payload = await self._frame()
        said = read_method(payload)
        if said.id == CLOSE:
            raise ConnectionClosed(*_reason(said.arguments))
        if said.id != number:
            raise ConnectionClosed(0, f"expected method {number}, got {said.id}")
        return said

    async def _write(self, payload: bytes) -> None:
        await self._stream.send_all(frame(METHOD, 0, payload))

    async def _frame(self) -> tuple[int, int, bytes]:
        head = await self._take(7)
        kind, channel, size = struct.unpack(">BHI", head)
        payload = await self._take(size + 1)
        if payload[-1:] != FRAME_END:
            raise ConnectionClosed(0, f"no frame: {head + payload!r}")
        return kind, channel, payload[:-1]

    async def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            data = await self._stream.receive_some(1 << 16)
            if not data:
                raise ConnectionClosed(0, "the broker hung up")
            self._buffer += data
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken


def read_method(payload: bytes) -> Method:
    """The payload of a method frame."""
    reader = Reader(payload)
    return Method((reader.integer(2), reader.integer(2)), reader)


def _reason(arguments: Reader) -> tuple[int, str]:
    return arguments.integer(2), arguments.short_text()
