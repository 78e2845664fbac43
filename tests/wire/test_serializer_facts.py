"""Our writer and reader agree with System.Text.Json as vectors/serializer_facts.json records it."""

import json
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from milvaion_trio.model import wire
from milvaion_trio.model.errors import InvalidMessage
from milvaion_trio.model.instant import MINIMUM, Instant
from milvaion_trio.model.json_text import JsonValue, read, write

FACTS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors" / "serializer_facts.json").read_text("utf-8"))

GUID = "019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193"
SECOND = 639_107_181_300_000_000 // 10_000_000 * 10_000_000


def test_escapes() -> None:
    assert write(FACTS["escaping"]["input"]) == FACTS["escaping"]["json_text"]


DATES = {
    ".1234567 UTC": Instant(SECOND + 1_234_567),
    ".1200000 UTC": Instant(SECOND + 1_200_000),
    "whole second UTC": Instant(SECOND),
    "default(DateTime)": MINIMUM,
    ".1234567 local on a UTC machine": Instant(SECOND + 1_234_567, "+00:00"),
}


@pytest.mark.parametrize("fact", FACTS["datetime_write"], ids=lambda fact: fact["ticks"])
def test_dates_are_written(fact: dict[str, str]) -> None:
    assert DATES[fact["ticks"]].text == fact["text"]
    assert Instant.parse(fact["text"]) == DATES[fact["ticks"]]


@pytest.mark.parametrize("fact", FACTS["round_trip_O_format"], ids=lambda fact: fact["value"])
def test_dates_in_headers_are_written(fact: dict[str, str]) -> None:
    assert DATES[fact["value"]].round_trip == fact["text"]
    assert Instant.parse(fact["text"]) == DATES[fact["value"]]


NUMBERS: dict[str, JsonValue] = {
    "1.5": 1.5,
    "2.0 (double)": 2.0,
    "1.10 (decimal)": Decimal("1.10"),
    "1e21": 1e21,
    "0.1": 0.1,
}


@pytest.mark.parametrize(("fact", "text"), FACTS["number_write"].items())
def test_numbers_are_written(fact: str, text: str) -> None:
    assert write(NUMBERS[fact]) == text


def quoted_dates(key: str) -> list[str]:
    return [match[1] for fact in FACTS[key] if (match := re.match(r'"([^"]+)"', fact))]


@pytest.mark.parametrize("date", quoted_dates("reader_accepts"))
def test_reader_accepts_date(date: str) -> None:
    status = wire.decode_status(f'{{"StartTime":"{date}"}}'.encode())

    assert status.start_time == Instant.parse(date)


def test_accepted_dates_mean_what_they_say() -> None:
    assert Instant.parse("2026-04-02T09:15:30.123456789Z") == Instant.parse("2026-04-02T09:15:30.1234567Z")
    assert Instant.parse("2026-04-02").text == "2026-04-02T00:00:00"
    assert Instant.parse("2026-04-02T09:15Z").text == "2026-04-02T09:15:00Z"
    assert Instant.parse("2026-04-02T09:15:30").kind == ""


ACCEPTED = {
    "enum as any integer, also an undefined one (99)": b'{"Status":99}',
    "unknown members": b'{"Weather":{"is":["fine"]}}',
}


@pytest.mark.parametrize("fact", ACCEPTED)
def test_reader_accepts(fact: str) -> None:
    wire.decode_status(ACCEPTED[fact])


def test_document_null_is_json_but_no_message() -> None:
    """.NET reads it as a null object, which no consumer can use."""
    assert read(b"null") is None
    with pytest.raises(InvalidMessage, match="the body is None, but must be an object"):
        wire.decode_status(b"null")


REJECTED = {
    "date with a blank instead of T": [b'{"StartTime":"2026-04-02 09:15:30Z"}'],
    "offset without colon (+0000)": [b'{"StartTime":"2026-04-02T09:15:30+0000"}'],
    'enum as text ("Failed" or "3")': [b'{"Status":"Failed"}', b'{"Status":"3"}'],
    "guid without dashes": [b'{"JobId":"019d4d8e91f07a3bb2c60d5e4f7a8193"}'],
    "guid in braces": [f'{{"JobId":"{{{GUID}}}"}}'.encode()],
    "null for a guid": [b'{"JobId":null}'],
    "a number where a string is expected": [b'{"Result":1}'],
    "an array where an object is expected": [b"[]"],
}


@pytest.mark.parametrize("fact", FACTS["reader_rejects"])
def test_reader_rejects(fact: str) -> None:
    for body in REJECTED[fact]:
        with pytest.raises(InvalidMessage, match="status update: "):
            wire.decode_status(body)


def test_no_accepted_fact_is_left_out() -> None:
    others = {fact for fact in FACTS["reader_accepts"] if not fact.startswith('"')}
    assert others == ACCEPTED.keys() | {"the document null (gives a null object)"}
