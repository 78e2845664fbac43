"""T07: three workers restarted in turn with SIGTERM, some told a second and a third time; as in any deployment."""

from typing import Final

import trio

from torture.expectations import Act
from torture.play import Play
from torture.scenario import Scenario, Size
from torture.worker_processes import WorkerProcess

__all__ = ["SCENARIO"]

PARALLEL: Final = 4
SIGNALS: Final = (1, 1, 1, 1, 1, 2, 2, 3)
"""How many signals a restart has, by chance."""
BETWEEN: Final = 0.3
"""Seconds between two signals."""
CODES: Final = {1: {0}, 2: {0, -15}, 3: {0, -15, 130}}
"""By the number of signals; -15 where the last one came when the worker had left and its process was about to end."""
LATE: Final = 2.0
"""Seconds beyond the budgets that a busy machine may add to leaving."""


async def play(play: Play) -> None:
    """Jobs all the time, some longer than the time to drain, and restarts in turn. If cancelled, it stops."""
    play.tell(max_parallel=PARALLEL, drain=1.0, cleanup=0.5, flush=3.0)
    play.allow(most_extra_runs=PARALLEL * play.size.faults)
    workers = await play.workers.start("a", "b", "c")
    await play.registered()
    acts = [Act(ends=["ok"], takes=play.random.choice((0.1, 0.2, 0.4, 1.5))) for _ in range(play.size.jobs)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play.dispatch_all, acts)
        for number, at in enumerate(play.chances(play.size.faults)):
            await play.until_ended(at)
            await _restart(play, workers[number % len(workers)], play.random.choice(SIGNALS))
    await play.until_all_ended()


async def _restart(play: Play, worker: WorkerProcess, signals: int) -> None:
    """Tell a worker to leave, so often, and start it again. If cancelled, it may have left."""
    async with play.fault(f"restart-{signals}", worker.name):
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_tell, worker, signals)
            code = await worker.ended()
            nursery.cancel_scope.cancel()
        seconds = trio.current_time() - began
        if code not in CODES[signals]:
            play.complain("I10", f"{worker.name} left with {code} after {signals} signals")
        budget = {1: 1.0 + 0.5 + 3.0, 2: BETWEEN + 0.5 + 3.0, 3: 2 * BETWEEN}[signals]
        if seconds > budget + LATE:
            play.complain("I10", f"{worker.name} took {seconds:.1f} s to leave after {signals} signals")
        await worker.start()
    await worker.ready()


async def _tell(worker: WorkerProcess, signals: int) -> None:
    """Send so many signals. If cancelled, it sends no more."""
    for _ in range(signals):
        worker.terminate()
        await trio.sleep(BETWEEN)


SCENARIO: Final = Scenario(
    id="T07",
    title="rolling restarts",
    full=Size(jobs=2_500, faults=50, patience=20, limit=600),
    short=Size(jobs=60, faults=3, patience=6),
    play=play,
    sabotages={"shutdown-cancels": frozenset({"I2"})},
    slow_bites=frozenset({"shutdown-cancels"}),
)
