"""The channels of one connection: their states as a table, the questions asked on them, the messages that come on them.

Separate from the connection's own states: what happens on one channel concerns no other, and ends with it.
"""

import heapq
import struct
from collections import deque
from collections.abc import Callable
from typing import Final, TypeAlias

from attrs import define, field
from pamqp.base import Frame
from pamqp.commands import Basic, Channel

from milvaion_trio.broker.amqp.contents import Contents
from milvaion_trio.broker.amqp.events import (
    AnsweredEvent,
    CancelledEvent,
    ChannelClosedEvent,
    ConfirmedEvent,
    Event,
    ProtocolError,
)
from milvaion_trio.broker.amqp.framing import HEADER
from milvaion_trio.broker.amqp.methods import ANSWERS, INDEXES, frame_of, method_of, name_of
from milvaion_trio.broker.amqp.states import ChannelState

__all__ = ["MAX_BODY", "TABLE", "ChannelState", "Channels"]

MAX_BODY: Final = 128 * 1024 * 1024
"""RabbitMQ's own default for the largest message (`max_message_size`) before 4.0, when it became smaller."""
CONFIRM: Final = struct.Struct(">IQB")


@define(eq=False)
class _Channel:
    state: ChannelState = field(init=False)
    rows: "dict[bytes, Row]" = field(init=False)
    """Those of the state in the table."""
    questions: deque[tuple[int, frozenset[str]]] = field(factory=deque)
    """Numbers, and names of the answers that are allowed; the broker answers in order."""

    def __attrs_post_init__(self) -> None:
        self.enter(ChannelState.OPENING)

    def enter(self, state: ChannelState) -> None:
        self.state = state
        self.rows = ROWS[state]


