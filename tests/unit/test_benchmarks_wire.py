"""What the comparison puts into queues: copies of a peer's own message, and the bytes that carry them."""

import re
import struct
import uuid

import pytest
from benchmarks.peers.copies import copies
from benchmarks.peers.raw import FRAME_MAX, RawAmqp, RawMessage

DASHED, BARE = str(uuid.UUID(int=1)).encode(), uuid.UUID(int=2).hex.encode()


def test_every_copy_has_ids_of_its_own_in_each_place() -> None:
    """A worker that sees an id twice may take the second message for a copy of the first."""
    message = RawMessage(b"\x10" + DASHED, b'{"id": "%s", "task": "%s", "text": "xxx"}' % (DASHED, BARE))

    made = list(copies(message, 3))
    ids = [re.findall(rb"[0-9a-f-]{32,36}", copy.properties + copy.body) for copy in made]
    assert all(len(found) == 3 and found[0] == found[1] != found[2] for found in ids)
    assert len({found for three in ids for found in three}) == 6


def test_a_copy_is_as_long_as_the_message_and_otherwise_the_same() -> None:
    message = RawMessage(b"\x10" + DASHED, b"a %s b %s c" % (DASHED, BARE))

    (copy,) = copies(message, 1)
    masked = [re.sub(rb"[0-9a-f-]{32,36}", b"*", text) for text in (copy.properties, copy.body)]
    assert (len(copy.properties), len(copy.body)) == (len(message.properties), len(message.body))
    assert masked == [b"\x10*", b"a * b * c"]


def test_a_message_without_ids_is_copied_as_it_is() -> None:
    message = RawMessage(b"\x00\x00", b"abc" * 100)

    assert list(copies(message, 2)) == [message, message]


@pytest.mark.parametrize("size", [0, 1, FRAME_MAX - 8, FRAME_MAX - 7, 300_000])
def test_no_frame_is_longer_than_was_agreed(size: int) -> None:
    """And together they carry the message."""
    message = RawMessage(b"\x10\x00\x02", b"x" * size)

    data = RawAmqp.publish(RawAmqp.__new__(RawAmqp), "queue", message)
    kinds, body, header = [], b"", b""
    while data:
        kind, channel, length = struct.unpack_from(">BHI", data)
        assert (channel, data[7 + length : 8 + length]) == (1, b"\xce")
        assert length + 8 <= FRAME_MAX
        kinds.append(kind)
        body += data[7 : 7 + length] if kind == 3 else b""
        header = data[7 : 7 + length] if kind == 2 else header
        data = data[8 + length :]
    assert kinds[:2] == [1, 2]
    assert set(kinds[2:]) <= {3}
    assert header == struct.pack(">HHQ", 60, 0, size) + message.properties
    assert body == message.body
