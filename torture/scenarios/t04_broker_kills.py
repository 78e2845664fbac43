"""T04: the broker killed with SIGKILL under load, again and again; a worker and the API find back by themselves.

One worker, so that figures are exact: a broker that dies forgets acks of the last moments, hundreds under load, and
delivers those messages again. The worker that concluded them knows; another one would run them once more, announced.
"""

from typing import Final

import trio

from torture.expectations import Act
from torture.play import Play
from torture.scenario import Scenario, Size

__all__ = ["SCENARIO"]

PARALLEL: Final = 20


async def play(play: Play) -> None:
    """Jobs all the time, and kills spread over them. If cancelled, it stops."""
    play.tell(max_parallel=PARALLEL)
    play.allow(most_extra_runs=0, explains_copies=True)
    await play.workers.start("only")
    await play.registered()
    acts = [Act(ends=["ok"], takes=play.random.uniform(0.02, 0.3)) for _ in range(play.size.jobs)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play.dispatch_all, acts)
        for at in play.chances(play.size.faults):
            await play.until_ended(at)
            await trio.sleep(play.random.uniform(0, 0.5))
            await play.kill_broker()
    await play.until_all_ended()


SCENARIO: Final = Scenario(
    id="T04",
    title="the broker killed under load",
    full=Size(jobs=10_000, faults=50, patience=40, limit=1500),
    short=Size(jobs=600, faults=2, patience=20),
    play=play,
    agrees=True,
    hurts_broker=True,
    api={"status_interval": 0.05},  # slow enough for statuses to be in its queue when the broker dies
    sabotages={"transient-status": frozenset({"I1"})},
    slow_short=True,
    slow_bites=frozenset({"transient-status"}),
)
