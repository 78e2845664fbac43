"""What a schedule does now, rule by rule: every 10 seconds from second 0, with times in seconds."""

from itertools import pairwise
from typing import Any

import pytest
from attrs import evolve

from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.schedule import (
    Cron,
    Entry,
    Every,
    Misfire,
    Once,
    OpenRun,
    Overlap,
    Progress,
    Recurrence,
    RunEnd,
    Schedule,
    occurrence_id_of,
)
from milvaion_trio.policy.scheduling import (
    OPEN_LIMIT,
    WAITING_LIMIT,
    Decision,
    LeftOut,
    Why,
    decide,
    due_at,
    end_seen,
    is_disabled,
    is_over,
    next_ticks,
)

S = OccurrenceStatus
YEAR = 366 * 86_400


def entry(
    when: Recurrence | None = None,
    *,
    created: float = 0,
    paused: bool = False,
    resumed: float | None = None,
    progress: Progress | None = None,
    **rules: Any,
) -> Entry:
    schedule = Schedule(id="s", job="J", worker_id="w", pattern="w.j.*", when=when or Every(10))
    return Entry(
        schedule=evolve(schedule, **rules),
        created=ms(created),
        paused=paused,
        resumed=None if resumed is None else ms(resumed),
        progress=progress or Progress(),
    )


def ms(seconds: float) -> int:
    return round(seconds * 1000)


def after(before: Entry, now: float) -> tuple[Entry, Decision]:
    decision = decide(before, ms(now))
    return evolve(before, progress=decision.progress), decision


def seconds(ticks: tuple[int, ...]) -> list[float]:
    return [tick / 1000 for tick in ticks]


def ended(tick: float, status: OccurrenceStatus | int = S.COMPLETED, at: float = 0, error: str = "") -> RunEnd:
    return RunEnd(schedule_id="s", tick=ms(tick), status=status, at=ms(at), error=error)


def running(*ticks: float, dispatched: float | None = None) -> tuple[OpenRun, ...]:
    return tuple(OpenRun(ms(tick), ms(tick if dispatched is None else dispatched)) for tick in ticks)


def left_out(decision: Decision) -> list[tuple[float, str, int]]:
    return [(each.tick / 1000, each.why.value, each.count) for each in decision.left_out]


# --- time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "dispatched"), [(0, []), (9.999, []), (10, [10]), (20, [10, 20]), (39, [10, 20, 30]), (-50, [])]
)
def test_every_tick_that_is_on_time_is_dispatched_for_itself(now: float, dispatched: list[float]) -> None:
    """Also when several are late by less than the grace: a failover within it loses none."""
    changed, decision = after(entry(overlap=Overlap.ALLOW), now)

    assert seconds(decision.dispatches) == dispatched
    assert changed.progress == Progress(
        decided=ms(dispatched[-1]) if dispatched else None,
        runs=len(dispatched),
        open_runs=running(*dispatched, dispatched=now),
        last_tick=ms(dispatched[-1]) if dispatched else None,
    )
    assert decision.left_out == ()


def test_a_tick_is_decided_once_whatever_the_clock_does() -> None:
    first, _ = after(entry(overlap=Overlap.ALLOW), 30)

    for now in (30, 25, 10, 0, -YEAR, 39.999):
        assert after(first, now) == (first, Decision(progress=first.progress))
    assert seconds(after(first, 40)[1].dispatches) == [40]


def test_asked_again_with_older_progress_it_says_the_same() -> None:
    """So the second message of a tick has the id of the first."""
    before = entry(overlap=Overlap.ALLOW, jitter=3.0)

    assert decide(before, ms(35)) == decide(before, ms(35))
    assert after(before, 45)[1].dispatches[:3] == after(before, 35)[1].dispatches[:3]


