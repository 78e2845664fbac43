"""What a schema says about single values: texts, numbers, dates, one of a list of values, defaults.

Separate from the classes and lists around them, like the reading of values in `data_values`.
"""

import typing
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import NoneType
from typing import Annotated, Final, TypeAlias
from uuid import UUID

from milvaion_trio.model.json_text import JsonValue, write
from milvaion_trio.model.jsonable import jsonable
from milvaion_trio.model.sanitise import clean_json
from milvaion_trio.policy.annotations import alternatives
from milvaion_trio.policy.binding import DataReader
from milvaion_trio.policy.record_fields import NO_DEFAULT, RecordField

__all__ = [
    "PLAIN_DATA",
    "PLAIN_RESULTS",
    "Keywords",
    "data_words",
    "described",
    "name_format",
    "one_of",
    "result_words",
    "shown_default",
    "shown_description",
]

Keywords: TypeAlias = dict[str, JsonValue]
"""A schema that stands inside another one."""

PLAIN_DATA: Final[Mapping[object, Keywords]] = {
    NoneType: {"type": "null"},
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    Decimal: {"type": "number"},
    datetime: {"type": "string", "format": "date-time"},
    date: {"type": "string", "format": "date"},
    time: {"type": "string", "format": "time"},
    timedelta: {"type": "string", "format": "time"},  # as .NET calls its TimeSpan, whose form it has
    UUID: {"type": "string", "format": "uuid"},
}
PLAIN_RESULTS: Final[Mapping[object, Keywords]] = {
    **PLAIN_DATA,
    bytes: {"type": "string"},
    bytearray: {"type": "string"},
}
_JSON_TYPES: Final[Mapping[type, str]] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    Decimal: "number",
    NoneType: "null",
    list: "array",
    dict: "object",
}
_SCALARS: Final = (str, bool, int, float, Decimal)


def described(annotation: object) -> object:
    """The type that a schema shows: of a union the first, since the dashboard knows no unions."""
    members = [member for member in alternatives(annotation) if member is not NoneType] or [NoneType]
    # Of numbers the one that takes both.
    return float if float in members and all(member in (int, float) for member in members) else members[0]


def data_words(values: Sequence[object]) -> list[JsonValue]:
    """How data gives these values of an enum or a `Literal`: members of enums by their names, as .NET does."""
    return [_data_word(value) for value in values]


def result_words(values: Sequence[object]) -> list[JsonValue]:
    """How a result gives them: members of enums by their values."""
    return [jsonable(value) for value in values]


def _data_word(value: object) -> JsonValue:
    if not isinstance(value, Enum):
        return jsonable(value)
    # The reader asks for values before names, and one member's name may be another one's value.
    by_value = {member.value: member for member in type(value) if isinstance(member.value, str)}
    return value.name if by_value.get(str(value.name), value) is value else jsonable(value.value)


def one_of(words: Sequence[JsonValue]) -> Keywords:
    """One of these values; of several JSON types those of the first one's, since the dashboard knows one type only."""
    kind = type(words[0]) if words else str
    enum = [word for word in words if type(word) is kind and kind in _SCALARS]
    return {"type": _JSON_TYPES.get(kind, "string")} | ({"enum": enum} if enum else {})


def name_format(annotation: object) -> Keywords:
    """The format that .NET takes from the name of the type."""
    names = "\n".join(_type_names(annotation))
    return {"format": "email"} if "Email" in names else {"format": "uri"} if "Uri" in names else {}


def shown_description(each: RecordField) -> Keywords:
    """The field's description: in its metadata, or a text in its `Annotated`."""
    text = each.metadata.get("description")
    texts = [text] if isinstance(text, str) else [said for said in _annotated(each.annotation) if isinstance(said, str)]
    return {"description": texts[0]} if texts else {}


def shown_default(each: RecordField) -> Keywords:
    """The field's default as data would give it, where data can give it: what is shown is what is read."""
    if each.default is NO_DEFAULT or each.default is None:
        return {}
    try:
        default = _default_form(each.default)
        read = DataReader.for_type(each.name, each.annotation).read(write(default))
        is_same = bool(read == each.default) and clean_json(default) == default
    except Exception:  # no JSON form, no reading, or the code of a user's type; a default is only an offer
        return {}
    return {"default": default} if is_same else {}


def _default_form(value: object) -> JsonValue:
    if isinstance(value, list | tuple):
        return [_scalar(item) for item in value]
    return _scalar(value)


def _scalar(value: object) -> JsonValue:
    form = _data_word(value)
    if type(form) not in _SCALARS:
        raise TypeError(f"{value!r} is no single value")
    return form


def _annotated(annotation: object) -> list[object]:
    """What stands in `Annotated` around a type, from the outside in; also where it is the only one besides `None`."""
    if typing.get_origin(annotation) is Annotated:
        inner, *said = typing.get_args(annotation)
        return said + _annotated(inner)
    only = _only_member(annotation)
    return [] if only is None else _annotated(only)


def _type_names(annotation: object) -> list[str]:
    """What the type is called: its class, and each `NewType` or alias around it."""
    if typing.get_origin(annotation) is Annotated:
        return _type_names(typing.get_args(annotation)[0])
    if isinstance(annotation, typing.NewType):
        return [annotation.__name__, *_type_names(annotation.__supertype__)]
    if type(annotation).__name__ == "TypeAliasType":
        return [str(getattr(annotation, "__name__", "")), *_type_names(getattr(annotation, "__value__", object))]
    only = _only_member(annotation)
    if only is not None:
        return _type_names(only)
    return [str(getattr(typing.get_origin(annotation) or annotation, "__name__", ""))]


def _only_member(annotation: object) -> object | None:
    """The type that a union allows besides `None`, if there is one only."""
    if NoneType not in alternatives(annotation):
        return None
    members = [member for member in typing.get_args(annotation) if member is not NoneType]
    return members[0] if len(members) == 1 else None
