"""When a worker is idle: whatever happens while the broker is asked."""

from typing import Any

import trio
import trio.testing
from attrs import define, field

from milvaion_trio.runtime.idling import until_idle
from milvaion_trio.runtime.put_off import PutOff


@define(eq=False)
class House:
    """A worker whose one run is concluded, to be tried again, while the broker is asked how much waits."""

    put_off: PutOff = field(factory=PutOff)
    is_settled: bool = False
    waiting: int = 0
    in_hand: int = 0
    received: int = 1
    queue: str = "jobs"
    looks: int = 0

    def __getattr__(self, part: str) -> Any:
        """It is every part of itself."""
        return {"jobs": [self], "current": self}.get(part, self)

    async def depth(self, queue: str, *, may_wait: bool) -> int:
        await trio.sleep(0.01)
        self.looks += 1
        if self.looks == 2:  # whatever is seen has to be seen twice
            self.put_off.note(60)
            self.is_settled = True
        return int(may_wait)

    async def drained(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_a_run_that_is_put_off_while_the_broker_is_asked_is_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Seen in CI: what may wait was asked before the run was put off, and whether all is settled afterwards."""
    house: Any = House()
    with trio.move_on_after(30) as limit:
        await until_idle(lambda: house)

    assert limit.cancelled_caught
