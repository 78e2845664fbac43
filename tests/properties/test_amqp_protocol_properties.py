"""Whatever comes, in whatever pieces: events or a `ProtocolError`; and every question finds its end."""

import struct
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from pamqp import commands
from tests.support.amqp_codec import short_text
from tests.support.amqp_peer import (
    CHANNEL_CLOSE_OK,
    CHANNEL_OPEN_OK,
    close,
    cut,
    delivery,
    frame,
    login,
    method,
    open_channel,
    opened,
    returned,
)

from milvaion_trio.broker.amqp.events import AnsweredEvent, ChannelClosedEvent, Event, ProtocolError
from milvaion_trio.broker.amqp.protocol import Protocol, State

BEAT = b"\x08\0\0\0\0\0\0\xce"
CHANNELS = (1, 2, 3)
QUESTIONS = 2
"""Asked on each channel."""


def conversation() -> Protocol:
    """Open, with some questions asked on some channels."""
    protocol = opened()
    for _ in CHANNELS:
        channel = open_channel(protocol)
        for number in range(QUESTIONS):
            protocol.ask(channel, commands.Queue.Declare(queue=f"q{number}"))
    protocol.output()
    return protocol


def comparable(events: list[Event]) -> list[object]:
    """The same events are equal; pamqp's objects are not."""
    return [
        (event.question, event.method.name, dict(event.method)) if isinstance(event, AnsweredEvent) else event
        for event in events
    ]


bodies = st.binary(max_size=60)


def words(channel: int) -> st.SearchStrategy[bytes]:
    """What the broker may say on a channel at any time."""
    numbers = st.integers(0, 2**64 - 1)
    return st.one_of(
        st.builds(
            lambda tag, body, piece: delivery(channel, tag, body, piece=piece), numbers, bodies, st.integers(1, 60)
        ),
        st.builds(lambda body: returned(channel, body), bodies),
        st.builds(
            lambda number, tag, bits: method(channel, 60, number, struct.pack(">QB", tag, bits)),
            st.sampled_from([80, 120]),
            numbers,
            st.integers(0, 255),
        ),
        st.builds(lambda tag: method(channel, 60, 30, short_text(tag) + b"\x01"), st.text(max_size=10)),
        st.just(method(channel, 20, 20, b"\x01")),
    )


@st.composite
def spoken(draw: st.DrawFn) -> bytes:
    """A valid stream: everything on a channel in its order, channels mixed frame by frame."""
    lines: list[list[bytes]] = []
    for channel in CHANNELS:
        said = draw(st.lists(words(channel), max_size=5))
        for number in range(draw(st.integers(0, QUESTIONS))):
            answer = method(channel, 50, 11, short_text(f"q{number}") + bytes(8))
            said.insert(draw(st.integers(0, len(said))), answer)
        if draw(st.booleans()):
            said.append(close(channel, 406, "PRECONDITION_FAILED"))
        lines.append([frame(*part) for part in cut(b"".join(said))])
    lines.append(draw(st.lists(st.sampled_from([BEAT, method(0, 10, 60, b"\x03low"), method(0, 10, 61)]), max_size=3)))
    order = draw(st.permutations([index for index, line in enumerate(lines) for _ in line]))
    return b"".join(lines[index].pop(0) for index in order)


def fed(protocol: Protocol, data: bytes, cuts: list[int]) -> list[Event]:
    """The events when reads end at those places."""
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [event for one, two in pairwise(places) for event in protocol.feed(data[one:two])]


cuts = st.lists(st.integers(0, 10_000), max_size=30)


@given(spoken(), cuts)
def test_reads_may_end_anywhere(data: bytes, places: list[int]) -> None:
    whole = conversation().feed(data)

    assert comparable(fed(conversation(), data, places)) == comparable(whole)
    assert comparable(fed(conversation(), data, list(range(len(data))))) == comparable(whole)


edits = st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 4), st.binary(max_size=4)), max_size=6)
"""Where, how many bytes are taken out, and what is put in."""


@given(spoken(), edits, cuts)
def test_damage_gives_events_or_a_protocol_error(
    data: bytes, changes: list[tuple[int, int, bytes]], at: list[int]
) -> None:
    for place, count, new in changes:
        start = place % (len(data) + 1)
        data = data[:start] + new + data[start + count :]
    check(conversation(), data, at)


