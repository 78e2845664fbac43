"""RabbitMQ and Redis restarted under load, absent at start, or closing what the worker has open: healed by itself.

Private servers, as they are hurt. A restart takes RabbitMQ six seconds, so its tests share one.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from attrs import define, field
from tests.support import servers
from tests.support.amqp import ChannelClosed, Closed, connect
from tests.support.api_model import ApiSettings, OccurrenceStatus
from tests.support.api_model.database import ENDS
from tests.support.api_model.server import api_server
from tests.support.cluster import Cluster, cluster, running, serving
from tests.support.readmes import SDK_README
from tests.support.servers import HOST, RabbitMQServer, RedisServer

from milvaion_trio import JobContext, Worker
from milvaion_trio.model.events import Event, JobRetried, LinkDown, LinkUp

S = OccurrenceStatus

RETURN: Final = 15.0
"""Seconds from a server's return to work being done again."""
FAST_API: Final = ApiSettings(status_interval=0.01)
"""It reads ten times as fast as the real one: these tests are about the worker."""


@pytest.fixture(scope="module")
def rabbitmq() -> Iterator[RabbitMQServer]:
    """One that is not started yet for the first who asks."""
    server = RabbitMQServer()
    try:
        yield server
    finally:
        server.__exit__()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


def final_statuses(here: Cluster, occurrence_id: str) -> list[OccurrenceStatus | int]:
    """What the worker said."""
    return [status.status for status in here.api.occurrence(occurrence_id).wire if status.status in ENDS]


@define(eq=False)
class Load:
    """Jobs that are dispatched all the time, whatever happens, and what became of them."""

    here: Cluster
    attempts: dict[str, list[int]] = field(factory=dict)
    """Those that were started, by occurrence."""
    release: trio.Event = field(factory=trio.Event)
    """Lets the long job end."""
    events: list[Event] = field(factory=list)
    _stop: bool = False

    def worker(self) -> Worker:
        worker = self.here.worker(max_parallel_jobs=20)
        worker.observe(self.events.append)

        @worker.job("ShortJob", max_parallel=10)
        async def short(ctx: JobContext) -> None:
            self._note(ctx)
            await trio.sleep(0.02)

        @worker.job("LongJob")
        async def long(ctx: JobContext) -> str:
            self._note(ctx)
            await self.release.wait()
            return "survived"

        @worker.job("FlakyJob", max_retries=1, base_retry_delay=5)
        async def flaky(ctx: JobContext) -> None:
            self._note(ctx)
            if ctx.attempt == 1:
                raise ValueError("once")

        return worker

    def _note(self, ctx: JobContext) -> None:
        self.attempts.setdefault(ctx.occurrence_id, []).append(ctx.attempt)

    async def dispatch(self, name: str) -> str:
        """Dispatch until the broker has confirmed it: the same message twice, where it died before it could."""
        api = self.here.api
        job = api.model.job_named(name) or api.create_job(name, auto_disable=False)
        dispatch = api.model.dispatch(job.id, api.now())
        while True:
            try:
                await api.publish(dispatch)
            except Closed:
                continue
            return dispatch.occurrence_id

    async def go_on(self) -> None:
        """Dispatch short jobs until told to stop."""
        while not self._stop:
            await self.dispatch("ShortJob")
            await trio.sleep(0.02)

    def stop(self) -> None:
        self._stop = True

    @property
    def completed(self) -> int:
        return sum(occurrence.status == S.COMPLETED for occurrence in self.here.api.model.database.occurrences.values())

    def seen(self, kind: type[LinkUp] | type[LinkDown], link: str) -> int:
        return sum(isinstance(event, kind) and event.link == link for event in self.events)


async def ready(here: Cluster, *queues: str) -> int:
    """How many messages wait in these queues."""
    async with connect(here.rabbitmq.port, here.vhost) as client:
        return sum([(await client.declare_queue(name, passive=True))[0] for name in queues])


# --- absent at start --------------------------------------------------------------------------------------------------

PROGRAM: Final = """
from milvaion_trio import Worker

worker = Worker()

@worker.job("SyncJob")
async def sync():
    return "done"
"""


def written(folder: Path, rabbitmq_port: int, redis_port: int, patience: int) -> Path:
    """A program and its settings."""
    (folder / "shop.py").write_text(PROGRAM)
    settings: dict[str, Any] = json.loads(SDK_README)
    settings["Worker"]["StartupConnectionTimeoutSeconds"] = patience
    settings["Worker"]["RabbitMQ"] |= {"Host": HOST, "Port": rabbitmq_port}
    settings["Worker"]["Redis"]["ConnectionString"] = f"{HOST}:{redis_port}"
    del settings["JobConsumers"]
    path = folder / "appsettings.json"
    path.write_text(json.dumps(settings))
    return path


