"""T15: cancels at every moment of a job's life: each ends it as cancelled or comes too late, never both, never neither.

Where the moment leaves no doubt, one of the two is the only right one. Signals that mean nobody change nothing.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from uuid import UUID

import trio
from attrs import asdict, define, evolve, field, frozen

from torture.expectations import Act, Expected
from torture.invariants import INVARIANTS
from torture.network import leave
from torture.play import Play
from torture.scenario import Scenario, Size
from torture.scenarios.t14_redis import signal_text

__all__ = ["SCENARIO"]

AT_ONCE: Final = 30
"""Races that are run at the same time."""
NARROW: Final = "narrow"
"""A group with one slot, in which jobs wait for it."""
SLOTS: Final = 60
COMPLETED: Final = Expected(status=2, most_runs=1)
CANCELLED: Final = Expected(status=4, most_runs=1)
EITHER: Final = Expected(status=2, or_status=4, most_runs=1)
JUDGED: Final = frozenset(INVARIANTS) - {"I7"}
"""How many attempts there are is a matter of chance at a hop; what must become of them is not."""
ENDLESS: Final = Act(ends=["cancel"])


@define(eq=False)
class Races:
    """What the races share."""

    play: Play
    _begun: set[str] = field(factory=set)
    _looked: int = 0

    @property
    def random(self) -> float:
        """From 0 to 1."""
        return self.play.random.random()

    async def begun(self, occurrence: str) -> None:
        """Return when it runs. If cancelled, nothing changes."""
        await self.play.until(lambda: occurrence in self._look())

    async def ended(self, *occurrences: str) -> None:
        """Return when all of these have ended. If cancelled, nothing changes."""
        await self.play.until(lambda: all(map(self.play.has_ended, occurrences)))

    async def cancel(self, occurrence: str) -> None:
        """Send the signal for it. If cancelled, it may have been sent."""
        await self.play.here.signal(signal_text(occurrence))

    def _look(self) -> set[str]:
        lines = self.play.workers.effects.lines
        self._begun.update(line.occurrence for line in lines[self._looked :] if line.what == "begin")
        self._looked = len(lines)
        return self._begun


# --- the moments ----------------------------------------------------------------------------------------------------


async def running(races: Races) -> None:
    """While its code runs. If cancelled, the job may run on."""
    occurrence = await races.play.dispatch(ENDLESS, CANCELLED)
    await races.begun(occurrence)
    await trio.sleep(races.random / 5)
    await races.cancel(occurrence)


async def twice(races: Races) -> None:
    """Two signals for one job. If cancelled, one or none was sent."""
    occurrence = await races.play.dispatch(ENDLESS, CANCELLED)
    await races.begun(occurrence)
    await races.cancel(occurrence)
    await trio.sleep(races.random / 50)
    await races.cancel(occurrence)


async def starting(races: Races) -> None:
    """Between the dispatch and the first line of its code, or a little later. If cancelled, it may run on."""
    occurrence = await races.play.dispatch(ENDLESS, CANCELLED)
    await trio.sleep(races.random / 30)
    await races.cancel(occurrence)


async def dispatching(races: Races) -> None:
    """At the moment of the dispatch: which of the two comes first, nobody knows. If cancelled, it may run."""
    api = races.play.here.api
    dispatch = api.model.dispatch(races.play.job().id, api.now(), asdict(Act(ends=["ok"])))
    races.play.expected[dispatch.occurrence_id] = EITHER
    async with trio.open_nursery() as nursery:
        nursery.start_soon(api.publish, dispatch)
        nursery.start_soon(races.cancel, dispatch.occurrence_id)


async def ending(races: Races) -> None:
    """Around the end of its code, and while the end is reported. If cancelled, the job goes on."""
    takes = 0.1 + races.random / 5
    occurrence = await races.play.dispatch(Act(ends=["ok"], takes=takes), EITHER)
    await races.begun(occurrence)
    await trio.sleep(takes * (0.7 + races.random * 0.5))
    await races.cancel(occurrence)


async def ended(races: Races) -> None:
    """When its end was reported. If cancelled, the job goes on."""
    occurrence = await races.play.dispatch(Act(ends=["ok"]), COMPLETED)
    await races.ended(occurrence)
    await races.cancel(occurrence)


async def waiting(races: Races) -> None:
    """While it waits for its retry: one leg of 2 s, or two with a hop between. If cancelled, it is tried again."""
    delay = 2.0 + int(races.random * 2)
    occurrence = await races.play.dispatch(Act(ends=["fail", "ok"], delay=delay), CANCELLED)
    await races.begun(occurrence)
    await trio.sleep(0.2 + races.random)
    await races.cancel(occurrence)
    first = min(line.at for line in races.play.effects() if line.occurrence == occurrence)
    if time.time() > first + delay - 0.1:  # too late, on a machine that has much else to do
        races.play.expected[occurrence] = evolve(EITHER, most_runs=2)


async def at_a_hop(races: Races) -> None:
    """Around the end of a leg, on the way to the next one or to the job. If cancelled, it is tried again."""
    wanted = Expected(status=2, or_status=4, attempts=2)
    occurrence = await races.play.dispatch(Act(ends=["fail", "ok"], delay=3.0), wanted)
    await races.begun(occurrence)
    await trio.sleep(races.play.random.choice((2.0, 3.0)) - 0.1 + races.random / 5)
    await races.cancel(occurrence)


async def bare_guid(races: Races) -> None:
    """A payload that an older code path of the API would send (WIRE.md 5.3). If cancelled, the job goes on."""
    occurrence = await races.play.dispatch(Act(ends=["ok"], takes=0.3), COMPLETED)
    await races.begun(occurrence)
    await races.play.here.signal(occurrence)


async def unknown(races: Races) -> None:
    """A signal for another occurrence, which nobody knows. If cancelled, the job goes on."""
    await races.play.dispatch(Act(ends=["ok"], takes=0.1), COMPLETED)
    await races.cancel(str(UUID(int=races.play.random.getrandbits(128), version=4)))


RACES: Final[Mapping[str, Callable[[Races], Awaitable[None]]]] = {
    race.__name__: race
    for race in (
        running,
        twice,
        starting,
        dispatching,
        ending,
        ended,
        waiting,
        at_a_hop,
        bare_guid,
        unknown,
    )
}


@frozen
class Narrow:
    """Jobs that wait in the worker, or in its queue, for the only slot there is."""

    races: Races

    async def go_on(self, times: int) -> None:
        """One runs, two wait and are cancelled before it, so often. If cancelled, jobs may wait."""
        play = self.races.play
        job = play.job(worker_id=NARROW)
        for _ in range(times):
            first = await play.dispatch(ENDLESS, CANCELLED, job=job)
            await self.races.begun(first)
            others = [await play.dispatch(Act(ends=["ok"]), CANCELLED, job=job) for _ in range(2)]
            await trio.sleep(self.races.random / 10)
            for occurrence in (*others, first):
                await self.races.cancel(occurrence)
            await self.races.ended(first, *others)


async def play(play: Play) -> None:
    """All moments in turn, many races at once. If cancelled, it stops."""
    play.tell(max_parallel=SLOTS)
    play.allow(most_extra_runs=0, judged=JUDGED)
    await play.workers.start("only")
    await play.workers.start("narrow", worker_id=NARROW, max_parallel=1)
    await play.registered(play.workers.told.worker_id, NARROW)
    races = Races(play)
    moments = [race for number in range(play.size.jobs) for race in [list(RACES.values())[number % len(RACES)]]]
    play.random.shuffle(moments)
    left = iter(moments)

    async def one_after_the_other() -> None:
        for race in left:
            await race(races)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(Narrow(races).go_on, max(1, play.size.jobs // 20))
        for _ in range(AT_ONCE):
            nursery.start_soon(one_after_the_other)
    await play.until_all_ended()
    await leave(play)
    open_ends = [one for one, wanted in play.expected.items() if wanted.or_status is not None]
    ends = Counter(str(play.here.api.occurrence(one).wire[-1].status) for one in open_ends)
    play.facts["ends_that_were_open"] = dict(ends)
    play.facts["moments"] = {"in line": 2 * max(1, play.size.jobs // 20)} | {
        name: sum(race is chosen for chosen in moments) for name, race in RACES.items()
    }


SCENARIO: Final = Scenario(
    id="T15",
    title="a cancel at every moment",
    full=Size(jobs=1000, patience=20, limit=240),
    short=Size(jobs=40),
    play=play,
    sabotages={"no-tombstones": frozenset({"I2"})},
)
