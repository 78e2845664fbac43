"""T10: a network that is slow and breaks everything into pieces, which is no reason to give anything up."""

from collections.abc import Iterator
from typing import Final

from tests.support.proxy import Toxics

from torture.counting import copies
from torture.evidence import Evidence
from torture.expectations import Act
from torture.network import behind_proxy, judged, links_stay, steadily
from torture.play import Play
from torture.scenario import Scenario, Size

__all__ = ["SCENARIO", "nothing_comes_twice"]

SLOW: Final = Toxics(latency=0.2, jitter=0.2, slices=(1, 3), bytes_per_second=50_000)
PER_SECOND: Final = 3
"""Jobs: about a third of what such a network can carry of their messages."""
HEARTBEAT: Final = 1
"""Seconds between a run's signs of life, a sixtieth of what it is, and the detector's patience with it."""


async def play(play: Play) -> None:
    """Jobs that take long enough to be taken for dead, if nothing was heard of them. If cancelled, it stops."""
    play.allow(most_extra_runs=0, recovery_limit=None, heartbeat_limit=5.0 * HEARTBEAT)
    told = {"max_parallel": 20, "job_heartbeat": HEARTBEAT}
    with judged(play, {"links": links_stay, "copies": nothing_comes_twice}):
        async with behind_proxy(play, "only", **told) as proxy:
            acts = (Act(ends=["ok"], takes=play.random.choice((0.0, 0.5, 2.5))) for _ in range(play.size.jobs))
            async with play.fault("slow", "only", recovers=False):
                with proxy.slowed(SLOW):
                    await steadily(play, acts, play.size.jobs / PER_SECOND)
                    await play.until_all_ended()


def nothing_comes_twice(evidence: Evidence) -> Iterator[str]:
    """No message is published a second time."""
    for identity, times in copies(evidence.statuses).items():
        yield f"{identity} was published {times + 1} times"


SCENARIO: Final = Scenario(
    id="T10",
    title="200 ms there, 200 ms back, 50 kB/s, in pieces of 1 to 3 bytes",
    full=Size(jobs=900, faults=1, patience=30, limit=420),
    short=Size(jobs=5, faults=1, patience=15),
    play=play,
    sabotages={"impatient-publisher": frozenset({"copies"})},
    slow_bites=frozenset({"impatient-publisher"}),
)
