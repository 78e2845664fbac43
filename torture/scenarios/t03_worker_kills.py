"""T03: three workers, one after another killed with SIGKILL at random moments and started again."""

from typing import Final

import trio

from torture.expectations import Act
from torture.play import Play
from torture.scenario import Scenario, Size

__all__ = ["SCENARIO"]

PARALLEL: Final = 4


async def play(play: Play) -> None:
    """Jobs all the time, and kills spread over them. If cancelled, it stops."""
    play.tell(max_parallel=PARALLEL)
    play.allow(most_extra_runs=PARALLEL * play.size.faults)
    workers = await play.workers.start("a", "b", "c")
    await play.registered()
    acts = [Act(ends=["ok"], takes=play.random.uniform(0.1, 0.5)) for _ in range(play.size.jobs)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play.dispatch_all, acts)
        for at in play.chances(play.size.faults):
            await play.until_ended(at)
            await trio.sleep(play.random.uniform(0, 0.3))  # anywhere within a job
            await play.kill_and_restart(play.random.choice(workers))
    await play.until_all_ended()


SCENARIO: Final = Scenario(
    id="T03",
    title="workers killed again and again",
    full=Size(jobs=10_000, faults=200, patience=20, limit=900),
    short=Size(jobs=80, faults=3, patience=5),
    play=play,
    sabotages={"ack-first": frozenset({"I1"})},
    slow_bites=frozenset({"ack-first"}),
)
