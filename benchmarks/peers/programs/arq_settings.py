"""arq on Redis: results not kept, a hundred jobs at the same time, nothing logged per job."""

import asyncio
from typing import Any

from arq import create_pool
from arq.connections import RedisSettings
from benchmarks.peers.programs.marking import URL, count_and_text, mark

QUIET = {"version": 1, "disable_existing_loggers": False, "loggers": {"arq": {"level": "WARNING"}}}


async def noop(ctx: Any, text: str) -> None:
    """Do nothing."""
    mark()


class WorkerSettings:
    """What arq's command line takes."""

    functions = (noop,)
    redis_settings = RedisSettings.from_dsn(URL)
    max_jobs = 100
    keep_result = 0


async def enqueue(count: int, text: str) -> None:
    """Enqueue so many."""
    pool = await create_pool(WorkerSettings.redis_settings)
    for _ in range(count):
        await pool.enqueue_job("noop", text)
    await pool.aclose()


if __name__ == "__main__":
    asyncio.run(enqueue(*count_and_text()))
