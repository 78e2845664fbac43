"""Scheduling against a naive model: every tick has a fate of its own, and lists are searched and cut.

The histories hold what happens to schedulers: clocks that jump both ways, leaders that die between a dispatch and its
note, ends that are told twice, late or early, pauses and resumes.
"""

import copy
import math
from typing import Any

import pytest
from attrs import define, evolve, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.schedule import (
    Cron,
    Entry,
    Every,
    Misfire,
    Once,
    OpenRun,
    Overlap,
    RunEnd,
    Schedule,
    occurrence_id_of,
)
from milvaion_trio.policy import due_ticks, scheduling
from milvaion_trio.policy.scheduling import decide, due_at, end_seen, is_disabled, is_over, next_ticks

WAITING, OPEN, AT_ONCE = 3, 4, 5
HORIZON = 7200
"""Seconds that a history may last."""

TICKS = {
    Every(10): range(10, HORIZON * 2, 10),
    Cron(expression="0,5,15,45 * * * * *"): [60 * m + s for m in range(HORIZON // 30) for s in (0, 5, 15, 45)],
    Cron(expression="0 */20 * * * *"): range(0, HORIZON * 2, 1200),
    Once(40_000): [40],
}
"""In seconds, of schedules that were made at 0."""

spans = st.sampled_from([0.0, 1.0, 9.0, 30.0, 100.0])
rules = st.fixed_dictionaries(
    {
        "when": st.sampled_from(list(TICKS)),
        "overlap": st.sampled_from(Overlap),
        "misfire": st.sampled_from(Misfire),
        "misfire_limit": st.integers(1, 4),
        "grace": spans,
        "jitter": spans,
        "max_runs": st.none() | st.integers(1, 4),
        "disable_after": st.integers(0, 3),
        "failure_window": spans,
        "lost_after": st.sampled_from([1.0, 50.0, 1000.0]),
        "end": st.none() | st.integers(1, HORIZON * 1000),
    }
)
statuses = st.sampled_from([OccurrenceStatus.FAILED] * 3 + [*OccurrenceStatus, 99])


@define
class Naive:
    """What is known of a schedule, tick by tick."""

    schedule: Schedule
    due: dict[int, int]
    """When each tick is due."""
    fates: dict[int, str] = field(factory=dict)
    open_runs: list[tuple[int, int]] = field(factory=list)
    waiting: list[int] = field(factory=list)
    ran: set[int] = field(factory=set)
    runs: int = 0
    failures: int = 0
    last_failure: int | None = None
    disabled: int | None = None
    paused: bool = False
    resumed: float = -math.inf

    def decide(self, now: int) -> tuple[list[int], list[int]]:
        """The ticks that are dispatched and those that are cancelled."""
        rules = self.schedule
        self.open_runs = [run for run in self.open_runs if now - run[1] < rules.lost_after * 1000]
        fresh = [tick for tick, due in self.due.items() if due <= now and tick not in self.fates]
        if self.paused or self.disabled is not None:
            self.all_are(fresh, "stood still")
            return [], []
        self.all_are([tick for tick in fresh if self.due[tick] <= self.resumed], "stood still")
        fresh = [tick for tick in fresh if self.due[tick] > self.resumed]
        late = [tick for tick in fresh if now - self.due[tick] > rules.grace * 1000]
        spared = {Misfire.SKIP: 0, Misfire.ONCE: 1, Misfire.ALL: rules.misfire_limit}[rules.misfire]
        on_time = fresh[len(late) :][:AT_ONCE]
        self.all_are([tick for tick in late[: max(len(late) - spared, 0)] if tick not in self.ran], "misfire")
        candidates = [tick for tick in fresh if tick in {*late, *on_time} and tick not in self.fates]
        self.all_are(candidates, "dispatched")
        return self.overlap(self.waiting + [tick for tick in candidates if tick not in self.ran], now)

    def overlap(self, candidates: list[int], now: int) -> tuple[list[int], list[int]]:
        self.waiting = []
        if self.schedule.max_runs is not None and self.runs >= self.schedule.max_runs:
            self.all_are(candidates, "limit")
            return [], []
        if self.schedule.overlap is Overlap.CANCEL_PREVIOUS:
            self.all_are(candidates[:-1], "overlap")
            earlier, candidates = candidates[:-1], candidates[-1:]
        dispatched: list[int] = []
        cancelled: list[int] = []
        for tick in candidates:
            busy = bool(self.open_runs)
            if self.schedule.overlap is Overlap.SKIP and busy:
                self.fates[tick] = "overlap"
            elif self.schedule.overlap is Overlap.QUEUE and busy:
                self.waiting.append(tick)
                self.fates[tick] = "waits"
            elif self.schedule.max_runs is not None and self.runs >= self.schedule.max_runs:
                self.fates[tick] = "limit"
            else:
                if self.schedule.overlap is Overlap.CANCEL_PREVIOUS:
                    cancelled = [run for run, _ in self.open_runs] + earlier
                self.runs += 1
                self.fates[tick] = "dispatched"
                dispatched.append(tick)
                self.open_runs.append((tick, now))
        self.all_are(self.waiting[:-WAITING], "overlap")
        self.waiting = self.waiting[-WAITING:]
        if self.schedule.max_runs is not None:
            room = max(self.schedule.max_runs - self.runs, 0)
            self.all_are(self.waiting[room:], "limit")
            self.waiting = self.waiting[:room]
        self.open_runs = self.open_runs[-OPEN:]
        return dispatched, cancelled

    def end(self, end: RunEnd) -> None:
        tick = end.tick
        if tick in [run for run, _ in self.open_runs]:
            self.open_runs = [run for run in self.open_runs if run[0] != tick]
        elif tick in self.waiting:
            self.waiting.remove(tick)
            self.fates[tick] = "dispatched"
            self.runs += 1
        elif tick in self.due and tick not in self.fates and tick not in self.ran:
            self.ran.add(tick)
            self.runs += 1
        else:
            return
        if end.status == OccurrenceStatus.COMPLETED:
            self.failures = 0
        if end.status == OccurrenceStatus.FAILED:
            known = self.last_failure
            forgotten = known is not None and end.at - known > self.schedule.failure_window * 1000
            self.failures = 1 if forgotten else self.failures + 1
            self.last_failure = end.at if known is None else max(known, end.at)
            if 0 < self.schedule.disable_after <= self.failures and self.disabled is None:
                self.disabled = end.at
                self.resume(self.resumed)

    def resume(self, at: float) -> None:
        self.resumed = at
        if self.disabled is not None and at > self.disabled:
            self.disabled, self.failures, self.last_failure = None, 0, None

    def all_are(self, those: list[int], fate: str) -> None:
        self.fates.update(dict.fromkeys(those, fate))


class SchedulingAgainstTicks(RuleBasedStateMachine):
    """Both live through the same history; whatever can be compared is, after each step."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(scheduling, "WAITING_LIMIT", WAITING)
        self.patch.setattr(scheduling, "OPEN_LIMIT", OPEN)
        self.patch.setattr(due_ticks, "ON_TIME_AT_ONCE", AT_ONCE)
        self.now = 0
        self.published: set[int] = set()
        """By leaders dead or alive."""
        self.noted: list[int] = []
        """Dispatched, and written down."""

    def teardown(self) -> None:
        self.patch.undo()

    @initialize(values=rules)
    def begin(self, values: dict[str, Any]) -> None:
        schedule = Schedule(id="s", job="J", worker_id="w", pattern="p", **values)
        self.entry = Entry(schedule=schedule, created=0)
        ticks = [1000 * tick for tick in TICKS[schedule.when] if schedule.end is None or 1000 * tick <= schedule.end]
        unlimited = evolve(self.entry, schedule=evolve(schedule, max_runs=None))
        self.naive = Naive(schedule, dict(zip(ticks, next_ticks(unlimited, -1, len(ticks)), strict=True)))

    @rule(seconds=st.sampled_from([1, 5, 10, 10, 10, 30, 90, 300, 1200, -3, -40, -600]), ms=st.integers(0, 999))
    def time_passes_or_the_clock_jumps(self, seconds: int, ms: int) -> None:
        self.now = min(max(self.now + seconds * 1000 + ms, -HORIZON * 1000), HORIZON * 1000)

    @rule()
    def time_passes_until_it_is_asked_for(self) -> None:
        due = due_at(self.entry, self.now)
        if due is not None:
            # Nothing would have been done before.
            quiet = decide(self.entry, due - 1) if due > self.now else None
            assert quiet is None or (quiet.dispatches, quiet.cancels) == ((), ())
            self.now = min(max(due, self.now), HORIZON * 1000)
            self.decide()

    @rule()
    def decide(self) -> None:
        known = len(self.naive.fates)
        dispatched, cancelled = self.naive.decide(self.now)
        decision = decide(self.entry, self.now)

        assert list(decision.dispatches) == dispatched
        assert list(decision.cancels) == [occurrence_id_of("s", tick) for tick in cancelled]
        assert not set(dispatched) & set(self.noted), "dispatched twice"
        assert dispatched == sorted(dispatched)
        added = decision.progress.left_out - self.entry.progress.left_out
        assert added == sum(each.count for each in decision.left_out if each.why in {"overlap", "misfire"})
        self.entry = evolve(self.entry, progress=decision.progress)
        self.noted += dispatched
        self.published.update(dispatched)
        if len(self.naive.fates) - known < AT_ONCE:
            following = due_at(self.entry, self.now)
            assert following is None or following > self.now
        if self.entry.schedule.overlap in {Overlap.SKIP, Overlap.QUEUE}:
            assert len(self.entry.progress.open_runs) <= 1
            assert self.noted == sorted(self.noted)

    @rule()
    def decide_and_die(self) -> None:
        """Everything is published and nothing is written."""
        decision = decide(self.entry, self.now)
        assert decision == decide(self.entry, self.now)
        assert list(decision.dispatches) == copy.deepcopy(self.naive).decide(self.now)[0]
        self.published.update(decision.dispatches)

    @precondition(lambda self: self.published)
    @rule(data=st.data(), status=statuses, late=st.sampled_from([0, 0, 5000, -5000]))
    def a_run_ends(self, data: st.DataObject, status: OccurrenceStatus | int, late: int) -> None:
        """Of any tick that was ever published; so it may be told again."""
        tick = data.draw(st.sampled_from(sorted(self.published)))
        self.tell(RunEnd(schedule_id="s", tick=tick, status=status, at=self.now - late))

    @precondition(lambda self: self.published - set(self.noted))
    @rule(data=st.data(), status=statuses)
    def a_run_ends_that_only_a_dead_leader_knew_of(self, data: st.DataObject, status: OccurrenceStatus | int) -> None:
        tick = data.draw(st.sampled_from(sorted(self.published - set(self.noted))))
        self.tell(RunEnd(schedule_id="s", tick=tick, status=status, at=self.now))

    @rule(tick=st.integers(-1000, HORIZON * 1000), status=statuses)
    def an_end_is_told_of_what_never_was(self, tick: int, status: OccurrenceStatus | int) -> None:
        if tick not in self.naive.due:
            before = self.entry
            self.tell(RunEnd(schedule_id="s", tick=tick, status=status, at=self.now))
            assert self.entry is before

    @rule()
    def pause(self) -> None:
        self.entry = evolve(self.entry, paused=True)
        self.naive.paused = True

    @rule()
    def resume(self) -> None:
        """Later than what stopped it, whatever the clock says (`ScheduleBook.resume`)."""
        disabled = self.entry.progress.disabled
        moment = self.now if disabled is None else max(self.now, disabled + 1)
        self.entry = evolve(self.entry, paused=False, resumed=moment)
        self.naive.paused = False
        self.naive.resume(moment)

    @invariant()
    def they_know_the_same(self) -> None:
        if not hasattr(self, "entry"):
            return
        progress, naive = self.entry.progress, self.naive
        assert progress.decided == max(naive.fates, default=None)
        assert progress.open_runs == tuple(OpenRun(*run) for run in naive.open_runs)
        assert progress.waiting == tuple(naive.waiting)
        assert progress.runs == naive.runs
        assert set(progress.ran) == naive.ran - naive.fates.keys()
        assert is_disabled(self.entry) == (naive.disabled is not None)
        assert progress.failures == naive.failures or progress.disabled is not None
        fates = list(naive.fates.values())
        assert progress.left_out == fates.count("overlap") + fates.count("misfire")
        if is_over(self.entry):
            assert naive.runs >= (self.entry.schedule.max_runs or HORIZON) or naive.fates.keys() >= naive.due.keys()

    def tell(self, end: RunEnd) -> None:
        self.entry = end_seen(self.entry, end)
        self.naive.end(end)


TestScheduling = SchedulingAgainstTicks.TestCase
TestScheduling.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
