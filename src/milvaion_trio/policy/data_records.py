"""How classes with fields in a job's data are read: attrs classes, dataclasses and TypedDicts.

cattrs generates what reads the fields; what is ours is under which spellings a field is found.
"""

import dataclasses
import re
import typing

import attrs
from cattrs import ClassValidationError, Converter
from cattrs.errors import AttributeValidationNote
from cattrs.gen import make_dict_structure_fn

from milvaion_trio.policy.data_values import Misfit, Reading, folded

__all__ = ["record_reading"]


def record_reading(kind: object, converter: Converter) -> Reading:
    """A class with fields: names are matched without regard to case and `_`, unknown ones ignored."""
    names, read = _fields(kind, converter)

    def reading(value: object, _: object) -> object:
        if type(value) is not dict:
            raise Misfit(value, "an object")
        members: dict[str, object] = {}
        doubles: list[Exception] = []
        for spelled, member in value.items():
            name = names.get(spelled)
            if name is None:
                name = names.get(folded(spelled))
                if name is None:
                    continue
            if name in members:
                doubles.append(ValueError(f'more than one member is {name}, the last of them "{spelled}"'))
            members[name] = member
        if not doubles:
            return read(members, kind)
        try:
            read(members, kind)
        except ClassValidationError as error:
            doubles.append(error)
        raise ClassValidationError("", doubles, dict)

    return reading


def _fields(kind: object, converter: Converter) -> tuple[dict[str, str], Reading]:
    """How the fields may be spelled, and what reads them once they have their own names."""
    origin = typing.cast("type[object]", typing.get_origin(kind) or kind)
    if typing.is_typeddict(origin):
        members, read = _typed_dict(origin, converter)
    else:
        if attrs.has(origin):
            attrs.resolve_types(origin)
            members = {field.alias or field.name: field.name for field in attrs.fields(origin) if field.init}
        elif dataclasses.is_dataclass(origin):
            members = {field.name: field.name for field in dataclasses.fields(origin) if field.init}
        read = typing.cast("Reading", make_dict_structure_fn(typing.cast("type[object]", kind), converter))
    names: dict[str, str] = {}
    for name, attribute in members.items():
        for spelled in {folded(name), folded(attribute)}:
            if names.setdefault(spelled, name) != name:
                raise TypeError(f"the fields {names[spelled]} and {name} of {origin.__name__} are one name in JSON")
    # The usual spellings are found without folding.
    for name in members:
        camel = re.sub("_+(.)", lambda match: match[1].upper(), name.strip("_"))
        names |= {name: name, camel: name, camel[:1].upper() + camel[1:]: name}
    return names, read


def _typed_dict(kind: type[object], converter: Converter) -> tuple[dict[str, str], Reading]:
    """As cattrs would do it, which misses `NotRequired` in modules with `from __future__ import annotations`."""
    required: dict[str, bool] = {}
    readings: dict[str, tuple[object, Reading]] = {}
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        required[name] = name in getattr(kind, "__required_keys__", ())
        if (marker := typing.get_origin(hint)) in (typing.Required, typing.NotRequired):
            required[name] = marker is typing.Required
            hint = typing.get_args(hint)[0]
        try:
            readings[name] = hint, converter.get_structure_hook(hint)
        except RecursionError:
            readings[name] = hint, typing.cast("Reading", converter.structure)

    def reading(members: dict[str, object], _: object) -> object:
        value: dict[str, object] = {}
        mistakes: list[Exception] = []
        for name, (hint, read) in readings.items():
            try:
                if name in members or required[name]:
                    value[name] = read(members[name], hint)
            except Exception as error:
                error.__notes__ = [AttributeValidationNote("", name, hint)]
                mistakes.append(error)
        if mistakes:
            raise ClassValidationError("", mistakes, kind)
        return value

    return {name: name for name in readings}, typing.cast("Reading", reading)
