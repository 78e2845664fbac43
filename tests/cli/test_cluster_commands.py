"""`run`, `enqueue` and `cancel` in a cluster: over RabbitMQ and Redis, and they say where they went."""

import json
import shutil
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import trio
from tests.support import servers
from tests.support.amqp import Client, WireMessage, connect
from tests.support.amqp_vectors import vector, vector_headers
from tests.support.commands import HERE, call_command, environment, finish, run_command, serving_dev, start
from tests.support.servers import HOST, free_port
from tests.support.settings_files import write_settings

import milvaion_trio
from milvaion_trio.broker.rabbitmq.publisher import RabbitMQPublisher
from milvaion_trio.cli import cluster, dev_client
from milvaion_trio.cli.cluster import Cluster, find_cluster
from milvaion_trio.cli.control import Cancel, Enqueue
from milvaion_trio.cli.failures import CommandFailed
from milvaion_trio.cli.repeating import Again, dispatch_again
from milvaion_trio.cli.sockets import socket_place
from milvaion_trio.model import topology
from milvaion_trio.model.errors import LinkLost, SettingsError
from milvaion_trio.model.ids import JobId, OccurrenceId
from milvaion_trio.runtime.dispatching import Destination
from milvaion_trio.transports import signals_for

VECTORS = Path(__file__).parents[1] / "wire" / "vectors"
CLEANUP = "scheduled_jobs_queue.report-worker.cleanup.wildcard"
REPORT = "scheduled_jobs_queue.report-worker.generatereport.wildcard"
OTHERS = "scheduled_jobs_queue.other-worker.cleanup.wildcard"
OCCURRENCE = "0f8fad5b-d9cb-469f-a165-70867728950e"
UNKNOWN = (
    "Milvaion's server does not know this occurrence, and how it ends stands in the log of its worker alone. For "
    "milvaion-trio monitor to show it, the workers must report it: reporting.local_occurrences = true.\n"
)


@pytest.fixture
def vhost() -> str:
    return servers.new_vhost()


