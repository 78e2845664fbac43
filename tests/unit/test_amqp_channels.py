"""The states of channels, questions and answers, without I/O."""

import struct
from typing import Any

import pytest
from pamqp import commands
from pamqp.base import Frame
from tests.support.amqp_codec import Reader, short_text
from tests.support.amqp_peer import (
    CHANNEL_CLOSE_OK,
    CHANNEL_OPEN_OK,
    close,
    cut,
    delivery,
    frame,
    method,
    open_channel,
    opened,
    tune,
)

from milvaion_trio.broker.amqp.channels import TABLE, ChannelState
from milvaion_trio.broker.amqp.events import (
    AnsweredEvent,
    CancelledEvent,
    ChannelClosedEvent,
    ConfirmedEvent,
    Event,
    ProtocolError,
)
from milvaion_trio.broker.amqp.methods import ANSWERS, METHODS
from milvaion_trio.broker.amqp.protocol import Protocol

NUMBERS = {command.name: divmod(index, 2**16) for index, command in METHODS.items()}
CHANNEL_CLOSE = struct.pack(">HHH", 20, 40, 200) + b"\0" + bytes(4)


class AnyName(commands.Queue.Declare):
    """pamqp refuses some names that RabbitMQ takes."""

    def validate(self) -> None:
        """Any name will do."""


def answered(events: list[Event]) -> list[tuple[int, str]]:
    """Questions, and what was answered."""
    return [(event.question, event.method.name) for event in events if isinstance(event, AnsweredEvent)]


def closing(protocol: Protocol) -> int:
    """The number of a channel that is being closed, with nothing to send."""
    channel = open_channel(protocol)
    protocol.end_channel(channel)
    protocol.output()
    return channel


# --- numbers --------------------------------------------------------------------------------------------------------


def test_channels_have_the_lowest_free_numbers() -> None:
    protocol = opened()
    assert [open_channel(protocol) for _ in range(4)] == [1, 2, 3, 4]

    for channel in (3, 1):
        protocol.end_channel(channel)
        protocol.feed(frame(1, channel, CHANNEL_CLOSE_OK))

    assert [open_channel(protocol) for _ in range(3)] == [1, 3, 5]


def test_a_number_is_free_when_the_broker_agrees() -> None:
    protocol = opened()
    channel = closing(protocol)

    assert open_channel(protocol) == channel + 1
    assert protocol.feed(frame(1, channel, CHANNEL_CLOSE_OK)) == []
    assert open_channel(protocol) == channel


@pytest.mark.parametrize(("ours", "theirs", "count"), [(3, 2047, 3), (2047, 2, 2), (2, 0, 2)])
def test_there_are_as_many_as_agreed(ours: int, theirs: int, count: int) -> None:
    protocol = opened(tune(channel_max=theirs), channel_max=ours)
    for _ in range(count):
        open_channel(protocol)

    with pytest.raises(ProtocolError, match=f"all {count} channels"):
        protocol.open_channel()

    protocol.end_channel(1)
    protocol.feed(frame(1, 1, CHANNEL_CLOSE_OK))
    assert open_channel(protocol) == 1


# --- the table ------------------------------------------------------------------------------------------------------

OPENING_ROWS = {"Channel.OpenOk", "Channel.Close"}
OPEN_ROWS = {
    "Channel.Close",
    "Channel.Flow",
    "Channel.FlowOk",
    "Basic.Deliver",
    "Basic.Return",
    "Basic.Ack",
    "Basic.Nack",
    "Basic.Cancel",
    "Basic.QosOk",
    "Basic.ConsumeOk",
    "Basic.CancelOk",
    "Basic.RecoverOk",
    "Exchange.DeclareOk",
    "Exchange.DeleteOk",
    "Exchange.BindOk",
    "Exchange.UnbindOk",
    "Queue.DeclareOk",
    "Queue.BindOk",
    "Queue.PurgeOk",
    "Queue.DeleteOk",
    "Queue.UnbindOk",
    "Tx.SelectOk",
    "Tx.CommitOk",
    "Tx.RollbackOk",
    "Confirm.SelectOk",
}
CLOSING_ROWS = {"Channel.CloseOk", "Channel.Close"}


def test_the_table_has_these_rows() -> None:
    assert {name for state, name in TABLE if state is ChannelState.OPENING} == OPENING_ROWS
    assert {name for state, name in TABLE if state is ChannelState.OPEN} == OPEN_ROWS
    assert {name for state, name in TABLE if state is ChannelState.CLOSING} == CLOSING_ROWS


@pytest.mark.parametrize("name", NUMBERS)
def test_an_opening_channel_hears_nothing_else(name: str) -> None:
    protocol = opened()
    channel, _ = protocol.open_channel()
    data = method(channel, *NUMBERS[name], bytes(40))

    if name in OPENING_ROWS:
        assert len(protocol.feed(data)) == 1
    else:
        with pytest.raises(ProtocolError, match=f"{name} on channel 1.*opening.*Channel.Close, Channel.OpenOk"):
            protocol.feed(data)


