"""What a worker declares, to the letter: any other flag or argument costs the second declarer its channel (WIRE.md 1).

Names and arguments are written out again here, with AMQP's types, and not taken from the worker.
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import trio
from tests.support import servers
from tests.support.amqp import ChannelClosed, Client, connect
from tests.support.amqp_codec import Headers
from tests.support.api_model.server import api_server
from tests.support.cluster import serving

from milvaion_trio import Worker, WorkerSettings
from milvaion_trio.model.settings import RabbitMQSettings

DEAD_LETTERED: Final[Headers] = {
    "x-dead-letter-exchange": ("S", "dlx_scheduled_jobs"),
    "x-dead-letter-routing-key": ("S", "failed_jobs"),
}
MILVAIONS: Final[Mapping[str, Headers]] = {
    "scheduled_jobs_queue.email-worker.sendemail.wildcard": DEAD_LETTERED,
    "scheduled_jobs_queue.reports.wildcard.all": DEAD_LETTERED,
    "failed_jobs_queue": {},
    "job_status_updates_queue": {},
    "worker_logs_queue": {},
    "worker_registration_queue": {},
    "worker_heartbeat_queue": {},
}
"""WIRE.md 1.2; the two for external schedulers are declared by those that have one."""
RUNGS: Final = {f"mtrio.delay.v1.{seconds:03}s": seconds for seconds in (1, 2, 5, 10, 20, 60, 120)}
QUORUM: Final[Headers] = {"x-queue-type": ("S", "quorum")}
OURS: Final[Mapping[str, Headers]] = {
    **{
        name: {
            **QUORUM,
            "x-message-ttl": ("I", seconds * 1000),
            "x-dead-letter-exchange": ("S", ""),
            "x-dead-letter-strategy": ("S", "at-least-once"),
            "x-overflow": ("S", "reject-publish"),
        }
        for name, seconds in RUNGS.items()
    },
    "mtrio.hop.v1": QUORUM,
    "mtrio.quarantine.v1": {
        **QUORUM,
        "x-message-ttl": ("I", 14 * 24 * 3600 * 1000),
        "x-max-length": ("I", 10_000),
        "x-overflow": ("S", "drop-head"),
    },
}
"""RELIABILITY.md 3.2."""
BINDINGS: Final = {
    ("jobs.topic", "scheduled_jobs_queue.email-worker.sendemail.wildcard", "email-worker.sendemail.*"),
    ("jobs.topic", "scheduled_jobs_queue.reports.wildcard.all", "reports.*.#"),
    ("jobs.topic", "scheduled_jobs_queue.reports.wildcard.all", "more.reports"),
    ("dlx_scheduled_jobs", "failed_jobs_queue", "failed_jobs"),
    *((name, name, "") for name in RUNGS),
}


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the worker keeps its outbox."""
    monkeypatch.chdir(tmp_path)


@asynccontextmanager
async def declared() -> AsyncIterator[tuple[str, Client]]:
    """A vhost that was empty before a worker came; two jobs, one of them with two patterns."""
    with trio.fail_after(60):
        vhost = await trio.to_thread.run_sync(servers.new_vhost)
        rabbitmq = RabbitMQSettings(host=servers.HOST, port=servers.rabbitmq().port, virtual_host=vhost)
        worker = Worker(settings=WorkerSettings(worker_id="email-worker", rabbitmq=rabbitmq), observers=())

        @worker.job("SendEmailJob")
        async def send_email() -> None: ...

        @worker.job(routing_patterns=("reports.*.#", "more.reports"))
        async def report() -> None: ...

        async with serving(worker), connect(rabbitmq.port, vhost) as client:
            yield vhost, client


async def listed(vhost: str, what: str, *columns: str) -> list[dict[str, Any]]:
    """What rabbitmqctl lists of it."""
    command = [f"list_{what}", "--formatter", "json", "--vhost", vhost, *columns]
    text = await trio.to_thread.run_sync(partial(servers.rabbitmq().control, *command))
    found: list[dict[str, Any]] = json.loads(text)
    return found


async def test_others_may_declare_the_same_again() -> None:
    """With exactly these flags and arguments, each on a channel that a difference would close with 406."""
    async with declared() as (_, client):
        for name, arguments in {**MILVAIONS, **OURS}.items():
            await client.declare_queue(name, arguments)
        await client.declare_exchange("jobs.topic", "topic")
        await client.declare_exchange("dlx_scheduled_jobs", "direct")
        for name in RUNGS:
            await client.declare_exchange(name, "fanout")


async def test_the_broker_sees_every_difference() -> None:
    """So that what the test before shows is equality."""
    async with declared() as (_, client):
        for name, arguments in {**MILVAIONS, **OURS}.items():
            fewer = [{key: value for key, value in arguments.items() if key != left_out} for left_out in arguments]
            for other in [{**arguments, "x-expires": ("I", 1000)}, *fewer]:
                async with client.channel() as channel:
                    with pytest.raises(ChannelClosed, match="406"):
                        await channel.declare_queue(name, other)
        for name in MILVAIONS:
            async with client.channel() as channel:
                with pytest.raises(ChannelClosed, match="406"):
                    await channel.declare_queue(name, MILVAIONS[name], durable=False)


async def test_nothing_else_is_declared() -> None:
    """Every queue, exchange and binding, and no more of them."""
    async with declared() as (vhost, _):
        queues = await listed(vhost, "queues", "name", "durable", "auto_delete", "exclusive")
        exchanges = await listed(vhost, "exchanges", "name", "type", "durable", "auto_delete", "internal", "arguments")
        bindings = await listed(vhost, "bindings", "source_name", "destination_name", "routing_key")

    assert {queue["name"] for queue in queues} == MILVAIONS.keys() | OURS.keys()
    for queue in queues:
        assert (queue["durable"], queue["auto_delete"], bool(queue["exclusive"])) == (True, False, False), queue
    own = {each["name"]: each for each in exchanges if each["name"] and not each["name"].startswith("amq.")}
    assert {name: each["type"] for name, each in own.items()} == {
        "jobs.topic": "topic",
        "dlx_scheduled_jobs": "direct",
        **dict.fromkeys(RUNGS, "fanout"),
    }
    for each in own.values():
        assert (each["durable"], each["auto_delete"], each["internal"], list(each["arguments"])) == (
            True,
            False,
            False,
            [],
        )
    assert {
        (each["source_name"], each["destination_name"], each["routing_key"]) for each in bindings if each["source_name"]
    } == BINDINGS


async def test_an_api_that_comes_later_finds_its_own() -> None:
    """It declares everything itself at its start, and would not start over another declaration."""
    async with declared() as (vhost, client):
        async with api_server(servers.rabbitmq().port, vhost) as api:
            await api.until(lambda: "email-worker" in api.model.workers)
            api.assert_content()
            occurrence_id = await api.dispatch("SendEmailJob")
            await api.until_ended(occurrence_id)
            assert await client.declare_queue("failed_jobs_queue") == (0, 1)


KEYS: Final = {
    "email-worker.sendemail.job": True,
    "email-worker.sendemail.*": True,
    "email-worker.sendemail": False,
    "email-worker.sendemail.job.more": False,
    "other.sendemail.job": False,
    "reports.job.#": True,
    "reports.daily.at.noon": True,
    "more.reports": True,
    "more.reports.job": False,
}


async def test_what_the_patterns_take() -> None:
    """The API's keys (WIRE.md 1.3), and what else AMQP's wildcards stand for."""
    async with declared() as (_, client):
        assert {key: await client.publish("jobs.topic", key, b"") for key in KEYS} == KEYS
