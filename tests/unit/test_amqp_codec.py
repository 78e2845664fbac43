"""What goes to the broker and comes from it, byte by byte, judged by the tests' own codec."""

import math
import struct
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum

import pytest
from tests.support.amqp_codec import Field, Headers, Reader, header_payload, read_header_payload, short_text

from milvaion_trio.broker.aiopika.frames import Frames
from milvaion_trio.broker.amqp import decoding
from milvaion_trio.broker.amqp.encoding import ack_frame, fits, nack_frame, publish_frames, table
from milvaion_trio.broker.amqp.events import (
    BlockedEvent,
    CancelledEvent,
    ChannelClosedEvent,
    ConfirmedEvent,
    ConnectionClosedEvent,
    DeliveredEvent,
    Event,
    ReturnedEvent,
)
from milvaion_trio.broker.amqp.framing import HEARTBEAT
from milvaion_trio.model.envelope import HeaderValue, Message

FRAME_MAX = 131_072


def cut(data: bytes) -> list[tuple[int, int, bytes]]:
    """Kind, channel and payload of each frame."""
    found = []
    while data:
        kind, channel, size = struct.unpack_from(">BHI", data)
        assert data[7 + size] == 0xCE
        found.append((kind, channel, data[7 : 7 + size]))
        data = data[8 + size :]
    return found


def frame(kind: int, channel: int, payload: bytes) -> bytes:
    return struct.pack(">BHI", kind, channel, len(payload)) + payload + b"\xce"


def header_of(message: Message) -> bytes:
    return cut(publish_frames(1, "", "q", message, FRAME_MAX))[1][2]


def written(value: HeaderValue) -> Field:
    """How a header value looks on the wire."""
    return read_header_payload(header_of(Message(body=b"", headers={"name": value}))).headers["name"]


def content_header(properties: Mapping[str, object], headers: Headers | None, size: int = 0) -> bytes:
    flags, data = header_payload(properties, headers)
    return struct.pack(">HHQH", 60, 0, size, flags) + data


# --- writing --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, ("I", 0)),
        (1, ("I", 1)),
        (-1, ("I", -1)),
        (300, ("I", 300)),
        (70_000, ("I", 70_000)),
        (2**31 - 1, ("I", 2**31 - 1)),
        (-(2**31), ("I", -(2**31))),
        (2**31, ("l", 2**31)),
        (-(2**40), ("l", -(2**40))),
        (2**64, ("l", 2**63 - 1)),
        (-(2**64), ("l", -(2**63))),
    ],
)
def test_an_integer_is_an_int32_or_where_it_does_not_fit_an_int64(value: int, expected: Field) -> None:
    """WIRE.md 0.2: a .NET worker reads smaller types as 0, and would retry for ever."""
    assert written(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text ä", ("S", "text ä")),
        ("\ud800", ("S", "?")),
        (True, ("t", True)),
        (False, ("t", False)),
        (None, ("V", None)),
        (2.5, ("d", 2.5)),
        (math.inf, ("V", None)),
        (b"\xff", ("S", b"\xff")),
        (bytearray(b"ab"), ("x", b"ab")),
        (datetime(2026, 4, 2, tzinfo=UTC), ("T", 1_775_088_000)),
        (datetime(1900, 1, 1, tzinfo=UTC), ("T", 0)),
        (Decimal("1.50"), ("D", Decimal("1.50"))),
        (Decimal(-1), ("S", "-1")),
        (Decimal("NaN"), ("S", "NaN")),
        (Decimal("1e400"), ("S", "1E+400")),
        ({"a": [1, "b"]}, ("F", {"a": ("A", [("I", 1), ("S", "b")])})),
        ((1,), ("A", [("I", 1)])),
        (object, ("S", "<class 'object'>")),
    ],
    ids=repr,
)
def test_any_header_value_can_be_written(value: HeaderValue, expected: Field) -> None:
    """A retry copy keeps the headers of foreign publishers: nothing that came may keep it from being published.

    NaN and infinities become nothing, since RabbitMQ drops the connection over them (RELIABILITY.md 5.2).
    """
    assert written(value) == expected


class Name(str, Enum):  # noqa: UP042  # whose str() is another text
    X = "x"


def test_a_name_is_written_as_the_text_it_is() -> None:
    assert table({Name.X: None}) == table({"x": None})


def test_tables_too_deep_to_read_are_not_written() -> None:
    deep: HeaderValue = "bottom"
    for _ in range(5000):
        deep = {"a": deep}

    assert written(deep)[0] == "F"


def test_every_publish_is_mandatory_and_persistent() -> None:
    method, header, body = cut(publish_frames(7, "exchange", "key", Message(body=b"body"), FRAME_MAX))

    assert method == (1, 7, struct.pack(">HHH", 60, 40, 0) + short_text("exchange") + short_text("key") + b"\x01")
    assert read_header_payload(header[2]).properties == {"delivery_mode": 2}
    assert body == (3, 7, b"body")


