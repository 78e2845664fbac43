"""T19: jobs that kill the worker's process each time they run, and innocent ones that run beside them."""

from collections.abc import Iterator
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
"""Innocent jobs that run at least when poisonous ones come."""
TOGETHER: Final = 4
"""Poisonous jobs that come at the same time."""
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
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_kept_up, play, worker)
        async with trio.open_nursery() as dispatching:
            dispatching.start_soon(_dispatch_innocents, play)
            for at, bout in zip(play.chances(len(bouts), last=0.6), bouts, strict=True):
                await play.until_ended(at)
                await play.until(lambda: _running(play) >= BESIDE)
                for word in bout:
                    await play.dispatch(Act(ends=[word], takes=0.05, lines=0), POISONED)
        await play.until_all_ended()
        nursery.cancel_scope.cancel()
    play.facts["deaths"] = len(worker.codes)
    play.facts["exit_codes"] = sorted(set(worker.codes))


async def _dispatch_innocents(play: Play) -> None:
    for _ in range(play.size.jobs):
        while len(play.expected) - play.ended > 10 * PARALLEL:  # noqa: ASYNC110  # as `dispatch_all` waits
            await trio.sleep(0.05)
        await play.dispatch(Act(ends=["ok"], takes=play.random.uniform(0.1, 0.3)), INNOCENT)


async def _kept_up(play: Play, worker: WorkerProcess) -> None:
    """Start the worker again whenever it has died, as systemd does. Raises `GaveUp` when that leads nowhere."""
    while True:
        assert worker.process is not None
        await worker.process.wait()
        async with play.fault("own-death", worker.name):
            await worker.ended()
            if len(worker.codes) > (MOST_DEATHS + 1) * play.size.faults:
                raise GaveUp(f"the worker died {len(worker.codes)} times of {play.size.faults} jobs")
            await worker.start()


def _running(play: Play) -> int:
    """How many jobs run now, as far as this process has not died."""
    ended = {line.token for line in play.effects() if line.what == "end"}
    pid = next((line.pid for line in reversed(play.effects()) if line.what == "start"), None)
    return sum(1 for line in play.effects() if line.what == "begin" and line.pid == pid and line.token not in ended)


def poison_is_tried_three_times(evidence: Evidence) -> Iterator[str]:
    """Each poisonous job runs three times: none is set aside earlier, and none runs once more."""
    for occurrence, wanted in evidence.expected.items():
        count = sum(1 for line in evidence.effects if line.what == "begin" and line.occurrence == occurrence)
        if wanted == POISONED and count != MOST_DEATHS:
            yield f"{occurrence} ran {count} times and not {MOST_DEATHS}"


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
    short=Size(jobs=60, faults=2, patience=40),
    play=play,
    claims={"deaths": poison_is_tried_three_times, "alone": suspects_run_alone},
    sabotages={
        "deaths-not-counted": frozenset({"I1", "I4"}),
        "suspects-not-alone": frozenset({"alone", "I2"}),
    },
)