@pytest.mark.parametrize(
    ("misfire", "dispatched", "missed"),
    [
        (Misfire.ONCE, [40, 50, 60], (30, "misfire", 3)),
        (Misfire.ALL, [30, 40, 50, 60], (20, "misfire", 2)),
        (Misfire.SKIP, [50, 60], (40, "misfire", 4)),
    ],
)
def test_later_than_its_grace_a_tick_is_a_misfire(
    misfire: Misfire, dispatched: list[float], missed: tuple[float, str, int]
) -> None:
    rules = entry(overlap=Overlap.ALLOW, grace=15.0, misfire=misfire, misfire_limit=2)

    changed, decision = after(rules, 65)

    assert seconds(decision.dispatches) == dispatched
    assert left_out(decision) == [missed]
    assert (changed.progress.decided, changed.progress.left_out) == (ms(60), missed[2])


@pytest.mark.parametrize(("now", "on_time"), [(25, True), (25.001, False)])
def test_the_grace_is_on_time_to_its_last_millisecond(now: float, on_time: bool) -> None:
    decision = decide(entry(grace=15.0, misfire=Misfire.SKIP, progress=Progress(), end=ms(10)), ms(now))

    assert (decision.dispatches == (ms(10),)) is on_time


def test_a_year_without_a_scheduler_is_not_walked_through() -> None:
    """Ten ticks a second, and nobody was there: the decision is made at once."""
    changed, decision = after(entry(Every(0.1), misfire=Misfire.ALL, overlap=Overlap.ALLOW, grace=1.0), YEAR)

    assert len(decision.dispatches) == 100 + 11
    assert left_out(decision) == [(YEAR - 1.1 - 10, "misfire", 1000)]
    assert changed.progress.decided == ms(YEAR)


def test_a_grace_that_holds_very_many_ticks_is_worked_off_in_parts() -> None:
    state, rounds, dispatched = entry(Every(0.1), overlap=Overlap.ALLOW, grace=1000.0), 0, list[float]()
    while (due := due_at(state, ms(250))) is not None and due <= ms(250):
        state, decision = after(state, 250)
        dispatched += seconds(decision.dispatches)
        rounds += 1

    assert rounds == 3
    assert dispatched == [tick / 10 for tick in range(1, 2501)]


def test_once_in_the_past_is_late_like_any_other_tick() -> None:
    for misfire, created, dispatched in (
        (Misfire.ONCE, 30, (ms(10),)),
        (Misfire.SKIP, 30, (ms(10),)),
        (Misfire.ONCE, YEAR, (ms(10),)),
        (Misfire.SKIP, YEAR, ()),
    ):
        changed, decision = after(entry(Once(ms(10)), created=created, misfire=misfire), created)
        assert decision.dispatches == dispatched
        assert is_over(changed)


def test_a_cron_expression_means_nothing_from_before_the_schedule_was_made() -> None:
    """A tick in the very millisecond it was made runs."""
    daily = entry(Cron(expression="0 0 * * *"), created=86_400)

    assert seconds(after(daily, 86_400)[1].dispatches) == [86_400]
    assert after(evolve(daily, created=ms(86_400) + 1), 86_401)[1].dispatches == ()


def test_start_and_end_bound_the_ticks() -> None:
    bounded = entry(start=ms(25), end=ms(45), overlap=Overlap.ALLOW)

    changed, decision = after(bounded, 60)

    assert seconds(decision.dispatches) == [25, 35, 45]
    assert is_over(changed)
    assert due_at(changed, ms(60)) is None


# --- jitter -----------------------------------------------------------------------------------------------------------


def test_jitter_puts_off_evenly_and_always_the_same() -> None:
    put_off = entry(jitter=4.0)

    times = next_ticks(put_off, 0, 400)
    delays = [time - ms(10 * number) for number, time in enumerate(times, start=1)]

    assert next_ticks(put_off, 0, 400) == times
    assert next_ticks(evolve(put_off, schedule=evolve(put_off.schedule, id="other")), 0, 400) != times
    assert min(delays) >= 0
    assert max(delays) <= 4000
    assert [sum(low <= delay < low + 1000 for delay in delays) // 50 for low in range(0, 4000, 1000)] in (
        [[a, b, c, d] for a in (1, 2) for b in (1, 2) for c in (1, 2) for d in (1, 2)]
    )


