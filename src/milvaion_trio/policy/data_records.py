"""How classes with fields in a job's data are read: attrs classes, dataclasses and TypedDicts.

cattrs generates what reads the fields; what is ours is under which spellings a field is found.
"""

import typing
from collections.abc import Sequence

from cattrs import ClassValidationError, Converter
from cattrs.errors import AttributeValidationNote, StructureHandlerNotFoundError
from cattrs.gen import make_dict_structure_fn

from milvaion_trio.policy.data_values import Misfit, Reading, as_it_is, folded
from milvaion_trio.policy.record_fields import RecordField, record_fields

__all__ = ["record_reading"]


def record_reading(kind: object, converter: Converter) -> Reading:
    """A class with fields: names are matched without regard to case and `_`, unknown ones ignored."""
    names, unread, read = _fields(kind, converter)

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
            members[name] = as_it_is(member) if name in unread else member
        if not doubles:
            return read(members, kind)
        try:
            read(members, kind)
        except ClassValidationError as error:
            doubles.append(error)
        raise ClassValidationError("", doubles, dict)

    return reading


def _fields(kind: object, converter: Converter) -> tuple[dict[str, str], frozenset[str], Reading]:
    """How the fields may be spelled, which are left to converters of their own, and what reads them by their names."""
    origin = typing.cast("type[object]", typing.get_origin(kind) or kind)
    fields = [each for each in record_fields(kind) if each.is_read]
    if typing.is_typeddict(origin):
        read = _typed_dict(origin, fields, converter)
    else:
        read = typing.cast("Reading", make_dict_structure_fn(typing.cast("type[object]", kind), converter))
    names: dict[str, str] = {}
    for each in fields:
        for spelled in {folded(each.name), folded(each.attribute)}:
            if names.setdefault(spelled, each.name) != each.name:
                raise TypeError(
                    f"the fields {names[spelled]} and {each.name} of {origin.__name__} are one name in JSON"
                )
    # The usual spellings are found without folding.
    for each in fields:
        usual = each.usual_name
        names |= {each.name: each.name, usual: each.name, usual[:1].upper() + usual[1:]: each.name}
    return names, frozenset(each.name for each in fields if _is_unread(each, converter)), read


def _is_unread(each: RecordField, converter: Converter) -> bool:
    try:
        converter.get_structure_hook(each.annotation)
    except StructureHandlerNotFoundError:
        return True
    except RecursionError:
        return False
    return False


def _typed_dict(kind: type[object], fields: Sequence[RecordField], converter: Converter) -> Reading:
    """As cattrs would do it, which misses `NotRequired` in modules with `from __future__ import annotations`."""
    readings: list[tuple[RecordField, Reading]] = []
    for each in fields:
        try:
            readings.append((each, converter.get_structure_hook(each.annotation)))
        except RecursionError:
            readings.append((each, typing.cast("Reading", converter.structure)))

    def reading(members: dict[str, object], _: object) -> object:
        value: dict[str, object] = {}
        mistakes: list[Exception] = []
        for each, read in readings:
            try:
                if each.name in members or each.is_required:
                    value[each.name] = read(members[each.name], each.annotation)
            except Exception as error:
                error.__notes__ = [AttributeValidationNote("", each.name, each.annotation)]
                mistakes.append(error)
        if mistakes:
            raise ClassValidationError("", mistakes, kind)
        return value

    return typing.cast("Reading", reading)