@pytest.mark.parametrize("name", sorted(set(NUMBERS) - OPEN_ROWS))
def test_an_open_channel_hears_nothing_else(name: str) -> None:
    protocol = opened()
    channel = open_channel(protocol)

    with pytest.raises(ProtocolError, match=f"{name} on channel 1.*is open.*Basic.Deliver"):
        protocol.feed(method(channel, *NUMBERS[name], bytes(40)))


@pytest.mark.parametrize("name", sorted(set(NUMBERS) - CLOSING_ROWS))
def test_a_closing_channel_ignores_everything_else(name: str) -> None:
    protocol = opened()
    channel = closing(protocol)

    assert protocol.feed(method(channel, *NUMBERS[name], bytes(40))) == []
    assert protocol.output() == b""
    assert open_channel(protocol) == channel + 1


def test_a_channel_that_never_was_is_a_mistake() -> None:
    for data in (method(3, 60, 80, bytes(9)), frame(2, 3, bytes(14)), frame(3, 3, b"x"), delivery(3, 1)):
        with pytest.raises(ProtocolError, match="channel 3"):
            opened().feed(data)


# --- questions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ANSWERS)
def test_every_question_has_its_answer(name: str) -> None:
    protocol = opened()
    channel = open_channel(protocol)
    asked = {command.name: command for command in METHODS.values()}[name]()
    if isinstance(asked, commands.Basic.Cancel):
        asked.consumer_tag = "tag"  # which has no default

    question = protocol.ask(channel, asked)

    assert cut(protocol.output())[0][2][:4] == struct.pack(">HH", *NUMBERS[name])
    (answer,) = ANSWERS[name]
    assert answered(protocol.feed(method(channel, *NUMBERS[answer], bytes(40)))) == [(question, answer)]


def test_answers_come_in_order_on_each_channel() -> None:
    """A channel can be asked at once, which saves a round trip."""
    protocol = opened()
    one, opening_one = protocol.open_channel()
    two, opening_two = protocol.open_channel()
    first = protocol.ask(one, commands.Queue.Declare(queue="a"))
    other = protocol.ask(two, commands.Basic.Qos(prefetch_count=5))
    second = protocol.ask(one, commands.Queue.Declare(queue="b"))

    events = protocol.feed(
        frame(1, two, CHANNEL_OPEN_OK)
        + frame(1, one, CHANNEL_OPEN_OK)
        + method(one, 50, 11, short_text("a") + struct.pack(">II", 1, 2))
        + method(two, 60, 11)
        + method(one, 50, 11, short_text("b") + struct.pack(">II", 3, 4))
    )

    assert answered(events) == [
        (opening_two, "Channel.OpenOk"),
        (opening_one, "Channel.OpenOk"),
        (first, "Queue.DeclareOk"),
        (other, "Basic.QosOk"),
        (second, "Queue.DeclareOk"),
    ]
    assert isinstance(events[4], AnsweredEvent)
    assert dict(events[4].method) == {"queue": "b", "message_count": 3, "consumer_count": 4}


@pytest.mark.parametrize("asked", [commands.Queue.Declare(queue="q"), None], ids=["another question", "no question"])
def test_an_answer_to_something_else_is_a_mistake(asked: Frame | None) -> None:
    protocol = opened()
    channel = open_channel(protocol)
    if asked is not None:
        protocol.ask(channel, asked)

    with pytest.raises(ProtocolError, match=r"Basic.QosOk.*the answer to come is (Queue.DeclareOk|none)"):
        protocol.feed(method(channel, 60, 11))


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (commands.Basic.Get(queue="q"), "no answer that could be waited for"),
        (commands.Basic.Publish(), "no answer"),
        (commands.Channel.Open(), "no answer"),
        (commands.Queue.Declare(queue="q", nowait=True), "nowait"),
        (AnyName(queue="ä" * 128), "no text of up to 255 bytes"),
        (commands.Queue.Declare(queue="q", arguments={"x": "y" * 5000}), "takes 50.. bytes.* up to 4096"),
    ],
)
def test_what_cannot_be_asked_is_refused_and_ends_nothing(asked: Frame, words: str) -> None:
    protocol = opened(tune(frame_max=4096))
    channel = open_channel(protocol)

    with pytest.raises(ProtocolError, match=words):
        protocol.ask(channel, asked)

    assert protocol.output() == b""
    question = protocol.ask(channel, commands.Basic.Qos())
    assert answered(protocol.feed(method(channel, 60, 11))) == [(question, "Basic.QosOk")]


