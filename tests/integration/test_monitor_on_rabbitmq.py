"""A monitor as its user runs it, a process on RabbitMQ: a worker's whole life is in the history, whatever is killed."""

import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from attrs import define, field
from tests.support import servers
from tests.support.cluster import serving
from tests.support.commands import command, environment, forked_command
from tests.support.folders import new_folder
from tests.support.servers import HOST, RabbitMQServer
from tests.support.settings_files import write_settings

from milvaion_trio import Client, JobContext, PermanentFailure, Worker
from milvaion_trio.broker.rabbitmq import RabbitMQBroker
from milvaion_trio.history.sqlite import SQLiteHistory
from milvaion_trio.model.history import OccurrenceRecord
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.occurrence import OccurrenceStatus as S
from milvaion_trio.model.settings import (
    OfflineResilienceSettings,
    RabbitMQSettings,
    ReportingSettings,
    WorkerSettings,
)
from milvaion_trio.monitor.queues import QUEUES
from milvaion_trio.ports.history import HistoryStore, OccurrenceQuery

SOON = 60.0
"""Seconds for what takes a few on an idle machine."""


@define(eq=False)
class MonitorProcess:
    """`milvaion-trio monitor`, started and killed again."""

    config: Path
    is_to_be_killed: bool = False
    """A forked one would live on."""
    process: trio.Process | None = None
    log: Path = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.log = self.config.with_suffix(".log")

    async def start(self, *options: str) -> None:
        """Return when it reads. If cancelled, it may run."""
        told = self.told.count("monitor ready")
        make = command if self.is_to_be_killed else forked_command
        with self.log.open("a") as stderr:
            self.process = await trio.lowlevel.open_process(
                make("monitor", "--config", self.config, *options),
                cwd=self.config.parent,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
            )
        with trio.fail_after(SOON):
            while self.told.count("monitor ready") == told:  # a file tells nobody
                assert self.process.poll() is None, self.told
                await trio.sleep(0.02)

    async def end(self, number: int) -> int:
        """Send the signal and return the exit code. If cancelled, it may run."""
        assert self.process is not None
        self.process.send_signal(number)
        with trio.fail_after(SOON):
            return await self.process.wait()

    @property
    def told(self) -> str:
        """What it wrote so far."""
        return self.log.read_text() if self.log.exists() else ""


@asynccontextmanager
async def monitoring(config: Path, *, is_to_be_killed: bool = False) -> AsyncIterator[MonitorProcess]:
    """A monitor that runs while the context is open."""
    process = MonitorProcess(config, is_to_be_killed)
    try:
        await process.start()
        yield process
    finally:
        if process.process is not None and process.process.poll() is None:
            process.process.kill()
            with trio.CancelScope(shield=True):
                await process.process.wait()


def worker_on(rabbitmq: RabbitMQSettings) -> Worker:
    """One that tells of the jobs of our own clients, with a job for each ending."""
    outbox = OfflineResilienceSettings(local_storage_path=str(new_folder()))
    settings = WorkerSettings(
        worker_id="tests",
        max_parallel_jobs=20,
        rabbitmq=rabbitmq,
        offline_resilience=outbox,
        reporting=ReportingSettings(local_occurrences=True),
    )
    worker = Worker(settings=settings)

    @worker.job("WorkJob", max_parallel=20)
    async def work(ctx: JobContext, number: int) -> int:
        ctx.log.info("began")
        ctx.log.info("ended", number=number)
        return number

    @worker.job("FailJob")
    async def fail(ctx: JobContext) -> None:
        raise PermanentFailure("no such address")

    return worker


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_settings(tmp_path, servers.new_vhost())


@pytest.fixture
def second_config(config: Path) -> Path:
    """The same, for another process."""
    second = config.with_name("second.json")
    second.write_text(config.read_text())
    return second


@pytest.fixture
def rabbitmq(config: Path) -> RabbitMQSettings:
    vhost = config.read_text().partition('"VirtualHost": "')[2].partition('"')[0]
    return RabbitMQSettings(host=HOST, port=servers.rabbitmq().port, virtual_host=vhost)


@pytest.fixture
def store(config: Path) -> HistoryStore:
    return SQLiteHistory(config.parent / "monitor_data" / "history.db")


def every(store: HistoryStore) -> dict[str, tuple[S | int, int, int, int]]:
    """Of each occurrence: status, runs, steps and lines of its log."""
    with store:
        rows = store.find(OccurrenceQuery(limit=100_000))
        return {
            row.id: (
                row.status,
                row.runs,
                len(row.changes),
                sum(line.category == "UserCode" for line in store.lines(row.id)),
            )
            for row in rows
        }


async def until(happened: Callable[[], bool]) -> None:
    """Return when it happened; a database tells nobody. If cancelled, nothing changes."""
    with trio.fail_after(SOON):
        while not happened():  # noqa: ASYNC110
            await trio.sleep(0.1)


async def left_in(rabbitmq: RabbitMQSettings) -> int:
    """What is left in the queues of a monitor that is gone."""
    async with RabbitMQBroker(rabbitmq, client_name="tests").consuming() as consumer:
        states = [await consumer.state(queue) for queue in QUEUES]
    return sum(state.ready for state in states if state is not None)


def row_of(store: HistoryStore, occurrence: OccurrenceId) -> OccurrenceRecord | None:
    with store:
        return store.load([occurrence]).get(occurrence)


