"""One run of a scenario: servers, worker processes, the play, the evidence, the judgement, the report.

Separate from the command line, because the tests run scenarios too.
"""

import random
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import trio
from attrs import evolve, frozen
from tests.support import servers
from tests.support.api_model import ApiSettings
from tests.support.api_model.server import api_server
from tests.support.brokers import DRIVERS
from tests.support.cluster import Cluster
from tests.support.servers import HOST, RABBITMQ, RabbitMQServer, RedisServer

from milvaion_trio.model.exception_groups import leaves
from torture.agreement import Heard, disagreements
from torture.collecting import collect, left_in_queues, resources_of
from torture.effects import Effects
from torture.evidence import Evidence
from torture.invariants import Violation, judge
from torture.play import GaveUp, Play
from torture.report import report
from torture.scenario import Scenario, Size
from torture.telling import Told
from torture.worker_processes import WorkerProcesses

__all__ = ["API", "Ran", "run", "run_in_trio"]

API: Final = ApiSettings(status_interval=0.01, log_interval=0.05, zombie_interval=1e9, sweep_interval=1e9)
"""Ten times as fast as a real one; it declares nobody dead, as what it has not heard of is judged from the wire."""
END: Final = 30.0
"""Seconds for workers to leave, and for the API to read what is left."""


@frozen(kw_only=True)
class Ran:
    """A run that is over."""

    report: dict[str, Any]
    evidence: Evidence
    violations: list[Violation]
    logs: str
    """The ends of what the workers wrote to stderr."""

    @property
    def broken(self) -> set[str]:
        """The invariants that were violated."""
        return {violation.invariant for violation in self.violations}


def run_in_trio(
    scenario: Scenario, size: Size, seed: int, sabotage: str | None = None, driver: str = DRIVERS[0]
) -> Ran:
    """`run`, for those who are not in Trio."""
    return trio.run(run, scenario, size, seed, sabotage, driver)


async def run(
    scenario: Scenario,
    size: Size,
    seed: int,
    sabotage: str | None = None,
    driver: str = DRIVERS[0],
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
) -> Ran:
    """Play a scenario and judge it. The seed is told first.

    If cancelled, workers are killed and servers of this run's own are ended.
    """
    how = f"sabotage={sabotage or 'none'} driver={driver}"
    say(f"{scenario.id} seed={seed} jobs={size.jobs} faults={size.faults} {how}")
    began = trio.current_time()
    async with _playing(scenario, size, seed, sabotage, driver) as play:
        gave_up = await _play(scenario, play)
        resources = resources_of(play)
        with trio.move_on_after(END):
            await play.workers.leave()
        with trio.move_on_after(END if gave_up is None else 5.0):
            await _until_read(play)
        queues, changed = await left_in_queues(play)
        evidence = collect(play, queues, changed, resources)
        logs = "\n".join(f"--- {worker.name}\n{worker.log[-2000:]}" for worker in play.workers.all.values())
    claims = [Violation(name, about) for name, check in scenario.claims.items() for about in check(evidence)]
    violations = [*judge(evidence), *claims, *play.complaints]
    if scenario.agrees:
        violations += [Violation("history", about) for about in disagreements(play.heard, play.here.api.model, seed)]
    if gave_up is not None:
        violations.append(Violation("I1", f"gave up: {gave_up}"))
    told = report(
        scenario.id,
        seed=seed,
        jobs=len(evidence.expected),
        seconds=trio.current_time() - began,
        sabotage=sabotage,
        driver=driver,
        evidence=evidence,
        violations=violations,
        facts={**play.facts, "doubtful_dispatches": len(play.doubtful)},
        broker=_broker_version(),
    )
    return Ran(report=told, evidence=evidence, violations=violations, logs=logs)


async def _play(scenario: Scenario, play: Play) -> str | None:
    """Why it could not be played to its end, if so. If cancelled, it is left as it is."""
    why: str | None = None
    with trio.move_on_after(play.size.limit) as scope:
        try:
            await scenario.play(play)
        except* GaveUp as group:
            why = str(next(leaves(group)))
    return f"not over after {play.size.limit:g} s" if scope.cancelled_caught else why


async def _until_read(play: Play) -> None:
    """Return when the API has read all there is for it. If cancelled, nothing changes."""
    try:
        await play.here.api.until_idle(END)
    except AssertionError:
        return  # it says what is stuck itself, see I13


@asynccontextmanager
async def _playing(scenario: Scenario, size: Size, seed: int, sabotage: str | None, driver: str) -> AsyncIterator[Play]:
    folder = Path(tempfile.mkdtemp(prefix="mtrio-torture-"))
    try:
        async with AsyncExitStack() as stack:
            rabbitmq, redis = await trio.to_thread.run_sync(_servers, scenario)
            if scenario.hurts_broker:
                stack.callback(rabbitmq.__exit__)
            if scenario.hurts_redis:
                stack.callback(redis.__exit__)
            vhost = await trio.to_thread.run_sync(rabbitmq.new_vhost)
            settings = evolve(API, **scenario.api)
            api = await stack.enter_async_context(api_server(rabbitmq.port, vhost, settings))
            here = Cluster(rabbitmq=rabbitmq, redis=redis, vhost=vhost, channel=f"cancel-{vhost}", api=api)
            effects = Effects(folder / "effects.jsonl")
            told = Told(
                name="",
                worker_id="torture",
                effects=str(effects.path),
                storage="",
                host=HOST,
                rabbitmq_port=rabbitmq.port,
                redis_port=redis.port,
                vhost=vhost,
                cancel_channel=here.channel,
                driver=driver,
                sabotages=[sabotage] if sabotage else [],
            )
            workers = WorkerProcesses(folder, effects, told)
            await stack.enter_async_context(workers.open())
            chance, heard = random.Random(seed), Heard.by(api.model)
            yield Play(size=size, seed=seed, here=here, workers=workers, random=chance, heard=heard)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _servers(scenario: Scenario) -> tuple[RabbitMQServer, RedisServer]:
    """Those of the run, or their own for a scenario that hurts them."""
    rabbitmq = RabbitMQServer() if scenario.hurts_broker else servers.rabbitmq()
    if scenario.hurts_broker:
        rabbitmq.start()
    redis = RedisServer() if scenario.hurts_redis else servers.redis()
    if scenario.hurts_redis:
        redis.start()
    return rabbitmq, redis


def _broker_version() -> str:
    found = [path.name.partition("-")[2] for path in RABBITMQ.parent.glob("lib/rabbitmq_server-*")]
    return found[0] if found else "unknown"
