"""What an annotation asks of JSON, and how to say it to somebody who writes some.

Separate because parameters, readings and error messages must see the same type behind the same annotation.
"""

import dataclasses
import types
import typing
from collections import abc
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Final, Literal, Union
from uuid import UUID

import attrs

__all__ = ["ANYTHING", "LISTS", "OBJECTS", "PLAIN_WORDS", "alternatives", "is_record", "without_metadata", "words_for"]

ANYTHING: Final[tuple[object, ...]] = (object, typing.Any)
LISTS: Final[dict[object, Callable[[list[object]], object]]] = {
    list: list,
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    abc.Sequence: list,
    abc.MutableSequence: list,
    abc.Iterable: list,
    abc.Collection: list,
    abc.Set: frozenset,
    abc.MutableSet: set,
}
OBJECTS: Final[tuple[object, ...]] = (dict, abc.Mapping, abc.MutableMapping)
PLAIN_WORDS: Final[dict[object, str]] = {
    object: "anything",
    typing.Any: "anything",
    type(None): "null",
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    datetime: "a date and time like 2026-04-02T09:15:30Z",
    date: "a date like 2026-04-02",
    time: "a time of day like 09:15:30",
    timedelta: "a duration like 1.02:03:04.5 (days.hours:minutes:seconds)",
    UUID: "a UUID of 36 characters",
    Decimal: "a decimal number",
}


def without_metadata(annotation: object) -> object:
    """The type behind `Annotated`, `NewType` and `type` aliases, as far as they are outermost."""
    while True:
        if typing.get_origin(annotation) is Annotated:
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":  # typing has the class from 3.12 on
            annotation = getattr(annotation, "__value__", object)
        else:
            return annotation


def alternatives(annotation: object) -> tuple[object, ...]:
    """The members of a union, each without metadata; of anything else, itself."""
    annotation = without_metadata(annotation)
    if typing.get_origin(annotation) in (Union, types.UnionType):
        return tuple(kind for member in typing.get_args(annotation) for kind in alternatives(member))
    return (type(None) if annotation is None else annotation,)


def is_record(annotation: object) -> bool:
    """Whether it is a class with fields: of attrs, a dataclass, a TypedDict."""
    kind = typing.get_origin(annotation) or annotation
    return isinstance(kind, type) and (attrs.has(kind) or dataclasses.is_dataclass(kind) or typing.is_typeddict(kind))


def words_for(annotation: object) -> str:
    """A type, to somebody who writes JSON."""
    members = alternatives(annotation)
    if len(members) > 1:
        return " or ".join(map(words_for, members))
    kind = members[0]
    origin = typing.get_origin(kind) or kind
    if origin is Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(kind)))
    if origin in LISTS:
        return "a list"
    if origin in OBJECTS or is_record(kind):
        return "an object"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "one of " + ", ".join(kind.__members__)
    return PLAIN_WORDS.get(kind) or str(getattr(kind, "__name__", repr(kind)))
