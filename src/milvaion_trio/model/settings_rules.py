"""The rules that the fields of settings obey, written in their annotations.

Separate because they are said once, `Annotated[int, Range(1, 65535)]`, and used twice: to check, and to tell people.
"""

import enum
import math
import re
import sys
from collections.abc import Callable, Mapping
from types import NoneType, UnionType
from typing import Annotated, Union, get_args, get_origin

from attrs import NOTHING, AttrsInstance, fields, frozen, has

__all__ = [
    "Check",
    "Form",
    "Range",
    "fits",
    "hidden",
    "is_usual",
    "may_hold_password",
    "problems_of",
    "section_of",
    "shown_name",
    "usual",
    "words_of",
]


@frozen
class Range:
    """Bounds of a number, both allowed."""

    least: float
    most: float = math.inf


@frozen
class Form:
    """A pattern a text must match as a whole, and how to say it."""

    pattern: str
    words: str


@frozen
class Check:
    """A test that a value must pass, and how to say it."""

    passes: Callable[[object], bool]
    words: str


def hidden(value: object) -> str:
    """The `repr` of a secret."""
    return "'***'" if value else repr(value)


def may_hold_password(value: object) -> bool:
    """Whether it looks like the part of a URL before the host: somebody may have put one where a name belongs.

    Also anywhere in a list, or in whatever else was given instead of a text.
    """
    return re.search(r":.*@", value if isinstance(value, str) else repr(value), re.DOTALL) is not None


def shown_name(name: str) -> str:
    """A name as somebody wrote it, for errors, unless it may be a password in the wrong place."""
    return "what is not shown here" if may_hold_password(name) else name


def problems_of(settings: AttrsInstance, path: str = "") -> list[str]:
    """One line per field whose value is not what its annotation says."""
    problems: list[str] = []
    for attribute in fields(type(settings)):
        value = getattr(settings, attribute.name)
        if has(type(value)) and type(value) is section_of(attribute.type):
            problems += problems_of(value, f"{path}{attribute.name}.")
        elif not fits(value, attribute.type):
            # A field with a repr of its own holds a secret, and what does not fit may hold it in any form.
            is_hidden = callable(attribute.repr) or may_hold_password(value)
            shown = "not shown here" if is_hidden else repr(value)
            problems.append(f"{path}{attribute.name} is {shown}; it must be {words_of(attribute.type)}.")
    return problems


def section_of(annotation: object) -> type[AttrsInstance] | None:
    """The class of settings that a field holds, alone or beside `None`; nothing for a field with a plain value."""
    kinds = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type) and has(kind)]
    return kinds[0] if kinds and get_origin(annotation) in (None, Union, UnionType) else None


def usual(settings: AttrsInstance, name: str) -> object:
    """What a field holds unless it is given, which for some depends on the fields before them; `None` for nothing."""
    default: object = getattr(fields(type(settings)), name).default
    make = getattr(default, "factory", None)  # of `attrs.Factory`, which no type checker takes for a class
    if make is None:
        return None if default is NOTHING else default
    return make(settings) if getattr(default, "takes_self", False) else make()


def is_usual(settings: AttrsInstance, name: str) -> bool:
    """Whether a field holds what it would hold if nobody had given it."""
    return bool(getattr(settings, name) == usual(settings, name))


def fits(value: object, annotation: object) -> bool:
    """Whether the value is of the annotation's type and obeys its rules."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return fits(value, arguments[0]) and all(_obeys(value, rule) for rule in arguments[1:])
    if origin in (Union, UnionType):
        return any(fits(value, alternative) for alternative in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(fits(item, arguments[0]) for item in value)
    if origin is Mapping:
        return isinstance(value, Mapping) and all(fits(item, arguments[1]) for item in value.values())
    if origin is type:
        return isinstance(value, type) and issubclass(value, arguments)
    if annotation is float:
        # Not math.isfinite(), which fails for whole numbers beyond every float.
        return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max
    if annotation is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if annotation is str:
        return isinstance(value, str) and _is_unicode(value)
    return isinstance(annotation, type) and isinstance(value, annotation)


def _is_unicode(value: str) -> bool:
    """Not so the half characters that JSON escapes and variables with broken UTF-8 leave: no message can hold them."""
    return value.isascii() or re.search("[\ud800-\udfff]", value) is None


def _obeys(value: object, rule: object) -> bool:
    match rule:
        case Range(least, most):
            return isinstance(value, int | float) and least <= value <= most
        case Form(pattern):
            return isinstance(value, str) and re.fullmatch(pattern, value) is not None
        case Check(passes):
            return passes(value)
    return True


_TYPE_WORDS: dict[object, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
    NoneType: "None",
}


def words_of(annotation: object) -> str:
    """What the check allows, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        match arguments[1]:
            case Form(_, words) | Check(_, words):
                return words
            case Range(least, most) if math.isinf(least):
                return f"{words_of(arguments[0])}, not infinite"
            case Range(least, most):
                return f"{words_of(arguments[0])}, {least:g} " + ("or more" if math.isinf(most) else f"to {most:g}")
    if origin is tuple:
        return f"a list, each item {words_of(arguments[0])}"
    if origin is Mapping:
        return f"a mapping of names to {words_of(arguments[1])}"
    if origin is type:
        return f"a class derived from {arguments[0].__name__}"
    if arguments:
        return ", or ".join(words_of(alternative) for alternative in arguments)
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return "one of " + ", ".join(repr(member.value) for member in annotation)
    if isinstance(annotation, type):
        return _TYPE_WORDS.get(annotation, annotation.__name__)
    return repr(annotation)
