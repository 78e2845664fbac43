"""T34: exclusive keys while Redis dies and comes back empty: two runs of a key may overlap then, briefly.

Whoever held a lease learns at its next renewal, a third of the lifetime later at most, that it is gone, and stops the
job, which may take its clean-up time. Until then another worker may have been given the key. What protects data from
that is the fencing token, and that grows all the same.
"""

from collections.abc import Iterator
from typing import Final

import trio

from torture.evidence import Evidence
from torture.one_at_a_time import CLEANUP, LEASE, acts, again_is_announced, ends_are_equal, fences_grow, overlaps, tell
from torture.play import Play
from torture.scenario import Scenario, Size

__all__ = ["SCENARIO"]

AWAY: Final = 0.5
"""Seconds between the end of the server and its start."""
LONGEST: Final = LEASE / 3 + CLEANUP + 2.0
"""Seconds that two runs may overlap: the next renewal, its answer, the clean-up, and a machine that has more to do."""


async def play(play: Play) -> None:
    """Redis dies and starts empty, again and again, while jobs of seconds run. If cancelled, it may be away."""
    tell(play)
    await play.workers.start("a", "b", "c", "d")
    await play.registered()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play.dispatch_all, acts(play, 10.0))
        await play.until_ended(1)
        for _ in range(play.size.faults):
            await trio.sleep(play.random.uniform(3, 8))
            async with play.fault("redis-empty", "redis", recovers=False):
                await trio.to_thread.run_sync(play.here.redis.kill)
                await trio.sleep(AWAY)
                await trio.to_thread.run_sync(play.here.redis.start)
    await play.until_all_ended()


def overlaps_are_explained(evidence: Evidence) -> Iterator[str]:
    """Two runs of a key overlap only where Redis lost the lease of the first meanwhile, and not for long."""
    for one, other in overlaps(evidence):
        forgot = any(one.began <= fault.ended and fault.began <= other.began for fault in evidence.faults)
        if not forgot:
            yield f"{one.key} ran in {one.worker} and {other.worker} at once, and Redis had forgotten nothing"
        elif (seconds := one.ended - other.began) > LONGEST:
            yield f"{one.key} ran twice at once for {seconds:.1f} s, at most {LONGEST:g} s are explained"


SCENARIO: Final = Scenario(
    id="T34",
    title="exclusive keys, Redis killed and started empty",
    full=Size(jobs=150, faults=10, patience=40, limit=600),
    short=Size(jobs=20, faults=2, patience=30),
    bite=Size(jobs=80, faults=8, patience=30),
    play=play,
    hurts_redis=True,
    claims={
        "overlaps": overlaps_are_explained,
        "fences": fences_grow,
        "again": again_is_announced,
        "ends": ends_are_equal,
    },
    sabotages={"leases-never-lost": frozenset({"overlaps"})},
    slow_short=True,
    slow_bites=frozenset({"leases-never-lost"}),
)
