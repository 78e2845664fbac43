"""T02: a worker killed at every named point of a job's life, for every outcome; each time started again on its disk.

Each case has a worker group of its own, so that the message comes back to the process that was killed and to no other.
"""

from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from math import gcd
from typing import Final

import trio
from attrs import evolve, frozen

from torture.crash_points import EVERY, POINTS, Point, Stage
from torture.expectations import Act, expected
from torture.play import GaveUp, Play
from torture.scenario import Scenario, Size
from torture.worker_processes import WorkerProcess

__all__ = ["SCENARIO", "cases"]

RETRIES: Final = 1
STRIDE: Final = 7
"""Has no divisor in common with the number of points."""
AT_A_TIME: Final = 2
"""Cases that are played at the same time: starting a process is work for a core."""
ACTS: Final = {
    "ok": Act(ends=["ok"], takes=0.05),
    "retried": Act(ends=["fail", "ok"], delay=1),
    "exhausted": Act(ends=["fail"], delay=1),
    "cancelled": Act(ends=["cancel"]),
    "timed-out": Act(ends=["time-out"]),
}
LONG_WAY: Final = 3
"""Seconds of a delay that takes two waits, with a hop between."""
NOTHING_COMES: Final = 1.0
"""Seconds after which a message that has not come back has been acked before the kill: the broker tells nobody."""
LOOK: Final = 0.05
MOST_LEAVES: Final = 3
SIGNAL_AGAIN: Final = 0.3
"""Seconds: a cancel that nobody heard is lost, and the one who asked for it asks again."""


@frozen
class Case:
    """A point, passed on the way to an outcome."""

    name: str
    point: Point
    outcome: str

    @property
    def passing(self) -> int:
        """Which passing of the point is the one."""
        return self.point.exhausted_at if self.outcome == "exhausted" else 1


def cases() -> Iterator[Case]:
    """Every point once, with another outcome each; then with the next outcomes, until there are no more.

    Not in the order of a job's life, so that a few are from all of it.
    """
    points = list(POINTS.items())
    assert gcd(STRIDE, len(points)) == 1
    for turn in range(len(EVERY)):
        for number in range(len(points)):
            name, point = points[number * STRIDE % len(points)]
            if turn < len(point.passed_by):
                yield Case(name, point, point.passed_by[(number + turn) % len(point.passed_by)])


async def play(play: Play) -> None:
    """As many cases as there are jobs, again from the first when all were played. If cancelled, it stops."""
    play.tell(max_retries=RETRIES, time_limit=1.0, max_parallel=2, records_deliveries=True)
    play.allow(recovery_limit=None)
    every = list(cases())
    chosen = [(number, every[number % len(every)]) for number in range(play.size.jobs)]
    together = iter([case for case in chosen if not case[1].point.alone])
    async with trio.open_nursery() as nursery:
        for _ in range(AT_A_TIME):
            nursery.start_soon(_one_by_one, play, together)
    await _one_by_one(play, iter([case for case in chosen if case[1].point.alone]))
    play.facts["cases"] = len(chosen)
    play.facts["points"] = len({case.name for _, case in chosen})
    await play.until_all_ended()
    await _clear(play)


async def _clear(play: Play) -> None:
    """Let every worker have what came for it after it had left: retry copies that both lives of a worker sent.

    If cancelled, some may be left.
    """
    await play.until_none_is_delayed()
    for worker in play.workers.all.values():
        if await play.depth(worker.told.worker_id):
            await worker.start()
            await worker.ready()
            await _leave(play, worker)


async def _one_by_one(play: Play, chosen: Iterator[tuple[int, Case]]) -> None:
    """Play these. One that is given up leaves its job lost, and the next is played. If cancelled, some were."""
    for number, case in chosen:
        with suppress(GaveUp):
            await _case(play, number, case)


async def _case(play: Play, number: int, case: Case) -> None:
    """One worker, one job, one kill. Raises `GaveUp`. If cancelled, the worker may still run."""
    group = f"case-{number}-{case.name}"
    act = evolve(ACTS[case.outcome], delay=LONG_WAY) if case.point.alone else ACTS[case.outcome]
    worker = play.workers.add(group, worker_id=group)
    await worker.start(crash=f"{case.name}:{case.passing}")
    await worker.ready()
    await play.registered(group)
    wanted = expected(act, RETRIES)
    again = 1 if case.point.stage is Stage.IN_CODE or (_has_code(case) and not play.workers.told.disk) else 0
    job = play.job(worker_id=group)
    occurrence = await play.dispatch(act, evolve(wanted, most_runs=wanted.attempts + again), job=job)
    async with trio.open_nursery() as nursery:
        if case.outcome == "cancelled":
            nursery.start_soon(_cancel, play, occurrence)
        await play.until(lambda: not worker.is_running)
        if await worker.ended() != -9:
            play.complain("I4", f"{group} with {case.outcome} ended by itself:\n{worker.log[-1000:]}")
        await play.until_left(group)
        async with play.fault("crash", group, recovers=False, outcome=case.outcome):
            await worker.start()
        await worker.ready()
        await play.until(lambda: play.has_ended(occurrence))
        nursery.cancel_scope.cancel()
    await _leave(play, worker)


async def _leave(play: Play, worker: WorkerProcess) -> None:
    """Let the worker leave when it has settled what came back. If cancelled, it may still run."""
    group = worker.told.worker_id
    for _ in range(MOST_LEAVES):
        await _settled(play, worker)
        worker.terminate()
        await worker.ended()
        await play.until_left(group)
        if not await play.depth(group):
            return
        await worker.start()  # it left before it had looked at the message, which is its right
        await worker.ready()


async def _settled(play: Play, worker: WorkerProcess) -> None:
    """Return when the process that runs now has settled all it took, if it takes anything. If cancelled: nothing."""
    with trio.move_on_after(NOTHING_COMES) as scope:
        while True:
            lines = [line.what for line in play.effects() if line.pid == worker.pid]
            moves = [what for what in lines if what in {"taken", "settled"}]
            if moves:
                scope.deadline = trio.current_time() + play.size.patience
            if moves[-1:] == ["settled"]:
                return
            await trio.sleep(LOOK)


def _has_code(case: Case) -> bool:
    return case.point.stage is not Stage.BEFORE_CODE


async def _cancel(play: Play, occurrence: str) -> None:
    """Cancel the job when it runs, and again, as the worker may be dead at that moment. Runs until cancelled."""
    api = play.here.api
    await play.until_running(occurrence)
    text = api.cancel_text(occurrence)
    for _ in count():
        await play.here.signal(text)
        await trio.sleep(SIGNAL_AGAIN)


SCENARIO: Final = Scenario(
    id="T02",
    title="a kill at every point of a job's life, for every outcome",
    full=Size(jobs=len(list(cases())), patience=15, limit=900),
    short=Size(jobs=8, patience=8),
    bite=Size(jobs=4, patience=6),
    play=play,
    sabotages={"ack-first": frozenset({"I1"}), "not-concluded": frozenset({"I4"})},
    slow_bites=frozenset({"ack-first", "not-concluded"}),
)
