"""An AMQP 0-9-1 connection without I/O: bytes in, events out, and bytes to send.

Separate from the connection over Trio, so that every order of frames and every mistake of a peer can be played without
one. It knows no clock: when to beat, and how long silence may last, is decided where the time is.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from pamqp.base import Frame
from pamqp.commands import Connection

from milvaion_trio.broker.amqp.channels import MAX_BODY, Channels
from milvaion_trio.broker.amqp.contents import DELIVER
from milvaion_trio.broker.amqp.events import (
    BlockedEvent,
    ConnectionClosedEvent,
    EndedEvent,
    Event,
    OpenedEvent,
    ProtocolError,
)
from milvaion_trio.broker.amqp.framing import BEAT, END, ENVELOPE, HEARTBEAT, KINDS, METHOD, PREFIX, Unread, refusal
from milvaion_trio.broker.amqp.handshake import FRAME_MAX, Login, opening, start_ok, tuned
from milvaion_trio.broker.amqp.methods import frame_of, method_of, name_of
from milvaion_trio.broker.amqp.states import State

if TYPE_CHECKING:
    from milvaion_trio.model.envelope import HeaderValue

__all__ = ["MAX_BODY", "TABLE", "Login", "Protocol", "State"]

PROTOCOL_HEADER: Final = b"AMQP\0\0\x09\x01"
OVER: Final = frozenset({State.CLOSING, State.CLOSED})


class Protocol:
    """One connection. After a `ProtocolError` from `feed`, everything raises it again, and there is nothing to send."""

    def __init__(self, login: Login) -> None:
        self.state = State.NEW
        self.frame_max = FRAME_MAX
        self.heartbeat = login.heartbeat
        self.server_properties: Mapping[str, HeaderValue] = {}
        self._login = login
        self._output: list[bytes] = []
        self._unread = Unread()
        self._limit = FRAME_MAX - ENVELOPE
        self._channels = Channels(self._output.append)
        self._mistake = ""

    # --- what we want -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Ask for AMQP 0-9-1."""
        self._check()
        if self.state is not State.NEW:
            raise ProtocolError(f"the connection is {self.state.value}: it is begun once")
        self._output.append(PROTOCOL_HEADER)
        self.state = State.STARTING

    def send(self, frames: bytes) -> None:
        """Send frames behind everything before; nothing any more when the connection is over.

        Raises `ProtocolError` before it is open.
        """
        if self.state is not State.OPEN and self._is_over("publishes and settlements cannot be sent"):
            return
        self._output.append(frames)

    def ask(self, channel: int, method: Frame) -> int:
        """Queue a method that has an answer; returns the question's number.

        Raises `ProtocolError`, which ends nothing, on a channel that is not open, and when the connection is not.
        """
        self._check_open(f"{method.name} cannot be asked")
        return self._channels.ask(channel, method)

    def open_channel(self) -> tuple[int, int]:
        """The number of a new channel, the lowest that is free, and that of the question.

        The channel can be asked at once. Raises `ProtocolError`, which ends nothing, when all are in use or the
        connection is not open.
        """
        self._check_open("no channel can be opened")
        return self._channels.open()

    def end_channel(self, channel: int) -> None:
        """Close a channel and forget what was asked on it; nothing if that is done, or the connection over."""
        if not self._is_over("there is no channel to close"):
            self._channels.end(channel)

    def end(self, code: int = 200, text: str = "") -> None:
        """Close the connection: nothing is sent behind that, and nothing heard but the broker's agreement.

        Before the connection is open there is nobody to agree, and it is closed at once.
        """
        self._check()
        if self.state is State.OPEN:
            why = text[:60].encode(errors="replace").decode()  # fits whatever it is
            self._output.append(frame_of(0, Connection.Close(code, why, 0, 0)))
            self.state = State.CLOSING
        elif self.state is not State.CLOSING:
            self.state = State.CLOSED

    def beat(self) -> None:
        """Send a sign of life; nothing when the connection is not open."""
        if self.state is State.OPEN:
            self._output.append(HEARTBEAT)

    def output(self) -> bytes:
        """Take everything that is to be sent."""
        data = b"".join(self._output)
        self._output.clear()
        return data

    @property
    def has_output(self) -> bool:
        """Whether something is to be sent."""
        return bool(self._output)

    # --- what comes -------------------------------------------------------------------------------------------------

    def feed(self, data: bytes | bytearray) -> list[Event]:
        """What happened. Raises `ProtocolError` for what AMQP does not allow; what came before it in `data` is lost."""
        self._check()
        events: list[Event] = []
        try:
            self._cut(self._unread.with_more(bytes(data)), events)
        except ProtocolError as error:
            self.state, self._mistake = State.BROKEN, str(error)
            self._output.clear()
            raise
        return events

    def _cut(self, data: bytes, events: list[Event]) -> None:
        event: Event | None
        at, length = 0, len(data)
        while length - at >= PREFIX.size and self.state is not State.CLOSED:
            kind, channel, size = PREFIX.unpack_from(data, at)
            if size > self._limit or kind not in KINDS:
                if data.startswith(b"AMQP", at) and length - at < len(PROTOCOL_HEADER):
                    self._unread.keep(data[at:], len(PROTOCOL_HEADER))
                    return
                raise refusal(data[at : at + 40], self._limit)
            end = at + 7 + size
            if end >= length:
                self._unread.keep(data[at:], ENVELOPE + size)
                return
            if data[end] != END:
                raise ProtocolError(f"the broker sent a frame that ends with {data[end]:#x} instead of {END:#x}")
            if kind == METHOD and data.startswith(DELIVER, at + 7) and self.state is State.OPEN:
                found = self._channels.delivery(channel, data, at + 7, end + 1, self._limit)
                if found is not None:
                    event, at = found
                    events.append(event)
                    continue
            event = self._take(kind, channel, data[at + 7 : end])
            if event is not None:
                events.append(event)
            at = end + 1
        if self.state is not State.CLOSED:
            self._unread.keep(data[at:], PREFIX.size)

    def _take(self, kind: int, channel: int, payload: bytes) -> Event | None:
        if kind == BEAT:
            if channel or payload:
                raise ProtocolError(f"the broker sent a heartbeat with {len(payload)} bytes on channel {channel}")
            return None
        if channel == 0 or self.state is State.CLOSING:
            return self._take_own(kind, channel, payload)
        if kind == METHOD:
            return self._channels.method(channel, payload)
        return self._channels.content(kind, channel, payload)

    def _take_own(self, kind: int, channel: int, payload: bytes) -> Event | None:
        """Take a frame that concerns the connection."""
        name = name_of(payload) if kind == METHOD else "a piece of a message"
        row = TABLE.get((self.state, name)) if channel == 0 and kind == METHOD else None
        if row is not None:
            step, after = row
            event = step(self, method_of(payload))
            self.state = after
            return event
        if self.state is State.CLOSING:
            return None  # sent before the broker knew
        allowed = ", ".join(name for state, name in TABLE if state is self.state)
        raise ProtocolError(
            f"the broker sent {name} for the connection, which is {self.state.value}; allowed are {allowed or 'none'}"
        )

    # --- what happens -----------------------------------------------------------------------------------------------

    def _greeted(self, method: Frame) -> None:
        assert isinstance(method, Connection.Start)
        self._output.append(frame_of(0, start_ok(self._login, method)))
        self.server_properties = method.server_properties

    def _tuned(self, method: Frame) -> None:
        assert isinstance(method, Connection.Tune)
        tuning = tuned(self._login, method)
        self.frame_max, self.heartbeat = tuning.frame_max, tuning.heartbeat
        self._limit = tuning.frame_max - ENVELOPE
        self._channels.maximum, self._channels.frame_max = tuning.channel_max, tuning.frame_max
        self._output.append(frame_of(0, Connection.TuneOk(tuning.channel_max, tuning.frame_max, tuning.heartbeat)))
        self._output.append(frame_of(0, opening(self._login)))

    def _challenged(self, _: Frame) -> None:
        raise ProtocolError(
            "the broker asks a question back about the login (Connection.Secure); PLAIN and EXTERNAL, which are known "
            "here, have none"
        )

    def _closed(self, method: Frame) -> Event:
        assert isinstance(method, Connection.Close)
        self._output.append(frame_of(0, Connection.CloseOk()))
        return ConnectionClosedEvent(method.reply_code or 0, method.reply_text)

    def _blocked(self, method: Frame) -> Event:
        assert isinstance(method, Connection.Blocked)
        return BlockedEvent(method.reason or "no reason given")

    # --- what is allowed --------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._mistake:
            raise ProtocolError(self._mistake)

    def _check_open(self, what: str) -> None:
        self._check()
        if self.state is not State.OPEN:
            raise ProtocolError(f"the connection is {self.state.value}: {what}")

    def _is_over(self, what: str) -> bool:
        if self.state in OVER:
            return True
        self._check_open(what)
        return False


