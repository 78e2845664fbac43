"""T05: the broker killed while retries wait in it. Every job fails to the last; no attempt may be missing."""

from typing import Final

import trio

from torture.expectations import Act
from torture.play import Play
from torture.scenario import Scenario, Size

__all__ = ["SCENARIO"]

RETRIES: Final = 3


async def play(play: Play) -> None:
    """Failing jobs all the time, and kills spread over their attempts. If cancelled, it stops."""
    play.tell(max_parallel=20, max_retries=RETRIES)
    play.allow(most_extra_runs=0)  # the one worker lives on, and knows what it has concluded
    await play.workers.start("only")
    await play.registered()
    longest = min(20, int(play.size.patience / 2))
    acts = [Act(ends=["fail"], delay=play.random.randint(1, longest)) for _ in range(play.size.jobs)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(play.dispatch_all, acts)
        for at in play.chances(play.size.faults, last=0.9):
            await _until_begun(play, (RETRIES + 1) * at)
            await trio.sleep(play.random.uniform(0, 0.5))
            await play.kill_broker()
    await play.until_all_ended()
    play.facts["attempts"] = len({(line.occurrence, line.attempt) for line in play.effects() if line.what == "begin"})
    play.facts["dead_letters"] = len({row.occurrence_id for row in play.here.api.failed_occurrences})


async def _until_begun(play: Play, count: int) -> None:
    """Return when so many runs began. Raises `GaveUp`. If cancelled, nothing changes."""
    await play.until(lambda: play.begun() >= count)


SCENARIO: Final = Scenario(
    id="T05",
    title="the broker killed while retries wait",
    full=Size(jobs=2_000, faults=20, patience=45, limit=900),
    short=Size(jobs=300, faults=2, patience=12),
    play=play,
    hurts_broker=True,
    sabotages={"classic-wait-queues": frozenset({"I1"})},
    slow_short=True,
    slow_bites=frozenset({"classic-wait-queues"}),
)
