"""Two clients of others, pika and Debian's amqp-tools (rabbitmq-c), read what we write and are read by us.

Separate from the tests with our own plain client: it was written by whoever wrote the worker's, with the same ideas
of what AMQP is.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Final, TypeVar, cast

import pika
import pika.exceptions
import pytest
import trio
from attrs import evolve, frozen
from pika.adapters.blocking_connection import BlockingChannel
from tests.support import servers
from tests.support.amqp_vectors import vector
from tests.support.cluster import serving
from tests.support.servers import HOST

from milvaion_trio import Worker
from milvaion_trio.broker.rabbitmq import RabbitMQBroker
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.settings import OfflineResilienceSettings, RabbitMQSettings, RedisSettings, WorkerSettings
from milvaion_trio.ports import Confirmation, Delivery, Queue, Topology

T = TypeVar("T")

CONFIRMED: Final = Confirmation.CONFIRMED
SOON: Final = 20.0
QUEUE: Final = "größe"
NOON: Final = datetime(2026, 4, 2, 12, tzinfo=UTC)

EVERY_TYPE: Final[Mapping[str, object]] = {
    "text": "grüße \0 \N{SNOWMAN}",
    "empty": "",
    "true": True,
    "false": False,
    "small": -1,
    "least int32": -(2**31),
    "greatest int32": 2**31 - 1,
    "beyond int32": 2**31,
    "least int64": -(2**63),
    "greatest int64": 2**63 - 1,
    "double": 3e200,  # a whole number, as pika reads others without what is behind the point
    "decimal": Decimal("123.45"),  # AMQP has none below zero
    "time": NOON,
    "nothing": None,
    "bytes": b"\x00\xff",
    "list": ["a", 1, [None, {"deep": True}]],
    "table": {"a": {"b": 2}, "": "a name without letters"},
    "grüße": "a name beyond ASCII",
}
"""What we write, and pika reads; and all of it but the double the other way."""
SIZES: Final = (0, 1, 4096, 131_063, 131_064, 131_065, 300_000)
"""Bytes of a body; beyond 131,064 it takes several frames."""


@frozen
class Place:
    """A vhost of the run's broker, for us and for others."""

    vhost: str

    @property
    def broker(self) -> RabbitMQBroker:
        """As we reach it."""
        return RabbitMQBroker(self.settings)

    @property
    def settings(self) -> RabbitMQSettings:
        """Of the driver that is the default."""
        return RabbitMQSettings(host=HOST, port=servers.rabbitmq().port, virtual_host=self.vhost)

    async def pika(self, work: Callable[[BlockingChannel], T]) -> T:
        """Let pika do something on a channel of its own, in a thread. If cancelled, it is done nevertheless."""

        def run() -> T:
            where = pika.ConnectionParameters(HOST, servers.rabbitmq().port, self.vhost)
            with pika.BlockingConnection(where) as connection:
                return work(connection.channel())

        with trio.fail_after(SOON):
            return await trio.to_thread.run_sync(run)

    async def tool(self, name: str, *arguments: str) -> bytes:
        """Run one of rabbitmq-c's programs; returns what it printed. If cancelled, it is ended."""
        if shutil.which(name) is None:
            raise RuntimeError(
                f"These tests need {name}, which is not installed: apt-get install --no-install-recommends amqp-tools"
            )
        where = ["-s", HOST, f"--port={servers.rabbitmq().port}", f"--vhost={self.vhost}"]
        with trio.fail_after(SOON):
            ended = await trio.run_process([name, *where, *arguments], capture_stdout=True, capture_stderr=True)
        return ended.stdout

    async def publish(self, *publications: Publication) -> list[Confirmation]:
        """Publish them ourselves. If cancelled, some may have arrived."""
        async with self.broker.publishing() as publisher:
            return list(await publisher.publish(publications))

    async def received(self, count: int) -> list[Delivery]:
        """Receive and ack so many ourselves. If cancelled, those acked are gone."""
        found: list[Delivery] = []
        async with self.broker.consuming() as consumer, consumer.consume(QUEUE, prefetch=count) as deliveries:
            with trio.fail_after(SOON):
                while len(found) < count:
                    found.append(await deliveries.receive())
                    found[-1].ack()
        return found


