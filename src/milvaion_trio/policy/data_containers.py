"""How lists, tuples, objects and unions in a job's data are read.

Each asks a converter, once, for what reads its parts.
"""

from collections.abc import Callable

from cattrs import ClassValidationError, Converter, IterableValidationError
from cattrs.cols import list_structure_factory
from cattrs.errors import IterableValidationNote
from cattrs.gen import make_mapping_structure_fn

from milvaion_trio.policy.annotations import alternatives, words_for
from milvaion_trio.policy.data_values import Misfit, Reading

__all__ = ["list_reading", "object_reading", "tuple_reading", "union_reading"]


def union_reading(members: tuple[object, ...], converter: Converter) -> Reading:
    """The first member that fits, after those that are the value's own type: 1 is an int in `float | int`."""
    readings = [(member, converter.get_structure_hook(member)) for member in members if member is not type(None)]
    if len(readings) < len(members):
        # Most unions are `X | None`: a value is then null, or X's alone, whose words say more than the union's.
        rest = tuple(member for member, _ in readings)
        other = readings[0][1] if len(rest) == 1 else union_reading(rest, converter)
        return lambda value, kind: None if value is None else other(value, kind)
    own = tuple(member for member in members if member in (int, float, bool))
    words = " or ".join(map(words_for, members))

    def reading(value: object, _: object) -> object:
        if type(value) in own:
            return value
        nearly: list[Exception] = []
        for member, read in readings:
            try:
                return read(value, member)
            except (ClassValidationError, IterableValidationError) as error:
                nearly.append(error)
            except Exception:
                continue  # the next member may fit; the words below name them all
        # Of the right shape with mistakes inside: those say more than the shape.
        if len(nearly) == 1:
            raise nearly[0]
        raise Misfit(value, words)

    return reading


def list_reading(build: Callable[[list[object]], object], item: object, converter: Converter) -> Reading:
    """A list of such items, made into what `build` makes of a list."""
    read = list_structure_factory(list[item], converter)  # type: ignore[valid-type] # a type made at run time

    def reading(value: object, _: object) -> object:
        if type(value) is not list:
            raise Misfit(value, "a list")
        return build(read(value, list))

    return reading


def tuple_reading(kinds: tuple[object, ...], converter: Converter) -> Reading:
    """A list of as many items, each of its own type."""
    readings = [(kind, converter.get_structure_hook(kind)) for kind in kinds]

    def reading(value: object, _: object) -> object:
        if type(value) is not list or len(value) != len(readings):
            raise Misfit(value, f"a list of {len(readings)}")
        items, mistakes = [], []
        for index, (item, (kind, read)) in enumerate(zip(value, readings, strict=True)):
            try:
                items.append(read(item, kind))
            except Exception as error:
                error.__notes__ = [IterableValidationNote("", index, kind)]
                mistakes.append(error)
        if mistakes:
            raise IterableValidationError("", mistakes, tuple)
        return tuple(items)

    return reading


def object_reading(key: object, member: object, *, converter: Converter) -> Reading:
    """An object of any names, whose members are of one type."""
    if any(kind in (int, float, bool) for kind in alternatives(key)):
        raise TypeError(f"names in JSON are texts, so they cannot be {words_for(key)}")
    read = make_mapping_structure_fn(dict[key, member], converter)  # type: ignore[valid-type] # made at run time

    def reading(value: object, _: object) -> object:
        if type(value) is not dict:
            raise Misfit(value, "an object")
        return read(value, dict)

    return reading
