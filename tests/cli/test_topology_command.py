"""`topology` shows what there is, moves what waits, and removes what is ours when nobody needs it."""

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from tests.support import servers
from tests.support.amqp import ChannelClosed, Client, connect
from tests.support.commands import Ended, call_command, run_command
from tests.support.settings_files import write_settings

from milvaion_trio.broker.ladder import LADDER
from milvaion_trio.model import topology

CLEANUP = "scheduled_jobs_queue.report-worker.cleanup.wildcard"
OURS = [topology.QUARANTINE_QUEUE, *(queue.name for queue in LADDER.queues)]


@pytest.fixture
def vhost() -> str:
    return servers.new_vhost()


@pytest.fixture
def config(vhost: str, tmp_path: Path) -> Path:
    return write_settings(tmp_path, vhost, jobs=("CleanupJob",))


@pytest.fixture
async def client(vhost: str) -> AsyncIterator[Client]:
    """With what a worker of one job has declared."""
    async with connect(servers.rabbitmq().port, vhost) as client:
        await client.declare_exchange(topology.JOBS_EXCHANGE)
        arguments = {name: ("S", value) for name, value in topology.JOB_QUEUE_ARGUMENTS.items()}
        await client.declare_queue(CLEANUP, arguments)
        for exchange in LADDER.exchanges:
            await client.declare_exchange(exchange.name, exchange.kind)
        for queue in LADDER.queues:
            typed = {name: ("S" if isinstance(of, str) else "I", of) for name, of in queue.arguments.items()}
            await client.declare_queue(queue.name, typed)
        for binding in LADDER.bindings:
            await client.bind(binding.queue, binding.exchange, binding.key)
        yield client


async def told(command: str, config: Path, *options: str) -> Ended:
    return await call_command("topology", command, "--config", config, *options)


async def test_what_exists_is_shown_with_what_waits_and_who_reads(
    vhost: str, config: Path, client: Client, tmp_path: Path
) -> None:
    """Of Milvaion's and ours, for the jobs in the settings or those of a worker."""
    await client.publish("", CLEANUP, b"{}")
    await client.consume(topology.HOP_QUEUE)

    shown = await call_command("topology", "show", "--json", "--config", config)
    of_worker = await trio.to_thread.run_sync(
        run_command, "topology", "show", "sample_worker:worker", "--config", config
    )

    facts = json.loads(shown.out)
    queues = {queue.pop("name"): queue for queue in facts["queues"]}
    assert shown.code == of_worker.code == 0
    assert facts["virtual_host"] == vhost
    assert queues[CLEANUP] == {"exists": True, "ready": 1, "consumers": 0}
    assert queues[topology.HOP_QUEUE] == {"exists": True, "ready": 0, "consumers": 1}
    assert queues[topology.STATUS_QUEUE] == {"exists": False, "ready": None, "consumers": None}
    assert {"name": topology.JOBS_EXCHANGE, "exists": True} in facts["exchanges"]
    assert {"name": topology.DEAD_LETTER_EXCHANGE, "exists": False} in facts["exchanges"]
    rows = [line.split() for line in of_worker.lines]
    assert [CLEANUP, "1", "0"] in rows
    assert ["scheduled_jobs_queue.report-worker.sendinvoice.wildcard", "missing"] in rows


async def test_what_waits_is_moved_and_then_ours_can_be_dropped(config: Path, client: Client) -> None:
    """The way back to .NET workers. What is Milvaion's stays as it is."""
    for name, key, body in (("120", topology.HOP_QUEUE, b"far"), ("010", CLEANUP, b"near")):
        headers = {"x-mtrio-left": ("I", 60), "x-mtrio-target": ("S", CLEANUP)} if body == b"far" else {}
        await client.publish(f"mtrio.delay.v1.{name}s", key, body, {"delivery_mode": 2}, headers)

    refused = await told("drop", config)
    drained = await told("drain", config)
    looked = await told("drop", config)
    dropped = await told("drop", config, "--yes")
    nothing = await told("drop", config, "--yes")

    assert refused.code == 1
    assert refused.err.startswith("error: Nothing was deleted:\n")
    assert "mtrio.delay.v1.120s holds 1 message: milvaion-trio topology drain moves them to" in refused.err
    assert (drained.code, drained.out, drained.err) == (0, f"moved 2 messages:\n2 to {CLEANUP}\n", "")
    assert {(await get(client)), (await get(client))} == {b"far", b"near"}
    assert (looked.code, looked.out) == (0, "nothing stands in the way of deleting 15 exchanges and queues\n")
    assert "rabbitmqctl list_queues" in looked.err
    assert (dropped.code, dropped.out, dropped.err) == (0, "deleted 15 exchanges and queues\n", "")
    assert nothing.out == "deleted 0 exchanges and queues\n"
    for name in OURS:
        with pytest.raises(ChannelClosed, match="404"):
            async with client.channel() as channel:
                await channel.declare_queue(name, passive=True)
    await client.declare_exchange(topology.JOBS_EXCHANGE, passive=True)


async def get(client: Client) -> bytes:
    message = await client.get(CLEANUP, no_ack=True)
    assert message is not None
    return message.body


async def test_what_somebody_uses_is_not_dropped(config: Path, client: Client) -> None:
    """A worker that runs, or a queue of somebody else at one of our exchanges; and it is said."""
    await client.declare_queue("theirs")
    await client.bind("theirs", "mtrio.delay.v1.005s", "")
    async with client.channel() as channel:
        await channel.consume(topology.HOP_QUEUE)
        used = await told("drop", config, "--yes")
    bound = await told("drop", config, "--yes")

    assert used.code == bound.code == 1
    hint = f"{topology.HOP_QUEUE} has 1 consumer: stop the workers of milvaion-trio"
    assert used.err == f"error: Nothing was deleted:\n{hint}\n"
    assert bound.err.startswith("error: Not everything was deleted:\nmtrio.delay.v1.005s is used by somebody else: ")
    assert (await client.declare_queue("theirs", passive=True)) == (0, 0)


async def test_what_is_left_is_said_with_1(config: Path, client: Client) -> None:
    await client.publish("mtrio.delay.v1.120s", "gone", b"{}", {"delivery_mode": 2}, {})

    drained = await told("drain", config)

    assert (drained.code, drained.out) == (1, "moved 0 messages\n")
    assert drained.err.startswith("error: 1 message for gone could not be moved: there is no such queue")


async def test_a_refused_login_is_one_message(vhost: str, tmp_path: Path) -> None:
    ended = await told("show", write_settings(tmp_path, vhost, rabbitmq={"Username": "nobody", "Password": "hunter2"}))

    assert ended.code == 1
    assert ended.err.startswith("error: RabbitMQ at ")
    assert "refused the login of user 'nobody'" in ended.err
    assert "hunter2" not in ended.err