async def until_known(client: Client, store: HistoryStore) -> None:
    """Return when the monitor gets copies of what is dispatched to this worker. If cancelled, nothing changes."""
    with trio.fail_after(SOON):
        while True:
            probe = await client.enqueue("WorkJob", 0)
            while (row := row_of(store, probe)) is None or row.status != S.COMPLETED:  # noqa: ASYNC110  # tells nobody
                await trio.sleep(0.05)
            if row.job_data:
                return


async def test_a_workers_whole_life_is_in_the_history(
    config: Path, rabbitmq: RabbitMQSettings, store: HistoryStore
) -> None:
    """From its registration to its good-bye, with every ending of its jobs; a signal ends the monitor cleanly."""
    async with monitoring(config) as monitor:
        worker = worker_on(rabbitmq)
        async with serving(worker), Client(RabbitMQBroker(rabbitmq, client_name="t"), worker_id="tests") as client:
            await until_known(client, store)
            good = await client.enqueue("WorkJob", 7)
            bad = await client.enqueue("FailJob")
            await worker.idle()
        code = await monitor.end(signal.SIGTERM)

    with store:
        rows = store.load([good, bad])
        [group], [process] = store.workers(), store.instances()
        letter = store.failure(bad)
        lines = [line.message for line in store.lines(good) if line.category == "UserCode"]
    assert code == 0
    assert "monitor stopped" in monitor.told
    assert (rows[good].status, rows[good].result, rows[good].job_data) == (S.COMPLETED, "7", "7")
    assert (rows[bad].status, rows[bad].job_name) == (S.FAILED, "FailJob")
    assert letter is not None
    assert "no such address" in letter.exception
    assert lines == ["began", "ended"]
    assert set(group.job_types) == {"WorkJob", "FailJob"}
    assert (process.instance_id, process.stopped_at is not None) == (worker.instance_id, True)
    assert await left_in(rabbitmq) == 0


async def test_a_killed_monitor_loses_and_doubles_nothing(
    config: Path, rabbitmq: RabbitMQSettings, store: HistoryStore
) -> None:
    """SIGKILL in the middle, twice: every occurrence has its end, one attempt, and each line once."""
    jobs = 400
    ids: list[str] = []
    async with monitoring(config, is_to_be_killed=True) as monitor:
        async with (
            serving(worker_on(rabbitmq)) as worker,
            Client(RabbitMQBroker(rabbitmq, client_name="t"), worker_id="tests") as client,
        ):

            async def enqueue_all() -> None:
                for number in range(jobs):
                    occurrence = await client.enqueue("WorkJob", number)
                    ids.append(occurrence)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(enqueue_all)
                for part in (1, 2):
                    await until(lambda part=part: len(ids) >= part * jobs // 3)  # type: ignore[misc]
                    await monitor.end(signal.SIGKILL)
                    await monitor.start()
            await worker.idle()
        await until(lambda: sum(one[0] == S.COMPLETED for one in every(store).values()) == jobs)
        assert await monitor.end(signal.SIGINT) == 0

    found = every(store)
    assert set(found) == set(ids)
    assert set(found.values()) == {(S.COMPLETED, 1, 2, 2)}
    assert await left_in(rabbitmq) == 0


async def test_a_second_monitor_does_not_start(config: Path, second_config: Path) -> None:
    """It says that there is one; with the option it starts."""
    async with monitoring(config) as first:
        second = MonitorProcess(second_config)
        with pytest.raises(AssertionError, match="Another milvaion-trio monitor runs"):
            await second.start()
        assert second.process is not None
        assert await second.process.wait() == 2
        await second.start("--beside-others")
        assert await second.end(signal.SIGTERM) == 0
        assert first.process is not None
        assert first.process.poll() is None


@pytest.fixture
def own_rabbitmq() -> Iterator[RabbitMQServer]:
    with RabbitMQServer() as server:
        yield server


@pytest.mark.long
async def test_a_broker_that_is_killed_loses_and_doubles_nothing(own_rabbitmq: RabbitMQServer, tmp_path: Path) -> None:
    """SIGKILL of RabbitMQ in the middle: the monitor finds back by itself, and what it reads twice counts once."""
    jobs = 300
    rabbitmq = RabbitMQSettings(host=HOST, port=own_rabbitmq.port)
    config = write_settings(tmp_path, "/", rabbitmq={"Port": own_rabbitmq.port})
    store = SQLiteHistory(tmp_path / "monitor_data" / "history.db")
    async with monitoring(config) as monitor, serving(worker_on(rabbitmq)) as worker:
        async with Client(RabbitMQBroker(rabbitmq, client_name="t"), worker_id="tests") as client:
            ids = [await client.enqueue("WorkJob", number) for number in range(jobs // 2)]
            await trio.to_thread.run_sync(own_rabbitmq.kill)
            await trio.to_thread.run_sync(own_rabbitmq.start)
            ids += [await client.enqueue("WorkJob", number) for number in range(jobs // 2)]
            await worker.idle()
        await until(lambda: sum(one[0] == S.COMPLETED for one in every(store).values()) >= jobs)
        assert await monitor.end(signal.SIGTERM) == 0

    found = every(store)
    assert set(found) == set(ids)
    assert {(status, lines) for status, _, _, lines in found.values()} == {(S.COMPLETED, 2)}