Row: TypeAlias = tuple[Callable[[Protocol, Frame], Event | None], State]

TABLE: Final[dict[tuple[State, str], Row]] = {
    (State.STARTING, "Connection.Start"): (Protocol._greeted, State.TUNING),
    (State.STARTING, "Connection.Close"): (Protocol._closed, State.CLOSED),
    (State.TUNING, "Connection.Secure"): (Protocol._challenged, State.BROKEN),
    (State.TUNING, "Connection.Tune"): (Protocol._tuned, State.OPENING),
    (State.TUNING, "Connection.Close"): (Protocol._closed, State.CLOSED),
    (State.OPENING, "Connection.OpenOk"): (lambda *_: OpenedEvent(), State.OPEN),
    (State.OPENING, "Connection.Close"): (Protocol._closed, State.CLOSED),
    (State.OPEN, "Connection.Blocked"): (Protocol._blocked, State.OPEN),
    (State.OPEN, "Connection.Unblocked"): (lambda *_: BlockedEvent(""), State.OPEN),
    (State.OPEN, "Connection.Close"): (Protocol._closed, State.CLOSED),
    # Whatever else comes while we close was sent before the broker knew, and is dropped.
    (State.CLOSING, "Connection.CloseOk"): (lambda *_: EndedEvent(), State.CLOSED),
}
"""What happens when the broker sends a method for the connection, and the state after; else `ProtocolError`."""
