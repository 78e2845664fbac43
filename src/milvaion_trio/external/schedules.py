"""Our own schedules beside a Milvaion server: whoever leads shows them there as external jobs, with their runs.

Separate from `ExternalScheduler`, whose runs begin and end in one process: here the one who tells an end is maybe not
the one who told the start. A term of leading is a stay of a reporter of its own; who follows is silent.
"""

import contextlib
import logging
import math
import secrets
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from typing import Final

import trio
from attrs import define, evolve, field

from milvaion_trio.external.introductions import Jobs
from milvaion_trio.external.job import ExternalJob
from milvaion_trio.external.letters import Letters
from milvaion_trio.external.reporter import Reporter
from milvaion_trio.external.run import TrackedRun
from milvaion_trio.external.schedule_words import end_of, is_shown_active, job_of, start_of
from milvaion_trio.external.scheduler import SOURCE
from milvaion_trio.external.unsent import MOST_EVENTS, Unsent
from milvaion_trio.model import schedule as ours
from milvaion_trio.model.identity import Identity
from milvaion_trio.model.ids import InstanceId, WorkerId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.model.wire import Dialect
from milvaion_trio.ports import Broker
from milvaion_trio.scheduler.telling import Written

__all__ = ["SUFFIX", "ScheduleReports"]

SUFFIX: Final = "-schedules"
"""After the name of the workers: the server forgets the jobs of a worker that registers under a name with others."""
LONGEST_GROUP: Final = 100
"""Characters of a worker's name (WIRE.md 1.3)."""
BREATH: Final = 10
"""Schedules that are put into words without a break: reading a cron expression takes up to a millisecond."""

_log = logging.getLogger("milvaion_trio.external")


