"""`AsyncioClient` and what else enqueues from asyncio code."""

import asyncio
import threading
from pathlib import Path

import pytest
import trio
from tests.support import servers
from tests.support.hosts import Host, Open, embedded_worker, in_every_asyncio_host, in_every_host, until
from tests.support.servers import HOST

from milvaion_trio import AsyncioClient, BrokerUnreachable, Client, NotPublished, SettingsError, Worker, WorkerSettings
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.embed import serving
from milvaion_trio.embed.crossing import carry
from milvaion_trio.model.settings import RabbitMQSettings, RedisSettings


def rabbitmq_settings() -> RabbitMQSettings:
    return RabbitMQSettings(host=HOST, port=servers.rabbitmq().port, virtual_host=servers.new_vhost())


@in_every_host
def test_a_job_enqueues_itself_in_every_host(host: Host) -> None:
    """`send_email.enqueue(...)` in a request handler, over the worker's own connection."""
    worker = embedded_worker()
    got: list[object] = []

    @worker.job()
    async def work(data: dict[str, int]) -> None:
        got.append(data)

    async def scenario() -> None:
        async with serving(worker):
            occurrence_id = await work.enqueue({"a": 1}, delay=0)
            assert len(occurrence_id) == 36
            with pytest.raises(TypeError):
                await work.enqueue(object())

    host.run(scenario)

    assert got == [{"a": 1}]


@in_every_host
def test_an_asyncio_job_enqueues_another(host: Host) -> None:
    """It is asyncio code in the worker's own thread: the call crosses over to Trio all the same."""
    worker = embedded_worker()
    got = threading.Event()

    @worker.job()
    async def second() -> None:
        got.set()

    @worker.job(run="asyncio")
    async def first() -> None:
        await asyncio.sleep(0)
        await second.enqueue()

    async def scenario() -> None:
        async with serving(worker):
            await first.enqueue()
            await until(got.is_set)

    host.run(scenario)


@in_every_host
def test_an_asyncio_job_reaches_the_broker_of_another_worker(host: Host) -> None:
    """Which serves nowhere here: the call is made in the Trio run of the job, with a connection of its own."""
    worker, other = embedded_worker(), embedded_worker()
    said: list[str] = []

    @other.job()
    async def elsewhere() -> None:
        """Never run."""

    @worker.job(run="asyncio")
    async def first() -> None:
        with pytest.raises(NotPublished) as caught:
            await elsewhere.enqueue()
        said.append(str(caught.value))

    async def scenario() -> None:
        async with serving(worker):
            await first.enqueue()
            await until(lambda: bool(said))

    host.run(scenario)

    assert "There is no queue" in said[0]  # as its broker says


@in_every_asyncio_host
def test_a_client_of_an_embedded_worker_works_in_its_thread(host: Host) -> None:
    worker = embedded_worker()
    cancelled = threading.Event()

    @worker.job()
    async def work() -> None:
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async def scenario() -> None:
        before = Open.now(host)
        async with serving(worker), AsyncioClient.of(worker) as client:
            occurrence_id = await client.enqueue(work)
            with pytest.raises(NotPublished, match="There is no queue"):
                await client.enqueue("Unknown")
            await asyncio.gather(*[client.cancel(occurrence_id, "enough") for _ in range(10)])  # many requests at once
            while not cancelled.is_set():
                assert await client.cancel(occurrence_id) == 1
                await asyncio.sleep(0.01)
        assert Open.now(host) == before

    host.run(scenario)


def test_where_no_worker_serves_it_is_said_what_to_do() -> None:
    """On an embedded broker there is no other way; with RabbitMQ a client opens a connection of its own."""
    embedded = embedded_worker()
    work = embedded.job("Work")(lambda: None)
    joined = Worker(settings=WorkerSettings(rabbitmq=RabbitMQSettings()))
    other = joined.job("Other")(lambda: None)

    async def main() -> None:
        with pytest.raises(NotPublished, match=r"none does here\. Serve it in this program"):
            await work.enqueue()
        with pytest.raises(NotPublished, match=r"AsyncioClient\.of\(worker\) as client"):
            await other.enqueue()
        for client in (AsyncioClient.of(embedded), AsyncioClient(EmbeddedBroker(), worker_id="tests")):
            with pytest.raises(NotPublished, match="none does here"):
                await client.__aenter__()
        with pytest.raises(NotPublished, match=r"On asyncio use `async with milvaion_trio\.AsyncioClient"):
            await embedded.client().__aenter__()
        with pytest.raises(NotPublished, match="is not open"):
            await AsyncioClient.of(joined).enqueue(other)

    asyncio.run(main())


async def test_on_trio_it_names_the_other_client() -> None:
    with pytest.raises(NotPublished, match="On Trio use"):
        await AsyncioClient.from_settings(WorkerSettings(rabbitmq=RabbitMQSettings())).__aenter__()


