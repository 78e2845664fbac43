"""An outbox in trouble, with RabbitMQ: what was handed out and not started goes back, and was never started."""

from collections.abc import Callable

import pytest
import trio
from tests.support.cluster import cluster, serving

from milvaion_trio.model.events import Event, JobStarted
from milvaion_trio.outbox.disk import DiskOutbox

Tell = Callable[[str], None]


async def test_what_goes_back_while_the_outbox_is_in_trouble_is_not_taken_for_a_second_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One runs, one waits for its slot, three were not looked at; all but the first come again, marked redelivered."""
    tellers: list[Tell] = []
    monkeypatch.setattr(DiskOutbox, "on_trouble", lambda _, tell: tellers.append(tell))
    runs: list[int] = []
    gate = trio.Event()

    def note(event: Event) -> None:
        if isinstance(event, JobStarted):
            runs.append(event.run_number)

    with trio.fail_after(60):
        async with cluster() as here:
            worker = here.worker(max_parallel_jobs=1)
            worker.observers = (note,)

            @worker.job("Wait", max_parallel=5)
            async def wait() -> None:
                await gate.wait()

            async with serving(worker):
                await here.api.until(lambda: here.api.model.workers)
                for _ in range(5):
                    await here.api.dispatch("Wait", {})
                await here.api.until(lambda: runs)
                await trio.sleep(0.3)
                tellers[0]("database or disk is full")
                await trio.sleep(0.3)
                gate.set()
                tellers[0]("")
                await here.api.until_ended()

    assert runs == [1] * 5
