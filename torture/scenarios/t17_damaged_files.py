"""T17: outbox files that are damaged in many ways, mostly while nobody has them open; and two workers with one file."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import trio
from tests.support.proxy import Proxy, open_proxy

from torture.expectations import Act
from torture.file_damage import KINDS
from torture.network import leave
from torture.play import Play
from torture.scenario import Scenario, Size
from torture.worker_processes import WorkerProcess

__all__ = ["SCENARIO"]

READY: Final = 15.0
"""Seconds for a worker to start, whatever it finds."""
AT_RUNTIME: Final = 7
"""Every so manieth damage is done to a file that is open."""
SURELY: Final = ("header", "texts")
"""Kinds that every run has, short as it is."""


async def play(play: Play) -> None:
    """Jobs end while there is no broker; the worker is killed, and its file damaged. If cancelled, it stops."""
    faults, jobs = play.size.faults, play.size.jobs // play.size.faults
    play.allow(most_extra_runs=faults * jobs)
    async with open_proxy(play.here.rabbitmq.port, seed=play.seed) as proxy:
        play.tell(rabbitmq_port=proxy.port)
        (worker,) = await play.workers.start("only")
        await play.registered()
        await only_one_owner(play, worker)
        for number, kind in enumerate(kinds(play)):
            while_open = number % AT_RUNTIME == AT_RUNTIME - 1
            fault = f"damage-at-runtime {kind}" if while_open else f"damage {kind}"
            async with play.fault(fault, worker.name):
                async with no_broker(play, proxy, worker, jobs):
                    if not while_open:
                        await worker.kill()
                    await damage(play, worker, kind)
                if not while_open and not await started(play, worker, kind):
                    return
            await play.until_all_ended()
        play.facts["set_aside"] = len(list(storage(worker).glob("*.corrupt-*[!lm]")))
        await leave(play)


def kinds(play: Play) -> Sequence[str]:
    """Of each damage, in order: all kinds in turn, those that every run has first."""
    others = [kind for kind in KINDS if kind not in SURELY]
    play.random.shuffle(others)
    order = [*SURELY, *others]
    return [order[number % len(order)] for number in range(play.size.faults)]


@asynccontextmanager
async def no_broker(play: Play, proxy: Proxy, worker: WorkerProcess, count: int) -> AsyncIterator[None]:
    """While inside, jobs have ended whose ends cannot be told: only the outbox knows of them.

    If cancelled, some may run.
    """
    begun = play.begun()
    takes = [0.6] * (count - 1) + [3.0]  # one is in the middle when the process is killed
    await play.dispatch_all([Act(ends=["ok"], takes=seconds, lines=3) for seconds in takes])
    await play.until(lambda: play.begun() >= begun + min(count, worker.told.max_parallel))
    ended = sum(1 for _ in play.workers.effects.of("end"))
    with proxy.black_hole():
        await play.until(lambda: sum(1 for _ in play.workers.effects.of("end")) >= ended + count // 2)
        await trio.sleep(0.1)  # the disk is quicker
        yield
        proxy.cut()


async def started(play: Play, worker: WorkerProcess, kind: str) -> bool:
    """Start it again; false when that does not work. If cancelled, it may run."""
    await worker.start()
    try:
        with trio.move_on_after(READY) as scope:
            await worker.ready()
    except RuntimeError as error:
        play.complain("starts", f"after {kind}: {error}")
        return False
    if scope.cancelled_caught:
        play.complain("starts", f"after {kind} it was not ready within {READY:g} s: {worker.log[-300:]}")
    return not scope.cancelled_caught


async def damage(play: Play, worker: WorkerProcess, kind: str) -> None:
    """Damage its file. If cancelled, it is done all the same."""
    (path,) = storage(worker).glob("*.db")
    await trio.to_thread.run_sync(KINDS[kind], path, play.random)


async def only_one_owner(play: Play, worker: WorkerProcess) -> None:
    """A second worker with the same file does not start, and says why. If cancelled, it may run."""
    before = {part.name: part.stat().st_ino for part in storage(worker).iterdir()}
    second = play.workers.add("second")
    await second.start(storage=os.fspath(storage(worker)))
    if (code := await second.ended()) == 0:
        play.complain("owner", "a second worker with the same outbox ended as if all was well")
    if "belongs to another worker that runs" not in second.log:
        play.complain("owner", f"a second worker with the same outbox ended with {code}: {second.log[-500:]}")
    if not before.items() <= {part.name: part.stat().st_ino for part in storage(worker).iterdir()}.items():
        play.complain("owner", "a second worker has exchanged files of the first")


def storage(worker: WorkerProcess) -> Path:
    """Where its outbox is."""
    return Path(worker.told.storage)


SCENARIO: Final = Scenario(
    id="T17",
    title="outbox files damaged in 14 ways, and two workers with one file",
    full=Size(jobs=360, faults=60, patience=25, limit=600),
    short=Size(jobs=12, faults=2, patience=12),
    bite=Size(jobs=12, faults=2, patience=6),
    play=play,
    sabotages={"damage-is-waited-for": frozenset({"starts", "I1"}), "unchecked": frozenset({"I1", "I2", "I13"})},
    slow_bites=frozenset({"damage-is-waited-for", "unchecked"}),
    slow_short=True,
)