def test_it_is_made_in_the_same_ways(tmp_path: Path) -> None:
    """And refuses the same."""
    file = tmp_path / "appsettings.json"
    file.write_text('{"Worker": {"WorkerId": "mail", "RabbitMQ": {"Host": "localhost"}}}')

    assert isinstance(AsyncioClient.from_file(file, worker_id="other"), AsyncioClient)
    with pytest.raises(SettingsError, match="name no RabbitMQ"):
        AsyncioClient.from_settings(WorkerSettings())
    public = {name for name in vars(Client) if not name.startswith("_")}
    assert public - set(vars(AsyncioClient)) == {"broker", "destination", "over", "publish"}  # of our own modules


def test_a_broker_that_is_not_there() -> None:
    """Told as itself, as soon as the time is up, and nothing stays behind."""
    settings = WorkerSettings(rabbitmq=RabbitMQSettings(host=HOST, port=servers.free_port()))

    async def main() -> None:
        before = set(threading.enumerate())  # some of which may end meanwhile
        client = AsyncioClient.from_settings(settings, connect_timeout=0.2)
        with pytest.raises(BrokerUnreachable, match="connect_timeout"):
            async with client:
                pytest.fail("it is not there")
        assert set(threading.enumerate()) <= before

    asyncio.run(main())


@in_every_asyncio_host
def test_it_has_a_connection_of_its_own_to_a_server(host: Host) -> None:
    """Entered and left ten times: no thread, no socket, no task stays."""
    settings = WorkerSettings(rabbitmq=rabbitmq_settings())
    worker = Worker(settings=settings, observers=())
    ran: list[int] = []

    @worker.job()
    async def work(number: int) -> None:
        ran.append(number)

    async def scenario() -> None:
        async with serving(worker):
            for number in range(10):
                async with AsyncioClient.of(worker) as client:
                    await client.enqueue(work, number)
                if number == 0:
                    before = Open.now(host)
            await until(lambda: len(ran) == 10)
            assert Open.now(host) == before

    host.run(scenario)

    assert sorted(ran) == list(range(10))


def test_it_cancels_over_redis() -> None:
    settings = WorkerSettings(
        rabbitmq=rabbitmq_settings(), redis=RedisSettings(connection_string=f"{HOST}:{servers.redis().port}")
    )

    worker = Worker(settings=settings, observers=())
    started, cancelled = threading.Event(), threading.Event()

    @worker.job()
    async def work() -> None:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async def main() -> None:
        async with serving(worker), AsyncioClient.from_settings(settings) as client:
            occurrence_id = await client.enqueue("work")
            await until(started.is_set)
            while not cancelled.is_set():
                await client.cancel(occurrence_id)
                await asyncio.sleep(0.02)

    asyncio.run(asyncio.wait_for(main(), 20))


# --- what crosses over ----------------------------------------------------------------------------------------------


def test_a_call_can_be_cancelled() -> None:
    """The function in Trio is cancelled too, and waited for."""
    began, ended = threading.Event(), threading.Event()

    async def wait() -> None:
        began.set()
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(0.05)
            ended.set()

    async def main() -> None:
        async with serving(embedded_worker()) as worker:
            assert worker.trio_token is not None
            task = asyncio.create_task(carry(worker.trio_token, wait))
            await until(began.is_set)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert ended.is_set()

    asyncio.run(main())


def test_a_call_ends_with_the_run_it_is_in() -> None:
    """Whoever waits for it is told, also when the run is over already."""

    async def main() -> None:
        async with serving(embedded_worker()) as worker:
            token = worker.trio_token
            assert token is not None
            waiting = asyncio.create_task(carry(token, trio.sleep_forever))
            await asyncio.sleep(0.01)
        with pytest.raises(NotPublished, match="has left"):
            await waiting
        with pytest.raises(NotPublished, match="has left"):
            await carry(token, trio.sleep_forever)

    asyncio.run(main())


def test_another_event_loop_may_use_it() -> None:
    """A client belongs to no loop; only closing it does."""
    worker = embedded_worker()
    got = threading.Event()

    @worker.job()
    async def work() -> None:
        got.set()

    async def main() -> None:
        async with serving(worker), AsyncioClient.of(worker) as client:
            await asyncio.to_thread(lambda: asyncio.run(client.enqueue(work)))

    asyncio.run(main())

    assert got.is_set()


def test_it_is_opened_once() -> None:
    """A second `async with` around the same client would take the connection of the first away."""

    async def enter_twice() -> None:
        client = AsyncioClient.from_settings(WorkerSettings(rabbitmq=rabbitmq_settings()))
        for _ in range(2):
            async with client:
                with pytest.raises(NotPublished, match="open already"):
                    await client.__aenter__()

    asyncio.run(asyncio.wait_for(enter_twice(), 30))


async def test_a_client_on_trio_is_opened_once() -> None:
    client = Client(EmbeddedBroker(), worker_id="w")

    with trio.fail_after(5):
        for _ in range(2):
            async with client:
                with pytest.raises(NotPublished, match="open already"):
                    await client.__aenter__()
