"""What every setting is called outside of Python, and what else the files of .NET workers hold (WIRE.md 10).

One table for readers, errors and documentation. Names are found without regard to case and `_`, so a setting may be
written as .NET does, `ExecutionTimeoutSeconds`, or as `WorkerSettings` does, `execution_timeout`.
"""

import difflib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias, get_args, get_origin

from attrs import AttrsInstance, define, field, fields, frozen

from milvaion_trio.configuration.inert import ANY_JOB, ANY_SCHEDULE, WITHOUT_EFFECT, WithoutEffect
from milvaion_trio.model.schedule_settings import ScheduleSettings
from milvaion_trio.model.settings import HeartbeatSettings, JobSettings, WorkerSettings
from milvaion_trio.model.settings_rules import section_of

__all__ = [
    "ANY_JOB",
    "ANY_SCHEDULE",
    "MAPPINGS",
    "SCHEMA_VERSION",
    "SETTINGS",
    "Found",
    "Mapped",
    "Place",
    "Setting",
    "dotted",
    "find",
    "is_alias",
    "is_of_named",
    "nearest",
]

SCHEMA_VERSION: Final = 1
"""Of the names and meanings here; higher when one of them changes, and not when one is added."""

Place: TypeAlias = tuple[str, ...]
"""Where a value stands in a `WorkerSettings`, attribute by attribute: `("rabbitmq", "port")`."""

_WORKER: Final = "Worker"


@frozen(kw_only=True)
class Mapped:
    """A section whose keys are names that somebody chose, each with settings of the same kind below it."""

    section: str
    """In .NET's files."""
    attribute: str
    """Of `WorkerSettings`."""
    any_name: str
    """Stands in a place and in a path where the name does."""
    kind: type[AttrsInstance]


MAPPINGS: Final = (
    Mapped(section="JobConsumers", attribute="jobs", any_name=ANY_JOB, kind=JobSettings),
    Mapped(section="Schedules", attribute="schedules", any_name=ANY_SCHEDULE, kind=ScheduleSettings),
)
_ANY: Final = frozenset(mapped.any_name for mapped in MAPPINGS)
_NAMED: Final = frozenset(mapped.section for mapped in MAPPINGS)


@frozen(kw_only=True)
class Setting:
    """One setting that can be said as text."""

    place: Place
    path: tuple[str, ...]
    """Its name in .NET's files, section by section."""
    annotation: object
    """What its text stands for: the type with its rules; of a list, those of an item."""
    is_list: bool
    """Whether it holds several values, each with a number of its own below it."""
    is_secret: bool


# .NET's names that are not simply the attribute's, with capitals.
_NAMES: Final[Mapping[type[AttrsInstance], Mapping[str, str]]] = {
    WorkerSettings: {
        "execution_timeout": "ExecutionTimeoutSeconds",
        "startup_connection_timeout": "StartupConnectionTimeoutSeconds",
        "rabbitmq": "RabbitMQ",
    },
    JobSettings: {
        "base_retry_delay": "BaseRetryDelaySeconds",
        "timeout": "ExecutionTimeoutSeconds",
        "max_parallel": "MaxParallelJobs",
    },
    HeartbeatSettings: {
        "interval": "IntervalSeconds",
        "job_interval": "JobHeartbeatIntervalSeconds",
    },
}

# The SDK reads the first, its readme shows the second; they are one setting. It also is how a single one is written.
_SINGULAR: Final = {"RoutingPatterns": "RoutingPattern"}

_NEVER_TEXT: Final = {"never_retry"}

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
"""What needs no quotes as a part of a dotted name."""


@define(eq=False)
class _Node:
    """A section, a setting, or a key without effect, in the tree of all that may be said."""

    path: tuple[str, ...]
    place: Place
    meaning: Setting | WithoutEffect | None = None
    below: dict[str, "_Node"] = field(factory=dict)


@frozen(kw_only=True)
class Found:
    """What a path leads to: a setting, a key without effect, or a section (no meaning)."""

    meaning: Setting | WithoutEffect | None
    place: Place
    """With the name of the job or schedule, in lower case, where there is one."""
    path: tuple[str, ...]
    """As far as it is known, in the table's spelling."""
    rest: tuple[str, ...]
    """What follows and is not known."""


def find(path: Sequence[str], *, is_short: bool = False) -> Found:
    """Follow a path as far as it is known. `is_short` allows to leave `Worker` out."""
    node, chosen, depth = _walked(path, is_short)
    return Found(
        meaning=node.meaning,
        place=tuple(chosen.lower() if name in _ANY else name for name in node.place),
        path=tuple(chosen if name in _ANY else name for name in node.path),
        rest=tuple(path[depth:]),
    )


