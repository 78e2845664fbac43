"""`check` says of each thing whether it is ready for a worker, and changes nothing."""

import json
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
from attrs import evolve
from tests.support import servers
from tests.support.amqp import ChannelClosed, Client, connect
from tests.support.api_model.server import api_server
from tests.support.commands import Ended, run_command
from tests.support.servers import HOST, free_port
from tests.support.settings_files import write_settings

from milvaion_trio import Worker
from milvaion_trio.broker.ladder import LADDER
from milvaion_trio.broker.rabbitmq import RabbitMQBroker
from milvaion_trio.broker.rabbitmq.administration import Administration
from milvaion_trio.cli import server_checks
from milvaion_trio.cli.findings import Area, Finding, Verdict
from milvaion_trio.cli.server_checks import look_at_servers
from milvaion_trio.model import topology
from milvaion_trio.model.settings import RabbitMQSettings, RedisSettings, WorkerSettings
from milvaion_trio.ports import QueueState
from milvaion_trio.runtime.declaration import REPORT_QUEUES, topology_of
from milvaion_trio.runtime.readers import MANY_STATUSES

CLEANUP = "scheduled_jobs_queue.report-worker.cleanup.wildcard"
OK, WARNING, FAILED = Verdict.OK, Verdict.WARNING, Verdict.FAILED


@pytest.fixture
def vhost() -> str:
    return servers.new_vhost()


@pytest.fixture
async def client(vhost: str) -> AsyncIterator[Client]:
    async with connect(servers.rabbitmq().port, vhost) as client:
        yield client


def at(vhost: str, *, redis: RedisSettings | None = None, **changes: object) -> Worker:
    """A worker with one job on this vhost."""
    told: dict[str, object] = {"host": HOST, "port": servers.rabbitmq().port, "virtual_host": vhost, **changes}
    rabbitmq = RabbitMQSettings(**told)  # type: ignore[arg-type] # as the test says
    worker = Worker(settings=WorkerSettings(worker_id="report-worker", rabbitmq=rabbitmq, redis=redis))

    @worker.job("CleanupJob")
    async def clean_up() -> None: ...

    worker.prepare()
    return worker


async def found(worker: Worker) -> dict[Area, list[Finding]]:
    """What `check` finds at the servers."""
    by_area: dict[Area, list[Finding]] = {area: [] for area in Area}
    with trio.fail_after(20):
        for finding in await look_at_servers(worker):
            by_area[finding.area].append(finding)
    return by_area


def about(name: str, findings: list[Finding]) -> Finding:
    (finding,) = [finding for finding in findings if f" {name}" in finding.text or f"'{name}'" in finding.text]
    return finding


# --- the command ----------------------------------------------------------------------------------------------------


async def test_a_worker_that_would_start_is_told_so_with_0_and_nothing_is_made(
    vhost: str, client: Client, tmp_path: Path
) -> None:
    """Not even what is missing: a look must not leave traces, and perhaps it is the wrong virtual host."""
    config = write_settings(tmp_path, vhost)

    ended = await trio.to_thread.run_sync(run_command, "check", "sample_worker:worker", "--config", config)

    assert (ended.code, ended.err) == (0, "")
    assert ended.lines[0] == f"ok       settings  worker id report-worker; read from {config}"
    assert f"ok       jobs      CleanupJob, from {CLEANUP}" in ended.lines
    assert f"ok       topology  queue {CLEANUP}: missing, and made when a worker starts" in ended.lines
    assert any(line.startswith("warning  milvaion  nobody reads job_status_updates_queue, ") for line in ended.lines)
    assert any(
        line.startswith("warning  jobs      SendInvoiceJob may run for ever (ExecutionTimeoutSeconds 0), but")
        for line in ended.lines
    )
    assert ended.lines[-1] == f"ok       redis     Redis at {HOST}:{servers.redis().port} lets cancel signals be heard"
    for name in (CLEANUP, topology.STATUS_QUEUE, topology.HOP_QUEUE, LADDER.queues[0].name):
        with pytest.raises(ChannelClosed, match="404"):
            async with client.channel() as channel:
                await channel.declare_queue(name, passive=True)


def checked(config: Path) -> Ended:
    return run_command("check", "sample_worker:worker", "--config", config, "--json")


def test_what_keeps_a_worker_from_its_work_is_1_and_no_secret_is_printed(vhost: str, tmp_path: Path) -> None:
    config = write_settings(
        tmp_path, vhost, rabbitmq={"Password": "hunter2"}, redis={"Password": "hunter3"}, jobs=("CleanupJob",)
    )

    ended = checked(config)

    told = json.loads(ended.out)
    (broker,) = [finding for finding in told["findings"] if finding["area"] == "broker"]
    assert (ended.code, told["verdict"]) == (1, "failed")
    assert broker["verdict"] == "failed"
    assert "refused the login of user 'guest' (Worker:RabbitMQ:Username, Worker:RabbitMQ:Password)" in broker["text"]
    assert "hunter" not in ended.out + ended.err