def test_jitter_of_any_size_keeps_the_order_of_ticks() -> None:
    """It ends where the next tick begins."""
    times = next_ticks(entry(jitter=3600.0), 0, 500)

    assert all(one <= other for one, other in pairwise(times))
    assert all(ms(10 * number) <= time <= ms(10 * (number + 1)) for number, time in enumerate(times, start=1))


def test_a_tick_is_late_only_after_its_jitter() -> None:
    put_off = entry(Once(ms(10)), jitter=1000.0, grace=0.0, misfire=Misfire.SKIP)
    due = due_at(put_off, 0)

    assert due is not None
    assert ms(10) < due <= ms(1010)
    assert decide(put_off, due - 1) == Decision(progress=Progress())
    assert decide(put_off, due).dispatches == (ms(10),)
    assert left_out(decide(put_off, due + 1)) == [(10, "misfire", 1)]


# --- paused, disabled, resumed ----------------------------------------------------------------------------------------


def test_what_passes_during_a_pause_never_runs() -> None:
    """Not when it is resumed either: neither what was asked about during the pause nor what was not."""
    asked, decision = after(entry(paused=True, overlap=Overlap.ALLOW), 35)
    assert left_out(decision) == [(30, "paused", 3)]

    for paused in (entry(overlap=Overlap.ALLOW), asked):
        resumed = evolve(paused, paused=False, resumed=ms(50))
        changed, decision = after(resumed, 75)
        assert seconds(decision.dispatches) == [60, 70]
        assert [why for _, why, _ in left_out(decision)] == ["paused"]
        assert changed.progress.left_out == 0


def test_nothing_is_due_while_it_is_paused_or_disabled() -> None:
    for standing in (entry(paused=True), entry(progress=Progress(disabled=ms(5)))):
        assert due_at(standing, ms(15)) is None
        assert next_ticks(standing, ms(15), 3) == ()
        assert decide(standing, ms(15)).dispatches == ()


def test_a_disabled_schedule_leaves_out_what_passes() -> None:
    changed, decision = after(entry(progress=Progress(disabled=ms(5), failures=5)), 35)

    assert left_out(decision) == [(30, "disabled", 3)]
    assert is_disabled(changed)


@pytest.mark.parametrize(("resumed", "enabled"), [(4, False), (5, False), (6, True)])
def test_resuming_later_enables_it_again(resumed: float, enabled: bool) -> None:
    stopped = Progress(disabled=ms(5), disabled_why="because", failures=5, last_failure=ms(5))
    changed, decision = after(entry(resumed=resumed, progress=stopped), 10)

    assert is_disabled(changed) is not enabled
    if enabled:
        expected = Progress(decided=ms(10), runs=1, open_runs=running(10), last_tick=ms(10))
        assert (changed.progress, seconds(decision.dispatches)) == (expected, [10])


def test_ticks_that_wait_do_so_through_a_pause() -> None:
    waiting = Progress(decided=ms(30), runs=1, waiting=(ms(20), ms(30)), last_tick=ms(10))
    paused, decision = after(entry(overlap=Overlap.QUEUE, paused=True, progress=waiting), 45)
    assert (decision.dispatches, paused.progress.waiting) == ((), waiting.waiting)

    assert seconds(after(evolve(paused, paused=False, resumed=ms(46)), 47)[1].dispatches) == [20]


# --- overlap ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overlap", "dispatched", "waiting", "cancelled", "in_the_way"),
    [
        (Overlap.ALLOW, [20, 30], [], [], []),
        (Overlap.SKIP, [], [], [], [(30, "overlap", 2)]),
        (Overlap.QUEUE, [], [20, 30], [], []),
        (Overlap.CANCEL_PREVIOUS, [30], [], [10, 20], [(20, "overlap", 1)]),
    ],
)
def test_a_run_that_is_open_meets_the_next_ticks(
    overlap: Overlap,
    dispatched: list[float],
    waiting: list[float],
    cancelled: list[float],
    in_the_way: list[tuple[float, str, int]],
) -> None:
    """Of several ticks at once, the latest cancels the others; they may have been dispatched by a leader that died."""
    changed, decision = after(entry(overlap=overlap, progress=Progress(decided=ms(10), open_runs=running(10))), 30)

    assert seconds(decision.dispatches) == dispatched
    assert seconds(changed.progress.waiting) == waiting
    assert decision.cancels == tuple(occurrence_id_of("s", ms(tick)) for tick in cancelled)
    assert left_out(decision) == in_the_way
    assert changed.progress.open_runs == (*running(10), *running(*dispatched, dispatched=30))
    assert changed.progress.left_out == sum(count for _, _, count in in_the_way)


