"""Presence: the worker tells that it is there, that it lives, and that its jobs live.

Registration and worker heartbeats go straight to the connection of the moment, not through the outbox: late, they
would be lies. A lost connection is followed by a new registration (WIRE.md 4.7).
"""

import contextlib
from collections.abc import AsyncIterator, Callable

import trio
from attrs import define, field

from milvaion_trio.model import topology
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.identity import Identity
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.messages import WorkerHeartbeat, WorkerRegistration
from milvaion_trio.model.wire import encode_heartbeat, encode_registration
from milvaion_trio.ports import Confirmation, Publisher
from milvaion_trio.runtime.reporting import CONTENT_TYPE, Reporter
from milvaion_trio.runtime.run import Run
from milvaion_trio.runtime.shutdown import Shutdown
from milvaion_trio.runtime.supervisor import SupervisedLink

__all__ = ["REGISTRATION_INTERVAL", "JobHeartbeats", "Presence"]

REGISTRATION_INTERVAL = 120.0
"""Seconds. The API keeps an entry for 5 minutes and writes to its database for each registration (WIRE.md 13.4)."""

DEBOUNCE = 1.0
"""Seconds between extra heartbeats at job starts and ends (WIRE.md 3.4)."""


@define(eq=False, kw_only=True)
class Presence:
    """Registration and heartbeats of the worker."""

    identity: Identity
    registration: WorkerRegistration
    publishing: SupervisedLink[Publisher]
    current_jobs: Callable[[], int]
    now: Callable[[], Instant]
    interval: float
    """Seconds between heartbeats; 0 sends none but the one after each registration."""
    _changed: trio.Event = field(factory=trio.Event, init=False)
    _sent: int = field(default=0, init=False)

    def changed(self) -> None:
        """A job started or ended: send an extra heartbeat, at most one a second."""
        if not self._changed.is_set():
            self._changed.set()

    @contextlib.asynccontextmanager
    async def announced(self, shutdown: Shutdown) -> AsyncIterator[None]:
        """Be registered while the context is open, and say goodbye on leaving, within the flush budget.

        It is entered once the first registration is confirmed.
        """
        async with trio.open_nursery() as nursery:
            await nursery.start(self._announce)
            try:
                yield
            finally:
                nursery.cancel_scope.cancel()
        with shutdown.flush_scope():
            publisher = self.publishing.current
            if publisher is not None:
                with contextlib.suppress(LinkLost):  # nobody hears a goodbye over a dead link; 3 missed beats say it
                    await publisher.publish([self._heartbeat(current_jobs=0, is_stopping=True)])

    async def _announce(self, task_status: trio.TaskStatus[None]) -> None:
        lost: Publisher | None = None
        while True:
            publisher = await self.publishing.get(other_than=lost)
            try:
                # A registration sets the instance's current jobs to 0, so a heartbeat follows (WIRE.md 4.7).
                answers = await publisher.publish([self._registration(), self._heartbeat()])
            except LinkLost:
                lost = publisher
                continue
            if any(answer is not Confirmation.CONFIRMED for answer in answers):
                await trio.sleep(DEBOUNCE)  # unregistered the worker gets no jobs, so it is tried until it is taken
                continue
            task_status.started()
            task_status = trio.TASK_STATUS_IGNORED
            with trio.move_on_after(REGISTRATION_INTERVAL) as interval:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._beat, publisher)
                    await publisher.lost()
                    lost = publisher
                    interval.cancel()

    async def _beat(self, publisher: Publisher) -> None:
        if self.interval > 0:
            with contextlib.suppress(LinkLost):  # `_announce` sees it too, and registers again
                await self._beat_over(publisher)

    async def _beat_over(self, publisher: Publisher) -> None:
        due = trio.current_time() + self.interval
        while True:
            with trio.move_on_at(due):
                await self._changed.wait()
            if self._changed.is_set():
                self._changed = trio.Event()
            if trio.current_time() >= due:
                due += self.interval
            await publisher.publish([self._heartbeat()])
            with trio.move_on_at(due):
                await trio.sleep(DEBOUNCE)

    def _registration(self) -> Publication:
        body = encode_registration(self.registration, self.identity.dialect)
        return self._to(topology.REGISTRATION_QUEUE, "registration", body)

    def _heartbeat(self, *, current_jobs: int | None = None, is_stopping: bool = False) -> Publication:
        heartbeat = WorkerHeartbeat(
            worker_id=self.identity.worker_id,
            instance_id=self.identity.instance_id,
            current_jobs=self.current_jobs() if current_jobs is None else current_jobs,
            timestamp=self.now(),
            is_stopping=is_stopping,
        )
        return self._to(topology.HEARTBEAT_QUEUE, "worker-heartbeat", encode_heartbeat(heartbeat))

    def _to(self, queue: str, kind: str, body: bytes) -> Publication:
        self._sent += 1
        message_id = f"{self.identity.instance_id}:{kind}:{self._sent}"
        return Publication(Message(body=body, message_id=message_id, content_type=CONTENT_TYPE), queue)


@define(eq=False)
class JobHeartbeats:
    """The heartbeats of all running jobs from one task: the interval is the same for all, so due times are a queue."""

    reporter: Reporter
    interval: float
    """Seconds; 0 or below sends none."""
    _due: dict[Run, float] = field(factory=dict, init=False)
    """In order of the due times, to within a pass of the scheduler.

    Its first key may lie behind many deleted ones, but it is asked for only when due.
    """
    _first: trio.Event = field(factory=trio.Event, init=False)

    def watch(self, run: Run) -> None:
        """Send heartbeats for this run, the first after one interval."""
        if self.interval > 0:
            self._due[run] = run.started_clock + self.interval
            self._first.set()

    def unwatch(self, run: Run) -> None:
        """Send no more heartbeats for this run."""
        self._due.pop(run, None)

    async def beat(self) -> None:
        """Send heartbeats as they come due. Runs until cancelled."""
        while True:
            if not self._due:
                self._first = trio.Event()
                await self._first.wait()
                continue  # it may have ended already
            run, due = next(iter(self._due.items()))
            if due > trio.current_time():
                await trio.sleep_until(due)
                continue  # the run may have ended meanwhile
            self.reporter.heartbeat(run)
            del self._due[run]
            self._due[run] = due + self.interval  # last now
