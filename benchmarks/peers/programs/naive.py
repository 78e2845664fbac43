"""The worker one would write first: aio-pika, each call crossing from Trio to trio-asyncio and back.

Consume, read the JSON, publish Running and Completed, each persistent and confirmed, run the job between them, ack. It
has no limits, no outbox, no shutdown, no reconnecting: it is the measure of what the driver costs, not a worker.
"""

import json
import os
import signal

import aio_pika
import trio
import trio_asyncio
from aio_pika.abc import AbstractIncomingMessage
from benchmarks.peers.programs.marking import URL, count_and_text, mark
from trio_asyncio import aio_as_trio

from milvaion_trio.model import topology
from milvaion_trio.runtime.dispatching import Destination, dispatch_message

QUEUE = "bench"
IN_FLIGHT = 100


def status(job: dict[str, object], correlation_id: str, word: int) -> aio_pika.Message:
    """A status update as large as Milvaion's."""
    told = {"occurrenceId": correlation_id, "jobId": job["id"], "workerId": "bench", "status": word, "result": None}
    told |= {"startTime": "2026-04-02T09:15:00.0000000Z", "endTime": None, "durationMs": None, "exception": None}
    return aio_pika.Message(
        json.dumps(told).encode(),
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        content_type="application/json",
        correlation_id=correlation_id,
    )


async def run(message: AbstractIncomingMessage, exchange: aio_pika.abc.AbstractExchange) -> None:
    """One job. If cancelled, its message goes back when the connection closes."""
    job = json.loads(message.body)
    correlation_id = message.correlation_id or ""
    await aio_as_trio(exchange.publish)(status(job, correlation_id, 1), topology.STATUS_QUEUE)
    mark()
    await aio_as_trio(exchange.publish)(status(job, correlation_id, 2), topology.STATUS_QUEUE)
    await aio_as_trio(message.ack)()


async def serve() -> None:
    """Until SIGTERM. If cancelled, what runs goes back to the queue."""
    async with trio_asyncio.open_loop():
        connection = await aio_as_trio(aio_pika.connect)(URL)
        consuming = await aio_as_trio(connection.channel)()
        publishing = await aio_as_trio(connection.channel)(publisher_confirms=True)
        await aio_as_trio(publishing.declare_queue)(topology.STATUS_QUEUE, durable=True)
        await aio_as_trio(consuming.set_qos)(prefetch_count=IN_FLIGHT)
        queue = await aio_as_trio(consuming.declare_queue)(QUEUE, durable=True)
        came, coming = trio.open_memory_channel[AbstractIncomingMessage](IN_FLIGHT)
        await aio_as_trio(queue.consume)(came.send_nowait)
        async with trio.open_nursery() as nursery:
            async for message in coming:
                nursery.start_soon(run, message, publishing.default_exchange)


async def enqueue(count: int, text: str) -> None:
    """Declare the queue and put so many dispatch messages of Milvaion into it. If cancelled, some may be there."""
    to = Destination(worker_id="bench", job_name="Bench", pattern="bench.bench.*")
    async with trio_asyncio.open_loop():
        connection = await aio_as_trio(aio_pika.connect)(URL)
        channel = await aio_as_trio(connection.channel)()
        await aio_as_trio(channel.declare_queue)(QUEUE, durable=True)
        for _ in range(count):
            dispatched = dispatch_message(to, text).message
            message = aio_pika.Message(
                dispatched.body,
                delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                correlation_id=str(dispatched.correlation_id),
            )
            await aio_as_trio(channel.default_exchange.publish)(message, QUEUE)
        await aio_as_trio(connection.close)()


if __name__ == "__main__":
    if "BENCH_ENQUEUE" in os.environ:
        trio.run(enqueue, *count_and_text())
    else:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
        trio.run(serve)
