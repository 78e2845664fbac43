"""One life of a worker on a host, from its start to its end by drain, stop or crash.

Separate from the world, which only says when. A life that has crashed is dead at that instant: its links are cut, its
disk takes nothing more, and what its tasks still do on their way out is noted nowhere.
"""

from collections import Counter
from collections.abc import Callable
from functools import cache

import trio
from attrs import define, field

from milvaion_trio import Worker
from milvaion_trio.model.errors import BrokerUnreachable
from milvaion_trio.model.settings import HeartbeatSettings, JobSettings, ShutdownSettings, WorkerSettings
from milvaion_trio.outbox.memory import MemoryOutbox
from milvaion_trio.ports import Broker, Outbox, Signals
from milvaion_trio.runtime.serve import House
from milvaion_trio.testing.clock import clock_ns
from torture.simulation.cable import Cable
from torture.simulation.determinism import kill
from torture.simulation.disks import Disk
from torture.simulation.fates import Fate
from torture.simulation.jobs import JOBS, LIFE
from torture.simulation.plan import Plan, Point
from torture.simulation.trace import Trace

__all__ = ["WORKER_ID", "WorkerLife", "worker_for"]

WORKER_ID = "sim"


def worker_for(plan: Plan, name: str, broker: Broker, signals: Signals) -> Worker:
    """The worker of this plan; the life's name is its instance id."""
    settings = _settings(plan.max_parallel, plan.job_parallel, plan.drain_timeout, heartbeats=plan.heartbeats)
    worker = Worker(settings=settings, broker=broker, signals=signals, observers=(), clock_ns=clock_ns)
    worker.settings = settings  # no files, no environment
    worker._instance = name  # drawn at random otherwise
    for definition in JOBS:
        worker.add(definition)
    return worker


@cache  # checking them costs as much as a short job
def _settings(max_parallel: int, job_parallel: int, drain_timeout: float, *, heartbeats: bool) -> WorkerSettings:
    return WorkerSettings(
        worker_id=WORKER_ID,
        max_parallel_jobs=max_parallel,
        job_defaults=JobSettings(max_parallel=job_parallel),
        heartbeat=HeartbeatSettings(enabled=heartbeats, job_interval=45.0),
        shutdown=ShutdownSettings(drain_timeout=drain_timeout, cleanup_timeout=5, flush_timeout=3),
    )


@define(eq=False)
class WorkerLife:
    """A worker that serves until something ends it. Implements `jobs.Life`."""

    name: str
    plan: Plan
    trace: Trace
    cable: Cable
    worker: Worker
    spring: Callable[["WorkerLife", Point], None]
    """Called at each point that this life comes by."""
    disk: Disk | None
    kills: Counter[int]
    """How many processes each job has killed, whoever they were."""
    is_dead: bool = field(default=False, init=False)
    has_ended: bool = field(default=False, init=False)
    _scope: trio.CancelScope = field(factory=trio.CancelScope, init=False)

    @property
    def house(self) -> House | None:
        """The parts of the worker while it serves."""
        return self.worker._house

    async def live(self) -> None:
        """Serve until drained, stopped or crashed. If cancelled, the worker leaves within its budgets."""
        LIFE.set(self)
        self.note("up")
        try:
            with self._scope:
                await self.worker.serve(handle_signals=False)
        except BrokerUnreachable:
            self.note("gave up")
        except Exception as error:
            self.note("defect", "", f"{type(error).__name__}: {error}")
        self.note("left")
        self.has_ended = True

    # --- ends -------------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """The first signal."""
        self.note("drained")
        self.worker.drain()

    def stop(self) -> None:
        """The second signal."""
        self.note("stopped")
        self._scope.cancel()

    def crash(self) -> None:
        """Die: nothing that happens here from now on reaches anybody."""
        if not (self.is_dead or self.has_ended):
            self.note("crashed")
            self.is_dead = True
            self.cable.cut()
            kill(self._scope)

    # --- for its parts, its jobs and its connections ------------------------------------------------------------------

    def outbox(self) -> Outbox:
        """A new one, on the host's disk if there is one."""
        return MemoryOutbox() if self.disk is None else self.disk.outbox(self)

    def fate(self, occurrence_id: str) -> Fate:
        """What is to become of this occurrence."""
        return self.plan.by_number[int(occurrence_id[:8], 16)]

    def killed_by(self, fate: Fate) -> None:
        """Die of this job, unless that happened often enough."""
        if not self.is_dead and self.kills[fate.number] < fate.failures:
            self.kills[fate.number] += 1
            self.crash()

    def note(self, what: str, about: str = "", detail: str = "", body: bytes = b"") -> None:
        """Something happened; what a dead one does does not count."""
        if not self.is_dead:
            self.trace.note(self.name, what, about, detail, body)

    def reach(self, point: Point) -> None:
        """It comes by here."""
        if not self.is_dead:
            self.spring(self, point)
