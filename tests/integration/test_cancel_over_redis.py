"""Cancel signals over Redis: a running job ends at once, one that waits does not start, a later dispatch does."""

import json
import time
from typing import Final
from uuid import uuid4

import pytest
import trio
from tests.support.amqp import connect
from tests.support.api_model import OccurrenceStatus
from tests.support.api_model.database import ENDS
from tests.support.cluster import Cluster, cluster, serving

from milvaion_trio import JobContext, RetryLater
from milvaion_trio.broker.ladder import rung_name

S = OccurrenceStatus

JUNK: Final = (
    "",
    "null",
    "[]",
    "{",
    "{}",
    '{"CorrelationId": 7}',
    '{"CorrelationId": "not-a-guid"}',
    str(uuid4()),  # WIRE.md 5.3: an older code path of the API would publish this
    "\udcff\udcfe",
    json.dumps({"CorrelationId": str(uuid4()), "Reason": "x" * 5000}),
    json.dumps({"CorrelationId": str(uuid4()), "Reason": "nobody's"}),
)


def signal(occurrence_id: str, reason: str = "Cancelled by user") -> str:
    """What the API sends (WIRE.md 5.3), for an occurrence that it would not let anybody cancel yet."""
    return json.dumps(
        {"CorrelationId": occurrence_id, "JobId": str(uuid4()), "OccurrenceId": occurrence_id, "Reason": reason}
    )


async def has_said_cancelled(here: Cluster, *occurrence_ids: str) -> None:
    """Wait for the worker's word; the API sets the status by itself."""
    occurrences = [here.api.occurrence(identity) for identity in occurrence_ids]
    await here.api.until(lambda: all(told.wire and told.wire[-1].status in ENDS for told in occurrences))
    for told in occurrences:
        assert [status.status for status in told.wire if status.status in ENDS] == [S.CANCELLED]


async def dispatch_again(here: Cluster, occurrence_id: str) -> None:
    """As the workflow engine does (WIRE.md 12.1). It looks every 5 s, and stamps are whole seconds."""
    dispatch = here.api.model.dispatcher.dispatch_again(occurrence_id, here.api.now() + 5)
    await here.api.publish(dispatch)


async def test_a_running_job_has_cleaned_up_and_is_cancelled_within_a_second() -> None:
    """Counted from the signal, junk before it; a later dispatch of the occurrence runs."""
    runs: list[str] = []
    cleaned: list[float] = []
    with trio.fail_after(60):
        async with cluster() as here:
            worker = here.worker()

            @worker.job("SyncJob", max_retries=3)
            async def sync(ctx: JobContext) -> str:
                runs.append(ctx.occurrence_id)
                if len(runs) > 1:
                    return "in peace"
                try:
                    await trio.sleep_forever()
                finally:
                    async with ctx.cleanup():
                        await trio.sleep(0.1)
                        cleaned.append(time.time())

            async with serving(worker):
                await here.api.until(lambda: here.api.model.workers)
                occurrence_id = await here.api.dispatch("SyncJob")
                occurrence = here.api.occurrence(occurrence_id)
                await here.api.until(lambda: occurrence.status == S.RUNNING)
                for junk in JUNK:
                    assert await here.signal(junk) == 1

                sent = time.time()
                assert await here.cancel(occurrence_id, "the shop burns") == 1
                await has_said_cancelled(here, occurrence_id)

                assert sent < cleaned[0] < occurrence.messages[-1].at < sent + 1
                assert occurrence.wire[-1].result == "SyncJob was cancelled: the shop burns"
                assert occurrence.exception == "the shop burns"  # the API's own word, which stays

                await dispatch_again(here, occurrence_id)
                await here.api.until_ended()
                assert occurrence.status == S.COMPLETED

    assert runs == [occurrence_id, occurrence_id]
    assert len(cleaned) == 1


