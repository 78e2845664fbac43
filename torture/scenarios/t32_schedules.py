"""T32: 20 schedules that tick every second, and the leader killed every 15 s, once stopped for 20 s and woken."""

import json
import os
import signal
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import trio
from attrs import asdict, define, field
from tests.support.amqp import connect

from milvaion_trio.model import headers, topology
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.schedule import Every, Millis, Overlap, Progress, Schedule, occurrence_id_of
from milvaion_trio.model.settings import RabbitMQSettings, RedisSettings, WorkerSettings
from milvaion_trio.ports.coordination import LEADER, Coordination, Token
from milvaion_trio.transports import coordination_for
from torture.effects import Effect
from torture.expectations import Act
from torture.play import JOB, GaveUp, Play
from torture.scenario import Scenario, Size
from torture.scheduler_recording import DIES
from torture.worker_processes import WorkerProcess

__all__ = ["SCENARIO"]

SCHEDULES: Final = 20
PERIOD: Final = 1000
"""Milliseconds between two ticks of each schedule."""
SCHEDULERS: Final = ("first", "second", "third")
GROUP: Final = "schedulers"
"""Their worker id: they have no part in the jobs that are scheduled."""
COPIES: Final = "torture.copies"
HEAD_START: Final = 4.0
"""Seconds from the first schedule in the book to the first tick: the schedulers start meanwhile."""
GRACE: Final = 60.0
LEASE: Final = 10.0
"""The default."""
SHORT_LEASE: Final = 2.0
"""Where there are few faults, as in the tests."""
FEW: Final = 3


