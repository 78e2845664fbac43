"""A scenario while it is played: what it may do to workers, servers and messages, and what it waits for.

Separate from the runner, which brings servers and judges: a scenario sees nothing but this.
"""

import random
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final

import trio
from attrs import asdict, define, evolve, field
from tests.support.amqp import Closed, Nacked
from tests.support.api_model.database import Job
from tests.support.cluster import Cluster

from milvaion_trio.broker.ladder import RUNGS, rung_name
from milvaion_trio.model.topology import queue_name, routing_pattern
from torture.agreement import Heard
from torture.effects import Effect
from torture.evidence import Evidence, Fault
from torture.expectations import Act, Expected, expected
from torture.invariants import Violation
from torture.scenario import Size
from torture.worker_processes import WorkerProcess, WorkerProcesses

__all__ = ["JOB", "GaveUp", "Play"]

JOB: Final = "TortureJob"
LOOK: Final = 0.05
"""Seconds between two looks at what processes wrote: no event can tell of it."""
NEW_QUEUES: Final = 3.0
"""Seconds for which a broker is not killed after the first worker came.

RabbitMQ 3.10 killed within a second of a quorum queue's first declaration forgets what it confirmed in it.
"""
PUBLISHERS: Final = 10
"""Dispatches on their way at the same time; one after the other, each waits for the broker's disk."""


class GaveUp(Exception):
    """Nothing new happened for the patience of this size: what is missing will not come."""