@pytest.fixture
def config(vhost: str, tmp_path: Path) -> Path:
    return write_settings(tmp_path, vhost)


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for the default socket, with a path short enough for one."""
    with tempfile.TemporaryDirectory(prefix="mt") as folder:
        monkeypatch.setenv("XDG_RUNTIME_DIR", folder)
        yield Path(folder)


@pytest.fixture
async def client(vhost: str) -> AsyncIterator[Client]:
    """With the queues that workers have declared once."""
    async with connect(servers.rabbitmq().port, vhost) as client:
        await client.declare_exchange(topology.JOBS_EXCHANGE)
        for queue in (CLEANUP, REPORT, OTHERS):
            await client.declare_queue(queue, {name: ("S", of) for name, of in topology.JOB_QUEUE_ARGUMENTS.items()})
            pattern = queue.removeprefix(topology.JOB_QUEUE_PREFIX).replace("wildcard", "*")
            await client.bind(queue, topology.JOBS_EXCHANGE, pattern)
        yield client


def amqp(vhost: str) -> str:
    return f"amqp://{HOST}:{servers.rabbitmq().port}/{vhost}"


async def the_only_message(client: Client, queue: str) -> WireMessage:
    message = await client.get(queue, no_ack=True)
    assert message is not None
    assert await client.get(queue, no_ack=True) is None
    return message


# --- enqueue --------------------------------------------------------------------------------------------------------


async def test_a_job_is_published_as_milvaion_s_dispatcher_does(config: Path, client: Client) -> None:
    """Marked as ours, since no Milvaion server knows the occurrence; which is said."""
    arguments = ("enqueue", "CleanupJob", "--data", '{"days": 30}', "--config", config)
    ended = await trio.to_thread.run_sync(lambda: run_command(*arguments))

    message = await the_only_message(client, CLEANUP)
    body, example = json.loads(message.body), json.loads(str(vector("job_dispatch")["body_raw"]))
    occurrence_id = ended.out.strip()
    assert (ended.code, ended.err) == (0, UNKNOWN)
    assert (message.exchange, message.routing_key) == (topology.JOBS_EXCHANGE, "report-worker.cleanup.job")
    assert message.headers["OccurrenceId"] == ("S", occurrence_id) != ("S", "")
    assert message.headers["x-mtrio-origin"] == ("S", "client")
    assert message.properties["correlation_id"] == occurrence_id
    assert body["jobNameInWorker"] == "CleanupJob"
    assert json.loads(body["jobData"]) == {"days": 30}
    assert set(body) <= set(example)


async def test_a_monitor_is_named_where_the_workers_report_to_it(config: Path, client: Client) -> None:
    reporting = ("--set", "reporting.local_occurrences=true")
    ended = await call_command("enqueue", "CleanupJob", "--config", config, *reporting)

    silent = await call_command("enqueue", "CleanupJob", "--config", config, *reporting, "--set", "reporting.mode=none")

    told = "Milvaion's server does not know this occurrence: milvaion-trio monitor shows it, the dashboard does not.\n"
    assert (ended.code, ended.err) == (0, told)
    assert (silent.code, silent.err) == (0, UNKNOWN)


async def test_without_config_it_goes_where_the_folder_s_settings_lead_and_says_so(
    config: Path, vhost: str, client: Client, runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delay and another group of workers are heeded."""
    monkeypatch.chdir(config.parent)
    ended = await call_command("enqueue", "CleanupJob", "--delay", "150")
    grouped = await call_command("enqueue", "CleanupJob", "--worker-id", "other-worker")

    message = await the_only_message(client, "mtrio.delay.v1.120s")
    theirs = await the_only_message(client, OTHERS)
    goes = f"This goes to {amqp(vhost)} (appsettings.json).\n"
    assert (ended.code, ended.err) == (0, goes + UNKNOWN)
    assert message.headers["x-mtrio-target"] == ("S", CLEANUP)
    assert message.headers["x-mtrio-left"] == ("I", 30)
    assert (grouped.code, grouped.err) == (0, UNKNOWN)
    assert theirs.headers["WorkerId"] == ("S", "other-worker")


async def test_a_dev_worker_takes_what_is_enqueued_in_its_folder_and_nothing_that_is_for_another_one_s_cluster(
    config: Path, vhost: str, runtime: Path, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where nothing names a cluster it takes everything; wherever there is a choice it is told, also of what fails."""
    redis = f"Redis at {HOST}:{servers.redis().port}"
    (home := tmp_path / "home").mkdir()
    (nowhere := tmp_path / "nowhere").mkdir()
    shutil.copy(config, home)
    env = environment(XDG_RUNTIME_DIR=str(runtime), PYTHONPATH=str(HERE))
    with serving_dev("sample_worker:worker", tmp_path, env=env, cwd=home) as dev:
        await trio.to_thread.run_sync(dev.read_until, "ready")
        monkeypatch.chdir(config.parent)
        ended = await call_command("enqueue", "CleanupJob")
        refused = await call_command("enqueue", "CleanpJob")
        cancelled = await call_command("cancel", ended.out.strip())
        monkeypatch.chdir(nowhere)
        taken = await call_command("enqueue", "CleanupJob")
        monkeypatch.setenv("MILVAION_TRIO__RABBITMQ__PORT", "nonsense")
        unreadable = await call_command("enqueue", "CleanupJob")
        monkeypatch.chdir(home)
        its_own_despite_that = await call_command("enqueue", "CleanupJob")
        monkeypatch.delenv("MILVAION_TRIO__RABBITMQ__PORT")
        its_own = await call_command("enqueue", "CleanupJob")

    goes = f"This goes to {amqp(vhost)} (appsettings.json).\n"
    assert (ended.code, ended.err) == (0, goes + UNKNOWN)
    assert (await the_only_message(client, CLEANUP)).headers["OccurrenceId"] == ("S", ended.out.strip())
    assert refused.code == 1
    assert refused.err.startswith(f"{goes}error: There is no queue ")
    assert cancelled.err.startswith(f"This goes to {redis} (appsettings.json).\n")
    assert (taken.code, taken.err) == (0, f"This goes to the dev worker of {home}.\n")
    assert unreadable.code == 2
    assert (its_own_despite_that.code, its_own_despite_that.err) == (0, "")
    here = f"This goes to the dev worker of this folder; with --config it goes to {amqp(vhost)} (appsettings.json).\n"
    assert (its_own.code, its_own.err) == (0, here)


async def test_nothing_goes_past_a_dev_worker_of_this_folder_that_does_not_answer(
    config: Path, runtime: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job of it may block the event loop; the message is for it all the same."""
    monkeypatch.chdir(config.parent)
    monkeypatch.setattr(dev_client, "PATIENCE", 0.1)
    place = socket_place(None)
    place.parent.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(place))
        mute.listen()
        ended = await call_command("enqueue", "CleanupJob")

    assert (ended.code, ended.out) == (1, "")
    assert f"It listens on {place}; to go to a cluster all the same, use --config." in ended.err
    assert await client.get(CLEANUP) is None


