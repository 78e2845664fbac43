"""What a leader holds in memory, between what the book says and what is on its way."""

from attrs import evolve
from tests.support.scheduling import START, schedule

from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.schedule import Entry, Every, OpenRun, Overlap, Progress, RunEnd
from milvaion_trio.scheduler.agenda import Agenda, Planned

SECOND = 1000
LATER = START + 10 * SECOND


def entry(name: str = "s", overlap: Overlap = Overlap.ALLOW) -> Entry:
    return Entry(schedule=schedule(name, Every(10), overlap=overlap), created=START)


def agenda_with(*entries: Entry) -> Agenda:
    agenda = Agenda()
    for each in entries:
        agenda.put(each, START)
    return agenda


def planned(agenda: Agenda, now: int) -> Planned:
    (only,) = agenda.plan(now, 10)
    return only


def test_progress_that_is_not_written_outlives_a_reading_of_the_book() -> None:
    """What was dispatched while the book was being read is not dispatched again."""
    agenda = agenda_with(entry())
    plan = planned(agenda, LATER)
    agenda.done(plan, plan.decision.progress, LATER)

    agenda.put(entry(), LATER)

    assert agenda.plan(LATER, 10) == []
    assert agenda.to_write()[0]["s"].runs == 1


def test_a_schedule_that_was_made_anew_begins_anew() -> None:
    agenda = agenda_with(entry())
    plan = planned(agenda, LATER)
    agenda.done(plan, plan.decision.progress, LATER)

    agenda.put(evolve(entry(), created=LATER), LATER)

    assert agenda.next_due == LATER + 10 * SECOND


def test_nothing_is_decided_about_what_is_on_its_way() -> None:
    """Neither by an edit nor by an end: the next decision has to know what became of this one."""
    agenda = agenda_with(entry(overlap=Overlap.SKIP))
    plan = planned(agenda, LATER)
    end = RunEnd(schedule_id="s", tick=LATER, status=OccurrenceStatus.COMPLETED, at=LATER)

    agenda.put(entry(), LATER)
    agenda.count([end], LATER)

    assert agenda.plan(LATER + 60 * SECOND, 10) == []
    assert agenda.to_write() == ({}, ())
    agenda.done(plan, plan.decision.progress, LATER)
    agenda.count([end], LATER)  # told again, as nobody has taken it
    progress, taken = agenda.to_write()
    assert progress["s"].open_runs == ()
    assert taken == (end,)


def test_what_was_removed_meanwhile_is_gone() -> None:
    agenda = agenda_with(entry(), entry("other"))
    plans = agenda.plan(LATER, 10)

    agenda.keep(["other"])
    for plan in plans:
        agenda.done(plan, plan.decision.progress, LATER)

    assert agenda.to_write()[0].keys() == {"other"}
    assert len(agenda) == 1


def test_what_was_made_anew_meanwhile_is_looked_at_again() -> None:
    agenda = agenda_with(entry())
    plan = planned(agenda, LATER)

    agenda.put(evolve(entry(), created=LATER), LATER)
    agenda.done(plan, plan.decision.progress, LATER)

    assert agenda.next_due == LATER + 10 * SECOND
    assert agenda.to_write()[0] == {}


def test_what_was_put_off_is_due_then() -> None:
    agenda = agenda_with(entry())
    plan = planned(agenda, LATER)

    agenda.put_off(plan, LATER + 500)

    assert agenda.next_due == LATER + 500
    assert planned(agenda, LATER + 500).decision.dispatches == (LATER,)


def test_only_what_was_read_is_taken_for_written() -> None:
    """Progress goes on while it is being written."""
    agenda = agenda_with(entry())
    plan = planned(agenda, LATER)
    agenda.done(plan, plan.decision.progress, LATER)
    being_written = agenda.to_write()
    plan = planned(agenda, LATER + 10 * SECOND)
    agenda.done(plan, plan.decision.progress, LATER + 10 * SECOND)

    agenda.written(*being_written)

    assert agenda.unwritten.is_set()
    assert agenda.to_write()[0]["s"].runs == 2
    agenda.written(*agenda.to_write())
    assert not agenda.unwritten.is_set()
    assert agenda.to_write() == ({}, ())


def test_ends_of_schedules_that_are_gone_are_taken() -> None:
    """Else they would be told for ever."""
    agenda = agenda_with()
    end = RunEnd(schedule_id="gone", tick=LATER, status=OccurrenceStatus.COMPLETED, at=LATER)

    agenda.count([end, end], LATER)

    assert agenda.to_write() == ({}, (end,))


def test_a_workers_clock_that_is_ahead_disables_nothing_for_longer() -> None:
    """Whoever resumes the schedule a moment later means it."""
    agenda = agenda_with(evolve(entry(), schedule=evolve(entry().schedule, disable_after=1)))
    plan = planned(agenda, LATER)
    agenda.done(plan, plan.decision.progress, LATER)
    end = RunEnd(schedule_id="s", tick=LATER, status=OccurrenceStatus.FAILED, at=LATER + 3600 * SECOND, error="no")

    agenda.count([end], LATER + SECOND)

    progress, taken = agenda.to_write()
    assert progress["s"].disabled == LATER + SECOND
    assert taken == (end,)


def test_at_most_so_many_are_decided_at_a_time() -> None:
    agenda = agenda_with(*(entry(f"s{number}") for number in range(5)))

    assert [len(agenda.plan(LATER, 2)) for _ in range(4)] == [2, 2, 1, 0]


def test_what_was_put_off_and_removed_meanwhile_is_not_looked_at_again() -> None:
    agenda = agenda_with(entry())
    plan = planned(agenda, LATER)

    agenda.keep([])
    agenda.put_off(plan, LATER + 500)

    assert agenda.next_due is None
    assert agenda.plan(LATER + 60 * SECOND, 10) == []


def test_progress_of_what_was_removed_is_not_written() -> None:
    agenda = agenda_with(entry(), entry("other"))
    for plan in agenda.plan(LATER, 10):
        agenda.done(plan, plan.decision.progress, LATER)

    agenda.keep(["other"])

    assert agenda.to_write()[0].keys() == {"other"}


def test_an_open_run_is_met_wherever_its_tick_is_among_those_that_are_due() -> None:
    """Else the tick would be decided by news of a second ago, and left out for a run that is over."""
    blocked = entry("z", overlap=Overlap.SKIP)
    run = OpenRun(START, START)
    agenda = agenda_with(
        *(entry(f"s{number}") for number in range(6)), evolve(blocked, progress=Progress(open_runs=(run,)))
    )

    assert agenda.meets_open_run(LATER)
    assert not agenda.meets_open_run(LATER - 1)
