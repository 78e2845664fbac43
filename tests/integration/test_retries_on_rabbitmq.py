"""Retries wait in the broker: their counts, their delays, and that they stand in nobody's way."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

import pytest
import trio
from attrs import define, field
from tests.support.amqp import Client, WireMessage, connect
from tests.support.api_model import ApiSettings, FailureType, OccurrenceStatus
from tests.support.cluster import Cluster, cluster, serving

from milvaion_trio import JobContext, PermanentFailure, RetryLater
from milvaion_trio.broker.ladder import rung_name
from milvaion_trio.model.events import JobRetried
from milvaion_trio.runtime import put_off

DEAD_LETTERS: Final = ("dlx_scheduled_jobs", "failed_jobs")
HOP_QUEUE: Final = "mtrio.hop.v1"

S = OccurrenceStatus


@define(eq=False)
class Tap:
    """Copies of what passes through an exchange, beside the queues that it is meant for."""

    client: Client

    async def on(self, exchange: str, key: str = "") -> Callable[[], Sequence[WireMessage]]:
        """From now on; what is returned gives what came so far."""
        queue, seen = f"tap {exchange}", list[WireMessage]()
        await self.client.declare_queue(queue)
        await self.client.bind(queue, exchange, key)
        messages = await self.client.consume(queue, no_ack=True)

        def so_far() -> Sequence[WireMessage]:
            while True:
                try:
                    seen.append(messages.receive_nowait())
                except (trio.WouldBlock, trio.EndOfChannel):
                    return seen

        return so_far


@asynccontextmanager
async def tapped(here: Cluster) -> AsyncIterator[Tap]:
    async with connect(here.rabbitmq.port, here.vhost) as client:
        yield Tap(client)


@define(eq=False)
class Attempts:
    """When the attempts of a job ran; they take no time."""

    moments: list[tuple[int, float]] = field(factory=list)

    def note(self, ctx: JobContext) -> None:
        self.moments.append((ctx.attempt, trio.current_time()))

    def assert_waited(self, *delays: float) -> None:
        """Attempts 1, 2, … came after these delays, within RELIABILITY.md I7."""
        assert [number for number, _ in self.moments] == [*range(1, len(delays) + 2)]
        for delay, (_, before), (_, after) in zip(delays, self.moments, self.moments[1:], strict=False):
            assert delay - 0.05 <= after - before <= 1.25 * delay + 2


async def test_three_retries_then_failed_and_one_dead_letter() -> None:
    """`x-retry-count` 1, 2, 3 as int32, delays 1, 2 and 4 s, then Failed and a dead letter the API stores at once."""
    attempts = Attempts()
    with trio.fail_after(60):
        async with cluster() as here, tapped(here) as tap:
            worker = here.worker()

            @worker.job("SyncJob", max_retries=3, base_retry_delay=1)
            async def sync(ctx: JobContext) -> None:
                attempts.note(ctx)
                raise ValueError("the shop is closed")

            async with serving(worker):
                waiting = [await tap.on(rung_name(1)), await tap.on(rung_name(2))]
                dead = await tap.on(*DEAD_LETTERS)
                await here.api.until(lambda: here.api.model.workers)
                occurrence_id = await here.api.dispatch("SyncJob", {"shop": 7})
                await here.api.until(lambda: here.api.failed_occurrences)
                await here.api.until_ended()

    attempts.assert_waited(1, 2, 4)
    copies = [message for so_far in waiting for message in so_far()]
    # 4 s are 2 + 2: the last copy passes a rung twice.
    assert [copy.headers["x-retry-count"] for copy in copies] == [("I", 1), ("I", 2), ("I", 3), ("I", 3)]
    assert {copy.headers["MaxRetries"] for copy in copies} == {("I", 3)}
    assert {copy.headers["OccurrenceId"] for copy in copies} == {("S", occurrence_id)}
    assert not [name for copy in copies for name in copy.headers if "death" in name]

    occurrence = here.api.occurrence(occurrence_id)
    assert occurrence.status == S.FAILED
    assert occurrence.wire[-1].status == S.FAILED
    assert "Max retries (3) exceeded" in str(occurrence.exception)
    (letter,) = dead()
    assert (letter.headers["x-retry-count"], letter.headers["MaxRetries"]) == (("I", 3), ("I", 3))
    (row,) = here.api.failed_occurrences
    assert (row.occurrence_id, row.failure_type) == (occurrence_id, FailureType.MAX_RETRIES_EXCEEDED)
    assert (row.retry_count, row.max_retries, row.job_data) == (3, 3, '{"shop":7}')


@pytest.mark.parametrize("failures", [0, 1])
async def test_a_permanent_failure_is_not_tried_again(failures: int) -> None:
    """`MaxRetries` 0, and the retries that were tried before (WIRE.md 3.5)."""
    attempts = Attempts()
    with trio.fail_after(60):
        async with cluster() as here, tapped(here) as tap:
            worker = here.worker()

            @worker.job("SyncJob", max_retries=3, base_retry_delay=1)
            async def sync(ctx: JobContext) -> None:
                attempts.note(ctx)
                raise PermanentFailure("there is no such shop") if ctx.attempt > failures else ValueError("closed")

            async with serving(worker):
                dead = await tap.on(*DEAD_LETTERS)
                await here.api.until(lambda: here.api.model.workers)
                occurrence_id = await here.api.dispatch("SyncJob")
                await here.api.until(lambda: here.api.failed_occurrences)
                await here.api.until_ended()

    attempts.assert_waited(*[1] * failures)
    assert here.api.occurrence(occurrence_id).wire[-1].status == S.FAILED
    (letter,) = dead()
    assert (letter.headers["x-retry-count"], letter.headers["MaxRetries"]) == (("I", failures), ("I", 0))
    (row,) = here.api.failed_occurrences
    assert row.exception.startswith("[PERMANENT FAILURE] ")


async def test_a_long_delay_comes_by_a_worker_that_tells_the_api() -> None:
    """3 s are 2 + 1: between them a Running heartbeat, and the message goes on without what waiting added to it."""
    attempts = Attempts()
    with trio.fail_after(60):
        async with cluster() as here, tapped(here) as tap:
            worker = here.worker()

            @worker.job("SyncJob", max_retries=3)
            async def sync(ctx: JobContext) -> None:
                attempts.note(ctx)
                if ctx.attempt == 1:
                    raise RetryLater(3, "the shop opens soon")

            async with serving(worker):
                first, second = await tap.on(rung_name(2)), await tap.on(rung_name(1))
                await here.api.until(lambda: here.api.model.workers)
                occurrence_id = await here.api.dispatch("SyncJob")
                await here.api.until_ended()

    attempts.assert_waited(3)
    queue = worker.registry.jobs[0].queue
    (first_leg,), (second_leg,) = first(), second()
    assert (first_leg.routing_key, second_leg.routing_key) == (HOP_QUEUE, queue)
    journey = {"x-mtrio-left": ("I", 1), "x-mtrio-target": ("S", queue)}
    assert {name: first_leg.headers.get(name) for name in journey} == journey
    # No death headers either, though the broker wrote some into what came out of the first rung.
    assert second_leg.headers == {name: value for name, value in first_leg.headers.items() if name not in journey}
    assert second_leg.properties == first_leg.properties
    assert second_leg.body == first_leg.body
    occurrence = here.api.occurrence(occurrence_id)
    assert [(S(status.status), status.is_heartbeat) for status in occurrence.wire] == [
        (S.RUNNING, False),
        (S.RUNNING, True),
        (S.RUNNING, False),
        (S.COMPLETED, False),
    ]


async def test_idle_waits_for_what_was_put_off_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """By retries, by jobs and by hops, each by a worker that put nothing else off; however late the broker is."""
    monkeypatch.setattr(put_off, "LATE", 120.0)  # longer than this test waits for anything
    done: list[str] = []
    with trio.fail_after(90):
        async with cluster() as here:
            retries, delays, hops = here.worker("retries"), here.worker("delays"), here.worker("hops")

            @retries.job("SyncJob", max_retries=1, base_retry_delay=2)
            async def sync(ctx: JobContext) -> None:
                if ctx.attempt == 1:
                    raise ValueError("the shop is closed")
                done.append("retried")

            @delays.job("BeginJob")
            async def begin() -> None:
                await end.enqueue(delay=3)

            @delays.job("EndJob")
            async def end() -> None:
                done.append("enqueued by a job")

            @hops.job("AloneJob", exclusive="alone")
            async def alone() -> None:
                done.append("sent away")
                await trio.sleep(0.1)

            async with serving(retries):
                await sync.enqueue()
                await retries.idle()
                assert done == ["retried"]
            async with serving(delays):
                await begin.enqueue()
                await delays.idle()
                assert done == ["retried", "enqueued by a job"]
            async with serving(hops):
                for _ in range(5):
                    await alone.enqueue()
                await hops.idle()
                assert done == ["retried", "enqueued by a job", *["sent away"] * 5]


async def test_idle_does_not_wait_for_what_others_put_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The delay queues are shared: a retry of another group would keep a `run --burst` for as long as it waits."""
    monkeypatch.setattr(put_off, "LATE", 1.0)
    with trio.fail_after(60):
        async with cluster() as here, connect(here.rabbitmq.port, here.vhost) as client:
            other, worker = here.worker("others"), here.worker()
            other_waits = trio.Event()
            other.observe(lambda event: other_waits.set() if isinstance(event, JobRetried) else None)

            @other.job("OtherJob", max_retries=1, base_retry_delay=60)
            async def other_job() -> None:
                raise ValueError("the shop is closed")

            @worker.job("SyncJob", max_retries=1, base_retry_delay=2)
            async def sync(ctx: JobContext) -> None:
                if ctx.attempt == 1:
                    raise ValueError("the shop is closed")

            async with serving(other):
                await other_job.enqueue()
                await other_waits.wait()
            async with serving(worker):
                with trio.fail_after(5):
                    await worker.idle()
                await sync.enqueue()
                # Its own is still waited for, while the other's is there: its time, and so long as it may be late.
                began = trio.current_time()
                with trio.fail_after(30):
                    await worker.idle()
                assert trio.current_time() - began >= 3.0

            assert (await client.declare_queue(rung_name(60), passive=True))[0] == 1


