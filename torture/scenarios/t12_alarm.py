"""T12: a broker that has no memory or disk left: it reads no publishes, and everything else goes on."""

import math
import time
from collections.abc import Iterable, Iterator
from typing import Final

import trio
from attrs import asdict

from milvaion_trio.model.headers import ORIGIN
from torture.effects import Effect
from torture.evidence import FINALS, Evidence
from torture.expectations import Act
from torture.network import judged, leave, links_stay
from torture.play import Play
from torture.scenario import Scenario, Size
from torture.scenarios.t10_slow_and_sliced import nothing_comes_twice
from torture.scenarios.t14_redis import signal_text

__all__ = ["SCENARIO"]

MOST_SHORT: Final = 100
"""Jobs of a short run."""
LASTS: Final = 60.0
SHORTLY: Final = 2.0
ACKING: Final = "unreported"
"""The group whose jobs no API knows: nothing is published about them, so their acks wait for nothing."""
PARALLEL: Final = 2
"""Of that group, and so its prefetch: what goes on beyond it under an alarm goes on because acks are read."""
UNREPORTED: Final = 24
ENDLESS: Final = Act(ends=["cancel"])
"""It takes a slot until it is cancelled, under the alarm: raising one takes longer here than there."""
ACKED: Final = 3 * PARALLEL
"""Runs of that group under an alarm that need acks under it."""
TAKES: Final = (0.3, 6.0)
"""Seconds of the reported jobs."""
UNTIL_SEEN: Final = 10.0
"""Seconds that an alarm lasts longer, where it must, for something to happen under it."""


async def play(play: Play) -> None:
    """Reported jobs run into the alarm, unreported ones through it. If cancelled, the alarm is taken back."""
    lasts = LASTS if play.size.jobs > MOST_SHORT else SHORTLY
    play.allow(most_extra_runs=0)
    play.tell(max_parallel=20)
    with judged(play, CLAIMS):
        await play.workers.start("reported")
        await play.workers.start("acking", worker_id=ACKING, max_parallel=PARALLEL)
        await play.registered(play.workers.told.worker_id, ACKING)
        for number in range(play.size.faults):
            takes = [play.random.uniform(*TAKES) for _ in range(play.size.jobs // play.size.faults)]
            await play.dispatch_all([Act(ends=["ok"], takes=seconds) for seconds in takes])
            gates = [await dispatch_unreported(play, ENDLESS) for _ in range(PARALLEL)]
            gates.append(await play.dispatch(ENDLESS))
            for _ in range(UNREPORTED):
                await dispatch_unreported(play, Act(ends=["ok"]))
            await all_begun(play, gates)
            kind = ("memory", "disk")[number % 2]
            await alarm(play, kind, lasts, gates)
            await play.until_all_ended()
        await leave(play)


async def alarm(play: Play, kind: str, seconds: float, gates: list[str]) -> None:
    """Raise an alarm, let these jobs end under it, and take it back. If cancelled, it is taken back."""
    server = play.here.rabbitmq
    raised = server.memory_alarm() if kind == "memory" else server.disk_alarm()
    await trio.to_thread.run_sync(raised.__enter__)
    try:
        async with play.fault("alarm", "broker", alarm=kind):
            began = time.time()
            for gate in gates:
                await play.here.signal(signal_text(gate))
            await trio.sleep(seconds)
            with trio.move_on_after(UNTIL_SEEN):
                await play.until(lambda: len(_under(play.effects(), "begin", "acking", began)) > ACKED)
                await play.until(lambda: _under(play.effects(), "end", "reported", began))
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(raised.__exit__, None, None, None)


async def all_begun(play: Play, occurrences: list[str]) -> None:
    """Return when these run. If cancelled, nothing changes."""
    wanted = set(occurrences)
    await play.until(lambda: wanted <= {line.occurrence for line in play.effects() if line.what == "begin"})


async def dispatch_unreported(play: Play, act: Act) -> str:
    """Dispatch as a client of ours does, not the API. If cancelled, it may have arrived."""
    api = play.here.api
    dispatch = api.model.dispatch(play.job(worker_id=ACKING).id, api.now(), asdict(act))
    dispatch.headers[ORIGIN] = ("S", "client")
    await api.publish(dispatch)
    return dispatch.occurrence_id


# --- claims ---------------------------------------------------------------------------------------------------------


def acks_flow(evidence: Evidence) -> Iterator[str]:
    """Under an alarm messages that need no publish are acked, so that the next ones come."""
    for fault in evidence.faults:
        begun = _under(evidence.effects, "begin", "acking", fault.began, fault.ended)
        if len(begun) <= ACKED:
            yield f"{len(begun)} jobs began under the {fault.facts['alarm']} alarm, which needs no ack at all"


def publishes_wait(evidence: Evidence) -> Iterator[str]:
    """Jobs ended under each alarm and were reported behind it: else there was none, and nothing was proved."""
    for fault in evidence.faults:
        ended = _under(evidence.effects, "end", "reported", fault.began, fault.ended)
        behind = {one.occurrence for one in evidence.statuses if one.status in FINALS and one.at >= fault.ended}
        if not ended & behind:
            yield f"no report had to wait for the end of the {fault.facts['alarm']} alarm"


def _under(effects: Iterable[Effect], what: str, worker: str, began: float, ended: float = math.inf) -> set[str]:
    """The occurrences that did this there, in this time."""
    return {
        line.occurrence for line in effects if line.what == what and line.worker == worker and began < line.at < ended
    }


CLAIMS: Final = {
    "acks": acks_flow,
    "waiting": publishes_wait,
    "copies": nothing_comes_twice,
    "links": links_stay,
}
SCENARIO: Final = Scenario(
    id="T12",
    title="memory and disk alarms",
    full=Size(jobs=200, faults=2, patience=30, limit=300),
    short=Size(jobs=10, faults=1, patience=15),
    play=play,
    hurts_broker=True,
    sabotages={"one-connection": frozenset({"acks"}), "impatient-publisher": frozenset({"copies"})},
    slow_short=True,
    slow_bites=frozenset({"one-connection", "impatient-publisher"}),
)
