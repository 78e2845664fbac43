"""Workers that are asked to leave while they start: they leave at once, and that is no error."""

import logging

import pytest
import trio
from tests.support.steps import ORDERS, passes
from tests.support.virtual import virtual

from milvaion_trio import Worker, WorkerSettings
from milvaion_trio.broker.embedded import EmbeddedBroker

PASSES = 40
"""More passes of the scheduler than a start takes."""


@pytest.mark.parametrize("how", ["drained", "stopped"])
def test_a_worker_that_leaves_at_any_step_of_its_start_logs_no_error(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing took too long: it had just begun."""

    async def leave_after(steps: int) -> bool:
        worker = Worker(settings=WorkerSettings(worker_id="tests"), broker=EmbeddedBroker(), observers=())
        worker.job("work")(trio.sleep_forever)
        is_up = False
        async with trio.open_nursery() as nursery:
            scope = trio.CancelScope()

            async def serve(task_status: trio.TaskStatus[Worker]) -> None:
                with scope:
                    await worker.serve(handle_signals=False, task_status=task_status)

            async def start() -> None:
                nonlocal is_up
                await nursery.start(serve)
                is_up = True

            nursery.start_soon(start)
            await passes(steps)
            was_up = is_up
            worker.drain() if how == "drained" else scope.cancel()
        return was_up

    with caplog.at_level(logging.ERROR, "milvaion_trio"):
        came_up = [virtual(leave_after, steps) for steps in range(PASSES) for _ in range(ORDERS)]

    assert caplog.messages == []
    assert came_up[-1], "the start takes longer than all steps tried"