async def test_a_queued_job_that_was_cancelled_does_not_start() -> None:
    """One waits in the worker for a slot, one in the broker; the job behind them runs."""
    runs: list[str] = []
    release = trio.Event()
    with trio.fail_after(60):
        async with cluster() as here:
            worker = here.worker(max_parallel_jobs=1)

            @worker.job("SyncJob", max_parallel=2)
            async def sync(ctx: JobContext) -> None:
                runs.append(ctx.occurrence_id)
                await release.wait()

            async with serving(worker), connect(here.rabbitmq.port, here.vhost) as client:
                await here.api.until(lambda: here.api.model.workers)
                first, second, third, fourth = [await here.api.dispatch("SyncJob") for _ in range(4)]
                await here.api.until(lambda: here.api.occurrence(first).status == S.RUNNING)
                assert (await client.declare_queue(worker.registry.jobs[0].queue, passive=True))[0] == 2
                for identity in (second, third):
                    assert await here.signal(signal(identity)) == 1
                # Signals are heard in order: when this one had its effect, the others had theirs.
                await here.cancel(first)
                await has_said_cancelled(here, first, second, third)
                release.set()
                await here.api.until_ended(fourth)
                assert runs == [first, fourth]
                for identity in (second, third):
                    (final,) = here.api.occurrence(identity).wire
                    assert (final.start_time, final.duration_ms) == (None, None)

                await dispatch_again(here, second)
                await here.api.until_ended()

    assert runs == [first, fourth, second]
    assert here.api.occurrence(second).status == S.COMPLETED


@pytest.mark.parametrize(("delay", "ends_at"), [(1, "its queue"), (3, "a hop")])
async def test_a_waiting_retry_that_was_cancelled_does_not_start(delay: int, ends_at: str) -> None:
    """It ends where it comes by next; of 3 s, which are 2 + 1, the last one is not waited for."""
    runs: list[int] = []
    with trio.fail_after(60):
        async with cluster() as here:
            worker = here.worker()

            @worker.job("SyncJob", max_retries=3)
            async def sync(ctx: JobContext) -> str:
                runs.append(ctx.attempt)
                if len(runs) == 1:
                    raise RetryLater(delay, "the shop opens soon")
                return "sold"

            async with serving(worker), connect(here.rabbitmq.port, here.vhost) as client:
                last_rung = "tap of the last rung"
                await client.declare_queue(last_rung)
                await client.bind(last_rung, rung_name(1), "")
                await here.api.until(lambda: here.api.model.workers)
                occurrence_id = await here.api.dispatch("SyncJob")
                occurrence = here.api.occurrence(occurrence_id)
                await here.api.until(lambda: occurrence.status == S.RUNNING)
                for junk in JUNK:
                    await here.signal(junk)
                await here.cancel(occurrence_id, "the shop burns")
                await has_said_cancelled(here, occurrence_id)

                assert runs == [1]
                passed = (await client.declare_queue(last_rung, passive=True))[0]
                assert passed == (0 if ends_at == "a hop" else 1)

                await dispatch_again(here, occurrence_id)
                await here.api.until_ended()

    assert runs == [1, 1]
    assert occurrence.status == S.COMPLETED
    assert here.api.failed_occurrences == []


async def test_another_worker_does_not_start_what_was_cancelled_either() -> None:
    """Every worker hears every signal, so the retry may come to any of them."""
    runs: list[int] = []

    async def sync(ctx: JobContext) -> None:
        runs.append(ctx.attempt)
        raise RetryLater(1, "the shop opens soon")

    with trio.fail_after(60):
        async with cluster() as here:
            leaving, staying = here.worker(), here.worker()
            for worker in (leaving, staying):
                worker.job("SyncJob", max_retries=3)(sync)
            async with serving(leaving):
                await here.api.until(lambda: here.api.model.workers)
                occurrence_id = await here.api.dispatch("SyncJob")
                await here.api.until(lambda: here.api.occurrence(occurrence_id).status == S.RUNNING)
                async with serving(staying):
                    assert await here.cancel(occurrence_id) == 2
                    leaving.drain()
                    await has_said_cancelled(here, occurrence_id)

    assert runs == [1]
    final = here.api.occurrence(occurrence_id).wire[-1]
    assert final.instance_id == staying.instance_id
