"""T19: jobs that kill the worker's process each time they run, and innocent ones that run beside them."""

from collections.abc import Iterator
from functools import partial
from typing import Final

import trio

from torture.deaths import DEATHS
from torture.effects import Effect
from torture.evidence import Evidence
from torture.expectations import Act, Expected
from torture.play import GaveUp, Play
from torture.scenario import Scenario, Size
from torture.worker_processes import WorkerProcess

__all__ = ["SCENARIO"]

PARALLEL: Final = 25
BESIDE: Final = 20
"""Innocent jobs that certainly run when poisonous ones come."""
TOGETHER: Final = 4
"""Poisonous jobs that come at the same time."""
OPEN: Final = 50
"""Other jobs that wait or run, so that all slots are taken and nobody waits for long."""
MOST_DEATHS: Final = 3
POISONED: Final = Expected(status=3, attempts=1, dead_letter=True, most_runs=MOST_DEATHS, logs=False)
INNOCENT: Final = Expected(status=2, attempts=1, most_runs=MOST_DEATHS)
"""Two deaths of others, and then one run alone."""


async def play(play: Play) -> None:
    """One worker, started again whenever it has died; poison spread over the jobs. If cancelled, it stops."""
    play.tell(max_parallel=PARALLEL)
    (worker,) = await play.workers.start("only")
    await play.registered()
    words = [play.random.choice(sorted(DEATHS)) for _ in range(play.size.faults)]
    bouts = [words[at : at + TOGETHER] for at in range(0, len(words), TOGETHER)]
    others = play.size.jobs - BESIDE * len(bouts)
    acts = [Act(ends=["ok"], takes=play.random.uniform(0.1, 0.3)) for _ in range(others)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_kept_up, play, worker)
        async with trio.open_nursery() as dispatching:
            dispatching.start_soon(partial(play.dispatch_all, acts, open_at_most=OPEN))
            for at in sorted(play.random.randint(1, others // 2) for _ in bouts):
                await play.until_ended(at)
                await _bout(play, bouts.pop())
        await play.until_all_ended()
        nursery.cancel_scope.cancel()
    play.facts["deaths"] = len(worker.codes)
    play.facts["exit_codes"] = sorted(set(worker.codes))


async def _bout(play: Play, words: list[str]) -> None:
    """Poison, as soon as so many others run. Raises `GaveUp`. If cancelled, some of it was dispatched."""
    neighbours = {await play.dispatch(Act(ends=["neighbour"]), INNOCENT) for _ in range(BESIDE)}
    await play.until(lambda: neighbours <= {line.occurrence for line in play.effects() if line.what == "begin"})
    for word in words:
        await play.dispatch(Act(ends=[word], takes=0.05, lines=0), POISONED)


async def _kept_up(play: Play, worker: WorkerProcess) -> None:
    """Start the worker again whenever it has died, as systemd does. Raises `GaveUp` when that leads nowhere."""
    while True:
        assert worker.process is not None
        await worker.process.wait()
        async with play.fault("own-death", worker.name):
            await worker.ended()
            if len(worker.codes) > MOST_DEATHS * play.size.faults:
                raise GaveUp(f"the worker died {len(worker.codes)} times of {play.size.faults} jobs")
            await worker.start()


def poison_is_known_by_a_run_alone(evidence: Evidence) -> Iterator[str]:
    """What is set aside ran alone before, once.

    It need not have run three times: a process may die of others when a run is on record and its code has not begun.
    """
    for occurrence, wanted in evidence.expected.items():
        numbers = [line.run for line in evidence.effects if line.what == "begin" and line.occurrence == occurrence]
        if wanted == POISONED and numbers.count(MOST_DEATHS) != 1:
            yield f"{occurrence} was set aside after its runs {numbers}"


def suspects_run_alone(evidence: Evidence) -> Iterator[str]:
    """While a job runs that the worker may have died of, no other one does."""
    last: dict[int, float] = {}
    ends: dict[str, float] = {}
    for line in evidence.effects:
        last[line.pid] = line.at
        if line.what == "end":
            ends[line.token] = line.at
    begun = [line for line in evidence.effects if line.what == "begin"]

    def until(line: Effect) -> float:
        return ends.get(line.token, last[line.pid] + 1.0)

    for suspect in (line for line in begun if line.run >= MOST_DEATHS):
        for other in begun:
            overlap = other.at < until(suspect) and suspect.at < until(other)
            if other.pid == suspect.pid and other is not suspect and overlap:
                yield f"{other.occurrence} ran beside {suspect.occurrence}, of which the worker had died twice"


SCENARIO: Final = Scenario(
    id="T19",
    title="jobs that kill their worker",
    full=Size(jobs=3_000, faults=40, patience=60, limit=900),
    short=Size(jobs=30, faults=2, patience=40),
    bite=Size(jobs=25, faults=1, patience=40),
    play=play,
    claims={"deaths": poison_is_known_by_a_run_alone, "alone": suspects_run_alone},
    sabotages={
        "deaths-not-counted": frozenset({"I1", "I4"}),
        "suspects-not-alone": frozenset({"alone", "I2"}),
    },
    slow_bites=frozenset({"deaths-not-counted", "suspects-not-alone"}),
)
