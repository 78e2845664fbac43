"""The fields of a class that stands for a JSON object: attrs class, dataclass or TypedDict.

Separate because reading data, describing it and making an example of it must see the same fields.
"""

import dataclasses
import re
import typing
from collections.abc import Iterator, Mapping
from typing import Final, TypeVar

import attrs
from attrs import field, frozen

__all__ = ["NO_DEFAULT", "RecordField", "record_fields", "usual_name"]

NO_DEFAULT: Final = dataclasses.MISSING
"""Stands for the default of a field that has none, or whose default is made anew each time."""
_FACTORY: Final = typing.cast("type", attrs.Factory)
"""A class, which attrs types as a function."""


@frozen(kw_only=True)
class RecordField:
    """One field of a class, with its annotation resolved."""

    attribute: str
    """Its name in Python."""
    name: str
    """What its reading calls it: the name in the constructor."""
    usual_name: str
    """How JSON usually spells it."""
    annotation: object
    is_required: bool
    is_read: bool = True
    """Whether data can set it: not so with `init=False`."""
    default: object = NO_DEFAULT
    metadata: Mapping[object, object] = field(factory=dict)


def record_fields(kind: object) -> tuple[RecordField, ...]:
    """The fields of a class in their order; raises what user code raises where an annotation cannot be resolved."""
    origin = typing.cast("type[object]", typing.get_origin(kind) or kind)
    if typing.is_typeddict(origin):
        found = _of_typed_dict(origin)
    elif attrs.has(origin):
        found = _of_attrs(origin)
    else:
        found = _of_dataclass(origin)
    arguments = _type_arguments(kind)
    return tuple(attrs.evolve(each, annotation=_with_arguments(each.annotation, arguments)) for each in found)


def usual_name(name: str) -> str:
    """How JSON spells a Python name: `display_name` is `displayName` (WIRE.md 8)."""
    camel = re.sub("_+(.)", lambda match: match[1].upper(), name.strip("_"))
    return camel[:1].lower() + camel[1:] or name


def _of_attrs(kind: type[object]) -> Iterator[RecordField]:
    attrs.resolve_types(typing.cast("type[attrs.AttrsInstance]", kind))
    for each in attrs.fields(typing.cast("type[attrs.AttrsInstance]", kind)):
        name = each.alias or each.name
        is_made = each.default is attrs.NOTHING or isinstance(each.default, _FACTORY)
        yield RecordField(
            attribute=each.name,
            name=name,
            # An alias that somebody wrote is meant as it stands.
            usual_name=usual_name(name) if name == each.name.lstrip("_") else name,
            annotation=object if each.type is None else each.type,
            is_required=each.default is attrs.NOTHING,
            is_read=each.init,
            default=NO_DEFAULT if is_made else each.default,
            metadata=each.metadata,
        )


def _of_dataclass(kind: type[object]) -> Iterator[RecordField]:
    hints = typing.get_type_hints(kind, include_extras=True)
    for each in dataclasses.fields(typing.cast("typing.Any", kind)):
        yield RecordField(
            attribute=each.name,
            name=each.name,
            usual_name=usual_name(each.name),
            annotation=hints[each.name],
            is_required=each.default is each.default_factory is dataclasses.MISSING,
            is_read=each.init,
            default=each.default,
            metadata=each.metadata,
        )


def _of_typed_dict(kind: type[object]) -> Iterator[RecordField]:
    """The markers are looked at here, since `__required_keys__` misses those that postponed evaluation hides."""
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        is_required = name in getattr(kind, "__required_keys__", ())
        if (marker := typing.get_origin(hint)) in (typing.Required, typing.NotRequired):
            is_required = marker is typing.Required
            hint = typing.get_args(hint)[0]
        yield RecordField(
            attribute=name, name=name, usual_name=usual_name(name), annotation=hint, is_required=is_required
        )


def _type_arguments(kind: object) -> dict[object, object]:
    """What stands for the type variables of a generic class and of those it derives from."""
    origin = typing.get_origin(kind) or kind
    arguments = dict(zip(getattr(origin, "__parameters__", ()), typing.get_args(kind), strict=False))
    for base in vars(origin).get("__orig_bases__", getattr(origin, "__bases__", ())):
        if typing.get_origin(base) is not typing.Generic:
            arguments |= {
                variable: _with_arguments(argument, arguments) for variable, argument in _type_arguments(base).items()
            }
    return arguments


def _with_arguments(annotation: object, arguments: Mapping[object, object]) -> object:
    if isinstance(annotation, TypeVar):
        return arguments.get(annotation, object)
    variables = getattr(annotation, "__parameters__", ())
    if variables and typing.get_origin(annotation) is not None:
        return typing.cast("typing.Any", annotation)[tuple(arguments.get(each, object) for each in variables)]
    return annotation
