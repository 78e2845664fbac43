"""Retry copies and dead letters as frames: what a .NET worker, or the API, reads of them.

A retry count that is no int32 or int64 is 0 to a .NET worker, which then retries for ever (WIRE.md 0.2).
"""

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from uuid import UUID

import trio
from tests.support.amqp import Client, WireMessage, connect
from tests.support.amqp_vectors import vector, vector_headers
from tests.support.cluster import Cluster, cluster, serving
from tests.support.hostile import JOB_ID
from tests.support.queues import left_in

from milvaion_trio import JobContext, PermanentFailure

JOB_QUEUE: Final = "scheduled_jobs_queue.tests.sendemail.wildcard"
NET_COPY: Final[Mapping[str, Any]] = vector("job_retry_republish")
HOPS: Final = "mtrio.hop.v1"
DEAD_LETTERS: Final = "tap"


def rung(seconds: int) -> str:
    return f"mtrio.delay.v1.{seconds:03}s"


@asynccontextmanager
async def tapped() -> AsyncIterator[tuple[Cluster, Client]]:
    """A cluster, and a client that gets a copy of every dead letter."""
    with trio.fail_after(60):
        async with cluster() as c, connect(c.rabbitmq.port, c.vhost) as client:
            await client.declare_queue(DEAD_LETTERS)
            await client.bind(DEAD_LETTERS, "dlx_scheduled_jobs", "failed_jobs")
            yield c, client


def judge_copy(copy: WireMessage, occurrence_id: str, retry_count: int, max_retries: int) -> None:
    """What every reader needs (WIRE.md 2.3, 3.5, 3.8), with the types in which .NET reads it."""
    assert copy.headers["x-retry-count"] == ("I", retry_count)
    assert copy.headers["MaxRetries"] == ("I", max_retries)
    assert copy.headers["CorrelationId"] == copy.headers["OccurrenceId"] == ("S", occurrence_id)
    assert copy.properties["correlation_id"] == occurrence_id
    assert copy.properties["delivery_mode"] == 2
    assert copy.properties["content_type"] == "application/json"
    assert str(copy.properties["message_id"]).startswith(occurrence_id)


async def test_the_copies_of_a_job_until_it_is_a_dead_letter() -> None:
    """Of every attempt, through each kind of delay; the API's own headers keep their types, and the body its bytes."""
    async with tapped() as (c, client):
        worker = c.worker("tests")
        attempts: list[int] = []

        @worker.job("SendEmailJob", max_retries=3, base_retry_delay=60)
        async def send(ctx: JobContext) -> None:
            attempts.append(ctx.attempt)
            raise OSError("no route to host")

        async with serving(worker):
            waiting = {seconds: await client.consume(rung(seconds), no_ack=True) for seconds in (60, 120)}
            letters = await client.consume(DEAD_LETTERS, no_ack=True)
            occurrence_id = await c.api.dispatch("SendEmailJob", {"to": "a@b"}, cron="0 * * * * *")

            for number, (seconds, more) in enumerate([(60, 0), (120, 0), (120, 120)], 1):
                copy = await waiting[seconds].receive()
                judge_copy(copy, occurrence_id, number, 3)
                assert copy.exchange == rung(seconds)
                assert copy.headers["JobType"] == ("S", "SendEmailJob")
                assert copy.headers["IsRecurring"] == ("t", True)
                assert copy.headers["RoutingKey"] == ("S", "tests.sendemail.job")
                assert json.loads(copy.body)["jobData"] == '{"to":"a@b"}'
                marks = {
                    name: field for name, field in copy.headers.items() if name in ("x-mtrio-left", "x-mtrio-target")
                }
                if more:
                    assert copy.routing_key == HOPS
                    assert marks == {"x-mtrio-left": ("I", more), "x-mtrio-target": ("S", JOB_QUEUE)}
                    await pass_on(client, copy)  # as if the time was over
                    copy = await waiting[more].receive()
                    judge_copy(copy, occurrence_id, number, 3)
                    assert copy.headers.keys().isdisjoint(marks)
                else:
                    assert marks == {}
                assert copy.routing_key == JOB_QUEUE
                await pass_on(client, copy)

            letter = await letters.receive()
            judge_copy(letter, occurrence_id, 3, 3)
            assert attempts == [1, 2, 3, 4]
            await c.api.until(lambda: c.api.failed_occurrences)
            assert c.api.failed_occurrences[0].retry_count == 3


async def pass_on(client: Client, copy: WireMessage) -> None:
    """As the broker does when the time is over."""
    assert await client.publish("", copy.routing_key, copy.body, copy.properties, copy.headers)


async def test_a_copy_after_its_delay() -> None:
    """What a .NET worker finds in the job's queue: a message like its own retry copies, but for more headers."""
    async with tapped() as (c, client):
        worker = c.worker("tests")

        @worker.job("SendEmailJob", base_retry_delay=1)
        async def send() -> None:
            raise OSError("no route to host")

        async with serving(worker):
            occurrence_id = await c.api.dispatch("SendEmailJob", {"to": "a@b"})
            await c.api.until(lambda: len(c.api.occurrence(occurrence_id).logs) == 2)
            worker.drain()
        copy = await (await client.consume(JOB_QUEUE, no_ack=True)).receive()

        judge_copy(copy, occurrence_id, 1, 3)
        assert (copy.exchange, copy.routing_key, copy.redelivered) == ("", JOB_QUEUE, False)
        assert "expiration" not in copy.properties
        for name, (letter, _) in vector_headers(NET_COPY["properties"]["headers"]).items():
            assert copy.headers[name][0] == letter
        assert await left_in(client, []) == {}


async def test_counts_of_any_type_go_on_as_int32() -> None:
    """Clients write the smallest type that fits (WIRE.md 0.2)."""
    counts = [*((letter, 1) for letter in "bBsuIil"), ("x", b"\1\0\0\0")]
    async with tapped() as (c, client):
        worker = c.worker("tests")

        @worker.job("SendEmailJob", base_retry_delay=60)
        async def send(permanent: bool) -> None:
            raise PermanentFailure("no such address") if permanent else OSError("no route to host")

        c.api.model.register_job(JOB_ID, "SendEmailJob")
        async with serving(worker):
            waiting = await client.consume(rung(120), no_ack=True)
            letters = await client.consume(DEAD_LETTERS, no_ack=True)
            for permanent, copies in ((False, waiting), (True, letters)):
                for number, count in enumerate(counts):
                    occurrence_id = str(UUID(int=0xACC00 + number + 256 * permanent))
                    c.api.model.queued(occurrence_id, JOB_ID)
                    headers = {"OccurrenceId": ("S", occurrence_id), "x-retry-count": count}
                    data = json.dumps(permanent)
                    body = json.dumps({"id": JOB_ID, "jobNameInWorker": "SendEmailJob", "jobData": data}).encode()
                    assert await client.publish("", JOB_QUEUE, body, {"timestamp": 1775121301}, headers)

                    copy = await copies.receive()
                    judge_copy(copy, occurrence_id, *((1, 0) if permanent else (2, 3)))
