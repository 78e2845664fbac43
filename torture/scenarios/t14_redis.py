"""T14: cancel signals that cannot be heard for a while: the gap is told, jobs go on, and later signals work again."""

import json
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from typing import Final
from uuid import uuid4

import trio
from tests.support.api_model.server import ApiServer
from tests.support.proxy import Proxy, open_proxy

from torture.effects import Effect
from torture.evidence import Evidence, Fault
from torture.expectations import Act
from torture.network import judged, leave, links_stay, steadily
from torture.play import Play
from torture.scenario import Scenario, Size

__all__ = ["SCENARIO", "signal_text"]

KINDS: Final = ("black-hole", "kill", "stop")
HOLE: Final = 6.5
"""Seconds, which is longer than it may stay unnoticed."""
AWAY: Final = 1.0
"""Seconds between the end of a server and its start."""
TOLD: Final = 6.0
"""Seconds within which a gap has to be told (RELIABILITY.md 6)."""
RETURN: Final = 15.0
"""Seconds from the return of Redis until signals are heard."""
PROMPT: Final = 3.0
"""Seconds from a signal to the end of the job; one on a machine that has nothing else to do."""
DEAF: Final = "no cancel signal could be heard"


def signal_text(occurrence: str, reason: str = "torture") -> str:
    """What the API sends (WIRE.md 5.3)."""
    body = {"CorrelationId": occurrence, "JobId": str(uuid4()), "OccurrenceId": occurrence, "Reason": reason}
    return json.dumps(body)


async def play(play: Play) -> None:
    """In each gap one job that is cancelled after it; others all the time. If cancelled, it stops."""
    play.allow(most_extra_runs=0)
    claims = {"gap": gaps_are_told, "cancels": cancels_work_again, "links": links_stay}
    with judged(play, claims):
        async with open_proxy(play.here.redis.port, seed=play.seed) as proxy:
            play.tell(redis_port=proxy.port, max_parallel=20)
            await play.workers.start("only")
            await play.registered()
            async with trio.open_nursery() as nursery:
                acts = islice(iter(lambda: Act(ends=["ok"], takes=0.3), None), play.size.jobs)
                nursery.start_soon(steadily, play, acts, play.size.faults * (HOLE / 2 + AWAY))
                for number in range(play.size.faults):
                    await gap(play, proxy, KINDS[number % len(KINDS)])
            await play.until_all_ended()
            await leave(play)


async def gap(play: Play, proxy: Proxy, kind: str) -> None:
    """One fault, with a cancel in it, where there is a server to send it, and one behind it.

    If cancelled, Redis may be away.
    """
    effects = play.workers.effects
    victim = await play.dispatch(Act(ends=["cancel"]))
    await play.until(lambda: any(line.occurrence == victim for line in effects.of("begin")))
    heard = sum(1 for _ in effects.of("hears"))
    async with play.fault(kind, "redis", recovers=False, victim=victim):
        if kind == "black-hole":
            with proxy.black_hole():
                await play.here.signal(signal_text(victim, "in the gap"))
                await trio.sleep(HOLE)
        else:
            end = play.here.redis.kill if kind == "kill" else play.here.redis.stop
            await trio.to_thread.run_sync(end)
            await trio.sleep(AWAY)
            await trio.to_thread.run_sync(play.here.redis.start)
    with trio.move_on_after(RETURN):
        # One line for the very first subscription, one for each return.
        await play.until(lambda: sum(1 for _ in effects.of("hears")) > heard)
    await told_in_log(play.here.api, victim)
    async with play.fault("cancel", "only", recovers=False, victim=victim):
        await play.here.signal(signal_text(victim, "after the gap"))
        with trio.move_on_after(PROMPT):
            await play.until(lambda: play.has_ended(victim))


async def told_in_log(api: ApiServer, occurrence: str) -> None:
    """Wait a little for the log entry about the gap. If cancelled, nothing changes."""
    with suppress(AssertionError):
        await api.until(lambda: any(DEAF in str(row.message) for row in api.occurrence(occurrence).logs), PROMPT)


# --- claims ---------------------------------------------------------------------------------------------------------


def gaps_are_told(evidence: Evidence) -> Iterator[str]:
    """The worker knows of each gap soon after it began, and hears again soon after it ended."""
    for fault in _gaps(evidence):
        told = _first(evidence, "deaf", fault.began)
        if told is None or told.at - fault.began > TOLD:
            after = "never" if told is None else f"after {told.at - fault.began:.1f} s"
            yield f"{fault.kind} of redis was told {after}, at most {TOLD:g} s are allowed"
        else:
            hears = _first(evidence, "hears", told.at)
            if hears is None or hears.at - fault.ended > RETURN:
                yield f"no signal was heard {RETURN:g} s after the end of {fault.kind} of redis"


def cancels_work_again(evidence: Evidence) -> Iterator[str]:
    """A cancel after a gap ends its job at once."""
    for cancel in (fault for fault in evidence.faults if fault.kind == "cancel"):
        victim = cancel.facts["victim"]
        ends = [one.at for one in evidence.statuses if one.occurrence == victim and one.status == 4]
        if not ends or ends[0] - cancel.began > PROMPT:
            yield f"the cancel of {victim} after a gap had no effect within {PROMPT:g} s"
        elif ends[0] < cancel.began:
            yield f"{victim} was cancelled by the signal in the gap: there was none"


def _gaps(evidence: Evidence) -> list[Fault]:
    return [fault for fault in evidence.faults if fault.kind in KINDS]


def _first(evidence: Evidence, what: str, since: float) -> Effect | None:
    return next((line for line in evidence.effects if line.what == what and line.at >= since), None)


SCENARIO: Final = Scenario(
    id="T14",
    title="Redis killed, restarted, unreachable; cancels in the gap",
    full=Size(jobs=1200, faults=24, patience=30, limit=300),
    short=Size(jobs=10, faults=2, patience=15),
    play=play,
    hurts_redis=True,
    sabotages={"no-ping": frozenset({"gap"})},
    slow_bites=frozenset({"no-ping"}),
)
