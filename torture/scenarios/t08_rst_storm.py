"""T08: connections that are reset again and again while jobs run: each goes on, and answers for its message anew."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

import trio
from tests.support.amqp_faults import is_kind
from tests.support.proxy import Proxy

from torture.counting import extra_runs
from torture.evidence import Evidence
from torture.expectations import Act
from torture.network import behind_proxy, judged
from torture.play import Play
from torture.scenario import Scenario, Size

__all__ = ["SCENARIO"]

PAUSES: Final = (0.5, 3.0)
"""Seconds between two resets: often the next one comes while links are still being made."""
SHORT_PAUSES: Final = (0.5, 1.0)
MOST_SHORT: Final = 10
"""Resets of a short run."""
TAKES: Final = (0.1, 2.0)
"""Seconds of a job, so that most resets hit some that run."""
SHARE: Final = 0.9


async def play(play: Play) -> None:
    """One worker, since no other one could adopt its runs. If cancelled, it stops."""
    random = play.random
    play.allow(most_extra_runs=play.size.jobs // 10)
    with judged(play, {"adoption": runs_are_adopted}):
        async with behind_proxy(play, "only", max_parallel=20) as proxy:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(storm, play, proxy)
                acts = (Act(ends=["ok"], takes=random.uniform(*TAKES)) for _ in range(play.size.jobs))
                await play.dispatch_all(acts, open_at_most=60)
            await play.until_all_ended()
        play.facts["adopted"] = sum(1 for _ in play.workers.effects.of("adopted"))


async def storm(play: Play, proxy: Proxy) -> None:
    """Reset both links or one of them, so many times, while jobs run. If cancelled, fewer."""
    pauses = PAUSES if play.size.faults > MOST_SHORT else SHORT_PAUSES
    for number in range(play.size.faults):
        await trio.sleep(play.random.uniform(*pauses))
        await play.until(lambda: some_run(play) or play.ended >= play.size.jobs)
        kind = play.random.choice(("", "", "publishing", "consuming")) if number else ""
        async with play.fault("reset", "only", links=kind or "both"):
            proxy.cut(lambda passage, kind=kind: is_kind(passage, kind))  # type: ignore[misc]


def some_run(play: Play) -> bool:
    """Whether jobs are in the midst of their code: if none is, there is nothing to adopt."""
    balance = Counter[str]()
    for line in play.effects():
        balance[line.token] += {"begin": 1, "end": -1}.get(line.what, 0)
    return any(balance.values())


def runs_are_adopted(evidence: Evidence) -> Iterator[str]:
    """Of the messages that come back while their job runs nine of ten start no second run."""
    adopted = sum(1 for line in evidence.effects if line.what == "adopted")
    extra = extra_runs(evidence.effects)
    if adopted < SHARE * (adopted + extra) or not adopted + extra:
        yield f"{adopted} messages came back to the run they are of, {extra} were run a second time"


SCENARIO: Final = Scenario(
    id="T08",
    title="connections are reset every moment",
    full=Size(jobs=2000, faults=68, limit=300),
    short=Size(jobs=40, faults=4),
    play=play,
    sabotages={"no-adoption": frozenset({"adoption"})},
    slow_bites=frozenset({"no-adoption"}),
)