@define(eq=False)
class Timetable:
    """What has to run, and the copies of what was dispatched."""

    first: Millis
    last: Millis
    copies: list[tuple[str, Millis, str, float]] = field(factory=list)
    """Schedule, tick, occurrence, and seconds from the tick to the arrival."""

    @property
    def names(self) -> list[str]:
        return [f"schedule-{number:02}" for number in range(SCHEDULES)]

    @property
    def ticks(self) -> list[tuple[str, Millis]]:
        return [(name, tick) for name in self.names for tick in range(self.first, self.last + 1, PERIOD)]

    async def put(self, book: Coordination, worker_id: str, slow: float) -> None:
        """Bring them into the book, one in ten with runs of so many seconds. If cancelled, some are in it."""
        for number, name in enumerate(self.names):
            act = Act(ends=["ok"], takes=slow if number % 10 == 0 else 0.0)
            schedule = Schedule(
                id=name,
                job=JOB,
                worker_id=worker_id,
                pattern=topology.routing_pattern(worker_id, JOB),
                when=Every(PERIOD / 1000),
                data=json.dumps(asdict(act)),
                overlap=Overlap.ALLOW,
                grace=GRACE,
                start=self.first,
                end=self.last,
            )
            await book.book.put(schedule, time.time_ns() // 1_000_000)


async def play(play: Play) -> None:
    """Hurt whoever leads, at equal distances. If cancelled, it stops."""
    lease = LEASE if play.size.faults > FEW else SHORT_LEASE
    # Longer than a lease, so that another one leads before the next fault; and so is the stop.
    pause, stopped = 1.5 * lease, 2 * lease
    seconds = pause * (play.size.faults + 1) + stopped
    # Nobody but the worker of jobs begins any, and it is not hurt: the ticks have judges of their own.
    play.allow(most_extra_runs=0, recovery_limit=lease + 15.0)
    play.tell(max_parallel=100)
    await play.workers.start("worker")
    first = time.time_ns() // 1_000_000 + round(HEAD_START * 1000)
    timetable = Timetable(first, first + round(seconds) * 1000 - PERIOD)
    async with _coordination(play) as coordination, _copied(play, timetable):
        # Of runs that outlast a lease nobody can have told the next leader, so that it dispatches them once more.
        await timetable.put(coordination, play.workers.told.worker_id, 1.5 * lease)
        # Behind it, as who finds no schedule in the book looks again after 15 s only.
        await play.workers.start(*SCHEDULERS, worker_id=GROUP, schedules=True, lease=lease)
        await trio.sleep(max(0.0, first / 1000 - time.time()))
        for number in range(play.size.faults):
            await trio.sleep(pause)
            leader = await _leader(play)
            if number == play.size.faults // 2:
                await _stop_and_wake(play, leader, stopped)
            elif number % 2 == 0:
                await _die_before_writing(play, leader)
            else:
                await play.kill_and_restart(leader)
        wanted = {occurrence_id_of(*tick) for tick in timetable.ticks}
        with suppress(GaveUp):
            await play.until(lambda: wanted <= _begun(play).keys())
            await play.until_none_is_delayed()
        await _judge(play, timetable, coordination)


@asynccontextmanager
async def _coordination(play: Play) -> AsyncIterator[Coordination]:
    told = play.workers.told
    rabbitmq = RabbitMQSettings(host=told.host, port=told.rabbitmq_port, virtual_host=told.vhost)
    redis = RedisSettings(connection_string=f"{told.host}:{told.redis_port}")
    coordination = coordination_for(WorkerSettings(rabbitmq=rabbitmq, redis=redis))
    assert coordination is not None
    async with coordination.open():
        yield coordination


@asynccontextmanager
async def _copied(play: Play, timetable: Timetable) -> AsyncIterator[None]:
    """Take a copy of every dispatch while the context is open, as a monitor does."""
    async with connect(play.here.rabbitmq.port, play.here.vhost) as client, trio.open_nursery() as nursery:
        await client.declare_queue(COPIES)
        await client.bind(COPIES, topology.JOBS_EXCHANGE, "#")
        messages = await client.consume(COPIES, no_ack=True)

        async def take() -> None:
            async for message in messages:
                told = {name: str(value) for name, (_, value) in message.headers.items()}
                if headers.TICK in told:
                    tick = int(told[headers.TICK])
                    late = time.time() - tick / 1000
                    timetable.copies.append((told[headers.SCHEDULE], tick, told[headers.OCCURRENCE_ID], late))

        nursery.start_soon(take)
        yield
        nursery.cancel_scope.cancel()
        await client.delete_queue(COPIES)


async def _leader(play: Play) -> WorkerProcess:
    """The process that leads now. Raises `GaveUp` when none does. If cancelled, nothing changes."""

    def leading() -> Effect | None:
        own = [line for line in play.effects() if line.what in {"leads", "start"} and line.worker in SCHEDULERS]
        terms = [line for line in own if line.what == "leads"]
        last = max(terms, key=lambda line: int(line.facts["number"]), default=None)
        if last is None or any(line.worker == last.worker and line.at > last.at for line in own):
            return None  # it was started anew since
        return last

    await play.until(leading)
    found = leading()
    assert found is not None
    return play.workers.all[found.worker]


async def _die_before_writing(play: Play, leader: WorkerProcess) -> None:
    """A tick is dispatched, and nobody will ever know it: the next leader dispatches it again."""
    async with play.fault("death-before-write", leader.name):
        (leader.folder / DIES).touch()
        await leader.ended()
        await leader.start()
    await leader.ready()


async def _stop_and_wake(play: Play, leader: WorkerProcess, seconds: float) -> None:
    async with play.fault("leader-stopped", leader.name):
        pid = leader.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        try:
            await trio.sleep(seconds)
        finally:
            os.kill(pid, signal.SIGCONT)


# --- what must be so ------------------------------------------------------------------------------------------------


async def _judge(play: Play, timetable: Timetable, coordination: Coordination) -> None:
    """If cancelled, not all is judged."""
    for about in _ticks(timetable):
        play.complain("ticks", about)
    for about in _once(play, timetable):
        play.complain("once", about)
    deaths = sum(1 for fault in play.faults if fault.kind == "death-before-write")
    second = len(timetable.copies) - len(_firsts(timetable))
    if second < deaths:
        about = f"{second} second messages: {deaths} leaders died before they wrote down what they had dispatched"
        play.complain("ticks", about)
    for about in _stale(play.effects()):
        play.complain("stale", about)
    async for about in _book(play, timetable, coordination):
        play.complain("book", about)
    late = sorted(late for *_, late in _firsts(timetable))
    cuts = statistics.quantiles(late, n=100) if len(late) > 1 else [0.0] * 99
    effects = play.effects()
    play.facts["schedules"] = {
        "ticks": len(timetable.ticks),
        "messages": len(timetable.copies),
        "second_messages": second,
        "terms": sum(1 for line in effects if line.what == "leads"),
        "refused_writes": sum(1 for line in effects if line.what == "refused"),
        "late_seconds": {"p50": round(cuts[49], 4), "p99": round(cuts[98], 3), "most": round(late[-1], 3)},
        "late_over_0.1_s": sum(1 for each in late if each > 0.1),
    }


def _firsts(timetable: Timetable) -> list[tuple[str, Millis, str, float]]:
    """The first message of each tick."""
    found: dict[tuple[str, Millis], tuple[str, Millis, str, float]] = {}
    for copy in timetable.copies:
        found.setdefault(copy[:2], copy)
    return list(found.values())


def _ticks(timetable: Timetable) -> Iterator[str]:
    """Every tick is dispatched within its grace, all its messages for one occurrence, and nothing else is."""
    occurrences: dict[tuple[str, Millis], set[str]] = defaultdict(set)
    for name, tick, occurrence, _ in timetable.copies:
        occurrences[name, tick].add(occurrence)
    wanted = set(timetable.ticks)
    yield from (f"tick {tick} of {name} was not dispatched" for name, tick in sorted(wanted - occurrences.keys()))
    yield from (f"tick {tick} of {name} was dispatched: there is none" for name, tick in occurrences.keys() - wanted)
    for (name, tick), ids in occurrences.items():
        if ids != {occurrence_id_of(name, tick)}:
            yield f"tick {tick} of {name} was dispatched as {sorted(ids)}"
    for name, tick, _, late in _firsts(timetable):
        if late > GRACE:
            yield f"tick {tick} of {name} was dispatched {late:.1f} s late"


def _begun(play: Play) -> Counter[str]:
    return Counter(line.occurrence for line in play.effects() if line.what == "begin")


def _once(play: Play, timetable: Timetable) -> Iterator[str]:
    """Every tick ran once."""
    begun = _begun(play)
    for name, tick in timetable.ticks:
        runs = begun.pop(occurrence_id_of(name, tick), 0)
        if runs != 1:
            yield f"tick {tick} of {name} ran {runs} times"
    yield from (f"{occurrence} ran, and is of no tick" for occurrence in begun)


def _stale(effects: list[Effect]) -> Iterator[str]:
    """Who leads dispatches, and nobody who led before it; what such a one writes is refused."""
    latest = 0
    refused = Counter(int(line.facts["number"]) for line in effects if line.what == "refused")
    for line in sorted(effects, key=lambda line: line.at):
        if line.what == "leads":
            latest = max(latest, int(line.facts["number"]))
        elif line.what == "dispatches" and int(line.facts["number"]) < latest:
            yield f"{line.worker} dispatched with the token {line.facts['number']} after {latest} had been given"
        elif line.what == "writes" and int(line.facts["number"]) < latest:
            token = int(line.facts["number"])
            refused[token] -= 1
            if refused[token] < 0:
                yield f"{line.worker} wrote with the token {token} after {latest} had been given"


async def _book(play: Play, timetable: Timetable, coordination: Coordination) -> AsyncIterator[str]:
    """All of it is written, and no token that was given before the last one can change that."""
    tokens = sorted({int(line.facts["number"]) for line in play.effects() if line.what == "leads"})
    for token in map(Token, tokens[:-1]):
        nothing = {name: Progress() for name in timetable.names}
        if await coordination.book.advance(token, nothing, ()):
            yield f"the token {token} still writes, and {tokens[-1]} was given"
        if await coordination.book.beat(token, 1.0) is not None or await coordination.leases.renew(LEADER, token, 1.0):
            yield f"the token {token} still leads, and {tokens[-1]} was given"
    count = len(timetable.ticks) // SCHEDULES
    with trio.move_on_after(play.size.patience):
        while any(problem for problem in await _unwritten(coordination, count)):  # noqa: ASYNC110  # no event tells
            await trio.sleep(0.5)
    for problem in await _unwritten(coordination, count):
        yield problem


async def _unwritten(coordination: Coordination, count: int) -> list[str]:
    _, entries = await coordination.book.read()
    progress = {entry.schedule.id: entry.progress for entry in entries}
    good = OccurrenceStatus.COMPLETED
    return [
        f"{name} has {one.runs} runs, {len(one.open_runs)} of them open, and the last status {one.last_status}"
        for name, one in progress.items()
        if (one.runs, one.open_runs, one.last_status) != (count, (), good)
    ]


SCENARIO: Final = Scenario(
    id="T32",
    title="schedules, the leader killed every 15 s and once stopped for 20 s",
    full=Size(jobs=0, faults=8, patience=30, limit=400),
    short=Size(jobs=0, faults=2, patience=15, limit=90),
    play=play,
    sabotages={"leads-for-ever": frozenset({"stale"}), "ticks-by-chance": frozenset({"ticks", "once"})},
    slow_short=True,
    slow_bites=frozenset({"leads-for-ever", "ticks-by-chance"}),
)