def test_mistakes_in_settings_and_jobs_are_2(vhost: str, tmp_path: Path) -> None:
    """All of them; with settings that can be read the servers are looked at all the same."""
    unreadable = checked(write_settings(tmp_path, vhost, rabbitmq={"Port": "many"}, MaxParallelJobs=0))
    unknown_job = checked(write_settings(tmp_path, vhost, jobs=("CleanUpJob", "SendLetterJob")))

    assert (unreadable.code, unknown_job.code) == (2, 2)
    assert [(each["area"], each["verdict"]) for each in json.loads(unreadable.out)["findings"]] == [
        ("settings", "failed")
    ] * 2
    findings = json.loads(unknown_job.out)["findings"]
    (job,) = [finding for finding in findings if finding["area"] == "jobs"]
    assert job["verdict"] == "failed"
    assert job["text"].startswith("The settings name a job 'SendLetterJob' that this worker does not have")
    assert [finding["verdict"] for finding in findings if finding["area"] == "broker"] == ["ok"]


# --- the broker -----------------------------------------------------------------------------------------------------


async def test_what_is_there_is_compared_and_what_reads_is_counted(vhost: str, client: Client) -> None:
    worker = at(vhost)
    async with api_server(servers.rabbitmq().port, vhost):
        async with worker.broker.consuming() as consumer:
            await consumer.declare(topology_of(worker.registry.jobs))
        await client.publish(topology.JOBS_EXCHANGE, "report-worker.cleanup.job", b"{}")

        findings = await found(worker)

    assert {finding.verdict for finding in findings[Area.BROKER] + findings[Area.TOPOLOGY]} == {OK}
    assert about(CLEANUP, findings[Area.TOPOLOGY]).text == (
        f"queue {CLEANUP}: as it should be; messages waiting: 1, consumers: 0"
    )
    assert about(topology.STATUS_QUEUE, findings[Area.TOPOLOGY]).text.endswith("waiting: 0, consumers: 1")
    assert about("for delays", findings[Area.TOPOLOGY]).text.endswith(": as they should be")
    assert findings[Area.MILVAION] == [Finding(Area.MILVAION, OK, "a server reads all that is reported")]
    assert (await client.declare_queue(CLEANUP, passive=True))[0] == 1


@pytest.mark.parametrize("name", [CLEANUP, topology.STATUS_QUEUE, LADDER.queues[0].name])
async def test_a_queue_with_other_arguments_fails_with_what_to_do(name: str, vhost: str, client: Client) -> None:
    """RabbitMQ refuses it to whoever declares it differently, so the worker would not start."""
    await client.declare_queue(name, {"x-max-priority": ("I", 5)})

    findings = await found(at(vhost))

    failed = [finding for finding in findings[Area.TOPOLOGY] if finding.verdict is FAILED]
    assert failed == [about(name, findings[Area.TOPOLOGY])]
    assert "exists, but was declared in another way: " in failed[0].text
    assert "inequivalent arg" in failed[0].text
    assert failed[0].text.endswith("or delete it (its messages go with it) and start again.")


async def test_an_exchange_of_another_kind_fails(vhost: str, client: Client) -> None:
    await client.declare_exchange(topology.JOBS_EXCHANGE, "direct")

    findings = await found(at(vhost))

    assert about(topology.JOBS_EXCHANGE, findings[Area.TOPOLOGY]).verdict is FAILED


async def test_quarantined_messages_are_a_warning(vhost: str, client: Client) -> None:
    worker = at(vhost)
    async with worker.broker.consuming() as consumer:
        await consumer.declare(topology_of(worker.registry.jobs))
    await client.publish("", topology.QUARANTINE_QUEUE, b"junk")

    findings = await found(worker)

    assert about(topology.QUARANTINE_QUEUE, findings[Area.TOPOLOGY]).verdict is WARNING


@pytest.mark.parametrize(("ready", "warns"), [(MANY_STATUSES, False), (MANY_STATUSES + 1, True)])
def test_many_statuses_that_wait_are_a_warning(ready: int, warns: bool) -> None:
    """Also when somebody reads them: the dashboard is late by as much (WIRE.md 4.3)."""
    states = {**dict.fromkeys(REPORT_QUEUES, QueueState(0, 1)), topology.STATUS_QUEUE: QueueState(ready, 1)}

    first, *others = server_checks._milvaion(states, "/")

    text = f"{ready} statuses wait in {topology.STATUS_QUEUE}; a server reads about 100 a second"
    assert first.verdict is OK
    assert others == ([Finding(Area.MILVAION, WARNING, text)] if warns else [])


