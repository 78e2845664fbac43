"""A worker whose queues survive it also remembers what is over, as its messages may come again."""

from pathlib import Path

import pytest
import trio

from milvaion_trio import Worker, WorkerSettings
from milvaion_trio.broker.embedded.durable import DurableBroker
from milvaion_trio.broker.embedded.keeping import Keeping
from milvaion_trio.model.events import Event, JobConcluded
from milvaion_trio.model.settings import OfflineResilienceSettings


async def test_a_job_that_is_over_does_not_run_again_though_its_ack_was_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the process is killed between the two: the outbox says that the attempt is concluded."""
    runs: list[int] = []
    concluded = trio.Event()

    def made(broker: DurableBroker) -> Worker:
        outbox = OfflineResilienceSettings(local_storage_path=str(tmp_path))
        worker = Worker(settings=WorkerSettings(worker_id="kept", offline_resilience=outbox), broker=broker)

        @worker.job("Count")
        async def count(number: int) -> None:
            runs.append(number)

        @worker.observe
        def notice(event: Event) -> None:
            if isinstance(event, JobConcluded):
                concluded.set()

        return worker

    with monkeypatch.context() as killed, trio.fail_after(30):
        killed.setattr(Keeping, "remove", lambda *_: None)
        async with DurableBroker(tmp_path).open() as broker, trio.open_nursery() as nursery:
            worker: Worker = await nursery.start(made(broker).serve)
            async with worker.client() as client:
                await client.enqueue("Count", 1)
            await concluded.wait()
            worker.drain()
    async with DurableBroker(tmp_path).open() as broker, trio.open_nursery() as nursery:
        assert sum(broker.queue(queue).depth for queue in broker.queues if "count" in queue) == 1
        worker = await nursery.start(made(broker).serve)
        with trio.fail_after(30):
            await worker.idle()
        worker.drain()

    assert runs == [1]