BATCH: Final = 180
WAITING: Final = 100


@define(eq=False)
class Count:
    """Of things that happen in the worker, and that can be waited for."""

    so_far: int = 0
    _changed: trio.Event = field(factory=trio.Event, init=False)

    def one_more(self) -> None:
        self.so_far += 1
        self._changed.set()
        self._changed = trio.Event()

    async def reaches(self, number: int) -> None:
        while self.so_far < number:
            await self._changed.wait()


async def test_waiting_retries_slow_nothing_down() -> None:
    """With `max_parallel` = 3 and 100 retries waiting, good jobs run as before, three at a time."""
    done, met, retried = Count(), Count(), Count()
    with trio.fail_after(90):
        # An API that reads ten times as fast as the real one: this is about the worker.
        async with cluster(api_settings=ApiSettings(status_interval=0.01)) as here:
            worker = here.worker()
            worker.observe(lambda event: retried.one_more() if isinstance(event, JobRetried) else None)

            @worker.job("SyncJob", max_parallel=3, max_retries=1, base_retry_delay=60)
            async def sync(what: str) -> None:
                if what == "fail":
                    raise ValueError("the shop is closed")
                if what == "meet":
                    met.one_more()
                    await met.reaches(3)
                done.one_more()

            async def dispatch(what: str, count: int) -> None:
                for _ in range(count):
                    await here.api.dispatch("SyncJob", f'"{what}"', auto_disable=False)

            async def seconds_of_a_batch() -> float:
                began, goal = trio.current_time(), done.so_far + BATCH
                async with trio.open_nursery() as nursery:
                    for _ in range(6):
                        nursery.start_soon(dispatch, "succeed", BATCH // 6)
                await done.reaches(goal)
                return trio.current_time() - began

            async with serving(worker), connect(here.rabbitmq.port, here.vhost) as client:
                await here.api.until(lambda: here.api.model.workers)
                await seconds_of_a_batch()  # to warm up
                alone = [await seconds_of_a_batch() for _ in range(3)]

                await dispatch("fail", WAITING)
                await retried.reaches(WAITING)
                beside_retries = [await seconds_of_a_batch() for _ in range(3)]
                await dispatch("meet", 3)
                await met.reaches(3)

                # They waited all the time, there and not here.
                assert (await client.declare_queue(rung_name(60), passive=True))[0] == WAITING

    print(f"{BATCH / min(alone):.0f} jobs/s alone, {BATCH / min(beside_retries):.0f} beside {WAITING} waiting retries")
    assert min(beside_retries) < 5 * min(alone)  # how fast is for the benchmarks: a slot that is held is held for 60 s
