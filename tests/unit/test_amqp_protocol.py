"""The states of a connection, and what a broker must not send; channels are in `test_amqp_channels`."""

import struct

import pytest
from pamqp import commands
from tests.support.amqp_codec import Reader
from tests.support.amqp_peer import (
    CLOSE_OK,
    OPEN_OK,
    close,
    cut,
    delivery,
    frame,
    greeting,
    login,
    method,
    open_channel,
    opened,
    tune,
)

from milvaion_trio.broker.amqp.encoding import ack_frame
from milvaion_trio.broker.amqp.events import (
    BlockedEvent,
    ConnectionClosedEvent,
    DeliveredEvent,
    EndedEvent,
    OpenedEvent,
    ProtocolError,
)
from milvaion_trio.broker.amqp.methods import METHODS
from milvaion_trio.broker.amqp.protocol import TABLE, Protocol, State

NUMBERS = {command.name: divmod(index, 2**16) for index, command in METHODS.items()}
"""Class and number by name."""


def anything(name: str, channel: int = 0) -> bytes:
    """A method of this name; all it says is nothing or zero."""
    return method(channel, *NUMBERS[name], bytes(40))


def in_state(state: State) -> Protocol:
    """A connection that has come so far, with nothing to send."""
    protocol = Protocol(login())
    if state is not State.NEW:
        protocol.start()
    for data, after in [(greeting(), State.TUNING), (tune(), State.OPENING), (OPEN_OK, State.OPEN)]:
        if state in (State.NEW, protocol.state):
            break
        protocol.feed(data)
        assert protocol.state is after
    if state in (State.CLOSING, State.CLOSED):
        protocol.end()
    if state is State.CLOSED:
        protocol.feed(CLOSE_OK)
    protocol.output()
    assert protocol.state is state
    return protocol


# --- opening --------------------------------------------------------------------------------------------------------


def test_a_connection_opens() -> None:
    protocol = Protocol(login())

    protocol.start()
    assert protocol.output() == b"AMQP\0\0\x09\x01"

    assert protocol.feed(greeting({"product": ("S", "RabbitMQ"), "odd": ("S", b"\xff")})) == []
    ((kind, channel, payload),) = cut(protocol.output())
    assert (kind, channel, payload[:4]) == (1, 0, struct.pack(">HH", 10, 11))
    reader = Reader(payload[4:])
    properties = reader.table()
    assert properties["product"] == ("S", "tests")
    assert properties["capabilities"] == (
        "F",
        {
            "publisher_confirms": ("t", True),
            "consumer_cancel_notify": ("t", True),
            "basic.nack": ("t", True),
            "connection.blocked": ("t", True),
            "authentication_failure_close": ("t", True),
        },
    )
    assert (reader.short_text(), reader.long_bytes(), reader.short_text()) == ("PLAIN", b"\0guest\0secret", "en_US")
    assert reader.is_at_end

    assert protocol.feed(tune()) == []
    assert protocol.output() == method(0, 10, 31, struct.pack(">HIH", 2047, 131_072, 10)) + method(
        0, 10, 40, b"\x01/\0\0"
    )

    assert protocol.feed(OPEN_OK) == [OpenedEvent()]
    assert protocol.state is State.OPEN
    assert protocol.server_properties == {"product": "RabbitMQ", "odd": b"\xff"}
    assert not protocol.has_output


@pytest.mark.parametrize(
    ("ours", "theirs", "result"), [(10, 60, 10), (60, 10, 10), (0, 60, 60), (60, 0, 60), (0, 0, 0)]
)
def test_the_smaller_heartbeat_counts(ours: int, theirs: int, result: int) -> None:
    """And 0 is no wish, as in RabbitMQ's own clients."""
    protocol = opened(tune(heartbeat=theirs), heartbeat=ours)

    assert protocol.heartbeat == result


@pytest.mark.parametrize(("ours", "theirs", "result"), [(131_072, 4096, 4096), (8192, 131_072, 8192), (8192, 0, 8192)])
def test_the_smaller_frame_counts(ours: int, theirs: int, result: int) -> None:
    assert opened(tune(frame_max=theirs), frame_max=ours).frame_max == result


def test_a_virtual_host_may_have_any_letters() -> None:
    """pamqp takes some only."""
    protocol = Protocol(login(virtual_host="größe / 1"))
    protocol.start()
    protocol.feed(greeting() + tune())

    opening = cut(protocol.output()[8:])[-1][2]
    assert Reader(opening[4:]).short_text() == "größe / 1"


def test_a_password_is_not_shown() -> None:
    assert "secret" not in repr(login())


def test_external_sends_no_password() -> None:
    protocol = Protocol(login(mechanism="EXTERNAL", response=b""))
    protocol.start()
    protocol.feed(greeting(mechanisms=b"PLAIN EXTERNAL"))

    assert b"\x08EXTERNAL\0\0\0\0\x05en_US" in protocol.output()


# --- the table ------------------------------------------------------------------------------------------------------