@define(eq=False)
class Channels:
    """All channels of a connection, and the numbers that are free."""

    _write: Callable[[bytes], object]
    """Takes frames for the broker."""
    maximum: int = 0
    """How many there may be; known when the connection is tuned."""
    frame_max: int = 0
    _contents: Contents = field(factory=lambda: Contents(MAX_BODY), init=False)
    _channels: dict[int, _Channel] = field(factory=dict, init=False)
    _given_back: list[int] = field(factory=list, init=False)
    """A heap of numbers that were in use."""
    _used: int = field(default=0, init=False)
    """The highest number that ever was in use."""
    _asked: int = field(default=0, init=False)
    """The number of the last question."""

    # --- what we want -----------------------------------------------------------------------------------------------

    def open(self) -> tuple[int, int]:
        """A new channel: its number, the lowest that is free, and the question's."""
        if self._given_back:
            number = heapq.heappop(self._given_back)
        elif self._used < self.maximum:
            number = self._used = self._used + 1
        else:
            raise ProtocolError(f"all {self.maximum} channels that the broker allows are in use")
        channel = self._channels[number] = _Channel()
        return number, self._ask(number, channel, Channel.Open(), frozenset({"Channel.OpenOk"}))

    def ask(self, number: int, method: Frame) -> int:
        """Queue a question; its number."""
        channel = self._channels.get(number)
        if channel is None or channel.state is ChannelState.CLOSING:
            state = "not open" if channel is None else channel.state.value
            raise ProtocolError(f"channel {number} is {state}: {method.name} cannot be asked on it")
        answers = ANSWERS.get(method.name)
        if answers is None or getattr(method, "nowait", False):
            raise ProtocolError(f"{method.name} has no answer that could be waited for (or is sent with nowait)")
        return self._ask(number, channel, method, answers)

    def end(self, number: int) -> None:
        """Close a channel, unless that has been done."""
        channel = self._channels.get(number)
        if channel is None or channel.state is ChannelState.CLOSING:
            return
        channel.enter(ChannelState.CLOSING)
        self._contents.forget(number)
        self._write(frame_of(number, Channel.Close(200, "", 0, 0)))

    def _ask(self, number: int, channel: _Channel, method: Frame, answers: frozenset[str]) -> int:
        frame = frame_of(number, method)
        if len(frame) > self.frame_max:
            raise ProtocolError(f"{method.name} takes {len(frame)} bytes; the broker takes up to {self.frame_max}")
        self._write(frame)
        self._asked += 1
        channel.questions.append((self._asked, answers))
        return self._asked

    # --- what comes -------------------------------------------------------------------------------------------------

    def method(self, number: int, payload: bytes) -> Event | None:
        """Take a method frame; raises `ProtocolError` for one that the table does not have."""
        channel = self._channels.get(number)
        if channel is None:
            raise ProtocolError(f"the broker sent {name_of(payload)} on channel {number}, which is not open")
        if number in self._contents.arriving:
            raise ProtocolError(f"the broker sent {name_of(payload)} on channel {number} in the middle of a message")
        row = channel.rows.get(payload[:4])
        if row is not None:
            return row(self, number, channel, payload)
        if channel.state is ChannelState.CLOSING:
            return None  # sent before the broker knew
        name = name_of(payload)
        allowed = sorted(name for state, name in TABLE if state is channel.state)
        raise ProtocolError(
            f"the broker sent {name} on channel {number}, which is {channel.state.value}; "
            f"allowed are {', '.join(allowed)}"
        )

    def delivery(self, number: int, data: bytes, at: int, end: int, limit: int) -> tuple[Event, int] | None:
        """Take a message in one step, if that can be done (see `Contents.whole`)."""
        channel = self._channels.get(number)
        if channel is None or channel.state is not ChannelState.OPEN:
            return None
        return self._contents.whole(number, data, at, end, limit)

    def content(self, kind: int, number: int, payload: bytes) -> Event | None:
        """Take a content header or a piece of a body; raises `ProtocolError` out of place."""
        channel = self._channels.get(number)
        if channel is not None and channel.state is ChannelState.CLOSING:
            return None
        return (self._contents.header if kind == HEADER else self._contents.body)(number, payload)

    # --- what happens -----------------------------------------------------------------------------------------------

    def _opened(self, number: int, channel: _Channel, payload: bytes) -> Event:
        event = self._answered(number, channel, payload)
        channel.enter(ChannelState.OPEN)
        return event

    def _answered(self, number: int, channel: _Channel, payload: bytes) -> Event:
        method = method_of(payload)
        question, answers = channel.questions[0] if channel.questions else (0, frozenset[str]())
        if method.name not in answers:
            raise ProtocolError(
                f"the broker sent {method.name} on channel {number}; "
                f"the answer to come is {' or '.join(sorted(answers)) or 'none'}"
            )
        channel.questions.popleft()
        return AnsweredEvent(question, method)

    def _closed(self, number: int, channel: _Channel, payload: bytes) -> Event:
        """The broker closes it."""
        method = method_of(payload)
        assert isinstance(method, Channel.Close)
        self._write(frame_of(number, Channel.CloseOk()))
        self._free(number)
        questions = tuple(question for question, _ in channel.questions)
        return ChannelClosedEvent(number, method.reply_text, method.reply_code or 0, questions)

    def _closed_by_both(self, number: int, channel: _Channel, payload: bytes) -> None:
        """The broker answers ours as well, and expects an answer before it takes the number for a new channel."""
        self._write(frame_of(number, Channel.CloseOk()))

    def _ended(self, number: int, channel: _Channel, payload: bytes) -> None:
        self._free(number)

    def _flow(self, number: int, channel: _Channel, payload: bytes) -> None:
        method = method_of(payload)
        assert isinstance(method, Channel.Flow)
        self._write(frame_of(number, Channel.FlowOk(method.active)))

    def _cancelled(self, number: int, channel: _Channel, payload: bytes) -> Event:
        method = method_of(payload)
        assert isinstance(method, Basic.Cancel)
        if not method.nowait:
            self._write(frame_of(number, Basic.CancelOk(method.consumer_tag)))
        return CancelledEvent(number)

    def _delivered(self, number: int, channel: _Channel, payload: bytes) -> None:
        self._contents.delivered(number, payload)

    def _returned(self, number: int, channel: _Channel, payload: bytes) -> None:
        self._contents.returned(number, payload)

    def _confirmed(self, number: int, channel: _Channel, payload: bytes) -> Event:
        if len(payload) < CONFIRM.size:
            raise ProtocolError(f"the broker sent a confirm on channel {number} that ends too early: {payload!r}")
        index, tag, bits = CONFIRM.unpack_from(payload)
        return ConfirmedEvent(number, tag, bool(bits & 1), index == Basic.Ack.index)

    def _free(self, number: int) -> None:
        del self._channels[number]
        heapq.heappush(self._given_back, number)


Row: TypeAlias = Callable[[Channels, int, _Channel, bytes], Event | None]

TABLE: Final[dict[tuple[ChannelState, str], Row]] = {
    (ChannelState.OPENING, "Channel.OpenOk"): Channels._opened,
    (ChannelState.OPENING, "Channel.Close"): Channels._closed,
    (ChannelState.OPEN, "Channel.Close"): Channels._closed,
    (ChannelState.OPEN, "Channel.Flow"): Channels._flow,
    (ChannelState.OPEN, "Basic.Deliver"): Channels._delivered,
    (ChannelState.OPEN, "Basic.Return"): Channels._returned,
    (ChannelState.OPEN, "Basic.Ack"): Channels._confirmed,
    (ChannelState.OPEN, "Basic.Nack"): Channels._confirmed,
    (ChannelState.OPEN, "Basic.Cancel"): Channels._cancelled,
    **{(ChannelState.OPEN, name): Channels._answered for names in ANSWERS.values() for name in names},
    # Whatever else comes on a channel that we close was sent before the broker knew, and is dropped.
    (ChannelState.CLOSING, "Channel.CloseOk"): Channels._ended,
    (ChannelState.CLOSING, "Channel.Close"): Channels._closed_by_both,
}
"""What happens when the broker sends a method on a channel in a state; everything else is a `ProtocolError`."""
ROWS: Final = {
    state: {INDEXES[name]: row for (its_state, name), row in TABLE.items() if its_state is state}
    for state in ChannelState
}
"""The same, as it is quickest to look up: by class and number."""
