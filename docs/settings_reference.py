"""The reference of the settings, from their classes: names, defaults, the check that each value must pass, meanings."""

import inspect
import re
from collections.abc import Iterator

from attrs import NOTHING, Attribute, AttrsInstance, fields
from docs.prose import sentences, table_row

from milvaion_trio.configuration import environment, inert, keys
from milvaion_trio.configuration.schema import meanings
from milvaion_trio.model import settings, settings_rules
from milvaion_trio.model.schedule_settings import ScheduleSettings
from milvaion_trio.model.wire import Dialect

__all__ = ["keys_without_effect", "settings_tables"]

_PLACES: dict[type[AttrsInstance], str] = {
    settings.WorkerSettings: "",
    settings.JobSettings: "",
    ScheduleSettings: "",
    settings.HeartbeatSettings: "heartbeat",
    settings.ShutdownSettings: "shutdown",
    settings.ReportingSettings: "reporting",
    settings.OfflineResilienceSettings: "offline_resilience",
    settings.SchedulerSettings: "scheduler",
    settings.MonitorSettings: "monitor",
    settings.ExternalSchedulerSettings: "external_scheduler",
    settings.RabbitMQSettings: "rabbitmq",
    settings.RedisSettings: "redis",
}
"""Every class of settings, and the attribute of the worker's settings that holds it."""


def settings_tables() -> str:
    """One table for each class of settings: names in Python, in files and of the variable; meaning and values."""
    return "\n".join("\n".join(_table(kind, place)) for kind, place in _PLACES.items())


def _table(kind: type[AttrsInstance], place: str) -> Iterator[str]:
    texts = meanings(kind)
    section = _section(kind, place)
    yield f"\n\n### `{kind.__name__}`\n"
    yield from sentences(inspect.getdoc(kind) or "")
    if place:
        yield f"The attribute `{place}` of `WorkerSettings`."
    yield ""
    yield "| names | meaning |"
    yield "| --- | --- |"
    for attribute in fields(kind):
        # Below each other: side by side, three long names leave no room for anything else.
        in_toml = ".".join((*section, attribute.name))  # in Python too, but for the name of the job
        names = "<br>".join([f"`{in_toml}`", *_outside((*section, attribute.name))])
        values = f"Unless given: {_default(attribute, kind)}. May be {_allowed(attribute)}."
        yield table_row(names, "<br>".join(filter(None, [texts.get(attribute.name), values])))


_PATHS = {setting.place: setting.path for setting in keys.SETTINGS}


def _section(kind: type[AttrsInstance], place: str) -> keys.Place:
    for mapped in keys.MAPPINGS:
        if kind is mapped.kind:
            return (mapped.attribute, mapped.any_name)
    return (place,) if place else ()


def _outside(place: keys.Place) -> tuple[str, ...]:
    """The name in .NET's files and of the variable; nothing for sections, and for what only code can say."""
    path = _PATHS.get(place)
    return () if path is None else (f"`{':'.join(path)}`", f"`{environment.variable(path)}`")


def keys_without_effect() -> str:
    """What .NET's files may hold that does nothing here, and why that is so."""
    lines = ["", "| in files | without effect, because | warning | later |", "| --- | --- | --- | --- |"]
    for key in (*inert.WITHOUT_EFFECT, *inert.FOREIGN):
        warning = "where it is set and not false" if key.is_missed else "no"
        lines.append(table_row(f"`{':'.join(key.path)}`", key.why, warning, "yes" if key.is_planned else "no"))
    return "\n".join([*lines, ""])


def _default(attribute: "Attribute[object]", kind: type[AttrsInstance]) -> str:
    default = attribute.default
    if settings_rules.section_of(attribute.type) is not None:
        return "a section of defaults" if default is not None else "none"
    if default is NOTHING:
        return "an error"
    if isinstance(default, Dialect):
        return f"`{default}`"  # as code writes it: Dialect.V1_1
    if hasattr(default, "factory"):  # it depends on other settings, and the meaning says how
        default = settings_rules.usual(kind(), attribute.name)
    return "empty" if default in ({}, "", ()) else f"`{default!r}`"


def _allowed(attribute: "Attribute[object]") -> str:
    section = settings_rules.section_of(attribute.type)
    if section is not None:
        return f"[`{section.__name__}`](#{section.__name__.lower()})"
    # The words of the very check that refuses anything else.
    words = settings_rules.words_of(attribute.type).removesuffix(", or None")
    return re.sub(r"'([\w.]+)'", r"`\1`", words)
