"""Exclusive and unique keys over real servers: two workers, one key, and a Redis that dies in the middle."""

from typing import Final

import pytest
import trio
from attrs import define, field
from tests.support.api_model.database import ENDS
from tests.support.cluster import Cluster, cluster, serving
from tests.support.servers import RedisServer

from milvaion_trio import JobContext, JobSettings, Worker
from milvaion_trio.model.errors import AlreadyDispatched
from milvaion_trio.model.settings import ShutdownSettings

LEASE: Final = 3.0
CLEANUP: Final = 0.3


@define
class Seen:
    """What the runs of one key did, over all workers of a test: they share a process, and so a clock."""

    seconds: float
    now: int = 0
    most: int = 0
    begun: list[tuple[float, int, int]] = field(factory=list)
    """When, with which token, as which run."""
    stopped: list[float] = field(factory=list)

    def worker(self, here: Cluster) -> Worker:
        """One more that has the job."""
        budgets = ShutdownSettings(cleanup_timeout=CLEANUP)
        worker = here.worker(exclusive_lease=LEASE, shutdown=budgets, job_defaults=JobSettings(max_retries=0))

        @worker.job("PayJob", exclusive="account-{Account}")
        async def pay(ctx: JobContext, data: dict[str, object]) -> None:
            assert ctx.fencing_token is not None
            self.begun.append((trio.current_time(), ctx.fencing_token, ctx.run_number))
            self.now += 1
            self.most = max(self.most, self.now)
            try:
                await trio.sleep(self.seconds)
            except trio.Cancelled:
                self.stopped.append(trio.current_time())
                raise
            finally:
                self.now -= 1

        return worker


async def all_ended(here: Cluster, occurrences: list[str]) -> None:
    """Return when all have a final status. If cancelled, nothing changes."""
    api = here.api
    await api.until(lambda: all(api.occurrence(each).status in ENDS for each in occurrences), 40)


async def test_two_workers_never_run_one_key_at_once() -> None:
    seen = Seen(0.05)
    with trio.fail_after(60):
        async with cluster() as here, serving(seen.worker(here)), serving(seen.worker(here)):
            await here.api.until(lambda: here.api.model.workers)
            await all_ended(here, [await here.api.dispatch("PayJob", {"account": "A"}) for _ in range(12)])

    tokens = [token for _, token, _ in seen.begun]
    assert (seen.most, len(seen.begun)) == (1, 12)
    assert tokens == sorted({*tokens})


async def test_a_redis_that_dies_stops_the_job_in_time_and_nothing_is_lost() -> None:
    """It is out before its lease would end, and runs again when there is a Redis, with a larger token."""
    seen, redis = Seen(10.0), RedisServer()
    redis.start()
    try:
        with trio.fail_after(60):
            async with cluster(redis=redis) as here, serving(seen.worker(here)), serving(seen.worker(here)):
                await here.api.until(lambda: here.api.model.workers)
                occurrence = await here.api.dispatch("PayJob", {"account": "A"})
                while not seen.begun:  # noqa: ASYNC110  # by a job
                    await trio.sleep(0.01)
                await trio.to_thread.run_sync(redis.kill)
                killed = trio.current_time()
                while not seen.stopped:  # noqa: ASYNC110
                    await trio.sleep(0.01)
                assert seen.stopped[0] - killed < LEASE
                seen.seconds = 0.01
                await trio.to_thread.run_sync(redis.start)
                await all_ended(here, [occurrence])
    finally:
        redis.__exit__()

    assert seen.most == 1
    (_, first, _), (_, second, number) = seen.begun
    assert second > first
    assert number == 2


async def test_a_unique_key_holds_for_all_clients_until_its_job_has_ended() -> None:
    with trio.fail_after(60):
        async with cluster() as here:
            worker = here.worker()
            may_end = trio.Event()

            @worker.job("OnceJob", unique="once-" + here.vhost)
            async def once() -> None:
                await may_end.wait()

            async with serving(worker), worker.client() as client, worker.client() as other:
                first = await client.enqueue(once)
                with pytest.raises(AlreadyDispatched):
                    await other.enqueue(once)
                assert await other.enqueue(once, on_duplicate="merge") == first
                may_end.set()
                while (second := await other.enqueue(once, on_duplicate="merge")) == first:  # noqa: ASYNC110
                    await trio.sleep(0.02)
                assert second != first
