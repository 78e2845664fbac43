"""What goes into the outbox file comes out as the same message, byte by byte, whatever came in its headers."""

import json
import math
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.properties.test_plain_client_codec import fields, names
from tests.support.amqp_codec import Field, header_payload
from tests.support.reports import FINAL, A

from milvaion_trio.broker.amqp import decoding
from milvaion_trio.broker.amqp.encoding import publish_frames
from milvaion_trio.disk.header_text import plain, restored
from milvaion_trio.model.envelope import HeaderValue, Message, Publication
from milvaion_trio.outbox.store import _row, _stored
from milvaion_trio.ports import Report

FRAME_MAX = 131_072

python_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(st.characters())
    | st.binary()
    | st.binary().map(bytearray)
    | st.floats()
    | st.decimals()
    | st.datetimes(timezones=st.none() | st.integers(-86_000, 86_000).map(lambda s: timezone(timedelta(seconds=s)))),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


def through_text(value: HeaderValue) -> HeaderValue:
    """As it comes out of the file."""
    return restored(json.loads(json.dumps(plain(value))))


def through_a_file(report: Report) -> Report:
    """As the next process reads it."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute(f"CREATE TABLE report ({', '.join('abcdefg')})")
        db.execute("INSERT INTO report VALUES (?, ?, ?, ?, ?, ?, ?)", _row(1, report, 2))
        return _stored(db.execute("SELECT * FROM report").fetchone()).report


def frames(message: Message) -> bytes:
    return publish_frames(1, "exchange", "key", message, FRAME_MAX)


def same(one: object, other: object) -> bool:
    """Equal, and of equal types; not a number is itself."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return list(one) == list(other) and all(map(same, one.values(), other.values()))
    if isinstance(one, float | Decimal):
        return str(one) == str(other)
    if isinstance(one, datetime) and isinstance(other, datetime):
        return one == other and one.utcoffset() == other.utcoffset()
    return one == other


@given(python_values)
def test_a_header_comes_back_as_the_same_value_of_the_same_type(value: HeaderValue) -> None:
    assert same(through_text(value), value)


@given(
    st.dictionaries(names, fields, max_size=6),
    st.binary(max_size=50),
    st.none() | st.text(st.characters(), max_size=40),
    st.none() | st.integers(0, 2**64 - 1),
    st.booleans(),
)
def test_a_message_of_any_publisher_is_published_with_the_same_bytes_by_the_next_process(
    headers: dict[str, Field], body: bytes, text: str | None, timestamp: int | None, persistent: bool
) -> None:
    """Every type of AMQP: a retry copy keeps the headers of foreign publishers."""
    _, data = header_payload({"delivery_mode": 2}, headers)
    came = decoding.message(b"\0\x3c" + bytes(10) + b"\x30\x00" + data, body)
    message = Message(
        body=body,
        headers=came.headers,
        message_id=text,
        correlation_id=text,
        content_type=text,
        timestamp=timestamp,
        persistent=persistent,
    )
    assert bool(came.headers) == bool(headers)
    report = Report(FINAL, Publication(message, "key", "", 1.5), A)

    again = through_a_file(report)

    assert frames(again.publication.message) == frames(message)
    assert same(dict(again.publication.message.headers), dict(message.headers))
    assert again.publication.message.message_id == text
    assert (again.kind, again.occurrence_id, again.publication.delay) == (FINAL, A, 1.5)


@pytest.mark.parametrize(
    "text",
    ['{"bytes": "no hex"}', '{"bytes": 1}', '{"float": "1,5"}', '{"decimal": "x"}', '{"time": "now"}', '{"new": 1}',
     '{"bytes": "00", "more": 1}', "{}", "1.5"],
)  # fmt: skip
def test_what_nobody_wrote_is_an_error(text: str) -> None:
    with pytest.raises((ValueError, ArithmeticError)):
        restored(json.loads(text))


def test_a_value_of_no_amqp_type_is_written_as_it_would_be_published() -> None:
    message = Message(body=b"", headers={"path": Path("/tmp"), "inf": math.inf})

    assert frames(
        Message(body=b"", headers={name: through_text(value) for name, value in message.headers.items()})
    ) == (frames(message))
