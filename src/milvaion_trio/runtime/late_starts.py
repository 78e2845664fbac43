"""Running, said only of jobs that still run after a while.

Separate from the reporter, which turns what happens into rows: here is decided when. A final status carries all that
its Running would have carried, so what is not said in time need not be said (DESIGN.md 7).
"""

import trio
from attrs import define, field

from milvaion_trio.runtime.reporting import Reporter
from milvaion_trio.runtime.run import Run

__all__ = ["LateStarts"]


@define(eq=False)
class LateStarts:
    """Tells of each run that it has begun, after `delay` seconds; at once, without one."""

    _delay: float
    _reporter: Reporter
    _held: dict[Run, float] = field(factory=dict, init=False)
    """When each is due, in that order; only runs whose code still runs."""
    _some: trio.Event = field(factory=trio.Event, init=False)

    def begun(self, run: Run) -> None:
        """The run's code is about to run."""
        if not self._delay:
            self._reporter.started(run)
            return
        self._held[run] = trio.current_time() + self._delay
        self._some.set()

    def ended(self, run: Run) -> None:
        """The run's code has ended: there is nothing left to tell, and the run is not kept."""
        self._held.pop(run, None)

    async def tell(self) -> None:
        """Tell of those that are due, at most half a delay late: one look for many. Runs until cancelled."""
        while True:
            await self._some.wait()
            await trio.sleep(self._delay / 2)
            now = trio.current_time()
            for run in [run for run, due in self._held.items() if due <= now]:
                del self._held[run]
                self._reporter.started(run)
            if not self._held:
                self._some = trio.Event()