@define(eq=False, kw_only=True)
class Play:
    """What a scenario is given."""

    size: Size
    seed: int
    here: Cluster
    workers: WorkerProcesses
    random: random.Random
    """The only source of chance."""
    faults: list[Fault] = field(factory=list)
    facts: dict[str, Any] = field(factory=dict)
    """Figures of its own for the report."""
    expected: dict[str, Expected] = field(factory=dict)
    dispatched: dict[str, float] = field(factory=dict)
    """When, in Unix seconds."""
    doubtful: dict[str, tuple[Act, Expected, Job]] = field(factory=dict)
    """Dispatched, and the confirm was lost: nobody knows yet whether they arrived."""
    heard: Heard = field(factory=Heard)
    """What the API was given."""
    limits: dict[str, Any] = field(factory=dict)
    """Members of `Evidence` that say what is allowed: see `allow`."""
    complaints: list[Violation] = field(factory=list)
    """What the scenario itself found."""
    _heard: tuple[int, ...] = field(default=(), init=False)
    _heard_at: float = field(factory=trio.current_time, init=False)
    _first_registered: float | None = field(default=None, init=False)

    # --- what is allowed --------------------------------------------------------------------------------------------

    def allow(self, **limits: Any) -> None:
        """Say what this run is judged by: `most_extra_runs`, `recovery_limit`, `latest`, `judged` … of `Evidence`."""
        evolve(Evidence(), **limits)  # a wrong name is noticed here
        self.limits |= limits

    def tell(self, **changes: Any) -> None:
        """Tell all workers that are added from now on: members of `Told`."""
        self.workers.told = evolve(self.workers.told, **changes)

    def complain(self, invariant: str, about: str) -> None:
        """Say that an invariant was seen to be violated, where the evidence alone cannot show it."""
        self.complaints.append(Violation(invariant, about))

    # --- dispatching ------------------------------------------------------------------------------------------------

    def job(self, name: str = JOB, worker_id: str | None = None) -> Job:
        """The job that is dispatched, made at the first call. Raises `ValueError` before a worker has registered it."""
        model = self.here.api.model
        owner = worker_id or self.workers.told.worker_id
        for job in model.database.jobs.values():
            if job.name == name and job.worker_id == owner:
                return job
        return model.create_job(name, worker_id=owner, auto_disable=False, skips_when_running=False)

    async def registered(self, *worker_ids: str) -> None:
        """Return when the API knows these groups, or the one of this run. If cancelled, nothing changes."""
        wanted = worker_ids or (self.workers.told.worker_id,)
        await self.here.api.until(lambda: all(one in self.here.api.model.workers for one in wanted))
        self._first_registered = self._first_registered or trio.current_time()

    async def dispatch(self, act: Act, wanted: Expected | None = None, *, job: Job | None = None) -> str:
        """Dispatch once, return the occurrence, and expect what the data asks for, or `wanted`.

        Where the confirm is lost it is doubtful, and looked for in the end. If cancelled, it may have arrived.
        """
        api = self.here.api
        job = job or self.job()
        dispatch = api.model.dispatch(job.id, api.now(), asdict(act))
        occurrence = dispatch.occurrence_id
        self.expected[occurrence] = wanted = wanted or expected(act, self.workers.told.max_retries)
        await self._connected()
        self.dispatched[occurrence] = time.time()
        try:
            await api.publish(dispatch)
        except (Closed, Nacked):
            self.doubtful[occurrence] = (act, wanted, job)
        return occurrence

    async def _connected(self) -> None:
        """Return when the API can publish: over a connection that is gone already nothing arrives, without a doubt."""
        api = self.here.api
        while api._client is None or api._client._line.closed is not None:  # noqa: ASYNC110  # it tells of the first
            await trio.sleep(LOOK)

    async def dispatch_all(self, acts: Iterable[Act], *, open_at_most: int = 500) -> None:
        """Dispatch all of these, never more ahead of what has ended than that. If cancelled, some were."""
        waiting = iter(acts)

        async def one_after_the_other() -> None:
            for act in waiting:
                while len(self.expected) - self.ended > open_at_most:  # noqa: ASYNC110  # `until` would give up
                    await trio.sleep(LOOK)
                await self.dispatch(act)

        async with trio.open_nursery() as nursery:
            for _ in range(PUBLISHERS):
                nursery.start_soon(one_after_the_other)

    # --- what is known meanwhile ------------------------------------------------------------------------------------

    @property
    def ended(self) -> int:
        """How many occurrences have a final status."""
        return len(self.here.api.model.conduct._ended)

    def has_ended(self, occurrence: str) -> bool:
        """Whether a final status of it came."""
        return occurrence in self.here.api.model.conduct._ended

    def effects(self) -> list[Effect]:
        """What the worker processes wrote so far."""
        self.workers.effects.look()
        return self.workers.effects.lines

    def begun(self) -> int:
        """How many runs began so far."""
        return sum(1 for line in self.effects() if line.what == "begin")

    async def until_ended(self, count: int) -> None:
        """Return when so many occurrences have ended. Raises and if cancelled: as `until`."""
        await self.until(lambda: self.ended >= count)

    async def until_running(self, occurrence: str) -> None:
        """Return when the API takes it for running. Raises and if cancelled: as `until`."""
        await self.until(lambda: self.here.api.occurrence(occurrence).status == 1)

    async def depth(self, worker_id: str) -> int:
        """How many messages wait in the queue of this group. Raises `Closed` as the broker goes; cancelled: nothing."""
        ready, _ = await self._queue_of(worker_id)
        return ready

    async def until_left(self, worker_id: str) -> None:
        """Return when the broker has noticed that nobody consumes the queue of this group, so that all is back in it.

        A kill is not noticed at once. Raises `GaveUp`, or `Closed` as the broker goes. If cancelled, nothing changes.
        """
        with trio.move_on_after(self.size.patience):
            while (await self._queue_of(worker_id))[1]:  # noqa: ASYNC110  # a broker tells nobody
                await trio.sleep(LOOK)
            return
        raise GaveUp(f"the broker still knows a consumer of group {worker_id}")

    async def until_none_is_delayed(self) -> None:
        """Return when no message waits on a delay queue: whatever was sent twice has arrived. As `until_left`."""
        client = self.here.api._client
        assert client is not None, "there is no connection to ask over"
        for rung in map(rung_name, RUNGS):
            with trio.move_on_after(self.size.patience) as limit:
                while (await client.declare_queue(rung, passive=True))[0]:  # noqa: ASYNC110
                    await trio.sleep(LOOK)
            if limit.cancelled_caught:
                raise GaveUp(f"messages wait in {rung} and go nowhere")

    async def _queue_of(self, worker_id: str) -> tuple[int, int]:
        """How many messages are ready, and how many consumers there are. If cancelled, nothing changes."""
        client = self.here.api._client
        assert client is not None, "there is no connection to ask over"
        return await client.declare_queue(queue_name(routing_pattern(worker_id, JOB)), passive=True)

    async def until(self, happened: Callable[[], object]) -> None:
        """Return when it happened. Raises `GaveUp` when nothing new was heard for too long.

        If cancelled, nothing changes.
        """
        while not happened():
            model = self.here.api.model
            self.workers.effects.look()
            heard = (len(self.workers.effects.lines), len(model.conduct._seen), self.ended, len(self.faults))
            if heard != self._heard:
                self._heard, self._heard_at = heard, trio.current_time()
            if model.requeues or trio.current_time() - self._heard_at > self.size.patience:
                raise GaveUp(f"{self.ended} of {len(self.expected)} have ended, heard {heard}")
            await trio.sleep(LOOK)

    async def until_all_ended(self) -> None:
        """Return when all that was dispatched has ended; what never arrived is taken back and dispatched anew.

        Raises `GaveUp`. If cancelled, nothing changes.
        """
        while True:
            try:
                await self.until(lambda: self.expected.keys() <= self.here.api.model.conduct._ended.keys())
                return
            except GaveUp:
                if not (missing := self._never_arrived()):
                    raise
            for occurrence in missing:
                del self.expected[occurrence]
                act, wanted, job = self.doubtful.pop(occurrence)
                self.facts["never_arrived"] = 1 + self.facts.get("never_arrived", 0)
                await self.dispatch(act, wanted, job=job)
            self._heard = ()

    def _never_arrived(self) -> list[str]:
        """Doubtful ones of which nothing was ever seen."""
        seen = {effect.occurrence for effect in self.workers.effects.lines}
        occurrences = self.here.api.model.database.occurrences
        return [one for one in self.doubtful if one not in seen and not occurrences[one].messages]

    # --- faults -----------------------------------------------------------------------------------------------------

    @asynccontextmanager
    async def fault(self, kind: str, whom: str, *, recovers: bool = True, **facts: object) -> AsyncIterator[None]:
        """What is done inside is a fault; it is over on leaving. If cancelled inside, it is not counted."""
        began = time.time()
        yield
        self.faults.append(Fault(kind=kind, whom=whom, began=began, ended=time.time(), recovers=recovers, facts=facts))

    def chances(self, count: int, last: float = 0.95) -> list[int]:
        """At how many ended jobs each of so many faults comes: anywhere in the run, in order."""
        jobs = self.size.jobs
        return sorted(self.random.randint(1, max(1, int(jobs * last))) for _ in range(count))

    async def kill_and_restart(self, worker: WorkerProcess) -> None:
        """SIGKILL a worker and start it again; returns when it is ready. If cancelled, it may be dead."""
        async with self.fault("worker-kill", worker.name):
            await worker.kill()
            await worker.start()
        await worker.ready()

    async def kill_broker(self) -> None:
        """SIGKILL the broker and start it again; returns when it answers. If cancelled, it may be dead.

        Not before its queues are `NEW_QUEUES` old, so after `registered`.
        """
        assert self._first_registered is not None, "queues are declared by workers: wait for the first one"
        await trio.sleep_until(self._first_registered + NEW_QUEUES)
        async with self.fault("broker-kill", "broker"):
            await trio.to_thread.run_sync(self.here.rabbitmq.kill)
            await trio.to_thread.run_sync(self.here.rabbitmq.start)
