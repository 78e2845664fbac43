"""Workers that are asked to leave while they start: they leave at once, and that is no error."""

import logging

import pytest
import trio
from attrs import frozen
from tests.support.steps import ORDERS, passes
from tests.support.virtual import virtual

from milvaion_trio import Worker, WorkerSettings
from milvaion_trio.broker.embedded import EmbeddedBroker

PASSES = 40
"""More passes of the scheduler than a start takes."""


@frozen
class Told:
    """A task status that only says whether it was told."""

    is_up: trio.Event

    def started(self, value: object = None) -> None:
        self.is_up.set()


@pytest.mark.parametrize("how", ["drained", "stopped"])
def test_leaving_at_any_step_of_the_start_is_no_error(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing took too long: it had just begun."""

    async def leave_after(steps: int) -> bool:
        worker = Worker(settings=WorkerSettings(worker_id="tests"), broker=EmbeddedBroker(), observers=())
        worker.job("work")(trio.sleep_forever)
        scope, is_up = trio.CancelScope(), trio.Event()

        async def serve() -> None:
            with scope:
                await worker.serve(handle_signals=False, task_status=Told(is_up))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            await passes(2 + steps)
            assert worker.trio_token is not None, "it serves from its first step on"
            was_up = is_up.is_set()
            if how == "drained":
                worker.drain()
            else:
                scope.cancel()
        return was_up

    with caplog.at_level(logging.ERROR, "milvaion_trio"):
        came_up = [virtual(leave_after, steps) for steps in range(PASSES) for _ in range(ORDERS)]

    assert caplog.messages == []
    assert came_up[-1], "the start takes longer than all steps tried"
