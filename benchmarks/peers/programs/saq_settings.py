"""SAQ on Redis: results not stored, a hundred jobs at the same time."""

import asyncio
from typing import Any

from benchmarks.peers.programs.marking import URL, count_and_text, mark
from saq import Job, Queue

queue = Queue.from_url(URL, name="bench")


async def noop(ctx: Any, *, text: str) -> None:
    """Do nothing."""
    mark()


settings = {"queue": queue, "functions": [noop], "concurrency": 100}


async def enqueue(count: int, text: str) -> None:
    """Enqueue so many."""
    await queue.connect()
    for _ in range(count):
        await queue.enqueue(Job("noop", kwargs={"text": text}, ttl=-1))
    await queue.disconnect()


if __name__ == "__main__":
    asyncio.run(enqueue(*count_and_text()))
