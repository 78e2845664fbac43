"""The jobs that a Milvaion server should know, and which of them it can be taken to know.

Separate from the runs: of a run whose job the server does not know nothing is kept, and it does not say what it has
stored. So a new job is told in two steps, each read from its queue and given time to be stored, before its first run.
"""

import threading
from typing import Final, Protocol

import trio
from attrs import define, evolve, field

from milvaion_trio.external.job import ExternalJob
from milvaion_trio.external.letters import Letters
from milvaion_trio.model import topology
from milvaion_trio.model.envelope import Publication
from milvaion_trio.ports import Consumer

__all__ = ["TRACKER_STORES", "Introductions", "Jobs"]

REGISTRY_STORES: Final = 0.5
"""Seconds from the moment when the server has read a registration until it surely has written it down."""
TRACKER_STORES: Final = 1.5
"""The same for jobs: it collects them for up to a second (WIRE.md 4.9)."""
LOOK: Final = 0.25
"""Seconds between looks whether it has read them."""
MOST_IN_ONE: Final = 500


class Publish(Protocol):
    """Publishes and returns when all of it is confirmed."""

    async def __call__(self, publications: list[Publication]) -> None:
        """If cancelled, some may be."""


@define(eq=False)
class Jobs:
    """All jobs that were heard of, from any thread."""

    _lock: threading.Lock = field(factory=threading.Lock, init=False)
    _jobs: dict[str, ExternalJob] = field(factory=dict, init=False)
    _changed: set[str] = field(factory=set, init=False)

    def heard(self, job: ExternalJob) -> ExternalJob:
        """What is known about it now: where nothing is said but its id, what was said before."""
        with self._lock:
            known = self._jobs.get(job.id)
            if known is not None and job == ExternalJob(id=job.id):
                job = known
            if known != job:
                self._jobs[job.id] = job
                self._changed.add(job.id)
            return job

    def gone(self, job_id: str) -> bool:
        """Its scheduler has it no more; false when it was not known."""
        with self._lock:
            known = self._jobs.get(job_id)
            if known is None or not known.is_active:
                return False
            self._jobs[job_id] = evolve(known, is_active=False, next_run=None)
            self._changed.add(job_id)
            return True

    def get(self, job_id: str) -> ExternalJob | None:
        """What is known about it."""
        with self._lock:
            return self._jobs.get(job_id)

    @property
    def all(self) -> list[ExternalJob]:
        """All of them."""
        with self._lock:
            return list(self._jobs.values())

    def changed(self) -> list[ExternalJob]:
        """Those that are not told as they are now; they count as told from here on."""
        with self._lock:
            changed = [self._jobs[job_id] for job_id in sorted(self._changed) if job_id in self._jobs]
            self._changed.clear()
            return changed

    @property
    def has_news(self) -> bool:
        """Whether there are such."""
        return bool(self._changed)

    def change_again(self, jobs: list[ExternalJob]) -> None:
        """They were not told after all."""
        with self._lock:
            self._changed.update(job.id for job in jobs)

    def forget_gone(self, in_use: set[str]) -> set[str]:
        """Drop those that their scheduler has no more, which were told, and return their ids."""
        with self._lock:
            gone = {
                job_id
                for job_id, job in self._jobs.items()
                if not job.is_active and job_id not in self._changed and job_id not in in_use
            }
            for job_id in gone:
                del self._jobs[job_id]
            return gone


@define(eq=False)
class Introductions:
    """Tells them, new ones with the patience that they need."""

    _jobs: Jobs
    _letters: Letters
    _hurry: trio.Event
    """Set when there is no time left to be patient."""
    _known: set[str] = field(factory=set, init=False)
    """Ids of those that were told before."""

    def are_known(self, job_ids: set[str]) -> bool:
        """Whether runs of all of these can be told."""
        return job_ids <= self._known and not self._jobs.has_news

    async def make(self, publish: Publish, consumer: Consumer, running: int) -> None:
        """Tell what is new; return when the server can be taken to know it.

        Raises `LinkLost`. If cancelled, it is told again.
        """
        changed = self._jobs.changed()
        has_new = any(job.id not in self._known for job in changed)
        try:
            # A registration sets the instance's current jobs to 0, so a heartbeat follows (WIRE.md 4.7).
            await publish([self._letters.registration(self._jobs.all), self._letters.alive(running)])
            if has_new:
                await self._stored(consumer, topology.REGISTRATION_QUEUE, REGISTRY_STORES)
            await self._tell(publish, changed)
            if has_new:
                await self._stored(consumer, topology.EXTERNAL_REGISTRATION_QUEUE, TRACKER_STORES)
        except BaseException:
            self._jobs.change_again(changed)
            raise
        self._known.update(job.id for job in changed)

    async def repeat(self, publish: Publish, running: int, in_use: set[str], *, with_jobs: bool = True) -> None:
        """Tell it again: the server forgets workers that fall silent, and may have lost a job.

        Raises `LinkLost`. If cancelled, some of it may be told.
        """
        self._known -= self._jobs.forget_gone(in_use)
        jobs = [job for job in self._jobs.all if job.id in self._known]
        if jobs:
            await publish([self._letters.registration(self._jobs.all), self._letters.alive(running)])
            if with_jobs:
                await self._tell(publish, jobs)

    async def _tell(self, publish: Publish, jobs: list[ExternalJob]) -> None:
        for begin in range(0, len(jobs), MOST_IN_ONE):
            await publish([self._letters.job(job) for job in jobs[begin : begin + MOST_IN_ONE]])

    async def _stored(self, consumer: Consumer, queue: str, seconds: float) -> None:
        """Return when somebody has read the queue and had time to store it, or when there is no time for that."""
        while not self._hurry.is_set():
            state = await consumer.state(queue)
            if state is not None and state.consumers and not state.ready:
                break
            await trio.sleep(LOOK)
        with trio.move_on_after(seconds):
            await self._hurry.wait()