async def test_dev_workers_of_two_folders_do_not_meet(
    runtime: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes what is enqueued in its folder, or below it; elsewhere one has to be named."""
    one, other = tmp_path / "one", tmp_path / "other"
    (below := one / "src" / "jobs").mkdir(parents=True)
    other.mkdir()
    env = environment(XDG_RUNTIME_DIR=str(runtime), PYTHONPATH=str(HERE))
    with (
        serving_dev("sample_worker:worker", one, env=env, cwd=one) as first,
        serving_dev("sample_worker:worker", other, env=env, cwd=other) as second,
    ):
        for dev in (first, second):
            await trio.to_thread.run_sync(dev.read_until, "ready")
        ended = {}
        for folder in (one, other, below, tmp_path):
            monkeypatch.chdir(folder)
            ended[folder] = await call_command("enqueue", "CleanupJob")
        for folder, dev in ((one, first), (other, second), (below, first)):
            line = await trio.to_thread.run_sync(dev.read_until, " started ")
            assert ended[folder].out.strip() in line

    assert (ended[one].err, ended[other].err) == ("", "")
    assert ended[below].err == f"This goes to the dev worker of {one}.\n"
    refusal = ended[tmp_path]
    assert (refusal.code, refusal.out) == (1, "")
    assert refusal.err.startswith(
        "error: No dev worker was started in this folder, and several elsewhere; say which:\n  --socket "
    )
    assert all(f"  of {folder}\n" in refusal.err for folder in (one, other))


async def test_a_message_file_is_published_byte_for_byte(config: Path, client: Client) -> None:
    example = vector("job_dispatch")

    ended = await call_command("enqueue", "--message", VECTORS / "job_dispatch.json", "--config", config)

    properties = dict(example["properties"])  # type: ignore[call-overload] # an object
    message = await the_only_message(client, REPORT)
    assert (ended.code, ended.out) == (0, f"{properties['correlation_id']}\n")
    assert "published as it stands in the file" in ended.err
    assert (message.exchange, message.routing_key) == (example["exchange"], example["routing_key"])
    assert message.body == str(example["body_raw"]).encode()
    assert message.headers == vector_headers(properties.pop("headers"))
    assert {name: value for name, value in properties.items() if value is not None and name != "priority"} == dict(
        message.properties
    )


async def test_a_bare_body_goes_to_the_group_it_names_unless_another_is_given(
    config: Path, client: Client, tmp_path: Path
) -> None:
    body = (
        b'{"id": "019d4a10-3b5c-7e21-8f04-6a1d2c9be077", "jobNameInWorker": "CleanupJob", "workerId": "other-worker"}'
    )
    (tmp_path / "body.json").write_bytes(body)

    named = await call_command("enqueue", "--message", tmp_path / "body.json", "--config", config)
    theirs = await the_only_message(client, OTHERS)
    given = await call_command(
        "enqueue", "--message", tmp_path / "body.json", "--config", config, "--worker-id", "report-worker"
    )
    ours = await the_only_message(client, CLEANUP)

    assert (named.code, given.code) == (0, 0)
    assert theirs.body == ours.body == body
    assert theirs.headers["WorkerId"] == ("S", "other-worker")
    assert ours.headers["WorkerId"] == ("S", "report-worker")
    assert ours.headers["OccurrenceId"] == ("S", given.out.strip())
    assert ours.headers["x-mtrio-origin"] == ("S", "client")


async def test_a_bare_body_s_own_pattern_leads_unless_a_group_is_given(
    config: Path, client: Client, tmp_path: Path
) -> None:
    """As in Milvaion, where the job says its pattern; that of another group is made from the job's name."""
    body = b"""{"id": "019d4a10-3b5c-7e21-8f04-6a1d2c9be077", "jobNameInWorker": "CleanupJob",
        "workerId": "report-worker", "routingPattern": "report-worker.generatereport.*"}"""
    (tmp_path / "body.json").write_bytes(body)
    arguments = ("enqueue", "--message", tmp_path / "body.json", "--config", config)

    own = await call_command(*arguments)
    message = await the_only_message(client, REPORT)
    given = await call_command(*arguments, "--worker-id", "other-worker")

    assert (own.code, given.code) == (0, 0)
    assert message.body == body
    assert message.routing_key == "report-worker.generatereport.job"
    assert message.headers["RoutingKey"] == ("S", message.routing_key)
    assert (await the_only_message(client, OTHERS)).routing_key == "other-worker.cleanup.job"


async def test_what_cannot_be_done_in_a_cluster_is_said(config: Path, client: Client) -> None:
    unknown = await call_command("enqueue", "SendLetterJob", "--config", config)
    waiting = await call_command("enqueue", "CleanupJob", "--wait", "--config", config)

    assert (unknown.code, waiting.code) == (1, 2)
    assert unknown.out == waiting.out == ""
    assert "There is no queue 'scheduled_jobs_queue.report-worker.sendletter.wildcard', so none takes" in unknown.err
    assert "Nothing was enqueued." in unknown.err
    assert "In a cluster only Milvaion's server is told how a job ends" in waiting.err
    assert await client.get(CLEANUP) is None


async def enqueued(found: Cluster) -> None:
    with trio.fail_after(10):
        await found.enqueue(Enqueue(job="CleanupJob"), None)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"Password": "hunter2"}, "refused the login of user 'guest' (Worker:RabbitMQ:Username, "),
        ({"VirtualHost": "nowhere"}, "into virtual host 'nowhere' (Worker:RabbitMQ:VirtualHost)"),
        ({"Port": free_port()}, "does RabbitMQ run there (Worker:RabbitMQ:Host, Worker:RabbitMQ:Port)? "),
    ],
    ids=["password", "vhost", "port"],
)
async def test_a_broker_that_cannot_be_reached_is_named_with_the_setting_to_look_at(
    changes: dict[str, object], text: str, vhost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_TIMEOUT", 0.3)
    found = find_cluster(write_settings(tmp_path, vhost, rabbitmq=changes))
    assert found is not None

    with pytest.raises(CommandFailed) as caught:
        await enqueued(found)

    assert text in str(caught.value)
    assert f" cannot be {'reached' if 'Port' in changes else 'used'}: " in str(caught.value)
    assert str(caught.value).endswith(" Nothing was enqueued.")
    assert "hunter2" not in str(caught.value)


async def test_a_broker_that_takes_nothing_more_is_not_waited_for_for_ever(
    config: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a memory or disk alarm RabbitMQ reads no publishes: nobody can know what becomes of the message."""

    async def never(*_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(milvaion_trio.Client, "publish", never)
    monkeypatch.setattr(cluster, "PATIENCE", 0.1)
    monkeypatch.setattr(cluster, "CONNECT_TIMEOUT", 1.0)
    found = find_cluster(config)
    assert found is not None

    with pytest.raises(CommandFailed, match=r"did not confirm the message within 0\.1 s; .* Nobody knows whether"):
        await enqueued(found)


@pytest.mark.parametrize("what", ["it was enqueued", f"{OCCURRENCE} was dispatched once more"])
async def test_a_connection_lost_before_the_confirm_leaves_it_open_what_became_of_the_message(
    what: str, config: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lose(*_: object, **options: object) -> None:
        await trio.lowlevel.checkpoint()
        raise LinkLost("RabbitMQ closed the connection")

    monkeypatch.setattr(milvaion_trio.Client, "publish", lose)
    monkeypatch.setattr(milvaion_trio.Client, "enqueue", lose)
    found = find_cluster(config)
    assert found is not None
    again = Again(
        of=OccurrenceId(OCCURRENCE),
        to=Destination(worker_id="report-worker", job_name="CleanupJob", pattern="report-worker.cleanup.*"),
        job_id=JobId(OCCURRENCE),
        display_name="CleanupJob",
        data=None,
    )

    with pytest.raises(CommandFailed) as caught:
        await (enqueued(found) if what.startswith("it ") else dispatch_again(found, [again], lambda *_: None))

    assert str(caught.value) == f"RabbitMQ closed the connection; nobody knows whether {what}."


async def test_a_message_file_for_a_queue_that_is_not_there_names_it(config: Path, tmp_path: Path) -> None:
    body = {"id": OCCURRENCE, "jobNameInWorker": "NoSuchJob", "executeAt": "2026-11-23T12:00:00Z"}
    (tmp_path / "message.json").write_text(json.dumps(body))

    ended = await call_command("enqueue", "--message", tmp_path / "message.json", "--config", config)

    assert ended.code == 1
    assert "There is no queue 'scheduled_jobs_queue.report-worker.nosuch.wildcard'" in ended.err


async def test_a_connection_that_never_was_is_not_told_as_a_message_nobody_confirmed(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connecting has its own limits, and then nothing was enqueued, for sure."""

    async def never(*_: object) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(RabbitMQPublisher, "prepare", never)
    monkeypatch.setattr(cluster, "PATIENCE", 0.01)
    monkeypatch.setattr(cluster, "CONNECT_TIMEOUT", 0.5)
    found = find_cluster(config)
    assert found is not None

    with pytest.raises(CommandFailed, match=r" did not answer as RabbitMQ does within 0\.5 s.* Nothing was enqueued\."):
        await enqueued(found)


async def test_a_password_does_not_leave_where_tls_was_forgotten(tmp_path: Path) -> None:
    """No worker was there to look at the settings before."""
    found = find_cluster(write_settings(tmp_path, "/", rabbitmq={"TlsCaFile": "ca.pem", "Port": free_port()}))
    assert found is not None

    with pytest.raises(SettingsError, match="Worker:RabbitMQ:TlsCaFile is given, but no TLS"):
        await enqueued(found)


# --- cancel ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "heard"), [(("--reason", "wrong year"), "wrong year"), ((), "Cancelled by user")], ids=["said", "unsaid"]
)
async def test_the_reason_travels_with_the_signal(given: tuple[str, ...], heard: str, config: Path) -> None:
    """It is what the dashboard shows for the cancelled job (WIRE.md 5.3)."""
    cluster = find_cluster(config)
    assert cluster is not None
    with trio.fail_after(20):
        async with signals_for(cluster.settings).cancellations() as cancellations:
            ended = await call_command("cancel", OCCURRENCE, *given, "--config", config)
            cancellation = await anext(cancellations)

    assert ended.code == 0
    assert (cancellation.occurrence_id, cancellation.reason) == (OCCURRENCE, heard)


async def test_a_signal_that_nobody_hears_is_a_failure(vhost: str, tmp_path: Path) -> None:
    config = write_settings(tmp_path, vhost, redis={"CancellationChannel": f"nobody-{vhost}"})

    ended = await call_command("cancel", OCCURRENCE, "--config", config)

    assert (ended.code, ended.out) == (1, "")
    assert f"error: Nobody listens on 'nobody-{vhost}' of that Redis, so nobody was told: " in ended.err


async def test_without_redis_nothing_can_be_cancelled(vhost: str, tmp_path: Path) -> None:
    port = free_port()
    absent = find_cluster(write_settings(tmp_path, vhost, redis={"ConnectionString": f"{HOST}:{port}"}))
    unnamed = find_cluster(write_settings(tmp_path, vhost, redis={"ConnectionString": ""}))
    assert absent is not None
    assert unnamed is not None

    with pytest.raises(CommandFailed, match="see the setting Worker:Redis:ConnectionString"):
        await absent.cancel(Cancel(occurrence_id=OCCURRENCE))
    with pytest.raises(CommandFailed, match="Worker:Redis:ConnectionString is empty"):
        await unnamed.cancel(Cancel(occurrence_id=OCCURRENCE))


# --- run ------------------------------------------------------------------------------------------------------------


async def test_a_worker_runs_what_is_enqueued_and_is_cancelled_from_another_terminal(
    config: Path, runtime: Path
) -> None:
    """With the settings of the folder; a signal drains it with 0."""
    env = environment(XDG_RUNTIME_DIR=str(runtime), PYTHONPATH=str(HERE))
    process = start(["run", "sample_worker:worker"], cwd=config.parent, env=env)
    assert process.stderr is not None
    try:
        lines = iter(process.stderr)
        await trio.to_thread.run_sync(lambda: next(line for line in lines if "worker ready" in line))

        enqueued = await call_command("enqueue", "GenerateReportJob", "--data", '{"hang": true}', "--config", config)
        occurrence_id = enqueued.out.strip()
        cancelled = await call_command("cancel", occurrence_id, "--reason", "wrong year", "--config", config)
        ended = await trio.to_thread.run_sync(lambda: next(line for line in lines if occurrence_id in line))
        process.send_signal(signal.SIGTERM)
        left = await trio.to_thread.run_sync(finish, process)
    finally:
        process.kill()

    assert (cancelled.code, cancelled.err) == (0, "")
    assert cancelled.out == f"{occurrence_id}: 1 worker told\n"
    assert "job cancelled: GenerateReportJob" in ended
    assert left.code == 0


def test_a_start_without_rabbitmq_ends_with_one_message_when_its_time_is_up(vhost: str, tmp_path: Path) -> None:
    port = free_port()
    config = write_settings(tmp_path, vhost, rabbitmq={"Port": port}, StartupConnectionTimeoutSeconds=1)

    ended = run_command("run", "sample_worker:worker", "--config", config, "--log-level", "error")

    assert ended.code == 1
    assert ended.err.startswith(
        f"error: Could not reach amqp://{HOST}:{port}/{vhost} within 1 s; the last attempt ended with: nothing can be "
        f"reached at {HOST}:{port} ("
    )
    assert ended.err.endswith(
        "; does RabbitMQ run there (Worker:RabbitMQ:Host, Worker:RabbitMQ:Port)? "
        "Worker:StartupConnectionTimeoutSeconds allows more time (0: for ever). "
        f"Host and Port are from {config}.\n"
    )
    assert ended.err.count("\n") == 1


def test_a_start_without_redis_is_a_warning(vhost: str, tmp_path: Path) -> None:
    port = free_port()
    config = write_settings(tmp_path, vhost, redis={"ConnectionString": f"{HOST}:{port}"})

    ended = run_command("run", "sample_worker:worker", "--config", config, "--burst")

    assert ended.code == 0
    assert f"WARNING milvaion_trio.runtime: cancel signals cannot be heard: Redis at {HOST}:{port}: " in ended.err
    assert "worker ready" in ended.err


def test_ctrl_c_while_a_server_is_silent_is_130(runtime: Path, vhost: str, tmp_path: Path) -> None:
    """Also outside of a worker's own handling of signals, where nurseries wrap what is raised."""
    with socket.create_server((HOST, 0)) as silent:
        config = write_settings(tmp_path, vhost, rabbitmq={"Port": silent.getsockname()[1]})
        process = start(["topology", "drain", "--config", config])
        with silent.accept()[0] as connection:
            connection.recv(8)  # it has begun
            process.send_signal(signal.SIGINT)
            ended = finish(process)

    assert (ended.code, ended.out, ended.err) == (130, "", "")
