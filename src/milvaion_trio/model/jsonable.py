"""What Python values look like in JSON.

Separate from the text itself: what a job returns and what is dispatched may be of many types, a JSON document of six.
"""

import base64
import dataclasses
import enum
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import attrs

from milvaion_trio.model.instant import Instant
from milvaion_trio.model.json_text import MAX_DEPTH, JsonValue
from milvaion_trio.model.time_span import time_span_text

__all__ = ["jsonable"]


def jsonable(value: object) -> JsonValue:
    """The value in JSON's types, members named as in Python, dates and times as .NET writes them.

    Takes attrs classes, dataclasses, mappings, lists, tuples, sets, enums (their value), UUID, `Decimal`, dates and
    times, bytes (base64) and `Instant`.
    Raises `TypeError` for anything else and says where it was found.
    """
    return _jsonable(value, "the value", MAX_DEPTH)


def _jsonable(value: object, path: str, levels: int) -> JsonValue:
    if value is None or type(value) in _AS_THEY_ARE:
        return value  # type: ignore[return-value]  # the table says so
    if isinstance(value, enum.Enum):
        return _jsonable(value.value, path, levels)
    if isinstance(value, bool | int | float | Decimal | str):  # subclasses, e.g. of str
        return value
    text = _as_text(value)
    if text is not None:
        return text
    if not levels:
        raise TypeError(f"{path} is nested deeper than {MAX_DEPTH} levels, or contains itself.")
    if isinstance(value, Mapping):
        members = [(_name(name, path), item) for name, item in value.items()]
    elif isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(item, f"{path}[{index}]", levels - 1) for index, item in enumerate(value)]
    elif attrs.has(kind := type(value)):
        members = [(field.name, getattr(value, field.name)) for field in attrs.fields(kind)]
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        members = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    else:
        raise TypeError(
            f"{path} is of type {type(value).__qualname__}, which has no JSON form. "
            "Use attrs classes, dataclasses, mappings, lists, texts, numbers, dates or UUIDs."
        )
    return {name: _jsonable(item, f"{path}.{name}", levels - 1) for name, item in members}


_AS_THEY_ARE = frozenset({bool, int, float, str, Decimal})


def _as_text(value: object) -> str | None:
    match value:
        case UUID():
            return str(value)
        case Instant():
            return value.text
        case datetime():
            return Instant.from_datetime(value).text
        case date():
            return value.isoformat()
        case time():
            since_midnight = timedelta(0, value.second, value.microsecond, 0, value.minute, value.hour)
            return time_span_text(since_midnight)
        case timedelta():
            return time_span_text(value)
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode()
    return None


def _name(name: object, path: str) -> str:
    if isinstance(name, enum.Enum):
        name = name.value
    if isinstance(name, str | int) and not isinstance(name, bool):
        return str(name)
    text = _as_text(name)
    if text is None:
        raise TypeError(f"{path} has the key {name!r}; keys are texts, ints, dates or UUIDs.")
    return text
