"""What guarded messages say, and when one that cannot run comes again."""

import pytest
from attrs import evolve

from milvaion_trio.broker.ladder import RUNGS
from milvaion_trio.model import headers
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.policy.conclusion import Parked
from milvaion_trio.policy.guarding import (
    UNIQUE_FOR,
    Tick,
    exclusive_lease_problems,
    goes_on,
    park_delay,
    parked,
    tick_of,
    twin_mark,
    unique_for,
)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 1000])
@pytest.mark.parametrize("draw", [0.0, 0.49, 0.51, 0.999])
def test_what_is_sent_away_waits_on_one_rung(count: int, draw: float) -> None:
    """Over the hop queue it would be said to be running."""
    assert park_delay(count, draw) in RUNGS
    assert park_delay(count, draw) <= 10


def test_a_tick_is_read_as_the_scheduler_writes_it() -> None:
    assert tick_of({headers.SCHEDULE: b"nightly", headers.TICK: "1893456000000"}) == Tick("nightly", 1893456000000)
    assert tick_of({headers.SCHEDULE: "nightly", headers.TICK: "\u0661"}) is None
    assert tick_of({headers.TICK: "1"}) is None


@pytest.mark.parametrize(
    ("retries", "snoozes", "away", "expected"),
    [(0, 0, 0, False), (0, 3, 3, False), (0, 3, 2, True), (1, 0, 0, True), (1, 2, 2, True)],
)
def test_only_a_later_attempt_goes_on(retries: int, snoozes: int, away: int, expected: bool) -> None:
    attempt = AttemptKey(OccurrenceId("o"), None, retries, snoozes)

    assert goes_on(attempt, {headers.PARKED: away}) is expected


def test_the_first_time_is_counted() -> None:
    assert parked({}, 2, 1).count == 1
    assert parked({headers.PARKED: 4}, 2, 1).count == 5
    assert parked({headers.EARLIER_RUNS: 1, headers.EARLIER_DEATHS: 1}, 3, 1) == Parked(1, runs=3, deaths=2)


def test_the_mark_of_a_twin_is_that_of_its_message_and_of_no_other_attempt() -> None:
    """A workflow dispatches an occurrence again, with another stamp; a retry and a snooze are attempts of their own."""
    first = AttemptKey(OccurrenceId("o"), "1", 0, 0)
    others = [
        evolve(first, dispatch_stamp="2"),
        evolve(first, dispatch_stamp=None),
        evolve(first, retry_count=1),
        evolve(first, snoozes=1),
        evolve(first, occurrence_id=OccurrenceId("p")),
    ]

    assert len({twin_mark(each, {}) for each in (first, *others)}) == 6
    for each in (first, *others):
        copy = evolve(each, snoozes=each.snoozes + 2)
        assert twin_mark(copy, {headers.PARKED: 2}) == twin_mark(each, {})


@pytest.mark.parametrize(("said", "seconds"), [(None, UNIQUE_FOR), (60, 60.0), (-5, UNIQUE_FOR), ("60", UNIQUE_FOR)])
def test_seconds_of_a_unique_key(said: int | str | None, seconds: float) -> None:
    assert unique_for({headers.UNIQUE_FOR: said}) == seconds


def test_the_usual_lease_is_long_enough_for_the_usual_clean_up() -> None:
    assert list(exclusive_lease_problems(15.0, 5.0)) == []
    assert len(list(exclusive_lease_problems(15.0, 60.0))) == 1
