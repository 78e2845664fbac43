"""The strict reader, the writer's numbers, and Python values as JSON."""

import dataclasses
import enum
import json
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from attrs import frozen

from milvaion_trio.model.errors import InvalidMessage
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.json_text import JsonValue, quote, read, write
from milvaion_trio.model.jsonable import jsonable


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b"{} {}",
        b'{"a":1,}',
        b"[1,]",
        b"// comment\n1",
        b"'a'",
        b"NaN",
        b"[Infinity]",
        b"-Infinity",
        b"1e999",
        b"[-1e999]",
        b"01",
        b"+1",
        b".5",
        b"9223372036854775808",
        b"-9223372036854775809",
        b"1" * 5_000,
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b'"tab\there"',
        b"\xef\xbb\xbf{}",
        "{}".encode("utf-16"),
        "{}".encode("utf-16-le"),
        b'{"a":1,"a":2}',
        b'{"a":1,"A":2}',
        b'[{"x":{"Id":1,"iD":2}}]',
        b"[" * 65 + b"]" * 65,
        b'{"a":' * 65 + b"1" + b"}" * 65,
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'"\\u12"',
        b'"\\x"',
        b'"open',
    ],
    ids=lambda text: repr(text[:20]),
)
def test_reader_refuses_and_raises_nothing_else(text: bytes) -> None:
    with pytest.raises(InvalidMessage, match="not JSON as Milvaion reads it"):
        read(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b" \r\n\t{} ", {}),
        (b"[9223372036854775807,-9223372036854775808]", [2**63 - 1, -(2**63)]),
        (b"[1e3,0.5,-0]", [1000.0, 0.5, 0]),
        (b"null", None),
        ('"\u00fc\U0001f600"'.encode(), "\u00fc\U0001f600"),
        (rb'"\ud83d\ude00"', "\U0001f600"),
    ],
)
def test_reader_takes(text: bytes, value: JsonValue) -> None:
    assert read(text) == value
    assert read(text.decode()) == value


def test_nesting_of_64_levels_is_read_and_written() -> None:
    text = "[" * 64 + "]" * 64

    assert write(read(text)) == text


def test_brackets_in_texts_are_no_nesting() -> None:
    value: JsonValue = ["[" * 100, '\\"' + "{" * 100, "\\"]

    assert read(json.dumps(value)) == value


def test_lone_surrogates_are_replaced() -> None:
    assert read(rb'{"a\ud800":["\udfff","\uD83D"]}') == {"a\ufffd": ["\ufffd", "\ufffd"]}
    assert read('"\ud800"') == "\ufffd"


def test_names_may_differ_in_case_only_where_it_matters() -> None:
    assert read(b'{"a":1,"A":2}', case_matters=True) == {"a": 1, "A": 2}
    with pytest.raises(InvalidMessage, match="'a' stands twice"):
        read(b'{"a":1,"a":2}', case_matters=True)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"),
        (-0.0, "-0"),
        (100.0, "100"),
        (-1.25, "-1.25"),
        (1e14, "100000000000000"),
        (1e15, "1E+15"),
        (123456789012345.0, "123456789012345"),
        (12345678901234567.0, "12345678901234568"),
        (123456789012345680.0, "1.2345678901234568E+17"),
        (0.0001, "0.0001"),
        (0.00001, "1E-05"),
        (1.5e-7, "1.5E-07"),
        (5e-324, "5E-324"),
        (1.7976931348623157e308, "1.7976931348623157E+308"),
        (Decimal("0.50"), "0.50"),
        (True, "true"),
        (-(2**63), "-9223372036854775808"),
    ],
)
def test_numbers_have_the_form_of_net(number: JsonValue, text: str) -> None:
    assert write(number) == text
    assert json.loads(text) == number


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), [float("-inf")], Decimal("NaN"), {"a": 2**63}, -(2**63) - 1], ids=repr
)
def test_writer_refuses_numbers_that_json_does_not_have(value: JsonValue) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write(value)


def test_writer_refuses_what_no_reader_would_take() -> None:
    endless: list[JsonValue] = []
    endless.append(endless)

    with pytest.raises(ValueError, match="contains itself"):
        write(endless)


def test_quoted_enum_is_its_text() -> None:
    class Colour(str, enum.Enum):  # noqa: UP042  # what code from before StrEnum looks like
        RED = "red"

    assert quote(Colour.RED) == '"red"'


@frozen
class Point:
    x: int
    _y: float = 0.5


@dataclasses.dataclass
class Line:
    start: Point
    tags: set[str]


class Level(enum.IntEnum):
    HIGH = 3


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Line(Point(1), {"a"}), {"start": {"x": 1, "_y": 0.5}, "tags": ["a"]}),
        ((1, [None, True]), [1, [None, True]]),
        (OrderedDict(a=1), {"a": 1}),
        ({1: "a", UUID(int=1): "b", Level.HIGH: "c"}, {"1": "a", str(UUID(int=1)): "b", "3": "c"}),
        (UUID("019D4A10-3B5C-7E21-8F04-6A1D2C9BE077"), "019d4a10-3b5c-7e21-8f04-6a1d2c9be077"),
        (datetime(2026, 4, 2, 9, 15, 30, 120_000, UTC), "2026-04-02T09:15:30.12Z"),
        (datetime(2026, 4, 2, 12, 15, tzinfo=timezone(timedelta(hours=3))), "2026-04-02T09:15:00Z"),
        (datetime(2026, 4, 2, 9, 15), "2026-04-02T09:15:00"),
        (date(2026, 4, 2), "2026-04-02"),
        (time(9, 15, 30, 500_000), "09:15:30.5000000"),
        (timedelta(days=2, hours=1, seconds=1.5), "2.01:00:01.5000000"),
        (-timedelta(minutes=90), "-01:30:00"),
        (timedelta(0), "00:00:00"),
        (Instant.parse("2026-04-02T09:15:30.1234567Z"), "2026-04-02T09:15:30.1234567Z"),
        (Level.HIGH, 3),
        (Decimal("1.10"), Decimal("1.10")),
        (b"\x00\xff", "AP8="),
    ],
    ids=repr,
)
def test_python_values_in_json(value: object, expected: JsonValue) -> None:
    assert jsonable(value) == expected
    assert type(jsonable(value)) is type(expected)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"a": [Point(1), {"b": object()}]}, r"the value\.a\[1\]\.b is of type object"),
        (Path("x"), r"the value is of type \w*Path"),
        (Point, "the value is of type type"),
        ({(1, 2): 3}, r"the value has the key \(1, 2\)"),
        ({None: 3}, "the value has the key None"),
    ],
)
def test_values_without_a_json_form_are_named_with_their_path(value: object, problem: str) -> None:
    with pytest.raises(TypeError, match=problem):
        jsonable(value)


def test_value_that_contains_itself_is_refused() -> None:
    endless: dict[str, object] = {}
    endless["again"] = endless

    with pytest.raises(TypeError, match="contains itself"):
        jsonable(endless)
