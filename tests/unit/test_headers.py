"""Readers of headers are total: anybody may have written one, with any AMQP type (WIRE.md 2.3)."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from milvaion_trio.model.envelope import HeaderValue, Message
from milvaion_trio.model.headers import (
    RETRY_COUNT_LIMIT,
    SNOOZE_LIMIT,
    AttemptKey,
    attempt_key,
    has_local_origin,
    occurrence_id,
    passed_on,
    retry_count,
    text,
)
from milvaion_trio.model.ids import OccurrenceId

GUID = "019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193"
OTHER = "019d4a10-3b5c-7e21-8f04-6a1d2c9be077"
EMPTY = "00000000-0000-0000-0000-000000000000"

ANY_TYPE: list[HeaderValue] = [
    None,
    True,
    False,
    0,
    -1,
    2**31,
    -(2**63),
    2**64,
    1.5,
    float("nan"),
    float("inf"),
    Decimal("1.1"),
    "",
    "abc",
    "3",
    b"",
    b"\x01",
    b"\x01\x00\x00\x00",
    b"\xff\xfe",
    bytearray(b"\xff\xff\xff\xff"),
    datetime(2026, 4, 2, tzinfo=UTC),
    [1, "a", None],
    {"count": 1, "x": [{}]},
    object(),
]


@pytest.mark.parametrize("value", ANY_TYPE, ids=lambda value: type(value).__name__)
def test_no_value_makes_a_reader_raise(value: HeaderValue) -> None:
    headers = {
        "OccurrenceId": value,
        "CorrelationId": value,
        "x-retry-count": value,
        "x-mtrio-dispatch": value,
        "x-mtrio-snoozes": value,
        "x-mtrio-origin": value,
        "x-death": value,
    }
    message = Message(body=b"", headers=headers)

    key = attempt_key(message, OccurrenceId(GUID))

    assert occurrence_id(message) is None
    assert text(value) is None or isinstance(text(value), str)
    assert 0 <= retry_count(headers) <= RETRY_COUNT_LIMIT
    assert key.occurrence_id == GUID
    assert 0 <= key.snoozes <= SNOOZE_LIMIT
    assert key.dispatch_stamp is None or key.dispatch_stamp
    assert isinstance(has_local_origin(headers), bool)
    assert "x-death" not in passed_on(headers)


@pytest.mark.parametrize(
    ("headers", "correlation_id", "expected"),
    [
        ({"OccurrenceId": GUID, "CorrelationId": OTHER}, OTHER, GUID),
        ({"OccurrenceId": GUID.upper().encode()}, None, GUID),
        ({"CorrelationId": GUID}, OTHER, GUID),
        ({}, GUID, GUID),
        ({"OccurrenceId": "any", "CorrelationId": EMPTY}, GUID, GUID),
        ({"OccurrenceId": b"\xff"}, None, None),
        ({"OccurrenceId": EMPTY}, EMPTY, None),
        ({}, None, None),
    ],
)
def test_first_guid_names_the_occurrence(
    headers: dict[str, HeaderValue], correlation_id: str | None, expected: str | None
) -> None:
    """Header `OccurrenceId` (1.1), header `CorrelationId` (1.0 and retry copies), then the property."""
    assert occurrence_id(Message(body=b"", headers=headers, correlation_id=correlation_id)) == expected


@pytest.mark.parametrize(
    ("value", "count"),
    [
        (3, 3),
        (0, 0),
        (-1, 0),
        (1001, 1000),
        (2**63, 1000),
        (True, 0),
        (2.0, 0),
        ("3", 0),
        (b"\x03\x00\x00\x00", 3),
        (b"\x03\x00\x00\x00\xff", 3),
        (b"\xff\xff\xff\xff", 0),
        (b"\x03\x00\x00", 0),
        (None, 0),
    ],
)
def test_retry_count_is_read_as_net_does_and_clamped(value: HeaderValue, count: int) -> None:
    assert retry_count({"x-retry-count": value}) == count


def test_absent_retry_count_is_0() -> None:
    assert retry_count({}) == 0


@pytest.mark.parametrize(
    ("headers", "timestamp", "stamp"),
    [
        ({"x-mtrio-dispatch": "1775121301"}, 1, "1775121301"),
        ({"x-mtrio-dispatch": b"a"}, None, "a"),
        ({"x-mtrio-dispatch": ""}, 1775121301, "1775121301"),
        ({"x-mtrio-dispatch": 7}, 1775121301, "1775121301"),
        ({}, 0, "0"),
        ({}, None, None),
    ],
)
def test_attempt_is_told_apart_by_its_dispatch(
    headers: dict[str, HeaderValue], timestamp: int | None, stamp: str | None
) -> None:
    """The header that our copies carry, else the publisher's timestamp (DESIGN.md 5)."""
    message = Message(body=b"", headers=headers, timestamp=timestamp)

    assert attempt_key(message, OccurrenceId(GUID)) == AttemptKey(OccurrenceId(GUID), stamp, 0, 0)


def test_retries_and_snoozes_are_attempts_of_their_own() -> None:
    message = Message(body=b"", headers={"x-retry-count": 2, "x-mtrio-snoozes": 5000})

    assert attempt_key(message, OccurrenceId(GUID)) == AttemptKey(OccurrenceId(GUID), None, 2, 5000)


def test_origin_is_local_where_the_header_says_something() -> None:
    assert has_local_origin({"x-mtrio-origin": "client"})
    assert not has_local_origin({"x-mtrio-origin": ""})
    assert not has_local_origin({})


def test_what_the_broker_acts_on_is_not_passed_on() -> None:
    """Death records can make it drop the copy, CC and BCC multiply it."""
    headers: dict[str, HeaderValue] = {
        "CC": ["q"],
        "BCC": ["q"],
        "x-death": [],
        "x-first-death-queue": "q",
        "x-last-death-reason": "expired",
        "x-deathly": 1,
        "cc": ["q"],
        "OccurrenceId": GUID,
    }

    assert passed_on(headers) == {"x-deathly": 1, "cc": ["q"], "OccurrenceId": GUID}
