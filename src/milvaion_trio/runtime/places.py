"""The places where a job's code runs that are no task of Trio's: threads, asyncio's loop, processes."""

import contextlib
from collections.abc import AsyncIterator

import trio
from attrs import frozen

from milvaion_trio.runtime.asyncio_jobs import AsyncioJobs
from milvaion_trio.runtime.processes import JobProcesses

__all__ = ["Places"]


@frozen
class Places:
    """What the executor hands code to; `open` before a job runs."""

    threads: trio.CapacityLimiter
    asyncio: AsyncioJobs
    processes: JobProcesses

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Code may run while the context is open; afterwards asyncio's loop is closed and every process is dead."""
        async with self.asyncio.open(), self.processes.open():
            yield