ROWS = {
    (State.STARTING, "Connection.Start"): State.TUNING,
    (State.STARTING, "Connection.Close"): State.CLOSED,
    (State.TUNING, "Connection.Tune"): State.OPENING,
    (State.TUNING, "Connection.Close"): State.CLOSED,
    (State.OPENING, "Connection.OpenOk"): State.OPEN,
    (State.OPENING, "Connection.Close"): State.CLOSED,
    (State.OPEN, "Connection.Close"): State.CLOSED,
    (State.OPEN, "Connection.Blocked"): State.OPEN,
    (State.OPEN, "Connection.Unblocked"): State.OPEN,
    (State.CLOSING, "Connection.CloseOk"): State.CLOSED,
}


@pytest.mark.parametrize(("state", "name"), ROWS, ids=str)
def test_what_the_broker_may_send_leads_on(state: State, name: str) -> None:
    protocol = in_state(state)

    protocol.feed(greeting() if name == "Connection.Start" else anything(name))

    assert protocol.state is ROWS[state, name]


@pytest.mark.parametrize("state", [State.NEW, State.STARTING, State.TUNING, State.OPENING, State.OPEN])
@pytest.mark.parametrize("name", NUMBERS)
def test_nothing_else_may_be_sent(state: State, name: str) -> None:
    if (state, name) in ROWS:
        return

    with pytest.raises(ProtocolError, match="Connection.Secure" if name == "Connection.Secure" else name):
        in_state(state).feed(anything(name))


def test_the_table_has_no_other_rows() -> None:
    assert {row: after for row, (_, after) in TABLE.items() if after is not State.BROKEN} == ROWS


@pytest.mark.parametrize("name", NUMBERS)
@pytest.mark.parametrize("channel", [0, 1, 7])
def test_while_we_close_only_the_agreement_is_heard(name: str, channel: int) -> None:
    protocol = opened()
    open_channel(protocol)
    protocol.end()
    protocol.output()

    events = protocol.feed(anything(name, channel))

    is_agreement = name == "Connection.CloseOk" and channel == 0
    assert events == ([EndedEvent()] if is_agreement else [])
    assert protocol.output() == b""


def test_deliveries_are_dropped_while_we_close() -> None:
    protocol = opened()
    channel = open_channel(protocol)
    protocol.end()

    assert protocol.feed(delivery(channel, 1, b"body") + CLOSE_OK) == [EndedEvent()]


# --- the end --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.STARTING, State.TUNING, State.OPENING, State.OPEN])
def test_the_broker_closes(state: State) -> None:
    """A wrong password is told after the login, a missing virtual host later still."""
    protocol = in_state(state)

    assert protocol.feed(close(code=403, text="ACCESS_REFUSED") + b"rubbish") == [
        ConnectionClosedEvent(403, "ACCESS_REFUSED")
    ]
    assert protocol.output() == CLOSE_OK
    assert protocol.state is State.CLOSED
    assert protocol.feed(b"more rubbish") == []


def test_closing_says_why_and_ends_what_can_be_sent() -> None:
    protocol = opened()
    protocol.send(b"before")

    protocol.end(200, "good bye")
    protocol.send(b"behind")
    protocol.beat()
    protocol.end_channel(1)
    protocol.end()

    expected = method(0, 10, 50, struct.pack(">H", 200) + b"\x08good bye" + bytes(4))
    assert protocol.output() == b"before" + expected
    with pytest.raises(ProtocolError, match="closed by us"):
        protocol.open_channel()
    with pytest.raises(ProtocolError, match="closed by us"):
        protocol.ask(1, commands.Basic.Qos())


@pytest.mark.parametrize("state", [State.NEW, State.STARTING, State.TUNING, State.OPENING])
def test_what_is_not_open_is_ended_at_once(state: State) -> None:
    protocol = in_state(state)

    protocol.end()

    assert (protocol.state, protocol.output()) == (State.CLOSED, b"")


@pytest.mark.parametrize("state", [State.NEW, State.STARTING, State.TUNING, State.OPENING])
def test_nothing_can_be_sent_before_it_is_open(state: State) -> None:
    protocol = in_state(state)

    for use in (lambda: protocol.send(b"x"), protocol.open_channel, lambda: protocol.end_channel(1)):
        with pytest.raises(ProtocolError, match="connection is"):
            use()
    protocol.beat()
    assert protocol.output() == b""


def test_it_begins_once() -> None:
    protocol = in_state(State.STARTING)

    with pytest.raises(ProtocolError, match="once"):
        protocol.start()


# --- news -----------------------------------------------------------------------------------------------------------


def test_alarms_are_told() -> None:
    protocol = opened()
    blocked = method(0, 10, 60, b"\x06memory")

    assert protocol.feed(blocked + method(0, 10, 60, b"\0") + method(0, 10, 61)) == [
        BlockedEvent("memory"),
        BlockedEvent("no reason given"),
        BlockedEvent(""),
    ]


