"""T11: a broker that stands still and keeps its connections, as one does that waits for its disk."""

from itertools import islice
from typing import Final

import trio

from torture.network import detection_limit, judged, leave, links_come_back, silence_is_noticed, steadily
from torture.play import Play
from torture.scenario import Scenario, Size
from torture.scenarios.t09_black_hole import MARGIN, heartbeat_of, some_jobs

__all__ = ["SCENARIO"]

STANDS: Final = 60.0
CALM: Final = 15.0
"""Seconds from one hang to the next."""


async def play(play: Play) -> None:
    """As T09, but nothing answers anybody. If cancelled, the broker goes on."""
    heartbeat = heartbeat_of(play)
    stands = STANDS if play.size.faults > 1 else detection_limit(heartbeat) + MARGIN
    play.allow(most_extra_runs=0)
    play.tell(amqp_heartbeat=heartbeat, max_parallel=20)
    with judged(play, {"noticed": silence_is_noticed, "links": links_come_back}):
        await play.workers.start("only")
        await play.registered()
        async with trio.open_nursery() as nursery:
            acts = islice(some_jobs(play.random), play.size.jobs)
            nursery.start_soon(steadily, play, acts, play.size.faults * (stands + CALM) / 2)
            for number in range(play.size.faults):
                await trio.sleep(1.0 if number == 0 else CALM)
                async with play.fault("hang", "broker", heartbeat=heartbeat):
                    with play.here.rabbitmq.frozen():
                        await trio.sleep(stands)
        await play.until_all_ended()
        await leave(play)


SCENARIO: Final = Scenario(
    id="T11",
    title="a broker that hangs",
    full=Size(jobs=500, faults=5, patience=60, limit=600),
    short=Size(jobs=20, faults=1, patience=20),
    play=play,
    hurts_broker=True,
    sabotages={"no-heartbeat": frozenset({"noticed"})},
    slow_short=True,
    slow_bites=frozenset({"no-heartbeat"}),
)