def nearest(found: Found) -> tuple[str, ...] | None:
    """The path that somebody may have meant who wrote one with an unknown rest."""
    wanted, *deeper = found.rest
    if not is_of_named(found.path):  # rightly called, in the wrong section
        elsewhere = [setting.path for setting in SETTINGS if _folded(setting.path[-1]) == _folded(wanted)]
        elsewhere = [path for path in elsewhere if not is_of_named(path)]
        if len(elsewhere) == 1:
            return elsewhere[0]
    node, _, _ = _walked(found.path)
    names = {
        name: (*found.path, below.path[-1]) if _ANY & {*below.path} else below.path
        for name, below in node.below.items()
        if name not in _ANY
    }
    if len(found.path) < 2:
        names |= {name: section.path for name, section in _ROOT.below.items()}
    near = difflib.get_close_matches(_folded(wanted), names, n=1)
    if not near:
        return None
    path = names[near[0]]
    whole = find((*path, *deeper))
    return path if whole.rest else whole.path


def dotted(path: Sequence[str]) -> str:
    """A path of the table as TOML and the command line have it: `rabbitmq.host`, `jobs.SendEmailJob.timeout`."""
    names = list(find(path).place) or [_WORKER.lower()]
    if len(path) > 1 and is_of_named(path):
        names[1] = path[1]  # as it is written
    return ".".join(name if _BARE.fullmatch(name) else json.dumps(name, ensure_ascii=False) for name in names)


def is_alias(name: str, setting: Setting) -> bool:
    """Whether this is the name for a single item of a list, .NET's `RoutingPattern`."""
    return _folded(name) == _folded(_SINGULAR.get(setting.path[-1], ""))


def is_of_named(path: Sequence[str]) -> bool:
    """Whether a path of the table begins with a section whose keys are names that somebody chose."""
    return len(path) > 0 and path[0] in _NAMED


def _walked(path: Sequence[str], is_short: bool = False) -> tuple[_Node, str, int]:
    node, chosen = _ROOT, ""
    if is_short and path and _folded(path[0]) not in _ROOT.below:
        node = _ROOT.below[_folded(_WORKER)]
    for depth, name in enumerate(path):
        anything = next((node.below[any_name] for any_name in _ANY & node.below.keys()), None)
        deeper = anything or node.below.get(_folded(name))
        if deeper is None or not name:
            return node, chosen, depth
        if deeper is anything:
            chosen = name
        node = deeper
    return node, chosen, len(path)


def _folded(name: str) -> str:
    return name.replace("_", "").lower()


def _pascal(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def _grown() -> _Node:
    root, worker = _Node((), ()), _Node((_WORKER,), ())
    root.below[_folded(_WORKER)] = worker
    for mapped in MAPPINGS:
        one = _Node((mapped.section, mapped.any_name), (mapped.attribute, mapped.any_name))
        section = _Node((mapped.section,), (mapped.attribute,), below={mapped.any_name: one})
        root.below[_folded(mapped.section)] = section
        worker.below[mapped.attribute] = section  # its natural name too, where `Worker` is left out
        _grow(one, mapped.kind)
    _grow(worker, WorkerSettings)
    for key in WITHOUT_EFFECT:
        _add(root, key)
    return root


def _grow(node: _Node, kind: type[AttrsInstance]) -> None:
    for attribute in fields(kind):
        if attribute.name in node.below or attribute.name in _NEVER_TEXT:
            continue
        name = _NAMES.get(kind, {}).get(attribute.name) or _pascal(attribute.name)
        leaf = _Node((*node.path, name), (*node.place, attribute.name))
        if (section := section_of(attribute.type)) is not None:
            _grow(leaf, section)
        else:
            annotation = _without_none(attribute.type)
            is_list = get_origin(annotation) is tuple
            leaf.meaning = Setting(
                place=leaf.place,
                path=leaf.path,
                annotation=get_args(annotation)[0] if is_list else annotation,
                is_list=is_list,
                is_secret=callable(attribute.repr),  # see problems_of()
            )
        for spelled in (name, attribute.name, _SINGULAR.get(name, name)):
            node.below[_folded(spelled)] = leaf


def _without_none(annotation: object) -> object:
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    return kinds[0] if type(None) in get_args(annotation) else annotation


def _add(root: _Node, key: WithoutEffect) -> None:
    node = root
    for depth, name in enumerate(key.path, 1):
        deeper = _Node(key.path[:depth], (*node.place, _snake(name)))
        node = node.below.setdefault(_folded(name), deeper)
    node.meaning = key


def _settings(node: _Node) -> Iterator[Setting]:
    for below in dict.fromkeys(node.below.values()):
        if isinstance(below.meaning, Setting):
            yield below.meaning
        yield from _settings(below)


_ROOT: Final = _grown()
SETTINGS: Final = tuple(dict.fromkeys(_settings(_ROOT)))
"""Every setting, in the order of the classes."""