def test_nothing_is_cancelled_where_nothing_follows() -> None:
    overlapping = entry(overlap=Overlap.CANCEL_PREVIOUS, progress=Progress(decided=ms(10), open_runs=running(10)))

    assert decide(overlapping, ms(19)).cancels == ()
    assert decide(evolve(overlapping, schedule=evolve(overlapping.schedule, max_runs=1)), ms(20)).cancels != ()
    over = evolve(overlapping, progress=evolve(overlapping.progress, runs=1))
    assert decide(evolve(over, schedule=evolve(over.schedule, max_runs=1)), ms(20)).cancels == ()


def test_waiting_ticks_run_one_after_the_other_in_order() -> None:
    state, order, now = entry(overlap=Overlap.QUEUE, end=ms(50)), list[float](), 50.0
    state, decision = after(state, now)
    while decision.dispatches:
        order += seconds(decision.dispatches)
        assert len(decision.dispatches) == 1
        assert due_at(state, ms(now)) != ms(now)
        assert is_over(state) is (not state.progress.waiting)
        state = end_seen(state, ended(order[-1]))
        state, decision = after(state, now)

    assert order == [10, 20, 30, 40, 50]
    assert is_over(state)


def test_of_too_many_waiting_ticks_the_oldest_are_left_out() -> None:
    blocked = entry(overlap=Overlap.QUEUE, grace=2000.0, progress=Progress(decided=0, open_runs=running(0)))

    changed, decision = after(blocked, 1500)

    assert WAITING_LIMIT == 100
    assert seconds(changed.progress.waiting) == [tick * 10 for tick in range(51, 151)]
    assert left_out(decision) == [(500, "overlap", 50)]


@pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.QUEUE])
def test_a_run_without_an_end_blocks_until_it_counts_as_lost(overlap: Overlap) -> None:
    open_one = Progress(decided=ms(10), open_runs=running(10))
    blocked = entry(overlap=overlap, lost_after=100.0, grace=1000.0, progress=open_one)
    state, _ = after(blocked, 109.999)
    assert state.progress.open_runs == running(10)
    assert (due_at(state, ms(105)) == ms(110)) or overlap is Overlap.SKIP

    state, decision = after(state, 110)

    assert seconds(decision.dispatches) == ([20] if overlap is Overlap.QUEUE else [110])
    assert len(state.progress.open_runs) == 1


def test_only_so_many_open_runs_are_remembered() -> None:
    """The newest; nobody may ever tell how they end."""
    many = running(*range(OPEN_LIMIT))
    state, _ = after(entry(overlap=Overlap.ALLOW, progress=Progress(decided=ms(5000), open_runs=many)), 5010)

    assert len(state.progress.open_runs) == OPEN_LIMIT
    assert state.progress.open_runs[-1].tick == ms(5010)


def test_waiting_ticks_follow_a_rule_that_was_changed() -> None:
    progress = Progress(decided=ms(30), open_runs=running(10), waiting=(ms(20), ms(30)))
    for overlap, dispatched in ((Overlap.ALLOW, [20, 30]), (Overlap.SKIP, []), (Overlap.CANCEL_PREVIOUS, [30])):
        changed = entry(overlap=overlap, progress=progress)
        assert due_at(changed, ms(31)) == ms(31)
        state, decision = after(changed, 31)
        assert (seconds(decision.dispatches), state.progress.waiting) == (dispatched, ())


