"""Two thousand jobs that end in every way there is, at random, on real servers: one final status each.

The seed is printed. `MTRIO_TEST_SEED` repeats a run, `MTRIO_TEST_JOBS` makes it shorter or longer.
"""

import enum
import json
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from typing import Final

import pytest
import trio
from attrs import asdict, define, field, frozen
from tests.support.amqp import connect
from tests.support.api_model import ApiSettings, OccurrenceStatus
from tests.support.api_model.database import ENDS, Occurrence
from tests.support.cluster import Cluster, cluster, serving

from milvaion_trio import JobContext, PermanentFailure, RetryLater
from milvaion_trio.broker.ladder import LADDER
from milvaion_trio.model.settings import JobPolicy

JOBS: Final = int(os.environ.get("MTRIO_TEST_JOBS", "2000"))
SEED: Final = int(os.environ.get("MTRIO_TEST_SEED") or random.randrange(10**6))
MAX_RETRIES: Final = 2
LONG_ENOUGH: Final = 4.0
"""Seconds for a cancel signal to arrive while a retry waits, on a machine that is busy too."""
DISPATCHERS: Final = 8
POLICY: Final[JobPolicy] = {
    "max_retries": MAX_RETRIES,
    "base_retry_delay": 1,
    "max_delay": 1,
    "max_parallel": 100,
    "timeout": 0,
}
LIMITED: Final[JobPolicy] = {**POLICY, "timeout": 0.3}

S = OccurrenceStatus


class Kind(enum.StrEnum):
    """How a job ends."""

    OK = "returns"
    SLOW = "returns after a while"
    FLAKY = "fails once or twice, then returns"
    EXHAUSTED = "fails every time"
    PERMANENT = "fails for good, at once or after a retry"
    TIMEOUT = "is stopped at its time limit"
    CANCELLED = "is cancelled while it runs"
    CANCELLED_WAITING = "is cancelled while its retry waits"
    CANCELLED_LATE = "is cancelled at about the moment when it returns"


ODDS: Final[dict[Kind, tuple[int, set[OccurrenceStatus]]]] = {
    Kind.OK: (50, {S.COMPLETED}),
    Kind.SLOW: (15, {S.COMPLETED}),
    Kind.FLAKY: (10, {S.COMPLETED}),
    Kind.EXHAUSTED: (5, {S.FAILED}),
    Kind.PERMANENT: (5, {S.FAILED}),
    Kind.TIMEOUT: (5, {S.TIMED_OUT}),
    Kind.CANCELLED: (4, {S.CANCELLED}),
    Kind.CANCELLED_WAITING: (3, {S.CANCELLED}),
    Kind.CANCELLED_LATE: (3, {S.CANCELLED, S.COMPLETED}),
}
"""How often of each 100, and the final statuses that are right."""


@frozen
class Fate:
    """What becomes of one job."""

    kind: Kind
    failures: int
    """How many attempts fail before one does not."""
    seconds: float
    """How long the last attempt takes."""

    @classmethod
    def drawn(cls, draw: random.Random) -> "Fate":
        (kind,) = draw.choices(list(ODDS), [weight for weight, _ in ODDS.values()])
        failures = {
            Kind.FLAKY: draw.randint(1, MAX_RETRIES),
            Kind.EXHAUSTED: MAX_RETRIES,
            Kind.PERMANENT: draw.randint(0, 1),
            Kind.CANCELLED_WAITING: 1,
        }
        seconds = draw.uniform(0.05, 0.5) if kind in {Kind.SLOW, Kind.CANCELLED_LATE} else 0.0
        return cls(kind, failures.get(kind, 0), seconds)

    @property
    def attempts(self) -> list[int]:
        """Those that are started."""
        return [1] if self.kind is Kind.CANCELLED_WAITING else [*range(1, self.failures + 2)]


