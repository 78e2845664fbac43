"""What `schedule list` shows of a schedule that this machine cannot work out: another one may have made it."""

import io
from typing import Any, cast

import pytest
from attrs import evolve
from rich.console import Console
from rich.table import Table

from milvaion_trio.cli.schedule_rows import facts_of, schedules_table
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.schedule import Cron, Entry, Every, Once, OpenRun, Progress, Recurrence, Schedule


def text_of(table: Table) -> str:
    console = Console(file=io.StringIO(), width=300)
    console.print(table)
    return cast("io.StringIO", console.file).getvalue()


NOW = 1_893_456_000_000
FOR_EVER = 253_402_300_799_000


def entry(when: Recurrence, **more: Any) -> Entry:
    return Entry(schedule=Schedule(id="s", job="J", worker_id="w", pattern="w.j", when=when, **more), created=NOW)


@pytest.mark.parametrize(
    ("when", "why"),
    [
        (Cron(expression="0 9 * * *", timezone="No/Where"), "time zone 'No/Where' is not known"),
        (Cron(expression="0 9 * *"), "cron expression '0 9 * *' has 4 fields"),
    ],
)
def test_one_that_cannot_be_worked_out_is_shown_all_the_same(when: Recurrence, why: str) -> None:
    """Else it would keep all the others from being seen."""
    facts = facts_of(entry(when), NOW, 3)

    assert (facts["state"], facts["next"]) == ("unclear", [])
    assert why in facts["why"]
    Console(quiet=True).print(schedules_table([facts]))
    assert facts_of(evolve(entry(when), paused=True), NOW, 3)["state"] == "paused"


def test_an_end_in_the_last_hours_that_there_are_is_shown() -> None:
    """Whoever wants no end may write the 31st of December 9999."""
    there = entry(Cron(expression="0 9 * * *", timezone="Europe/Istanbul"), end=FOR_EVER)

    assert facts_of(there, NOW, 1)["end"] == "9999-12-31T23:59:59+00:00"
    assert facts_of(entry(Every(5.0), end=FOR_EVER), NOW, 1)["state"] == "active"
    assert facts_of(entry(Once(FOR_EVER)), NOW, 1)["next"] == ["9999-12-31T23:59:59+00:00"]


def test_a_run_that_has_not_ended_is_not_shown_with_the_end_of_an_earlier_one() -> None:
    there = entry(Every(5.0))
    ended = Progress(last_tick=NOW, last_status=OccurrenceStatus.COMPLETED)
    run = OpenRun(tick=NOW, dispatched=NOW)

    shown = [
        text_of(schedules_table([facts_of(evolve(there, progress=progress), NOW, 1)]))
        for progress in (ended, evolve(ended, open_runs=(run,)))
    ]

    assert ["Completed" in each for each in shown] == [True, False]
    assert "1 not ended" in shown[1]


def test_why_one_is_disabled_is_shown_without_a_stack() -> None:
    why = "Failures in a row: 5. The last one: Type: RuntimeError\nMessage: boom\nStackTrace: File one\n  raise Runti"
    shown = text_of(
        schedules_table([facts_of(entry(Every(5.0)), NOW, 1) | {"state": "disabled", "why": why}])  # type: ignore[operator]
    )

    assert "disabled: Failures in a row: 5. The last one: Type: RuntimeError, Message: boom" in " ".join(shown.split())
    assert "StackTrace" not in shown