async def test_without_a_broker_the_start_fails_with_one_message(tmp_path: Path) -> None:
    """DESIGN.md 2: tried for `StartupConnectionTimeoutSeconds`; the message names server, place and setting."""
    with trio.fail_after(60):
        port, redis_port = servers.free_port(), servers.free_port()
        config = written(tmp_path, port, redis_port, patience=2)
        async with running("shop:worker", config, "--log-level", "error", cwd=tmp_path) as worker:
            began = trio.current_time()
            code = await worker.process.wait()
            took = trio.current_time() - began

    print(worker.told)
    assert code == 1
    assert 2 <= took < 12  # Python starts within it
    assert "Traceback" not in worker.told
    (message,) = [line for line in worker.told.splitlines() if line]
    for fact in (
        f"amqp://{HOST}:{port}/",
        "within 2 s",
        "refused",
        "Worker:RabbitMQ",
        "StartupConnectionTimeoutSeconds",
    ):
        assert fact in message


async def test_a_worker_waits_for_its_broker_and_does_without_redis(rabbitmq: RabbitMQServer, tmp_path: Path) -> None:
    """The broker comes up within the time: it starts. Redis does not: one warning that names it, and jobs run."""
    with trio.fail_after(120):
        redis_port = servers.free_port()
        if rabbitmq.is_running:
            await trio.to_thread.run_sync(rabbitmq.stop)
        config = written(tmp_path, rabbitmq.port, redis_port, patience=60)
        async with running("shop:worker", config, "--log-level", "warning", cwd=tmp_path) as worker:
            await trio.to_thread.run_sync(rabbitmq.start)
            back = trio.current_time()
            async with api_server(rabbitmq.port) as api:
                await api.until(lambda: api.model.workers, RETURN)
                assert trio.current_time() - back < RETURN
                occurrence_id = await api.dispatch("SyncJob")
                await api.until_ended()
                assert api.occurrence(occurrence_id).status == S.COMPLETED
                assert await worker.stop() == 0
                await api.until_idle()
                api.assert_content()

    print(worker.told)
    warnings = [line for line in worker.told.splitlines() if "cancel signals" in line]
    assert len(warnings) == 1
    for fact in (f"Redis at {HOST}:{redis_port}", "refused", "Worker:Redis:ConnectionString", "jobs go on"):
        assert fact in warnings[0]


# --- restarted under load ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_a_broker_restarted_under_load_loses_nothing(rabbitmq: RabbitMQServer, end: str) -> None:
    """Jobs from before, from meanwhile and from after it end once each; the running one goes on and is re-adopted."""
    with trio.fail_after(120):
        if not rabbitmq.is_running:
            await trio.to_thread.run_sync(rabbitmq.start)
        async with cluster(rabbitmq=rabbitmq, api_settings=FAST_API) as here:
            load = Load(here)
            worker = load.worker()
            async with serving(worker):
                await here.api.until(lambda: here.api.model.workers)
                long, flaky = await load.dispatch("LongJob"), await load.dispatch("FlakyJob")
                async with trio.open_nursery() as nursery:
                    for _ in range(4):
                        nursery.start_soon(load.go_on)
                    await here.api.until(lambda: load.completed > 50)
                    await here.api.until(lambda: any(isinstance(event, JobRetried) for event in load.events))

                    await trio.to_thread.run_sync(getattr(rabbitmq, end))
                    await trio.to_thread.run_sync(rabbitmq.start)
                    back = trio.current_time()
                    after = await load.dispatch("ShortJob")
                    await here.api.until_ended(after, seconds=30)
                    took = trio.current_time() - back
                    load.stop()
                await here.api.until_ended(*(set(load.attempts) - {long}), seconds=30)
                load.release.set()
                await here.api.until_ended(seconds=30)
                await worker.idle()
            left = await ready(here, *(job.queue for job in worker.registry.jobs), "mtrio.delay.v1.005s")

    print(f"{end}: {took:.1f} s from the broker's return to the next end of a job; {len(load.attempts)} jobs")
    assert took < RETURN
    for link in ("publishing", "consuming"):
        assert load.seen(LinkUp, link) == 2
    assert {identity: final_statuses(here, identity) for identity in here.api.model.database.occurrences} == {
        identity: [S.COMPLETED] for identity in load.attempts
    }
    assert load.attempts.pop(flaky) == [1, 2]
    assert {identity: numbers for identity, numbers in load.attempts.items() if numbers != [1]} == {}
    assert here.api.occurrence(long).result == "survived"
    assert left == 0  # all acked, over the new connection too