@given(st.binary(max_size=400), cuts, st.booleans())
def test_garbage_gives_events_or_a_protocol_error(data: bytes, at: list[int], is_open: bool) -> None:
    protocol = conversation() if is_open else Protocol(login())
    if not is_open:
        protocol.start()
    check(protocol, data, at)


def check(protocol: Protocol, data: bytes, places: list[int]) -> None:
    """Events or an error, no more events than frames, and after an error nothing but the error."""
    mistake = ""
    try:
        events = fed(protocol, data, places)
    except ProtocolError as error:
        mistake = str(error)
    if mistake:
        assert protocol.state is State.BROKEN
        for use in (lambda: protocol.feed(BEAT), protocol.open_channel, protocol.end, lambda: protocol.send(b"x")):
            with pytest.raises(ProtocolError) as again:
                use()
            assert str(again.value) == mistake
        assert protocol.output() == b""
    else:
        assert len(events) <= len(data) // 8


# --- questions ------------------------------------------------------------------------------------------------------


class Questions(RuleBasedStateMachine):
    """A broker that keeps RabbitMQ's rules answers whenever it likes, and closes channels; so do we."""

    def __init__(self) -> None:
        super().__init__()
        self.protocol = opened()
        self.wire = b""
        self.closing_at_broker: set[int] = set()
        self.open_at_broker: set[int] = set()
        self.waiting: dict[int, list[int]] = {}
        """Questions that are open, by channel."""
        self.settled: set[int] = set()

    @rule()
    def open(self) -> None:
        if len(self.waiting) < 4:
            channel, question = self.protocol.open_channel()
            assert channel not in self.waiting
            self.waiting[channel] = [question]

    @rule(channel=st.integers(1, 5), count=st.integers(1, 3))
    def ask(self, channel: int, count: int) -> None:
        for _ in range(count):
            if channel in self.waiting:
                self.waiting[channel].append(self.protocol.ask(channel, commands.Queue.Declare(queue="q")))
            else:
                with pytest.raises(ProtocolError):
                    self.protocol.ask(channel, commands.Queue.Declare(queue="q"))

    @rule(channel=st.integers(1, 5))
    def end(self, channel: int) -> None:
        self.protocol.end_channel(channel)
        self.settled |= set(self.waiting.pop(channel, []))

    @rule()
    def broker_reads(self) -> None:
        for _, channel, payload in cut(self.protocol.output()):
            self.broker_takes(channel, struct.unpack_from(">HH", payload))

    def broker_takes(self, channel: int, number: tuple[int, ...]) -> None:
        if number == (20, 10):
            assert channel not in self.open_at_broker | self.closing_at_broker
            self.open_at_broker.add(channel)
            self.wire += frame(1, channel, CHANNEL_OPEN_OK)
        elif number == (20, 40):
            assert channel in self.open_at_broker | self.closing_at_broker
            self.open_at_broker.discard(channel)
            self.wire += frame(1, channel, CHANNEL_CLOSE_OK)
        elif number == (20, 41):
            self.closing_at_broker.remove(channel)
        elif channel in self.open_at_broker:
            self.wire += method(channel, 50, 11, short_text("q") + bytes(8))

    @rule(channel=st.integers(1, 5))
    def broker_closes(self, channel: int) -> None:
        if channel in self.open_at_broker:
            self.open_at_broker.remove(channel)
            self.closing_at_broker.add(channel)
            self.wire += close(channel, 404, "NOT_FOUND")

    @rule(size=st.integers(1, 60))
    def hear(self, size: int) -> None:
        data, self.wire = self.wire[:size], self.wire[size:]
        for event in self.protocol.feed(data):
            if isinstance(event, ChannelClosedEvent):
                assert list(event.questions) == self.waiting.pop(event.channel)
                self.settled |= set(event.questions)
            else:
                assert isinstance(event, AnsweredEvent)
                (channel,) = [one for one, asked in self.waiting.items() if event.question in asked]
                assert self.waiting[channel].pop(0) == event.question
                self.settled.add(event.question)

    @invariant()
    def each_question_has_one_end(self) -> None:
        assert not self.settled & {question for asked in self.waiting.values() for question in asked}

    def teardown(self) -> None:
        """Nothing is left open when all has been said."""
        while self.wire or self.protocol.has_output:
            self.broker_reads()
            self.hear(1000)
        assert not any(self.waiting.values())
        assert set(self.waiting) == self.open_at_broker
        assert not self.closing_at_broker


Questions.TestCase.settings = settings(max_examples=60, stateful_step_count=40)
TestQuestions = Questions.TestCase
