"""Tells a Milvaion server what is known about jobs and runs, over one connection after the other.

Separate from what is told: nobody whose run is reported ever waits for anything here.
"""

import contextlib
import itertools
import logging
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import trio
from attrs import define, field

from milvaion_trio.external.introductions import TRACKER_STORES, Introductions, Jobs
from milvaion_trio.external.letters import EXTERNAL_TOPOLOGY, Letters
from milvaion_trio.external.unsent import Unsent, Wave
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import LinkLost, SettingsError
from milvaion_trio.model.events import Event, LinkDown
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.ports import Broker, Confirmation, Publisher
from milvaion_trio.runtime.observers import Observers
from milvaion_trio.runtime.presence import REGISTRATION_INTERVAL
from milvaion_trio.runtime.supervisor import Startup, SupervisedLink

__all__ = ["Reporter"]

LINES_IN_ONE: Final = 50
"""Log lines of one message (WIRE.md 3.3)."""
JOBS_EVERY: Final = 30
"""Jobs are told again with the first of so many registrations, once an hour: each is an entry in the server's log of
activities."""
AGAIN: Final = 1.0
"""Seconds before something that was refused, or went wrong, is tried again."""
AFTER_DEFECT: Final = 10.0
"""The same after a defect of ours, which is said in the log each time."""
PATIENT: Final = 0.7
"""The share of the time for leaving in which a new job may still be introduced with patience."""

_log = logging.getLogger("milvaion_trio.external")


