"""The options of schedules, from their classes: their names in code, settings and commands, defaults and meanings."""

from collections.abc import Iterator
from typing import Final

from attrs import NOTHING, fields_dict
from docs.prose import table_row

from milvaion_trio.configuration.schema import meanings
from milvaion_trio.model.schedule import Cron, Schedule
from milvaion_trio.model.schedule_settings import ScheduleSettings

__all__ = ["options_table"]

_TIMES: Final = ("cron", "every", "at")


def options_table() -> str:
    """One row for each option: its name, that of the command, what holds unless it is said, its meaning."""
    return "\n".join(["", *_rows(), ""])


def _rows() -> Iterator[str]:
    texts = meanings(ScheduleSettings)
    yield "| option | `schedule add` | unless said | meaning |"
    yield "| --- | --- | --- | --- |"
    yield table_row("`id`", "`--id`", "the job's name", "The schedule's name; in settings that of its table.")
    for name in fields_dict(ScheduleSettings):
        option = "`JOB`" if name == "job" else f"`--{name.replace('_', '-')}`"
        yield table_row(f"`{name}`", option, _default(name), _meaning(texts.get(name, "")))


def _meaning(text: str) -> str:
    """Without the default, which `ScheduleSettings` says at the end of the sentence."""
    said, _, default = " ".join(text.split()).rpartition("; ")
    return f"{said}." if said and len(default.split()) <= 2 else " ".join(text.split())


def _default(name: str) -> str:
    if name in _TIMES:
        return "one is needed"
    if name == "timezone":
        return f"`{fields_dict(Cron)['timezone'].default}`"
    if name == "job":
        return "that below the decorator"
    default = fields_dict(Schedule)[name].default
    assert default is not NOTHING
    return "none" if default is None else f"`{default}`"
