"""T09: a network that carries nothing any more, in one direction or both, and says nothing about it."""

from collections.abc import Iterator
from itertools import islice
from random import Random
from typing import Final

import trio
from tests.support.proxy import Side

from torture.expectations import Act
from torture.network import behind_proxy, detection_limit, judged, links_come_back, silence_is_noticed, steadily
from torture.play import Play
from torture.scenario import Scenario, Size

__all__ = ["SCENARIO", "heartbeat_of", "some_jobs"]

SIDES: Final[tuple[Side, ...]] = ("both", "up", "down")
MARGIN: Final = 1.0
"""Seconds that the hole stays beyond the time in which it must be noticed."""
CALM: Final = 6.0
"""Seconds from one hole to the next, in which the links come back and jobs run."""


def heartbeat_of(play: Play) -> int:
    """Seconds: what workers have, and fewer for a short run, of which half is what a busy machine may add."""
    return 10 if play.size.faults > 1 else 3


def some_jobs(random: Random) -> Iterator[Act]:
    """Short ones, and every tenth fails once."""
    while True:
        ends = ["fail", "ok"] if random.random() < 0.1 else ["ok"]
        yield Act(ends=ends, takes=random.uniform(0.0, 1.0), delay=1)


async def play(play: Play) -> None:
    """Jobs come all the time; the hole is held until its detection is overdue. If cancelled, it stops."""
    heartbeat = heartbeat_of(play)
    hole = detection_limit(heartbeat) + MARGIN
    play.allow(most_extra_runs=0)
    with judged(play, {"noticed": silence_is_noticed, "links": links_come_back}):
        async with behind_proxy(play, "only", amqp_heartbeat=heartbeat, max_parallel=20) as proxy:
            async with trio.open_nursery() as nursery:
                acts = islice(some_jobs(play.random), play.size.jobs)
                nursery.start_soon(steadily, play, acts, play.size.faults * (hole + CALM))
                for number in range(play.size.faults):
                    side = SIDES[number % len(SIDES)]
                    await trio.sleep(play.random.uniform(0.2, 1.0) if number == 0 else CALM)
                    async with play.fault("black-hole", "only", side=side, heartbeat=heartbeat):
                        with proxy.black_hole(side):
                            await trio.sleep(hole)
            await play.until_all_ended()


SCENARIO: Final = Scenario(
    id="T09",
    title="a black hole for bytes up, down or both",
    full=Size(jobs=1000, faults=10, patience=60, limit=700),
    short=Size(jobs=20, faults=1, patience=20),
    slow_short=True,
    play=play,
    sabotages={"no-heartbeat": frozenset({"noticed"})},
    slow_bites=frozenset({"no-heartbeat"}),
)
