"""FastStream on RabbitMQ: acknowledged after the run, nothing logged per message."""

import asyncio

from benchmarks.peers.programs.marking import URL, count_and_text, mark
from faststream import FastStream
from faststream.rabbit import Channel, RabbitBroker, RabbitQueue

broker = RabbitBroker(URL, default_channel=Channel(prefetch_count=100), logger=None)
app = FastStream(broker, logger=None)
QUEUE = RabbitQueue("bench", durable=True)


async def noop(body: dict[str, str]) -> None:
    """Do nothing."""
    mark()


broker.subscriber(QUEUE)(noop)


async def enqueue(count: int, text: str) -> None:
    """Enqueue so many; as JSON, as a value in an event would be."""
    await broker.connect()
    await broker.declare_queue(QUEUE)
    for _ in range(count):
        await broker.publish({"text": text}, queue=QUEUE, persist=True)
    await broker.stop()


if __name__ == "__main__":
    asyncio.run(enqueue(*count_and_text()))