async def test_a_missing_virtual_host_is_named(vhost: str) -> None:
    findings = await found(at(f"not-{vhost}"))

    (broker,) = findings[Area.BROKER]
    assert broker.verdict is FAILED
    assert f"into virtual host 'not-{vhost}' (Worker:RabbitMQ:VirtualHost)" in broker.text
    assert findings[Area.TOPOLOGY] == findings[Area.MILVAION] == []


async def test_a_server_that_is_not_there_is_told_at_once(vhost: str) -> None:
    port = free_port()

    findings = await found(at(vhost, port=port))

    (broker,) = findings[Area.BROKER]
    assert broker.verdict is FAILED
    assert broker.text.startswith(f"nothing can be reached at {HOST}:{port} (")
    assert broker.text.endswith("; does RabbitMQ run there (Worker:RabbitMQ:Host, Worker:RabbitMQ:Port)?")


@pytest.fixture
def silent_port() -> Iterator[int]:
    """Where something listens that never answers."""
    with socket.create_server((HOST, 0)) as listener:
        yield listener.getsockname()[1]


async def test_servers_that_never_answer_take_a_bounded_time(
    vhost: str, silent_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_checks, "PATIENCE", 0.3)

    worker = at(vhost, port=silent_port, redis=RedisSettings(connection_string=f"{HOST}:{silent_port}"))
    worker.settings = evolve(worker.settings, startup_connection_timeout=0.3)

    findings = await found(worker)

    (broker,), (redis,) = findings[Area.BROKER], findings[Area.REDIS]
    assert (broker.verdict, redis.verdict) == (FAILED, WARNING)
    assert broker.text.startswith(f"{HOST}:{silent_port} did not answer as RabbitMQ does within 0.3 s; is it well, ")
    assert redis.text.startswith(f"Redis at {HOST}:{silent_port} did not answer within 0.3 s. Jobs run without it")


async def test_a_silent_host_leaves_time_for_the_next(vhost: str, silent_port: int) -> None:
    """With the usual limits: all hosts share what one connection may take."""
    findings = await found(at(vhost, port=silent_port, further_hosts=[f"{HOST}:{servers.rabbitmq().port}"]))

    assert findings[Area.BROKER][0].verdict is OK
    assert findings[Area.BROKER][0].text.startswith(f"RabbitMQ at {HOST}:{servers.rabbitmq().port} is ")


async def test_a_broker_that_falls_silent_later_takes_a_bounded_time(
    vhost: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> bool:
        await trio.sleep_forever()
        return False

    monkeypatch.setattr(server_checks, "PATIENCE", 0.3)
    monkeypatch.setattr(Administration, "has", never)

    findings = await found(at(vhost))

    assert [finding.verdict for finding in findings[Area.BROKER]] == [OK, FAILED]
    assert " let the worker in, and then did not answer for 0.3 s: is it well?" in findings[Area.BROKER][1].text


async def test_a_broker_too_old_for_delays_fails(vhost: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quorum queues know a time to live since 3.10 (RELIABILITY.md 3.5)."""
    monkeypatch.setattr(Administration, "server", property(lambda _: ("RabbitMQ", "3.9.29")))

    findings = await found(at(vhost))

    assert findings[Area.BROKER][0].verdict is FAILED
    assert findings[Area.BROKER][0].text.endswith("; delayed retries need RabbitMQ 3.10 or newer")


# --- Redis and workers without servers ------------------------------------------------------------------------------


async def test_without_redis_jobs_run_so_it_is_a_warning(vhost: str) -> None:
    port = free_port()

    absent = (await found(at(vhost, redis=RedisSettings(connection_string=f"{HOST}:{port}"))))[Area.REDIS]
    unnamed = (await found(at(vhost)))[Area.REDIS]

    assert [finding.verdict for finding in absent + unnamed] == [WARNING, WARNING]
    assert f"Redis at {HOST}:{port}: " in absent[0].text
    assert "; see the setting Worker:Redis:ConnectionString. Jobs run without it" in absent[0].text


async def test_a_worker_on_the_embedded_broker_needs_no_server() -> None:
    findings = await look_at_servers(Worker("tests"))

    assert [(finding.area, finding.verdict) for finding in findings] == [(Area.BROKER, OK)]


def test_the_broker_of_the_code_is_the_one_looked_at(vhost: str) -> None:
    """Over the one of the settings, as for serving."""
    worker = at(vhost)
    worker.broker = RabbitMQBroker(RabbitMQSettings(host=HOST, port=(port := free_port())))

    findings = trio.run(look_at_servers, worker)

    assert f"{HOST}:{port}" in findings[0].text