@define(eq=False)
class Storm:
    """The jobs, and what was seen of them."""

    here: Cluster
    fates: dict[str, Fate] = field(factory=dict)
    attempts: dict[str, list[int]] = field(factory=dict)
    """Those that were started."""
    unended: list[str] = field(factory=list)
    """Those that `is_over` has still to look at."""
    doomed: trio.MemorySendChannel[tuple[str, Fate]] | None = None
    """Takes jobs that want to be cancelled."""

    async def work(self, ctx: JobContext, fate: Fate) -> str:
        self.attempts.setdefault(ctx.occurrence_id, []).append(ctx.attempt)
        if self.doomed is not None and fate.kind.name.startswith("CANCELLED"):
            self.doomed.send_nowait((ctx.occurrence_id, fate))
        if fate.kind is Kind.CANCELLED_WAITING and ctx.attempt == 1:
            raise RetryLater(LONG_ENOUGH)
        if ctx.attempt <= fate.failures:
            raise ValueError(f"attempt {ctx.attempt} fails")
        match fate.kind:
            case Kind.EXHAUSTED:
                raise ValueError("the last attempt fails, too")
            case Kind.PERMANENT:
                raise PermanentFailure("this will never do")
            case Kind.TIMEOUT | Kind.CANCELLED:
                await trio.sleep_forever()
        await trio.sleep(fate.seconds)
        return "done"

    async def dispatch(self, fates: Iterator[Fate]) -> None:
        for fate in fates:
            job = "Limited" if fate.kind is Kind.TIMEOUT else "Mixed"
            occurrence_id = await self.here.api.dispatch(job, json.dumps(asdict(fate)), auto_disable=False)
            self.fates[occurrence_id] = fate
            self.unended.append(occurrence_id)

    async def cancel_doomed(self, doomed: trio.MemoryReceiveChannel[tuple[str, Fate]]) -> None:
        async with trio.open_nursery() as nursery:
            async for occurrence_id, fate in doomed:
                nursery.start_soon(self._cancel, occurrence_id, fate)

    async def _cancel(self, occurrence_id: str, fate: Fate) -> None:
        if fate.kind is Kind.CANCELLED:
            await self.here.api.until(lambda: self.here.api.occurrence(occurrence_id).status == S.RUNNING, 60)
            await self.here.cancel(occurrence_id)
        else:  # before the API knows that it runs: only the moment counts here
            await trio.sleep(fate.seconds)
            await self.here.signal(json.dumps({"CorrelationId": occurrence_id, "OccurrenceId": occurrence_id}))

    def is_over(self) -> bool:
        """Whether every job has ended, or something is wrong already."""
        # The API says Cancelled by itself; it is the worker's word that counts.
        while self.unended and finals(self.here.api.occurrence(self.unended[-1])):
            self.unended.pop()
        return not self.unended or bool(self.here.api.model.complaints)

    # --- afterwards ---------------------------------------------------------------------------------------------------

    def problems(self) -> Iterator[str]:
        """Everything that went otherwise than it had to."""
        for occurrence_id, fate in self.fates.items():
            occurrence = self.here.api.occurrence(occurrence_id)
            found = finals(occurrence)
            what = f"{occurrence_id}, which {fate.kind}"
            if len(found) != 1 or not ODDS[fate.kind][1].issuperset(found):
                yield f"{what}: final statuses {found}"
            if [arrival.status.status for arrival in occurrence.messages[-1:]] != found:
                yield f"{what}: the final status is not the last message"
            if self.attempts.get(occurrence_id) != fate.attempts:
                yield f"{what}: attempts {self.attempts.get(occurrence_id)} instead of {fate.attempts}"
        due = sorted(identity for identity, fate in self.fates.items() if ODDS[fate.kind][1] == {S.FAILED})
        if (dead := sorted(row.occurrence_id for row in self.here.api.failed_occurrences)) != due:
            yield f"dead letters: {len(dead)}, wrong {set(dead) ^ set(due)}, twice {len(dead) - len(set(dead))}"
        for row in self.here.api.failed_occurrences:
            fate = self.fates[row.occurrence_id]
            right = (fate.failures, MAX_RETRIES if fate.kind is Kind.EXHAUSTED else 0)
            if (row.retry_count, row.max_retries) != right:
                yield f"{row.occurrence_id}, which {fate.kind}: x-retry-count and MaxRetries are not {right}: {row}"


def finals(occurrence: Occurrence) -> list[OccurrenceStatus | int]:
    """What the worker said."""
    return [status.status for status in occurrence.wire if status.status in ENDS]


@pytest.mark.long
async def test_every_job_has_one_final_status_and_the_dead_letters_are_exactly_the_failed_ones() -> None:
    """Never a Running behind a final (`ApiModel` judges each message), and nothing left in any queue of ours."""
    draw = random.Random(SEED)
    fates = [Fate.drawn(draw) for _ in range(JOBS)]
    print(f"seed {SEED}: {dict(Counter(fate.kind.name for fate in fates))}")
    # An API that reads ten times as fast as the real one: this is about the worker.
    settings = ApiSettings(status_interval=0.01, log_interval=0.1)
    with trio.fail_after(120 + JOBS / 20):
        async with cluster(api_settings=settings) as here:
            storm = Storm(here)
            worker = here.worker(max_parallel_jobs=120)
            worker.job("Mixed", **POLICY)(storm.work)
            worker.job("Limited", **LIMITED)(storm.work)
            storm.doomed, doomed = trio.open_memory_channel[tuple[str, Fate]](JOBS)
            async with serving(worker), trio.open_nursery() as nursery:
                await here.api.until(lambda: here.api.model.workers)
                nursery.start_soon(storm.cancel_doomed, doomed)
                began = time.monotonic()
                shared = iter(fates)
                async with trio.open_nursery() as dispatching:
                    for _ in range(DISPATCHERS):
                        dispatching.start_soon(storm.dispatch, shared)
                await here.api.until(storm.is_over, 60 + JOBS / 20)
                here.api.assert_content()
                print(f"{JOBS / (time.monotonic() - began):.0f} jobs/s, {sum(map(len, storm.attempts.values()))} runs")
                storm.doomed.close()
                await here.api.until_idle()
                left = await messages_left(here, [job.queue for job in worker.registry.jobs])

    assert list(storm.problems()) == [], f"seed {SEED}"
    assert len(storm.fates) == JOBS
    assert not left


async def messages_left(here: Cluster, queues: list[str]) -> dict[str, int]:
    """How many messages wait, by queue."""
    async with connect(here.rabbitmq.port, here.vhost) as client:
        names = [*queues, *(queue.name for queue in LADDER.queues), "mtrio.quarantine.v1"]
        found = {name: (await client.declare_queue(name, passive=True))[0] for name in names}
    return {name: count for name, count in found.items() if count}
