"""What Python values look like in JSON, and which have no JSON form."""

import dataclasses
import enum
from collections import OrderedDict
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from attrs import frozen

from milvaion_trio.model.instant import Instant
from milvaion_trio.model.json_text import JsonValue
from milvaion_trio.model.jsonable import jsonable


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