def test_a_closed_channel_cannot_be_asked() -> None:
    protocol = opened()
    channel = closing(protocol)

    with pytest.raises(ProtocolError, match="channel 1 is being closed by us"):
        protocol.ask(channel, commands.Basic.Qos())
    with pytest.raises(ProtocolError, match="channel 2 is not open"):
        protocol.ask(2, commands.Basic.Qos())


def test_arguments_have_the_types_that_others_read() -> None:
    """pamqp writes the smallest integer that fits (WIRE.md 0.2)."""
    protocol = opened()
    channel = open_channel(protocol)
    arguments: dict[str, Any] = {"x-message-ttl": 5, "x-max": 2**40, "x-queue-type": "quorum", "flag": True}

    protocol.ask(channel, AnyName(queue="jobs (ä)", durable=True, exclusive=True, arguments=arguments))

    ((_, _, payload),) = cut(protocol.output())
    reader = Reader(payload[6:])
    assert (reader.short_text(), reader.integer(1)) == ("jobs (ä)", 0b00110)
    assert reader.table() == {
        "x-message-ttl": ("I", 5),
        "x-max": ("l", 2**40),
        "x-queue-type": ("S", "quorum"),
        "flag": ("t", True),
    }
    assert reader.is_at_end


# --- closing --------------------------------------------------------------------------------------------------------


def test_closing_a_channel_drops_its_questions() -> None:
    protocol = opened()
    channel = open_channel(protocol)
    protocol.ask(channel, commands.Basic.Qos())
    protocol.output()

    protocol.end_channel(channel)
    protocol.end_channel(channel)

    assert cut(protocol.output()) == [(1, channel, CHANNEL_CLOSE)]
    assert protocol.feed(method(channel, 60, 11) + frame(1, channel, CHANNEL_CLOSE_OK)) == []


def test_a_channel_can_be_closed_before_it_is_open() -> None:
    protocol = opened()
    channel, _ = protocol.open_channel()

    protocol.end_channel(channel)

    assert protocol.feed(frame(1, channel, CHANNEL_OPEN_OK) + frame(1, channel, CHANNEL_CLOSE_OK)) == []
    assert open_channel(protocol) == channel


def test_messages_that_are_arriving_are_dropped_with_their_channel() -> None:
    protocol = opened()
    channel = open_channel(protocol)
    data = delivery(channel, 1, b"body", piece=2)
    assert protocol.feed(data[:-5]) == []

    protocol.end_channel(channel)

    assert protocol.feed(data[-5:] + delivery(channel, 2) + frame(1, channel, CHANNEL_CLOSE_OK)) == []
    with pytest.raises(ProtocolError, match="not open"):
        protocol.feed(delivery(channel, 3))


def test_a_channel_that_the_broker_closes_names_its_questions() -> None:
    protocol = opened()
    channel = open_channel(protocol)
    asked = tuple(protocol.ask(channel, commands.Queue.Declare(queue=name)) for name in "ab")
    protocol.output()

    assert protocol.feed(close(channel, 404, "NOT_FOUND")) == [ChannelClosedEvent(channel, "NOT_FOUND", 404, asked)]

    assert protocol.output() == frame(1, channel, CHANNEL_CLOSE_OK)
    protocol.end_channel(channel)
    assert protocol.output() == b""
    assert open_channel(protocol) == channel


def test_when_both_close_a_channel_both_agree() -> None:
    """RabbitMQ answers ours at once, but ignores a new channel of this number before we have answered its own."""
    protocol = opened()
    channel = closing(protocol)

    assert protocol.feed(close(channel)) == []

    assert protocol.output() == frame(1, channel, CHANNEL_CLOSE_OK)
    assert open_channel(protocol) == channel + 1
    protocol.feed(frame(1, channel, CHANNEL_CLOSE_OK))
    assert open_channel(protocol) == channel


# --- news -----------------------------------------------------------------------------------------------------------


def test_confirms() -> None:
    protocol = opened()
    channel = open_channel(protocol)

    data = method(channel, 60, 80, struct.pack(">QB", 5, 1)) + method(channel, 60, 120, struct.pack(">QB", 6, 0))
    assert protocol.feed(data) == [
        ConfirmedEvent(channel, 5, True, True),
        ConfirmedEvent(channel, 6, False, False),
    ]


@pytest.mark.parametrize("nowait", [True, False])
def test_a_cancelled_consumer_is_told(nowait: bool) -> None:
    protocol = opened()
    channel = open_channel(protocol)

    assert protocol.feed(method(channel, 60, 30, short_text("tag") + bytes([nowait]))) == [CancelledEvent(channel)]
    assert protocol.output() == (b"" if nowait else method(channel, 60, 31, short_text("tag")))


@pytest.mark.parametrize("active", [True, False])
def test_flow_is_answered(active: bool) -> None:
    protocol = opened()
    channel = open_channel(protocol)

    assert protocol.feed(method(channel, 20, 20, bytes([active]))) == []
    assert protocol.output() == method(channel, 20, 21, bytes([active]))