def test_properties_are_sent_as_given() -> None:
    """An absent message id stays absent, which aio-pika would fill (LIBRARIES.md 2.4)."""
    message = Message(
        body=b"",
        headers={"a": 1},
        message_id="m",
        correlation_id="c",
        content_type="application/json",
        timestamp=1775121301,
        persistent=False,
    )

    assert read_header_payload(header_of(message)).properties == {
        "content_type": "application/json",
        "delivery_mode": 1,
        "correlation_id": "c",
        "message_id": "m",
        "timestamp": 1775121301,
    }
    assert decoding.message(header_of(message), b"") == message


def test_a_body_is_split_as_the_broker_asked() -> None:
    frames = cut(publish_frames(1, "", "q", Message(body=bytes(range(256)) * 40), 4096))

    assert [len(payload) for kind, _, payload in frames if kind == 3] == [4088, 4088, 2064]
    assert b"".join(payload for kind, _, payload in frames if kind == 3) == bytes(range(256)) * 40


def test_texts_too_long_for_their_place_are_cut() -> None:
    message = Message(body=b"", message_id="ä" * 200, headers={"ä" * 200: 1})

    content = read_header_payload(header_of(message))

    assert content.properties["message_id"] == "ä" * 127
    assert dict(content.headers) == {"ä" * 127: ("I", 1)}


def test_headers_too_large_for_a_frame_are_left_out_largest_first() -> None:
    """No broker takes such a frame: it would end the connection, again and again."""
    message = Message(body=b"", headers={"large": "x" * 100_000, "larger": "x" * 200_000, "x-retry-count": 3})

    assert set(read_header_payload(header_of(message)).headers) == {"large", "x-retry-count"}


@pytest.mark.parametrize(
    ("name", "is_fit"), [("a" * 255, True), ("a" * 256, False), ("ä" * 128, False), ("\ud800", False)]
)
def test_names_longer_than_any_queue_fit_nowhere(name: str, is_fit: bool) -> None:
    assert fits(name) is is_fit


def test_settling_frames() -> None:
    assert cut(ack_frame(3, 2**40)) == [(1, 3, struct.pack(">HHQB", 60, 80, 2**40, 0))]
    assert cut(ack_frame(3, 9, multiple=True)) == [(1, 3, struct.pack(">HHQB", 60, 80, 9, 1))]
    assert cut(nack_frame(3, 1, requeue=True)) == [(1, 3, struct.pack(">HHQB", 60, 120, 1, 2))]
    assert cut(nack_frame(3, 1, requeue=False)) == [(1, 3, struct.pack(">HHQB", 60, 120, 1, 0))]


# --- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (("t", True), True),
        (("b", -5), -5),
        (("B", 200), 200),
        (("s", -300), -300),
        (("u", 60_000), 60_000),
        (("I", -70_000), -70_000),
        (("i", 2**32 - 1), 2**32 - 1),
        (("l", -(2**63)), -(2**63)),
        (("f", 2.5), 2.5),
        (("d", 0.1), 0.1),
        (("D", Decimal("1.50")), Decimal("1.50")),
        (("S", "ä"), "ä"),
        (("S", b"\xff\xfe"), b"\xff\xfe"),
        (("A", [("I", 1), ("S", "x")]), [1, "x"]),
        (("T", 1_775_088_000), datetime(2026, 4, 2, tzinfo=UTC)),
        (("T", 2**63), 2**63),
        (("F", {"a": ("V", None)}), {"a": None}),
        (("V", None), None),
        (("x", b"ab"), bytearray(b"ab")),
    ],
    ids=repr,
)
def test_every_field_type_of_the_broker_can_be_read(field: Field, expected: HeaderValue) -> None:
    message = decoding.message(content_header({}, {"before": ("I", 1), "name": field, "after": ("I", 2)}), b"")

    assert message.headers == {"before": 1, "name": expected, "after": 2}


def test_invalid_text_is_replaced() -> None:
    """Each of these three ended the connection in pamqp (RELIABILITY.md 0.3)."""
    properties = {"correlation_id": b"\xff", "message_id": "m", "timestamp": 2**63}

    message = decoding.message(content_header(properties, {b"a\xff".decode("utf-8", "surrogateescape"): ("I", 1)}), b"")

    assert message.headers == {"a\ufffd": 1}
    assert (message.correlation_id, message.message_id, message.timestamp) == ("\ufffd", "m", 2**63)


def test_tables_two_thousand_deep_are_read_as_far_as_makes_sense() -> None:
    """The fourth."""
    deep = b""
    for _ in range(2000):
        deep = b"\x01aF" + struct.pack(">I", len(deep)) + deep

    message = decoding.message(content_header({"message_id": "m"}, {"deep": ("F", deep), "after": ("I", 2)}), b"")

    assert message.headers["after"] == 2
    assert message.message_id == "m"


def test_what_stands_behind_something_unreadable_is_left_out() -> None:
    headers = {"good": ("I", 1), "bad": ("F", b"\x01a?rest"), "after": ("I", 2)}

    message = decoding.message(content_header({"message_id": "m"}, headers), b"body")

    assert message.headers == {"good": 1, "bad": {}, "after": 2}
    assert (message.message_id, message.body) == ("m", b"body")


