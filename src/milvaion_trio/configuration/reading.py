"""From what the sources say to settings: each text by the type and the rules of its field.

The rules are those of the classes (`model.settings_rules`); what only .NET's files can say is translated here.
"""

import re
from collections import ChainMap
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Annotated, Final, TypeVar, get_args, get_origin

from attrs import AttrsInstance, define, field, fields

from milvaion_trio.configuration.keys import ANY_JOB, MAPPINGS, Place
from milvaion_trio.configuration.sources import Leaf, Source, merged
from milvaion_trio.model.schedule_settings import ScheduleSettings, taken_back
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.model.settings_rules import fits, is_usual, section_of, words_of

__all__ = ["TRANSLATED", "Reading", "settings_over"]

A = TypeVar("A", bound=AttrsInstance)

_WHOLE_NUMBER: Final = re.compile(r"[+-]?[0-9]{1,400}")
_NUMBER: Final = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_CONNECTION_STRING: Final = ("redis", "connection_string")


@define
class Reading:
    """Settings, or why there are none."""

    settings: WorkerSettings | None = None
    problems: list[str] = field(factory=list)
    overridden: list[str] = field(factory=list)
    """What is wrong with values that do not count, e.g. a placeholder in a file, filled in by a variable."""


def settings_over(base: WorkerSettings, sources: Sequence[Source]) -> Reading:
    """The base with everything over it that the sources say, later ones over earlier ones."""
    counting = merged(sources)
    reading = Reading()
    for leaf in (leaf for source in sources for leaf in source.leaves.values()):
        try:
            _value(leaf)
        except ValueError:
            line = f"{leaf.origin} is {leaf.shown}; it must be {words_of(leaf.setting.annotation)}{_quotes(leaf)}"
            if counting.get(leaf.place, {}).get(leaf.number or 0) is leaf:
                reading.problems.append(f"{line}.")
            else:
                reading.overridden.append(f"{line}; another source is over it.")
    if not reading.problems:
        # A name keeps the spelling that was first: variables often have nothing but capitals.
        sections = ChainMap(*(source.sections for source in sources))
        values = {place: _told([slot[number] for number in sorted(slot)]) for place, slot in counting.items()}
        reading.settings = _assembled(base, values, sections)
    return reading


def _told(leaves: Sequence[Leaf]) -> object:
    values = tuple(_value(leaf) for leaf in leaves)
    return values if leaves[0].setting.is_list else values[0]


def _value(leaf: Leaf) -> object:
    """What the text means, or `ValueError` if it means nothing."""
    annotation, translated = leaf.setting.annotation, TRANSLATED.get(leaf.setting.place)
    if leaf.kind is not None and leaf.kind not in _KINDS.get(_kind(annotation), (str,)):
        raise ValueError
    value = _parsed(leaf.text, annotation)
    if translated is not None:
        value = translated(value)
    if value is not None and not fits(value, annotation):
        raise ValueError
    return value


def _parsed(text: str, annotation: object) -> object:
    """The value that the text stands for, or `ValueError`. Only where a text is wanted do blanks around it count."""
    kind = _kind(annotation)
    if kind is str:
        return text
    text = text.strip()
    if kind is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind is int and _WHOLE_NUMBER.fullmatch(text):
        return int(text)
    if kind is float and _NUMBER.fullmatch(text):
        return float(text)
    if kind is datetime:
        return datetime.fromisoformat(text)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(text)
    raise ValueError


def _kind(annotation: object) -> object:
    """The type without its rules."""
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _quotes(leaf: Leaf) -> str:
    """What to do about quotes, where values have types."""
    kinds = _KINDS.get(_kind(leaf.setting.annotation), (str,))
    if leaf.kind is None or leaf.kind in kinds or (str in kinds) == (leaf.kind is str):
        return ""
    return ", in quotes" if str in kinds else ", without quotes"


_KINDS: Final[Mapping[object, tuple[type[object], ...]]] = {
    int: (int,),
    float: (float, int),
    bool: (bool,),
    datetime: (datetime, str),
}
"""What may stand for a type in sources that have types themselves; for any other type a text."""


def _not_negative(value: object) -> object:
    return 0.0 if isinstance(value, float) and value < 0 else value


def _positive_or_inherited(value: object) -> object:
    return None if isinstance(value, int) and value <= 0 else value


TRANSLATED: Final[Mapping[Place, Callable[[object], object]]] = {
    # "0 or below = none" (WIRE.md 6), and "set to 0 or below the worker's is taken" (WIRE.md 1.4).
    ("execution_timeout",): _not_negative,
    ("job_defaults", "timeout"): _not_negative,
    ("jobs", ANY_JOB, "timeout"): _not_negative,
    ("job_defaults", "max_parallel"): _positive_or_inherited,
    ("jobs", ANY_JOB, "max_parallel"): _positive_or_inherited,
    # Empty: no Redis (WIRE.md 10).
    _CONNECTION_STRING: lambda text: text or None,
}
"""What .NET reads out of values that our classes refuse."""


def _assembled(base: WorkerSettings, values: Mapping[Place, object], sections: Mapping[Place, str]) -> WorkerSettings:
    told: dict[Place, dict[str, object]] = {}
    for place, value in values.items():
        told.setdefault(place[:-1], {})[place[-1]] = value
    changes = told.get((), {})
    for attribute in fields(WorkerSettings):
        kind = section_of(attribute.type)
        if kind is not None and (place := (attribute.name,)) in sections:
            changes[attribute.name] = _changed(getattr(base, attribute.name) or kind(), told.get(place, {}))
    if values.get(_CONNECTION_STRING, "") is None:
        changes["redis"] = None
    for mapped in MAPPINGS:
        named: dict[str, AttrsInstance] = dict(getattr(base, mapped.attribute))
        spelled = {name.lower(): name for name in named}
        for place, name in sections.items():
            if len(place) == 2 and place[0] == mapped.attribute:
                name = spelled.setdefault(place[1], name)
                said = told.get(place, {})
                gone: dict[str, object] = dict.fromkeys(taken_back(said)) if mapped.kind is ScheduleSettings else {}
                named[name] = _changed(named.get(name) or mapped.kind(), gone | said)
        changes[mapped.attribute] = named
    return _changed(base, changes)


def _changed(settings: A, changes: Mapping[str, object]) -> A:
    """The same with changes. What depends on other fields, and nobody gave, does so anew: the port, say, on TLS."""
    kept = {
        attribute.name: getattr(settings, attribute.name)
        for attribute in fields(type(settings))
        if not (getattr(attribute.default, "takes_self", False) and is_usual(settings, attribute.name))
    }
    return type(settings)(**{**kept, **changes})
