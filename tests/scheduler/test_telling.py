"""What a leader's agenda lets be told: of what the book has, all, once."""

from tests.support.scheduling import START, schedule

from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.schedule import Entry, Every, Overlap, RunEnd
from milvaion_trio.scheduler.agenda import Agenda
from milvaion_trio.scheduler.telling import Written

SECOND = 1000


def agenda_with(*names: str) -> Agenda:
    agenda = Agenda()
    for name in names:
        agenda.put(Entry(schedule=schedule(name, Every(10), overlap=Overlap.ALLOW), created=START), START)
    return agenda


def dispatch(agenda: Agenda, now: int) -> None:
    for planned in agenda.plan(now, 10):
        agenda.done(planned, planned.decision.progress, now)


def ticks(written: Written) -> list[tuple[str, int]]:
    return [(begun.entry.schedule.id, (begun.run.tick - START) // SECOND) for begun in written.begun]


def test_what_is_dispatched_while_the_book_is_written_is_told_with_the_next_writing() -> None:
    agenda = agenda_with("a")
    dispatch(agenda, START + 10 * SECOND)
    first = agenda.to_write()
    dispatch(agenda, START + 20 * SECOND)

    told = agenda.written(*first)
    told_next = agenda.written(*agenda.to_write())

    assert ticks(told) == [("a", 10)]
    assert ticks(told_next) == [("a", 20)]
    assert [len(entry.progress.open_runs) for entry in told.entries] == [1]


def test_what_could_not_be_written_is_told_when_it_is() -> None:
    agenda = agenda_with("a", "b")
    dispatch(agenda, START + 10 * SECOND)
    agenda.to_write()
    dispatch(agenda, START + 20 * SECOND)

    told = agenda.written(*agenda.to_write())

    assert sorted(ticks(told)) == [("a", 10), ("a", 20), ("b", 10), ("b", 20)]
    assert agenda.written(*agenda.to_write()).begun == []


def test_an_end_is_told_with_the_start_that_nobody_wrote() -> None:
    """And an end that says nothing new without one."""
    agenda = agenda_with("a")
    end = RunEnd(schedule_id="a", tick=START + 10 * SECOND, status=OccurrenceStatus.COMPLETED, at=START + 11 * SECOND)

    agenda.count([end], START + 11 * SECOND)
    told = agenda.written(*agenda.to_write())
    agenda.count([end], START + 12 * SECOND)
    told_again = agenda.written(*agenda.to_write())

    assert (ticks(told), told.ended) == ([("a", 10)], (end,))
    assert (ticks(told_again), told_again.ended) == ([], (end,))