@pytest.fixture
async def place() -> Place:
    place = Place(servers.new_vhost())
    async with place.broker.consuming() as consumer:
        await consumer.declare(Topology(queues=[Queue(QUEUE)]))
    return place


# --- pika -----------------------------------------------------------------------------------------------------------


async def test_pika_reads_what_we_publish(place: Place) -> None:
    whole = Message(
        body=b"{}",
        headers=EVERY_TYPE,
        message_id="m" * 255,
        correlation_id="größe",
        content_type="application/json",
        timestamp=1_775_121_301,
    )
    messages = [whole, evolve(whole, persistent=False), Message(body=b"")]
    messages += [Message(body=bytes(range(256)) * (size // 256) + bytes(size % 256)) for size in SIZES]

    assert await place.publish(*(Publication(message, QUEUE) for message in messages)) == [CONFIRMED] * len(messages)
    read = await place.pika(lambda channel: [channel.basic_get(QUEUE, auto_ack=True) for _ in messages])

    assert [_message(properties, body) for _, properties, body in read] == messages
    assert {(method.exchange, method.routing_key, method.redelivered) for method, _, _ in read} == {("", QUEUE, False)}


async def test_we_read_what_pika_publishes(place: Place) -> None:
    sent = {name: value for name, value in EVERY_TYPE.items() if not isinstance(value, float)}
    properties = pika.BasicProperties(
        content_type="text/plain",
        content_encoding="utf-8",
        headers=sent,
        delivery_mode=2,
        priority=9,
        correlation_id="größe",
        reply_to="somebody",
        expiration="60000",
        message_id="m" * 255,
        timestamp=1_775_121_301,
        type="t",
        user_id="guest",
        app_id="a",
        cluster_id="c",
    )

    def publish(channel: BlockingChannel) -> None:
        channel.confirm_delivery()
        channel.basic_publish("", QUEUE, b"body", properties, mandatory=True)
        for size in SIZES:
            channel.basic_publish("", QUEUE, bytes(size), pika.BasicProperties(), mandatory=True)

    await place.pika(publish)
    whole, *plain = await place.received(1 + len(SIZES))

    assert whole.message == Message(
        body=b"body",
        headers=sent,
        message_id="m" * 255,
        correlation_id="größe",
        content_type="text/plain",
        timestamp=1_775_121_301,
    )
    assert [delivery.message for delivery in plain] == [Message(body=bytes(size), persistent=False) for size in SIZES]


async def test_pikas_queues_are_routed_to_until_they_are_gone(place: Place) -> None:
    publication = Publication(Message(body=b"a"), "of pika")
    both = [publication, Publication(Message(body=b"b"), QUEUE)]

    await place.pika(partial(BlockingChannel.queue_declare, queue="of pika", durable=True))
    assert await place.publish(*both) == [CONFIRMED, CONFIRMED]
    await place.pika(partial(BlockingChannel.queue_delete, queue="of pika"))

    assert await place.publish(*both) == [Confirmation.UNROUTABLE, CONFIRMED]


async def test_pika_gets_back_what_we_give_back(place: Place) -> None:
    """In its place, and marked; what we rejected is gone, as there is nowhere for it to go."""

    def publish(channel: BlockingChannel) -> None:
        channel.confirm_delivery()
        for body in (b"kept", b"done", b"refused", b"unread"):
            channel.basic_publish("", QUEUE, body)

    await place.pika(publish)
    async with place.broker.consuming() as consumer, consumer.consume(QUEUE, prefetch=4) as deliveries:
        with trio.fail_after(SOON):
            kept, done, refused = [await deliveries.receive() for _ in range(3)]
        kept.requeue()
        done.ack()
        refused.reject()
    read = await place.pika(lambda channel: [channel.basic_get(QUEUE, auto_ack=True) for _ in range(3)])

    assert [body for _, _, body in read] == [b"kept", b"unread", None]
    assert read[0][0].redelivered


async def test_a_job_that_pika_enqueues_runs_and_pika_reads_its_statuses(place: Place, tmp_path: Path) -> None:
    """With the bytes and the properties of Milvaion's dispatcher."""
    dispatch = vector("job_dispatch")
    given = cast("dict[str, object]", dispatch["properties"])
    headers = {name: field["value"] for name, field in cast("dict[str, dict[str, object]]", given["headers"]).items()}
    properties = pika.BasicProperties(**{**given, "headers": headers})
    worker = Worker(
        settings=WorkerSettings(
            worker_id="report-worker",
            rabbitmq=place.settings,
            redis=RedisSettings(connection_string=f"{HOST}:{servers.redis().port}"),
            offline_resilience=OfflineResilienceSettings(local_storage_path=str(tmp_path)),
        )
    )
    ran = trio.Event()

    @worker.job("GenerateReportJob")
    async def generate(report: Report) -> str:
        ran.set()
        return f"{report.report_type} {report.year} for {report.recipients[0]}"

    def publish(channel: BlockingChannel) -> None:
        channel.confirm_delivery()
        channel.basic_publish(
            str(dispatch["exchange"]),
            str(dispatch["routing_key"]),
            str(dispatch["body_raw"]).encode(),
            properties,
            mandatory=True,
        )

    def statuses(channel: BlockingChannel) -> list[tuple[str, int, object]]:
        found: list[tuple[str, int, object]] = []
        for _, _, body in channel.consume("job_status_updates_queue", auto_ack=True, inactivity_timeout=10):
            assert body is not None, f"no status came after {found}"
            told = json.loads(body)
            found.append((told["OccurrenceId"], told["Status"], told.get("Result")))
            if told["Status"] > 1:
                break
        return found

    async with serving(worker):
        await place.pika(publish)
        read = await place.pika(statuses)

    occurrence = given["correlation_id"]
    assert ran.is_set()
    assert read == [(occurrence, 1, None), (occurrence, 2, "sales 2026 for ops@example.org")]


@frozen
class Report:
    """What Milvaion's example wants."""

    report_type: str
    recipients: list[str]
    year: int


def _message(properties: pika.BasicProperties, body: bytes) -> Message:
    """What pika read, as we call it."""
    assert properties.delivery_mode in (1, 2)
    return Message(
        body=body,
        headers=properties.headers or {},
        message_id=properties.message_id,
        correlation_id=properties.correlation_id,
        content_type=properties.content_type,
        timestamp=properties.timestamp,
        persistent=properties.delivery_mode == 2,
    )


# --- rabbitmq-c -----------------------------------------------------------------------------------------------------


async def test_rabbitmq_c_reads_what_we_publish(place: Place) -> None:
    headers = {name: value for name, value in EVERY_TYPE.items() if name}
    bodies = [b"x" * size for size in SIZES]

    assert await place.tool("amqp-declare-queue", "-d", "-q", "of rabbitmq-c") == b"of rabbitmq-c\n"
    published = [Publication(Message(body=body, headers=headers), "of rabbitmq-c") for body in bodies]
    assert await place.publish(*published) == [CONFIRMED] * len(bodies)

    assert await place.tool("amqp-get", "-q", "of rabbitmq-c") == bodies[0]
    rest = await place.tool("amqp-consume", "-q", "of rabbitmq-c", "-c", str(len(bodies) - 1), "cat")
    assert rest == b"".join(bodies[1:])


async def test_we_read_what_rabbitmq_c_publishes(place: Place) -> None:
    options = ["-p", "-C", "text/plain", "-E", "utf-8", "-t", "somebody", "-H", "name: value", "-H", "größe: grüße"]
    await place.tool("amqp-publish", "-r", QUEUE, *options, "-b", "grüße")
    await place.tool("amqp-publish", "-r", QUEUE, "-b", "")

    whole, plain = [delivery.message for delivery in await place.received(2)]

    headers = {"name": "value", "größe": "grüße"}
    assert whole == Message(body="grüße".encode(), headers=headers, content_type="text/plain")
    assert plain == Message(body=b"", persistent=False)