# --- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("overlap", "dispatched", "waiting", "too_many"),
    [
        (Overlap.ALLOW, [10, 20, 30], [], [(50, "limit", 2)]),
        (Overlap.QUEUE, [10], [20, 30], [(50, "limit", 2)]),
        (Overlap.SKIP, [10], [], [(50, "overlap", 4)]),
    ],
)
def test_no_more_ticks_than_allowed_are_dispatched(
    overlap: Overlap, dispatched: list[float], waiting: list[float], too_many: list[tuple[float, str, int]]
) -> None:
    state, decision = after(entry(overlap=overlap, max_runs=3), 50)

    assert seconds(decision.dispatches) == dispatched
    assert seconds(state.progress.waiting) == waiting
    assert left_out(decision) == too_many
    assert len(next_ticks(state, ms(50), 10)) == 3 - len(dispatched) - len(waiting)
    assert is_over(state) is (len(dispatched) == 3)


def test_after_the_last_allowed_run_nothing_happens_any_more() -> None:
    state, _ = after(entry(max_runs=1), 10)

    assert is_over(state)
    assert due_at(state, ms(10)) is None
    assert next_ticks(state, ms(10), 5) == ()
    assert decide(end_seen(state, ended(10)), ms(20)).dispatches == ()


def test_a_limit_that_was_lowered_below_what_has_run_lets_nothing_run() -> None:
    lowered = entry(overlap=Overlap.ALLOW, max_runs=2, progress=Progress(decided=ms(30), runs=3))

    assert due_at(lowered, ms(80)) is None
    assert decide(lowered, ms(80)).dispatches == ()


# --- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "failures"),
    [
        ([S.FAILED], 1),
        ([S.FAILED, S.FAILED, S.COMPLETED], 0),
        ([S.FAILED, S.COMPLETED, S.FAILED], 1),
        ([S.FAILED, S.CANCELLED, S.TIMED_OUT, S.UNKNOWN, S.SKIPPED, 42, S.FAILED], 2),
    ],
)
def test_failures_in_a_row_are_counted(statuses: list[OccurrenceStatus | int], failures: int) -> None:
    """WIRE.md 4.4."""
    state = entry(progress=Progress(decided=ms(90), open_runs=running(*range(len(statuses)))))
    for number, status in enumerate(statuses):
        state = end_seen(state, ended(number, status, at=number))

    assert state.progress.failures == failures
    assert state.progress.last_status == statuses[-1]
    assert state.progress.open_runs == ()


@pytest.mark.parametrize(("pause", "failures"), [(3600, 3), (3600.001, 1), (-500, 3)])
def test_a_failure_is_forgotten_after_the_window(pause: float, failures: int) -> None:
    before = Progress(decided=ms(90), open_runs=running(10), failures=2, last_failure=ms(1000))

    progress = end_seen(entry(progress=before), ended(10, S.FAILED, at=1000 + pause)).progress

    assert progress.failures == failures
    assert progress.last_failure == ms(max(1000, 1000 + pause))


def test_enough_failures_disable_it_and_say_why() -> None:
    state = entry(overlap=Overlap.ALLOW, disable_after=2, progress=Progress(decided=0, open_runs=running(1, 2, 3, 4)))
    state = end_seen(state, ended(1, S.FAILED, at=100, error="first"))
    assert not is_disabled(state)

    state = end_seen(state, ended(2, S.FAILED, at=200, error="ValueError: " + "x" * 500))

    assert is_disabled(state)
    assert state.progress.disabled == ms(200)
    assert state.progress.disabled_why.startswith("Failures in a row: 2. The last one: ValueError: xxx")
    assert len(state.progress.disabled_why) == 200
    # A further end changes neither when nor why; nor does a run that goes well enable it.
    state = end_seen(end_seen(state, ended(3, S.FAILED, at=300)), ended(4, S.COMPLETED, at=400))
    assert (is_disabled(state), state.progress.disabled, state.progress.failures) == (True, ms(200), 0)


