"""Running, said only of jobs that still run after a while.

Separate from the reporter, which turns what happens into rows: here is decided when. A final status carries all that
its Running would have carried, so what is not said in time need not be said (DESIGN.md 7).
"""

from collections import deque

import trio
from attrs import define, field

from milvaion_trio.runtime.reporting import Reporter
from milvaion_trio.runtime.run import Phase, Run

__all__ = ["LateStarts"]


@define(eq=False)
class LateStarts:
    """Tells of each run that it has begun, after `delay` seconds; at once, without one."""

    _delay: float
    _reporter: Reporter
    _held: deque[tuple[float, Run]] = field(factory=deque, init=False)
    _some: trio.Event = field(factory=trio.Event, init=False)

    def begun(self, run: Run) -> None:
        """The run's code is about to run."""
        if not self._delay:
            self._reporter.started(run)
            return
        self._held.append((trio.current_time() + self._delay, run))
        self._some.set()

    async def tell(self) -> None:
        """Tell of those that are due, at most half a delay late: one look for many. Runs until cancelled."""
        while True:
            await self._some.wait()
            await trio.sleep(self._delay / 2)
            now = trio.current_time()
            while self._held and self._held[0][0] <= now:
                _, run = self._held.popleft()
                if run.phase is Phase.RUNNING:
                    self._reporter.started(run)
            if not self._held:
                self._some = trio.Event()
