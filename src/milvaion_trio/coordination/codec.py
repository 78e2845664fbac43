"""Schedules, their progress and their runs' ends as JSON text, the same in every keeper.

A schedule is two texts, as its recurrence is compared alone. Equal values have equal texts: keepers compare those.
Members that a newer version wrote are passed over; what cannot be read at all is left to the caller.
"""

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, TypeVar

from attrs import fields
from cattrs import Converter
from cattrs.gen import make_dict_unstructure_fn, override

from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.schedule import Cron, Every, Once, Progress, Recurrence, RunEnd, Schedule

__all__ = [
    "end_text",
    "progress_text",
    "read_end",
    "read_progress",
    "read_schedule",
    "recurrence_text",
    "schedule_text",
]

T = TypeVar("T")

SCHEDULES_REMEMBERED: Final = 16_384
"""Schedules that are not made from their text again: a leader reads all of them after each edit of one, and to make one
costs 0.1 ms, as its values are checked.
"""

_KINDS: Final = {"cron": Cron, "every": Every, "once": Once}
_NAMES: Final = {kind: name for name, kind in _KINDS.items()}


def schedule_text(schedule: Schedule) -> str:
    """All of it but its recurrence. Whole, as another version may have other defaults."""
    return _written(_UNSTRUCTURE_SCHEDULE(schedule))


def recurrence_text(recurrence: Recurrence) -> str:
    """When it ticks."""
    return _written({"kind": _NAMES[type(recurrence)], **_CONVERTER.unstructure(recurrence)})


@lru_cache(maxsize=SCHEDULES_REMEMBERED)
def read_schedule(text: str | bytes, recurrence: str | bytes) -> Schedule:
    """The schedule of the two texts; raises `ValueError` for what this version cannot read."""
    return _read(lambda value: _CONVERTER.structure({**value, "when": json.loads(recurrence)}, Schedule), text)


def progress_text(progress: Progress) -> str:
    """How far a schedule has come. Without what is as at the beginning: it is written at every tick."""
    return _written(_CONVERTER.unstructure(progress))


def read_progress(text: str | bytes | None) -> Progress:
    """The progress of that text, or the first one for none; raises `ValueError`."""
    return Progress() if text is None else _read(lambda value: _CONVERTER.structure(value, Progress), text)


def end_text(end: RunEnd) -> str:
    """How a run ended."""
    return _written(_CONVERTER.unstructure(end))


def read_end(text: str | bytes) -> RunEnd:
    """The end of that text; raises `ValueError`."""
    return _read(lambda value: _CONVERTER.structure(value, RunEnd), text)


def _written(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)


def _read(structured: Callable[[Any], T], text: str | bytes) -> T:
    try:
        return structured(json.loads(text))
    except Exception as error:  # of whatever another version may have written
        # Without the text, in which a job's data may be: this is logged.
        raise ValueError(f"this version cannot read it ({type(error).__name__}: {error})") from error


def _recurrence(value: Any, _: object) -> Recurrence:
    kind: Recurrence = _CONVERTER.structure(value, _KINDS[value["kind"]])
    return kind


def _status(value: Any, _: object) -> OccurrenceStatus | int | None:
    """Numbers without a name come from later versions (WIRE.md 4.2)."""
    if value is None:
        return None
    try:
        return OccurrenceStatus(value)
    except ValueError:
        return int(value)


_CONVERTER: Final = Converter(detailed_validation=False)
_CONVERTER.register_structure_hook(Recurrence, _recurrence)
_CONVERTER.register_structure_hook(fields(RunEnd).status.type, _status)
_CONVERTER.register_structure_hook(fields(Progress).last_status.type, _status)
_CONVERTER.register_unstructure_hook(fields(RunEnd).status.type, int)
_CONVERTER.register_unstructure_hook(
    fields(Progress).last_status.type, lambda status: None if status is None else int(status)
)
_CONVERTER.register_unstructure_hook(
    Progress, make_dict_unstructure_fn(Progress, _CONVERTER, _cattrs_omit_if_default=True)
)
_UNSTRUCTURE_SCHEDULE: Final = make_dict_unstructure_fn(Schedule, _CONVERTER, when=override(omit=True))
