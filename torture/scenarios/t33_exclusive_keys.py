"""T33: exclusive keys while workers are killed every few seconds: never two runs of a key at once, and none is lost."""

from collections.abc import Iterator
from typing import Final

import trio

from torture.evidence import Evidence
from torture.one_at_a_time import acts, again_is_announced, ends_are_equal, fences_grow, overlaps, tell
from torture.play import Play
from torture.scenario import Scenario, Size

__all__ = ["SCENARIO"]

NAMES: Final = ("a", "b", "c", "d")


async def play(play: Play) -> None:
    """A kill every few seconds until all have ended, or as many as were asked for. If cancelled, it stops."""
    tell(play)
    workers = await play.workers.start(*NAMES)
    await play.registered()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play.dispatch_all, acts(play, 0.4))
        await play.until_ended(1)
        began, left = trio.current_time(), play.size.faults
        while left and play.ended < play.size.jobs:
            await trio.sleep(play.random.uniform(1.5, 4.5))
            await play.kill_and_restart(play.random.choice(workers))
            left -= 1
    await play.until_all_ended()
    seconds = trio.current_time() - began
    play.facts |= {"seconds_of_jobs": round(seconds, 1), "jobs_a_second": round(play.size.jobs / seconds, 1)}


def one_at_a_time(evidence: Evidence) -> Iterator[str]:
    """No two runs of a key overlap."""
    for one, other in overlaps(evidence):
        yield f"{one.key} ran in {one.worker} and {other.worker} at once, for {one.ended - other.began:.2f} s"


SCENARIO: Final = Scenario(
    id="T33",
    title="exclusive keys, workers killed every few seconds",
    full=Size(jobs=1000, faults=1000, patience=40, limit=900),
    short=Size(jobs=60, faults=2, patience=30),
    play=play,
    hurts_redis=True,
    claims={"exclusive": one_at_a_time, "fences": fences_grow, "again": again_is_announced, "ends": ends_are_equal},
    sabotages={"leases-for-everybody": frozenset({"exclusive"})},
    slow_short=True,
    slow_bites=frozenset({"leases-for-everybody"}),
)