@pytest.mark.parametrize("end", ["kill", "stop"])
async def test_a_redis_restarted_under_load_disturbs_no_job(redis: RedisServer, end: str) -> None:
    """Jobs run on without it; signals are heard again after it, and a job's log says for how long they were not."""
    with trio.fail_after(60):
        async with cluster(redis=redis, api_settings=FAST_API) as here:
            load = Load(here)
            async with serving(load.worker()):
                await here.api.until(lambda: here.api.model.workers)
                long = await load.dispatch("LongJob")
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(load.go_on)
                    await here.api.until(lambda: load.completed > 10)

                    await trio.to_thread.run_sync(getattr(redis, end))
                    so_far = load.completed
                    await here.api.until(lambda: load.completed > so_far + 20)
                    await trio.to_thread.run_sync(redis.start)
                    back = trio.current_time()
                    deaf = "no cancel signal could be heard"
                    await here.api.until(
                        lambda: any(deaf in str(row.message) for row in here.api.occurrence(long).logs)
                    )
                    assert await here.cancel(long) == 1
                    await here.api.until(lambda: final_statuses(here, long))
                    took = trio.current_time() - back
                    load.stop()
                await here.api.until_ended()

    print(f"{end}: {took:.1f} s from the return of Redis to a cancelled job")
    assert took < RETURN
    assert final_statuses(here, long) == [S.CANCELLED]
    ends = {identity: final_statuses(here, identity) for identity in load.attempts if identity != long}
    assert ends == {identity: [S.COMPLETED] for identity in ends}
    assert {tuple(numbers) for numbers in load.attempts.values()} == {(1,)}
    assert load.seen(LinkDown, "consuming") == 0


# --- closed by the broker ---------------------------------------------------------------------------------------------


async def test_a_queue_deleted_under_its_consumer_is_made_again() -> None:
    """The job that runs from it ends as usual, and the next one comes through the new queue."""
    with trio.fail_after(60):
        async with cluster(api_settings=FAST_API) as here:
            load = Load(here)
            worker = load.worker()
            async with serving(worker), connect(here.rabbitmq.port, here.vhost) as client:
                await here.api.until(lambda: here.api.model.workers)
                long = await load.dispatch("LongJob")
                await here.api.until(lambda: here.api.occurrence(long).status == S.RUNNING)

                began = trio.current_time()
                await client.delete_queue(worker.registry.resolve("LongJob").queue)
                await here.api.until(lambda: load.seen(LinkUp, "consuming") == 2, RETURN)
                load.release.set()
                await load.dispatch("LongJob")
                await here.api.until_ended()
                took = trio.current_time() - began

    print(f"{took:.1f} s")
    assert [final_statuses(here, identity) for identity in load.attempts] == [[S.COMPLETED]] * 2
    assert set(map(tuple, load.attempts.values())) == {(1,)}
    assert load.seen(LinkDown, "publishing") == 0


async def test_a_foreign_declaration_of_our_queue_is_the_foreigners_problem() -> None:
    """It gets 406; nothing of the worker's is closed, and jobs go on."""
    with trio.fail_after(60):
        async with cluster(api_settings=FAST_API) as here:
            load = Load(here)
            worker = load.worker()
            async with serving(worker), connect(here.rabbitmq.port, here.vhost) as client:
                await here.api.until(lambda: here.api.model.workers)
                for job in worker.registry.jobs:
                    async with client.channel() as channel:
                        with pytest.raises(ChannelClosed, match="406"):
                            await channel.declare_queue(job.queue, {"x-max-length": ("I", 1)})
                await load.dispatch("ShortJob")
                await here.api.until_ended()

    assert load.seen(LinkDown, "consuming") == load.seen(LinkDown, "publishing") == 0


async def test_a_channel_that_the_consumer_timeout_closes_costs_no_second_run(rabbitmq: RabbitMQServer) -> None:
    """406 while the job runs (RELIABILITY.md 0.4): its message comes back and is re-adopted, again and again."""
    with trio.fail_after(120):
        if not rabbitmq.is_running:
            await trio.to_thread.run_sync(rabbitmq.start)
        await limit_unacked(rabbitmq, "1000", "500")
        try:
            async with cluster(rabbitmq=rabbitmq, api_settings=FAST_API) as here:
                load = Load(here)
                worker = load.worker()
                async with serving(worker):
                    await here.api.until(lambda: here.api.model.workers)
                    long = await load.dispatch("LongJob")
                    await here.api.until(lambda: load.seen(LinkUp, "consuming") == 3, 30)
                    load.release.set()
                    await here.api.until_ended()
                    await worker.idle()
                left = await ready(here, *(job.queue for job in worker.registry.jobs))
        finally:
            await limit_unacked(rabbitmq, "1800000", "60000")

    reasons = [event.why for event in load.events if isinstance(event, LinkDown)]
    assert all("406" in why or "PRECONDITION_FAILED" in why for why in reasons), reasons
    assert load.attempts == {long: [1]}
    assert final_statuses(here, long) == [S.COMPLETED]
    assert left == 0


async def limit_unacked(rabbitmq: RabbitMQServer, limit_ms: str, looks_every_ms: str) -> None:
    """For channels that are opened from now on."""
    command = (
        f"application:set_env(rabbit, consumer_timeout, {limit_ms}),"
        f" application:set_env(rabbit, channel_tick_interval, {looks_every_ms})."
    )
    await trio.to_thread.run_sync(rabbitmq.control, "eval", command)
