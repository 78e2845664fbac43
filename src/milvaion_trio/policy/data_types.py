"""Which types the data of a job may have: everything else is refused when the worker starts.

Each type's reading is compiled once; per message there is one call.
"""

import types
import typing
from contextvars import ContextVar
from enum import Enum
from typing import Literal, TypeVar, Union

from cattrs import Converter
from cattrs.errors import StructureHandlerNotFoundError

from milvaion_trio.policy.annotations import LISTS, OBJECTS, alternatives, is_record, without_metadata, words_for
from milvaion_trio.policy.data_containers import list_reading, object_reading, tuple_reading, union_reading
from milvaion_trio.policy.data_records import record_reading
from milvaion_trio.policy.data_values import PLAIN_READINGS, Reading, enum_reading, literal_reading

__all__ = ["DataConverter"]

T = TypeVar("T")


class DataConverter(Converter):
    """cattrs' code generation and collecting of errors, without its coercions.

    Its own dispatch asks for base classes before anything else, so that an enum of texts would be read as a text, and
    has hooks for types we want to refuse. So every type is looked up here; what is not listed is an error at start.
    """

    def __init__(self) -> None:
        super().__init__(detailed_validation=True, use_alias=True)
        self.readings: dict[tuple[object, str], Reading] = {}
        """By the type and its text, as unions of the same members in another order are equal, and read otherwise."""

    def get_structure_hook(self, type: object, cache_result: bool = True) -> Reading:
        """The compiled reading of a type; raises where no JSON could ever become such a value."""
        annotation = without_metadata(type)
        key = annotation, repr(annotation)
        reading = self.readings.get(key)
        if reading is None:
            self.readings[key] = reading = self._compiled(annotation)
        return reading

    def structure(self, obj: object, cl: type[T]) -> T:
        """Read one value; generated code calls this for a type that contains itself."""
        value: T = typing.cast("T", self.get_structure_hook(cl)(obj, cl))
        return value

    def _compiled(self, annotation: object) -> Reading:
        origin, arguments = typing.get_origin(annotation) or annotation, typing.get_args(annotation)
        if annotation in PLAIN_READINGS:
            return PLAIN_READINGS[annotation]
        if origin is Literal:
            return literal_reading(arguments)
        if origin in (Union, types.UnionType):
            return union_reading(alternatives(annotation), self)
        if isinstance(annotation, type) and issubclass(annotation, Enum):
            return enum_reading(annotation)
        if origin is tuple and arguments and arguments[-1:] != (...,):
            return tuple_reading(() if arguments == ((),) else arguments, self)
        if origin in LISTS:
            return list_reading(LISTS[origin], arguments[0] if arguments else object, self)
        if origin in OBJECTS:
            return object_reading(*(arguments or (str, object)), converter=self)
        if is_record(annotation):
            # cattrs catches this and looks the inner one up when it is needed.
            if annotation in _unfinished.get():
                raise RecursionError(annotation)
            token = _unfinished.set(_unfinished.get() | {annotation})
            try:
                return record_reading(annotation, self)
            finally:
                _unfinished.reset(token)
        # cattrs takes this error, and no other, to mean that a field's own converter gets the decoded JSON.
        raise StructureHandlerNotFoundError(
            f"{words_for(annotation)} has no JSON form. Use attrs classes, dataclasses, TypedDict, text, numbers, "
            "bool, list, dict, Literal, Enum, UUID, Decimal, dates and times.",
            typing.cast("type[object]", annotation),
        )


_unfinished: ContextVar[frozenset[object]] = ContextVar("milvaion_trio_unfinished_readings", default=frozenset())
"""The classes being compiled right now, by this thread."""
