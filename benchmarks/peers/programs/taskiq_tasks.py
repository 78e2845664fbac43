"""Taskiq on aio-pika: acknowledged after the run; results in Redis or nowhere."""

import asyncio

from benchmarks.peers.programs.marking import STATES, URL, count_and_text, mark
from taskiq_aio_pika import AioPikaBroker, Queue

broker = AioPikaBroker(URL, qos=100, task_queues=[Queue(name="bench")])
if STATES:  # else nobody has to load this
    from taskiq_redis import RedisAsyncResultBackend

    broker = broker.with_result_backend(RedisAsyncResultBackend(STATES))


async def work(text: str) -> None:
    """Do nothing."""
    mark()


noop = broker.task(task_name="noop")(work)


async def enqueue(count: int, text: str) -> None:
    """Enqueue so many."""
    await broker.startup()
    for _ in range(count):
        await noop.kiq(text)
    await broker.shutdown()


if __name__ == "__main__":
    asyncio.run(enqueue(*count_and_text()))
