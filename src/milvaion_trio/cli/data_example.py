"""The smallest JSON that a job takes, made from the type of its data, for a command line that can be copied."""

import shlex
import typing
from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Literal
from uuid import UUID

from milvaion_trio.model.errors import InvalidJobData
from milvaion_trio.model.json_text import JsonValue, write
from milvaion_trio.model.jsonable import jsonable
from milvaion_trio.policy.annotations import LISTS, OBJECTS, alternatives, is_record
from milvaion_trio.policy.record_fields import record_fields
from milvaion_trio.runtime.registry import RegisteredJob

__all__ = ["UNKNOWN", "data_option"]

UNKNOWN = "--data '…'"
"""For data whose type tells too little, or whose own checks refuse the example."""

_PLAIN: Mapping[object, JsonValue] = {
    str: "text",
    int: 1,
    float: 1.5,
    bool: True,
    type(None): None,
    datetime: "2026-01-31T12:00:00Z",
    date: "2026-01-31",
    time: "12:00:00",
    timedelta: "00:05:00",
    UUID: "0f8fad5b-d9cb-469f-a165-70867728950e",
    Decimal: Decimal("1.5"),
}


def data_option(job: RegisteredJob) -> str:
    """`--data` with the least that the job takes, quoted for a shell; empty where the job needs none."""
    if job.reader is None or job.parameters.data is None or _takes(job, None):
        return ""
    try:
        text = write(_example(job.parameters.data.annotation))
    except (TypeError, ValueError, RecursionError):  # a type that contains itself, or that only its author knows
        return UNKNOWN
    return f"--data {shlex.quote(text)}" if _takes(job, text) else UNKNOWN


def _takes(job: RegisteredJob, text: str | None) -> bool:
    assert job.reader is not None
    try:
        job.reader.read(text)
    except InvalidJobData:
        return False
    return True


def _example(annotation: object) -> JsonValue:
    kind = alternatives(annotation)[0]
    if kind in _PLAIN:
        return _PLAIN[kind]
    origin, arguments = typing.get_origin(kind) or kind, typing.get_args(kind)
    if origin is Literal:
        return jsonable(arguments[0])
    if isinstance(kind, type) and issubclass(kind, Enum):
        return next(iter(kind.__members__))
    if origin is tuple and arguments and arguments[-1:] != (...,):
        return [_example(argument) for argument in arguments if argument != ()]
    if origin in LISTS:
        return []
    if origin in OBJECTS:
        return {}
    if is_record(kind):
        needed = [each for each in record_fields(kind) if each.is_required and each.is_read]
        return {each.name: _example(each.annotation) for each in needed}
    raise TypeError(f"no example is known for {kind!r}")