def test_it_is_never_disabled_where_nobody_wants_that() -> None:
    state = entry(disable_after=0, progress=Progress(decided=ms(90), open_runs=running(10), failures=1000))

    assert not is_disabled(end_seen(state, ended(10, S.FAILED)))


def test_failures_count_from_the_resume() -> None:
    stopped = Progress(decided=ms(90), open_runs=running(10), failures=5, last_failure=ms(5), disabled=ms(5))

    state = end_seen(entry(resumed=6, progress=stopped), ended(10, S.FAILED, at=7))

    assert (is_disabled(state), state.progress.failures) == (False, 1)


@pytest.mark.parametrize("tick", [10, 15, 25, 1])
def test_an_end_of_what_is_not_expected_changes_nothing(tick: float) -> None:
    """Told a second time, of a run given up, or of no tick at all."""
    state = entry(progress=Progress(decided=ms(20), runs=2, open_runs=running(20), failures=4))

    assert end_seen(state, ended(tick, S.FAILED)) is state


def test_a_tick_that_a_dead_leader_dispatched_and_that_ended_is_not_dispatched_again() -> None:
    """It died before it wrote so: the end is told before the tick is decided. Nor does it block as an open run."""
    early = end_seen(entry(), ended(20, S.FAILED, at=21))
    assert early.progress == Progress(
        runs=1, ran=(ms(20),), last_tick=ms(20), failures=1, last_failure=ms(21), last_status=S.FAILED
    )
    assert end_seen(early, ended(20, S.FAILED, at=21)) is early

    state, decision = after(early, 20)

    assert seconds(decision.dispatches) == [10]
    assert (state.progress.ran, state.progress.open_runs) == ((), running(10, dispatched=20))
    assert (state.progress.runs, state.progress.last_tick) == (2, ms(20))
    assert decide(evolve(early, paused=True), ms(20)).left_out == (LeftOut(ms(10), Why.PAUSED),)
    late = decide(early, ms(81))
    assert seconds(late.dispatches) == [30]
    assert left_out(late)[0] == (10, "misfire", 1)


def test_what_a_dead_leader_dispatched_stays_known_while_earlier_ticks_are_decided() -> None:
    early = end_seen(entry(overlap=Overlap.ALLOW), ended(20))

    state, first = after(early, 10)
    state, second = after(state, 20)

    assert (seconds(first.dispatches), seconds(second.dispatches)) == ([10], [])
    assert (state.progress.runs, state.progress.ran) == (2, ())


def test_a_waiting_tick_that_a_dead_leader_dispatched_and_that_ended_waits_no_more() -> None:
    waiting = Progress(decided=ms(30), runs=1, open_runs=running(10), waiting=(ms(20), ms(30)))
    state = entry(overlap=Overlap.QUEUE, progress=waiting)
    for tick in (10, 20):
        state = end_seen(state, ended(tick))

    assert (state.progress.runs, state.progress.waiting) == (2, (ms(30),))
    assert seconds(after(state, 31)[1].dispatches) == [30]


# --- when to ask again ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("progress", "expected"),
    [
        (Progress(), 10),
        (Progress(decided=ms(40)), 50),
        (Progress(decided=ms(20), waiting=(ms(20),)), 25),
        (Progress(decided=ms(20), waiting=(ms(20),), open_runs=running(10)), 30),
        (Progress(decided=ms(80), waiting=(ms(80),), open_runs=running(20, 25)), 85),
    ],
)
def test_it_says_when_to_ask_again(progress: Progress, expected: float) -> None:
    """At the next tick, at once, or when the last run that blocks counts as lost."""
    assert due_at(entry(overlap=Overlap.QUEUE, lost_after=60.0, progress=progress), ms(25)) == ms(expected)


def test_next_ticks_are_those_later_than_now() -> None:
    assert seconds(next_ticks(entry(end=ms(50)), ms(20), 10)) == [30, 40, 50]
    assert seconds(next_ticks(entry(progress=Progress(decided=ms(60))), ms(20), 2)) == [70, 80]
    assert next_ticks(entry(), ms(20), 0) == ()
