"""T16: a disk of 4 MB that fills up: no new work, what runs goes on in memory, and all resumes by itself."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

import trio

from torture.evidence import Evidence
from torture.expectations import Act
from torture.network import judged, leave
from torture.play import LOOK, Play
from torture.scenario import Scenario, Size
from torture.small_disk import SmallDisk, small_disk
from torture.worker_processes import WorkerProcess

__all__ = ["SCENARIO", "nothing_new_begins"]

KIND: Final = "disk-full"
TOLD: Final = "cannot be written, it goes on in memory"
OVER: Final = "is written again"
TAKES: Final = (0.1, 0.4, 0.7)
"""Seconds of the jobs: four at a time, ten of them begin in a second."""
EARLY: Final = 0.4
"""No disk is full later in a run, so that there are jobs left that could begin."""
LASTS: Final = 2.5
"""Seconds that the disk stays full, once that is noticed."""
GRACE: Final = 1.0
"""Seconds in which what was on its way may still begin."""


async def play(play: Play) -> None:
    """One worker, whose disk fills up at any moment. If cancelled, it stops."""
    play.allow(most_extra_runs=0)
    worker = play.workers.add("small")
    with small_disk(Path(worker.told.storage)) as disk:
        play.facts["mounted"] = disk.is_real
        with judged(play, {"intake": nothing_new_begins}):
            await worker.start(sabotages=[*worker.told.sabotages, *disk.pretences])
            await worker.ready()
            await play.registered()
            async with trio.open_nursery() as nursery:
                takes = [play.random.choice(TAKES) for _ in range(play.size.jobs)]
                acts = [Act(ends=["ok"], takes=seconds, lines=5) for seconds in takes]
                nursery.start_soon(play.dispatch_all, acts)
                for at in play.chances(play.size.faults, last=EARLY):
                    await play.until(partial(have_ended, play, at))
                    await fill_and_empty(play, worker, disk)
            await play.until_all_ended()
            await leave(play)


def have_ended(play: Play, count: int) -> bool:
    """Whether so many have."""
    return play.ended >= count


async def fill_and_empty(play: Play, worker: WorkerProcess, disk: SmallDisk) -> None:
    """Wait for what the worker says. If cancelled, the disk may be full."""
    told, over = worker.log.count(TOLD), worker.log.count(OVER)
    async with play.fault(KIND, worker.name):
        disk.fill()
        try:
            await play.until(lambda: worker.log.count(TOLD) > told)
            await trio.sleep(LASTS)
        finally:
            disk.empty()
    await play.until(lambda: worker.log.count(OVER) > over)
    await trio.sleep(LOOK)


def nothing_new_begins(evidence: Evidence) -> Iterator[str]:
    """While the disk is full, no job begins that could not be concluded for good."""
    for fault in evidence.faults:
        late = [
            effect
            for effect in evidence.effects
            if effect.what == "begin" and fault.ended - LASTS + GRACE < effect.at < fault.ended
        ]
        if fault.kind == KIND and late:
            yield f"{len(late)} runs began while the disk was full"


SCENARIO: Final = Scenario(
    id="T16",
    title="a disk of 4 MB that is full from time to time",
    full=Size(jobs=2_000, faults=15, patience=20, limit=400),
    short=Size(jobs=60, faults=1, patience=8),
    bite=Size(jobs=60, faults=1, patience=5),
    play=play,
    sabotages={
        "silent-trouble": frozenset({"intake"}),
        "trouble-drops": frozenset({"I1"}),
        "no-second-try": frozenset({"I1"}),
    },
    slow_bites=frozenset({"silent-trouble", "trouble-drops", "no-second-try"}),
)