@define(eq=False)
class ScheduleReports:
    """Reports while it is open and its scheduler leads. It is told in Trio's thread, and nobody waits for it."""

    broker: Broker
    settings: WorkerSettings
    clock_ns: Callable[[], int]
    _nursery: trio.Nursery | None = field(default=None, init=False)
    _term: "_Term | None" = field(default=None, init=False)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Report while the context is open; on leaving, what is left, for at most `shutdown.flush_timeout` seconds.

        If cancelled, it takes that time all the same.
        """
        async with trio.open_nursery() as self._nursery:
            try:
                yield
            finally:
                self._nursery = None
                self.follows()

    def has(self, entries: Sequence[ours.Entry]) -> None:
        """Show these schedules and no others. Of the first ones the open runs go on, whoever told that they began."""
        if self._nursery is None:
            return
        if self._term is None:
            self._term = self._new_term()
            self._term.take_over(entries)
            self._nursery.start_soon(_served, self._term)
        self._term.has(entries)

    def wrote(self, written: Written) -> None:
        """Tell what began and what ended."""
        term = self._term
        if term is None:
            return
        for begun in written.begun:
            term.began(begun.entry, begun.run)
        for end in written.ended:
            term.ended(end)
        for entry in written.entries:
            term.went_on(entry)

    def follows(self) -> None:
        """Tell what is left, and leave the runs that go on to whoever leads next."""
        term, self._term = self._term, None
        if term is not None:
            term.over.set()

    def _new_term(self) -> "_Term":
        group = f"{self.settings.worker_id[: LONGEST_GROUP - len(SUFFIX)]}{SUFFIX}"
        settings = evolve(self.settings, worker_id=group)
        identity = Identity(
            worker_id=WorkerId(group),
            instance_id=InstanceId(f"{group}-{secrets.token_hex(4)}"),
            dialect=Dialect.V1_1,
        )
        jobs, unsent = Jobs(), Unsent()
        source = settings.external_scheduler.source or SOURCE
        reporter = Reporter(
            broker=self.broker,
            letters=Letters(identity, source, settings, lambda: Instant.from_unix_ns(self.clock_ns())),
            jobs=jobs,
            unsent=unsent,
            settings=settings,
        )
        unsent.tell = reporter.look
        return _Term(jobs, unsent, reporter, self.clock_ns)


@define(eq=False)
class _Term:
    """One term of leading."""

    _jobs: Jobs
    _unsent: Unsent
    _reporter: Reporter
    _clock_ns: Callable[[], int]
    over: trio.Event = field(factory=trio.Event, init=False)
    _runs: dict[str, dict[ours.Millis, TrackedRun]] = field(factory=dict, init=False)
    """Those that go on, by schedule and tick."""
    _entries: dict[str, ours.Entry] = field(factory=dict, init=False)
    """All there are, each as it was told last."""
    _edited: trio.Event = field(factory=trio.Event, init=False)
    _shown: dict[str, tuple[object, ...]] = field(factory=dict, init=False)
    """What of each schedule its job was made of."""

    # --- from the leader ----------------------------------------------------------------------------------------------

    def take_over(self, entries: Sequence[ours.Entry]) -> None:
        """Their open runs were told. A second start would cost the server all that it has collected with it."""
        for entry in entries:
            for open_run in entry.progress.open_runs:
                run = self._tracked(entry.schedule.id, entry.schedule.job, open_run)
                run.stored_at = -math.inf
                self._unsent.took_over(run)

    def has(self, entries: Sequence[ours.Entry]) -> None:
        """These are all."""
        self._entries = {entry.schedule.id: entry for entry in entries}
        self._edited.set()

    def began(self, entry: ours.Entry, open_run: ours.OpenRun) -> None:
        """The server has to know the schedule before its run."""
        name = entry.schedule.id
        if name in self._entries:
            self._show(self._entries[name])
        elif self._jobs.get(name) is None:
            return  # gone before it was shown at all
        self._unsent.began(self._tracked(entry.schedule.id, entry.schedule.job, open_run))

    def ended(self, end: ours.RunEnd) -> None:
        """Also when nobody waited for it any more."""
        run = self._runs.get(end.schedule_id, {}).get(end.tick)
        if run is None and self._unsent.waiting[0] < MOST_EVENTS:
            run = self._tracked(end.schedule_id, None, ours.OpenRun(end.tick, end.tick))
            self._unsent.took_over(run)
        if run is not None:
            self._unsent.ended(run, end_of(run.start, end))
            self._forget(end.schedule_id, [end.tick])

    def went_on(self, entry: ours.Entry) -> None:
        """Give up runs that the leader has given up, and say when the schedule has stopped."""
        name = entry.schedule.id
        runs = self._runs.get(name, {})
        if len(runs) > len(entry.progress.open_runs):
            is_open = {run.tick for run in entry.progress.open_runs}
            self._forget(name, runs.keys() - is_open)
        if name in self._entries:
            self._entries[name] = entry
            self._show(entry)

    def _tracked(self, schedule_id: str, job: str | None, open_run: ours.OpenRun) -> TrackedRun:
        run = TrackedRun(start_of(schedule_id, job, open_run), self._unsent, self._now)
        self._runs.setdefault(schedule_id, {})[open_run.tick] = run
        return run

    def _now(self) -> Instant:
        return Instant.from_unix_ns(self._clock_ns())

    def _forget(self, schedule_id: str, ticks: Iterable[ours.Millis]) -> None:
        runs = self._runs[schedule_id]
        for tick in tuple(ticks):
            self._unsent.let_go(runs.pop(tick))
        if not runs:
            del self._runs[schedule_id]

    # --- to the server ------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Report until the term is over, and then what is left. If cancelled, the rest is lost."""
        async with trio.open_nursery() as reporting:
            await reporting.start(self._reporter.serve)
            async with trio.open_nursery() as showing:
                showing.start_soon(self._show_all)
                await self.over.wait()
                showing.cancel_scope.cancel()
            for run in self._unsent.running:
                self._unsent.let_go(run)
            self._reporter.leave()

    async def _show_all(self) -> None:
        """Show what was edited. Runs until cancelled."""
        while True:
            await self._edited.wait()
            self._edited = trio.Event()
            for index, name in enumerate(tuple(self._entries)):
                if index % BREATH == BREATH - 1:
                    await trio.lowlevel.checkpoint()
                if (entry := self._entries.get(name)) is not None:
                    self._show(entry)
            for gone in self._shown.keys() - self._entries.keys():
                del self._shown[gone]
                self._jobs.gone(gone)
            self._reporter.look()

    def _show(self, entry: ours.Entry) -> None:
        """Show it as it is now. Not each next tick: the server notes every showing in its log of activities."""
        name, about = entry.schedule.id, _about(entry)
        if self._shown.get(name) != about:
            self._shown[name] = about
            self._jobs.heard(_job(entry, self._clock_ns() // 1_000_000))
            self._reporter.look()


def _about(entry: ours.Entry) -> tuple[object, ...]:
    try:
        return entry.schedule, is_shown_active(entry), entry.progress.disabled_why
    except Exception:  # an entry of a newer version, say: the agenda says so in the log
        return (entry.schedule,)


def _job(entry: ours.Entry, now: ours.Millis) -> ExternalJob:
    try:
        return job_of(entry, now)
    except Exception:
        _log.exception("schedule %s: it cannot be put into words, and is shown without", entry.schedule.id)
        return ExternalJob(id=entry.schedule.id)


async def _served(term: _Term) -> None:
    """It ends by itself, within the time for leaving. If cancelled, it takes that time all the same."""
    with trio.CancelScope(shield=True):
        try:
            await term.serve()
        except Exception:  # a defect of ours; schedules and jobs go on
            _log.exception("schedules are not reported any more while this scheduler leads")