def test_a_text_ends_with_its_table() -> None:
    """One that says it is longer is unreadable, and takes nothing of what stands behind the table."""
    headers = {"bad": ("F", b"\x01aS\0\0\0\x06short"), "after": ("I", 2)}

    message = decoding.message(content_header({"message_id": "m"}, headers), b"")

    assert message.headers == {"bad": {}, "after": 2}
    assert message.message_id == "m"


def test_properties_of_no_interest_are_passed_over() -> None:
    every = {
        "content_type": "t",
        "content_encoding": "e",
        "delivery_mode": 1,
        "priority": 3,
        "correlation_id": "c",
        "reply_to": "r",
        "expiration": "60000",
        "message_id": "m",
        "timestamp": 5,
        "type": "y",
        "user_id": "guest",
        "app_id": "a",
    }

    assert decoding.message(content_header(every, {"a": ("I", 1)}), b"b") == Message(
        body=b"b", headers={"a": 1}, message_id="m", correlation_id="c", content_type="t", timestamp=5, persistent=False
    )


# --- frames ---------------------------------------------------------------------------------------------------------

HEADER = content_header({"message_id": "m"}, None, size=4)
RECEIVED = Message(body=b"body", message_id="m", persistent=False)
DELIVER = struct.pack(">HH", 60, 60) + short_text("tag") + struct.pack(">QB", 9, 1) + short_text("x") + short_text("k")
RETURN = struct.pack(">HHH", 60, 50, 312) + short_text("NO_ROUTE") + short_text("x") + short_text("k")
QOS_OK = frame(1, 1, struct.pack(">HH", 60, 11))


@pytest.mark.parametrize("method", [DELIVER, RETURN])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_a_message_may_come_in_pieces_and_between_others(method: bytes, size: int) -> None:
    """Frames of other channels may come between its own; reads end anywhere."""
    pieces = [frame(1, 1, method), frame(2, 1, HEADER), frame(3, 1, b"bo"), frame(3, 1, b"dy")]
    others = [
        QOS_OK,
        HEARTBEAT,
        frame(1, 2, struct.pack(">HHQB", 60, 80, 4, 1)),
        frame(1, 3, b"\0\x14\0\x0b" + bytes(4)),
    ]
    data = b"".join(part for pair in zip(pieces, others, strict=True) for part in pair)
    frames, events, rest = Frames(), list[Event](), b""

    for at in range(0, len(data), size):
        found, left = frames.feed(data[at : at + size])
        events += found
        rest += left

    assert events == [
        ConfirmedEvent(2, 4, True, True),
        DeliveredEvent(1, 9, True, "k", RECEIVED) if method == DELIVER else ReturnedEvent(1, "x", "k", RECEIVED),
    ]
    assert rest == others[0] + others[1] + others[3]


def test_an_empty_message_is_complete_with_its_header() -> None:
    header = content_header({}, None)

    events, _ = Frames().feed(frame(1, 1, DELIVER) + frame(2, 1, header))

    assert events == [DeliveredEvent(1, 9, True, "k", Message(body=b"", persistent=False))]


@pytest.mark.parametrize(
    ("payload", "event"),
    [
        (struct.pack(">HHH", 10, 50, 320) + short_text("CONNECTION_FORCED") + bytes(4), "connection"),
        (struct.pack(">HHH", 20, 40, 406) + short_text("PRECONDITION_FAILED") + bytes(4), "channel"),
        (struct.pack(">HH", 60, 30) + short_text("tag") + b"\x01", "cancel"),
        (struct.pack(">HH", 10, 60) + short_text("low on memory"), "blocked"),
        (struct.pack(">HH", 10, 61), "unblocked"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_news_is_told_and_passed_on(payload: bytes, event: str) -> None:
    """aiormq answers them; we must know as well."""
    expected: dict[str, Event] = {
        "connection": ConnectionClosedEvent(320, "CONNECTION_FORCED"),
        "channel": ChannelClosedEvent(4, "PRECONDITION_FAILED", 406),
        "cancel": CancelledEvent(4),
        "blocked": BlockedEvent("low on memory"),
        "unblocked": BlockedEvent(""),
    }

    assert Frames().feed(frame(1, 4, payload)) == ([expected[event]], frame(1, 4, payload))


@pytest.mark.parametrize(
    "data", [b"AMQP\x01\x01\x00\x0a", b"HTTP/1.1 400 Bad Request\r\n", frame(1, 1, b"x")[:-1] + b"!"]
)
def test_what_is_not_amqp_is_left_to_aiormq(data: bytes) -> None:
    """It has the words for it, or waits in vain, which the time limit ends."""
    events, rest = Frames().feed(data)

    assert events == []
    assert data.startswith(rest)


def test_the_reader_of_the_tests_agrees() -> None:
    """Otherwise these tests would prove nothing."""
    assert Reader(header_of(Message(body=b"", headers={"x-retry-count": 1}))[14:]).table() == {
        "x-retry-count": ("I", 1)
    }