def test_signs_of_life() -> None:
    protocol = opened()

    assert protocol.feed(b"\x08\0\0\0\0\0\0\xce" * 3) == []
    protocol.beat()
    assert protocol.output() == b"\x08\0\0\0\0\0\0\xce"


def test_what_is_sent_keeps_its_order() -> None:
    protocol = opened()

    protocol.send(ack_frame(1, 1))
    protocol.beat()
    protocol.send(ack_frame(1, 2))

    assert protocol.has_output
    assert protocol.output() == ack_frame(1, 1) + b"\x08\0\0\0\0\0\0\xce" + ack_frame(1, 2)
    assert not protocol.has_output


# --- mistakes of the broker -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"AMQP\0\0\x09\x01", "offers 0-0-9-1"),
        (b"AMQP\x03\x01\x00\x00", "offers 3-1-0-0"),
        (b"HTTP/1.1 400 Bad Request\r\n", "kind 72.*HTTP/1.1"),
        (frame(4, 0, b""), "kind 4"),
        (greeting()[:-1] + b"!", "ends with 0x21"),
        (struct.pack(">BHI", 1, 0, 131_065), "131065 bytes"),
        (greeting(version=b"\x01\x00"), "speaks AMQP 1-0"),
        (greeting(mechanisms=b"EXTERNAL AMQPLAIN"), "only with EXTERNAL, AMQPLAIN"),
        (greeting(mechanisms=b""), "only with nothing"),
        (method(0, 10, 10, b"\0"), "too early"),
        (method(0, 11, 10), "method 11.10"),
        (frame(1, 0, b"\0\x0a"), "too early"),
        (frame(2, 0, bytes(14)), "piece of a message"),
        (frame(3, 0, b""), "piece of a message"),
        (frame(8, 1, b""), "heartbeat"),
        (frame(8, 0, b"x"), "heartbeat"),
        (greeting() + method(0, 10, 20, bytes(4)), "Connection.Secure"),
        (greeting() + tune(frame_max=4095), "4096"),
        (delivery(1, 1), "channel 1, which is not open"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_mistakes_are_named(data: bytes, words: str) -> None:
    protocol = in_state(State.STARTING)

    with pytest.raises(ProtocolError, match=words) as caught:
        protocol.feed(data)
    assert protocol.state is State.BROKEN
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("limit", [4096, 131_072])
def test_frames_larger_than_agreed_are_refused_before_they_come(limit: int) -> None:
    fitting = struct.pack(">BHI", 3, 1, limit - 8)
    assert opened(tune(frame_max=limit)).feed(fitting) == []

    with pytest.raises(ProtocolError, match=f"{limit - 7} bytes.*{limit - 8} are allowed"):
        opened(tune(frame_max=limit)).feed(struct.pack(">BHI", 3, 1, limit - 7))


def test_a_whole_message_with_a_frame_larger_than_agreed_is_refused() -> None:
    protocol = opened(tune(frame_max=4096))
    channel = open_channel(protocol)
    assert len(protocol.feed(delivery(channel, 1, b"x" * 4088))) == 1

    with pytest.raises(ProtocolError, match="4089 bytes"):
        protocol.feed(delivery(channel, 2, b"x" * 4089))


def test_after_a_mistake_everything_raises_it_again() -> None:
    protocol = opened()
    protocol.send(b"unsent")
    with pytest.raises(ProtocolError, match="kind 5"):
        protocol.feed(frame(5, 0, b""))

    uses = (
        protocol.start,
        lambda: protocol.feed(b""),
        lambda: protocol.send(b"x"),
        lambda: protocol.ask(1, commands.Basic.Qos()),
        protocol.open_channel,
        lambda: protocol.end_channel(1),
        protocol.end,
    )
    for use in uses:
        with pytest.raises(ProtocolError, match="kind 5"):
            use()
    # What runs beside has nothing to send, instead of an error of its own.
    protocol.beat()
    assert (protocol.output(), protocol.has_output) == (b"", False)


# --- pieces ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 1000])
def test_reads_may_end_anywhere(size: int) -> None:
    protocol = Protocol(login())
    protocol.start()
    data = greeting() + tune() + OPEN_OK + b"\x08\0\0\0\0\0\0\xce" + close()
    events = [event for at in range(0, len(data), size) for event in protocol.feed(data[at : at + size])]

    assert events == [OpenedEvent(), ConnectionClosedEvent(320, "CONNECTION_FORCED")]


def test_a_bytearray_is_taken_as_well() -> None:
    """Some streams give one, and may write into it later."""
    protocol = opened()
    channel = open_channel(protocol)

    (event,) = protocol.feed(bytearray(delivery(channel, 1, b"body")))

    assert isinstance(event, DeliveredEvent)
    assert type(event.message.body) is bytes


def test_nothing_is_kept_behind_the_end() -> None:
    """A broker that goes on and on would fill the memory."""
    protocol = opened()
    protocol.feed(close() + b"\x01")

    for _ in range(3):
        assert protocol.feed(b"x" * 1000) == []

    assert protocol._unread.with_more(b"new") == b"new"
