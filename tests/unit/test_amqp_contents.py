"""Messages that come on channels: in pieces, between others, out of place, and too large."""

import struct

import pytest
from attrs import define
from tests.support.amqp_peer import (
    cut,
    delivery,
    frame,
    method,
    open_channel,
    opened,
    returned,
)

from milvaion_trio.broker.amqp import channels
from milvaion_trio.broker.amqp.events import (
    DeliveredEvent,
    OversizedEvent,
    ProtocolError,
    ReturnedEvent,
)
from milvaion_trio.broker.amqp.framing import Unread
from milvaion_trio.model.envelope import Message


def received(body: bytes) -> Message:
    """A message as the peer sends it."""
    return Message(body=body, headers={"name": "value"}, message_id="m", persistent=False)


@define
class Counting(Unread):
    """Counts the bytes that are copied."""

    copied: int = 0

    def with_more(self, data: bytes) -> bytes:
        joined = Unread.with_more(self, data)
        self.copied += len(joined) if joined is not data else 0
        return joined

    def keep(self, data: bytes, needed: int) -> None:
        self.copied += len(data)
        Unread.keep(self, data, needed)


@pytest.mark.parametrize("size", [64, 1000, 65_536])
def test_reading_copies_each_byte_a_few_times_however_small_the_pieces(size: int) -> None:
    """Joining the unread part with every piece would make a large message take hours."""
    protocol = opened()
    channel = open_channel(protocol)
    body = bytes(range(256)) * 8192
    data = delivery(channel, 1, body)
    protocol._unread = counting = Counting()

    events = [event for at in range(0, len(data), size) for event in protocol.feed(data[at : at + size])]

    assert events == [DeliveredEvent(channel, 1, False, "key", received(body))]
    assert counting.copied <= 3 * len(data)


def test_pieces_of_a_frame_wait_as_they_came() -> None:
    unread = Unread()
    unread.keep(b"head", 100)
    pieces = [bytes([number]) * 9 for number in range(10)]

    assert [unread.with_more(piece) for piece in pieces] == [b""] * 10
    assert all(kept is piece for kept, piece in zip(unread._pieces[1:], pieces, strict=True))
    assert unread.with_more(b"123456") == b"head" + b"".join(pieces) + b"123456"


@pytest.mark.parametrize("size", [1, 3, 50, 1000])
@pytest.mark.parametrize("piece", [1, 2, 9])
def test_messages_come_in_pieces_and_between_others(size: int, piece: int) -> None:
    protocol = opened()
    one, two = open_channel(protocol), open_channel(protocol)
    parts = [
        cut(delivery(one, 7, b"nine here", piece=piece)),
        cut(delivery(two, 8, b"two frames", piece=5)),
    ]
    mixed = b""
    while any(parts):
        for waiting in parts:
            if waiting:
                mixed += frame(*waiting.pop(0))
        mixed += b"\x08\0\0\0\0\0\0\xce"
    data = mixed + returned(one, b"back") + delivery(two, 9)

    events = [event for at in range(0, len(data), size) for event in protocol.feed(data[at : at + size])]

    expected = [
        DeliveredEvent(one, 7, False, "key", received(b"nine here")),
        DeliveredEvent(two, 8, False, "key", received(b"two frames")),
    ]
    assert sorted(events[:2], key=lambda event: getattr(event, "channel", 0)) == expected
    assert events[2:] == [
        ReturnedEvent(one, "exchange", "key", received(b"back")),
        DeliveredEvent(two, 9, False, "key", received(b"")),
    ]


DELIVER, CONTENT, BODY = (frame(*part) for part in cut(delivery(1, 1, b"body")))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (CONTENT, "content header on channel 1, where none"),
        (BODY, "body on channel 1, where none"),
        (DELIVER + BODY, "body on channel 1, where none"),
        (DELIVER + CONTENT + CONTENT, "content header on channel 1, where none"),
        (DELIVER + DELIVER, "Basic.Deliver on channel 1 in the middle"),
        (DELIVER + CONTENT + method(1, 60, 80, bytes(9)), "Basic.Ack on channel 1 in the middle"),
        (DELIVER + CONTENT + BODY + BODY, "where none"),
        # The same, where a whole message could be taken in one step.
        (DELIVER + frame(2, 2, CONTENT[7:-1]) + BODY, "content header on channel 2, where none"),
        (DELIVER + CONTENT + frame(3, 2, b"body"), "body on channel 2, where none"),
        (DELIVER + CONTENT[:-1] + b"!" + BODY, "ends with 0x21"),
        (DELIVER + CONTENT + BODY[:-1] + b"!", "ends with 0x21"),
        (DELIVER + DELIVER + CONTENT + BODY, "Basic.Deliver on channel 1 in the middle"),
        (DELIVER + frame(2, 1, struct.pack(">HHQH", 10, 0, 4, 0)) + BODY, "class 10"),
        (DELIVER + frame(2, 1, struct.pack(">HHQB", 60, 0, 4, 0)) + BODY, "too early"),
        (DELIVER + CONTENT + frame(3, 1, b"body "), "1 bytes more"),
        (DELIVER + frame(2, 1, bytes(13)), "content header on channel 1 that ends too early"),
        (DELIVER + frame(2, 1, bytes(14)), "class 0"),
        (DELIVER + frame(2, 1, bytes(14)) + BODY, "class 0"),
        (method(1, 60, 60, b"\x09"), "basic.deliver on channel 1 that ends too early"),
        (method(1, 60, 60, b"\0" + bytes(9) + b"\0\x05key") + CONTENT + BODY, "too early"),
        (method(1, 60, 50, b"\0\0\x09"), "basic.return on channel 1 that ends too early"),
        (method(1, 60, 80, bytes(8)), "confirm on channel 1 that ends too early"),
        (method(1, 20, 40, b"\0"), "too early"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_out_of_place_is_a_mistake(data: bytes, words: str) -> None:
    protocol = opened()
    open_channel(protocol)

    with pytest.raises(ProtocolError, match=words):
        protocol.feed(data)


def test_a_message_too_large_to_keep_is_passed_over() -> None:
    assert channels.MAX_BODY == 128 * 1024 * 1024
    protocol = opened()
    channel = open_channel(protocol)
    protocol._channels._contents._max_body = 10

    assert protocol.feed(delivery(channel, 1, b"x" * 10)) != [OversizedEvent(channel, 1, 10)]
    for piece in (4, 100):
        assert protocol.feed(delivery(channel, 2, b"x" * 11, piece=piece)) == [OversizedEvent(channel, 2, 11)]
    assert protocol.feed(returned(channel, b"x" * 11)) == [ReturnedEvent(channel, "exchange", "key", received(b""))]


def test_nothing_is_kept_of_a_message_too_large() -> None:
    protocol = opened()
    channel = open_channel(protocol)
    protocol.feed(delivery(channel, 1, size=channels.MAX_BODY + 1))

    for _ in range(3):
        protocol.feed(frame(3, channel, bytes(100_000)))

    assert protocol._channels._contents.arriving[channel].body == []