@define(eq=False, kw_only=True)
class Reporter:
    """One stay: from entering the scheduler to leaving it."""

    broker: Broker
    letters: Letters
    jobs: Jobs
    unsent: Unsent
    settings: WorkerSettings
    _wave: list[Publication] = field(factory=list, init=False)
    """What of it is not confirmed."""
    _taken: Wave | None = field(default=None, init=False)
    """What is on its way."""
    _is_in_doubt: bool = field(default=False, init=False)
    """Whether some of it may have arrived."""
    _news: trio.Event = field(factory=trio.Event, init=False)
    _leaving: trio.Event = field(factory=trio.Event, init=False)
    _hurry: trio.Event = field(factory=trio.Event, init=False)
    _all_told: trio.Event = field(factory=trio.Event, init=False)
    _token: trio.lowlevel.TrioToken | None = field(default=None, init=False)
    _introductions: Introductions = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Begin with nobody introduced."""
        self._introductions = Introductions(self.jobs, self.letters, self._hurry)

    def look(self) -> None:
        """There is something new; from any thread."""
        if self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._wake, idempotent=True)

    def leave(self) -> None:
        """Tell what is left, and end within the time for it; from any thread."""
        if self._token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self._leaving.set)

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Tell until told to leave; started at once, whether there is a broker or not. If cancelled, the rest is lost.

        What is lost is said in the log.
        """
        self._token = trio.lowlevel.current_trio_token()
        # For ever: a program that is tracked starts and runs whether there is a broker or not.
        startup = Startup(0.0, trio.current_time())
        link = SupervisedLink("external", self.broker.name, self.broker.publishing, Observers([_log_loss]), startup)
        flush = self.settings.shutdown.flush_timeout
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_hold, link)
                nursery.start_soon(self._tell, link)
                task_status.started()
                await self._leaving.wait()
                self._wake()
                with trio.move_on_after(flush):
                    nursery.start_soon(self._hurry_after, flush * PATIENT)
                    await self._all_told.wait()
                    await self._say_goodbye(link.current)
                nursery.cancel_scope.cancel()
        finally:
            self._say_what_is_lost()

    def _wake(self) -> None:
        self._news.set()

    async def _hurry_after(self, seconds: float) -> None:
        await trio.sleep(seconds)
        self._hurry.set()
        self._wake()

    async def _say_goodbye(self, publisher: Publisher | None) -> None:
        if publisher is not None and self.jobs.all:
            with contextlib.suppress(LinkLost):  # nobody hears a goodbye over a dead link; 3 missed beats say it
                await publisher.publish([self.letters.alive(0, is_stopping=True)])

    def _say_what_is_lost(self) -> None:
        events, lines = self.unsent.waiting
        if self._taken is not None:
            events += len(self._taken.starts) + len(self._taken.ends)
            lines += len(self._taken.lines)
        lost_runs, lost_lines = self.unsent.lost_runs, self.unsent.lost_lines + lines
        if events or lost_runs or lost_lines:
            _log.warning(
                "not told to Milvaion, as the broker %s was away: %d starts and ends of external runs, %d whole runs, "
                "%d log lines; what is running there without an end is taken for lost after a while",
                self.broker.name,
                events,
                lost_runs,
                lost_lines,
            )
        if running := len(self.unsent.running):
            _log.warning("%d external runs go on while nobody is left to tell their end", running)

    # --- over one connection ------------------------------------------------------------------------------------------

    async def _tell(self, link: SupervisedLink[Publisher]) -> None:
        """Tell over the connection of the moment, until cancelled."""
        while True:
            publisher = await link.get()
            try:
                await self._tell_over(publisher)
            except* LinkLost:
                pass
            except* SettingsError as errors:
                _log.error("Milvaion's queues are not as they should be: %s", errors.exceptions[0])
            except* Exception:
                _log.exception("a defect in the reports about external runs; they go on")
                await trio.sleep(AFTER_DEFECT)
            await trio.sleep(AGAIN / 5)  # the link itself waits longer and longer

    async def _tell_over(self, publisher: Publisher) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_fail_when_lost, publisher)
            await self._declare()
            await self._introductions.repeat(partial(self._publish, publisher), *self._in_use())
            nursery.start_soon(self._beat, publisher)
            nursery.start_soon(self._beat_runs, publisher)
            nursery.start_soon(self._register, publisher)
            await self._tell_all(publisher)

    async def _tell_all(self, publisher: Publisher) -> None:
        """Jobs first, then what happened to their runs. Runs until cancelled."""
        publish = partial(self._publish, publisher)
        while True:
            self._news = trio.Event()
            if self._taken is None:
                self._taken = self.unsent.take(math.inf if self._hurry.is_set() else trio.current_time())
                self._wave = [] if self._taken is None else self._written(self._taken)
            ids = set() if self._taken is None else {run.start.job.id for run in self._taken.starts}
            if not self._introductions.are_known(ids):
                async with self.broker.consuming() as consumer:
                    await self._introductions.make(publish, consumer, len(self.unsent.running))
            if self._taken is not None:
                if self._is_in_doubt and self._taken.starts:
                    await self._publish_apart(publisher)
                else:
                    self._is_in_doubt = True
                    await publish(self._wave)
                self._is_in_doubt = False
                for run in self._taken.starts:
                    run.stored_at = trio.current_time() + TRACKER_STORES
                self._taken = None
                continue
            if self._leaving.is_set() and self.unsent.waiting == (0, 0):
                self._all_told.set()
            with trio.move_on_at(self.unsent.lines_from):
                await self._news.wait()

    def _written(self, wave: Wave) -> list[Publication]:
        """Its messages, which stay the same however often they are sent."""
        written = [
            *(partial(self.letters.starting, run.start) for run in wave.starts),
            *(partial(self.letters.ended, run.start, end) for run, end in wave.ends),
        ]
        for occurrence_id, lines in itertools.groupby(wave.lines, lambda line: line[0].occurrence_id):
            entries = [entry for _, entry in lines]
            written.extend(
                partial(self.letters.logs, occurrence_id, entries[begin : begin + LINES_IN_ONE])
                for begin in range(0, len(entries), LINES_IN_ONE)
            )
        return [publication for write in written if (publication := _tried(write)) is not None]

    async def _declare(self) -> None:
        async with self.broker.consuming() as consumer:
            await consumer.declare(EXTERNAL_TOPOLOGY)

    async def _publish(self, publisher: Publisher, publications: Sequence[Publication]) -> None:
        """Publish, and what is refused again, until all of it is confirmed.

        Raises `LinkLost`. If cancelled, some of it may be.
        """
        left = publications
        while left:
            answers = await publisher.publish(left)
            left = [each for each, answer in zip(left, answers, strict=True) if answer is not Confirmation.CONFIRMED]
            if left:
                await trio.sleep(AGAIN)
            if Confirmation.UNROUTABLE in answers:
                await self._declare()

    async def _publish_apart(self, publisher: Publisher) -> None:
        """Publish starts that may have arrived, each for itself.

        The server refuses a start that it has, with all that it has collected since its last look: starts and ends of
        any run (WIRE.md 4.9). Raises `LinkLost`. If cancelled, some of them are published.
        """
        while self._wave:
            with trio.move_on_after(TRACKER_STORES):
                await self._hurry.wait()
            await self._publish(publisher, self._wave[:1])
            del self._wave[0]
        with trio.move_on_after(TRACKER_STORES):
            await self._hurry.wait()

    def _in_use(self) -> tuple[int, set[str]]:
        running = self.unsent.running
        return len(running), {run.start.job.id for run in running}

    # --- that all of it lives -----------------------------------------------------------------------------------------

    async def _beat(self, publisher: Publisher) -> None:
        while self.settings.heartbeat.enabled:
            await trio.sleep(self.settings.heartbeat.interval)
            if self.jobs.all:
                await publisher.publish([self.letters.alive(len(self.unsent.running))])

    async def _beat_runs(self, publisher: Publisher) -> None:
        """What is late is worthless, so it goes straight to the connection."""
        interval = self.settings.heartbeat.job_interval
        while interval > 0:
            await trio.sleep(interval)
            now = trio.current_time()
            alive = [self.letters.heartbeat(run.occurrence_id) for run in self.unsent.running if run.stored_at <= now]
            if alive:
                await publisher.publish(alive)

    async def _register(self, publisher: Publisher) -> None:
        for times in itertools.count():
            await trio.sleep(REGISTRATION_INTERVAL)
            publish, with_jobs = partial(self._publish, publisher), times % JOBS_EVERY == 0
            await self._introductions.repeat(publish, *self._in_use(), with_jobs=with_jobs)


def _tried(write: Callable[[], Publication]) -> Publication | None:
    """What it writes, or nothing: one that cannot be written must not keep all others from being told."""
    try:
        return write()
    except Exception:
        _log.exception("a message about an external run cannot be written")
        return None


async def _hold(link: SupervisedLink[Publisher]) -> None:
    async with link.kept_up():
        await trio.sleep_forever()


async def _fail_when_lost(publisher: Publisher) -> None:
    raise LinkLost(await publisher.lost())


def _log_loss(event: Event) -> None:
    if isinstance(event, LinkDown):
        _log.warning("no connection to %s (%s): external runs are told later", event.broker, event.why)
