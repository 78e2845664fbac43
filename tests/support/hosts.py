"""Programs that host a worker, one of each kind; and what they have open, to see whether anything stays behind.

AnyIO's primitives work in all of them, so scenarios are written once; what differs is who runs and how it starts.
"""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import pytest
import trio
from attrs import frozen

from milvaion_trio import Worker
from milvaion_trio.model.settings import ShutdownSettings, WorkerSettings

__all__ = [
    "ASYNCIO_HOSTS",
    "HOSTS",
    "Host",
    "Open",
    "embedded_worker",
    "in_every_asyncio_host",
    "in_every_host",
    "until",
]

T = TypeVar("T")

PATIENCE = 20.0
"""Seconds until a host that should have ended is given up."""


@frozen
class Host:
    """One kind of program."""

    name: str
    _run: Callable[[Callable[[], Awaitable[None]]], None]
    tasks: Callable[[], int]
    """How many tasks it has."""

    def run(self, scenario: Callable[[], Awaitable[T]]) -> T:
        """Run the scenario as the main task of such a program, and return what it returns."""
        results: list[T] = []

        async def main() -> None:
            with anyio.fail_after(PATIENCE):
                results.append(await scenario())

        self._run(main)
        return results[0]

    @asynccontextmanager
    async def task_group(self, worker: Worker) -> AsyncIterator[Callable[[], None]]:
        """The worker in the host's own kind of task group, which is left when it has ended; yields what cancels it."""
        if self.name == "trio":
            async with trio.open_nursery() as nursery:
                assert await nursery.start(worker.serve) is worker
                yield nursery.cancel_scope.cancel
        elif self.name == "asyncio":
            async with asyncio.TaskGroup() as group:
                ready = asyncio.Event()
                task = group.create_task(worker.serve(task_status=_Status(ready.set)))
                await ready.wait()

                def cancel() -> None:
                    task.cancel()

                yield cancel
        else:
            async with anyio.create_task_group() as tasks:
                assert await tasks.start(worker.serve) is worker
                yield tasks.cancel_scope.cancel


HOSTS = (
    Host("trio", trio.run, lambda: trio.lowlevel.current_statistics().tasks_living),
    Host("anyio on trio", lambda main: anyio.run(main, backend="trio"), lambda: len(anyio.get_running_tasks())),
    Host("anyio on asyncio", lambda main: anyio.run(main, backend="asyncio"), lambda: len(asyncio.all_tasks())),
    Host("asyncio", lambda main: asyncio.run(main()), lambda: len(asyncio.all_tasks())),  # type: ignore[arg-type]
)
ASYNCIO_HOSTS = HOSTS[2:]

in_every_host = pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.name)
in_every_asyncio_host = pytest.mark.parametrize("host", ASYNCIO_HOSTS, ids=lambda host: host.name)


@frozen
class Open:
    """What this process has open; `now(host)` twice, and compare."""

    threads: frozenset[str]
    """By name and identity, without those that Trio keeps for later calls of `to_thread`."""
    tasks: int
    files: int
    """File descriptors, sockets included."""

    @classmethod
    def now(cls, host: Host) -> "Open":
        """As it is in this moment, in a task of the host."""
        threads = {f"{each.name} {each.ident}" for each in threading.enumerate() if "Trio thread" not in each.name}
        return cls(frozenset(threads), host.tasks(), len(os.listdir("/proc/self/fd")))


def embedded_worker(*, drain: float = 5.0, cleanup: float = 0.3, flush: float = 0.3) -> Worker:
    """A worker on the embedded broker with short budgets."""
    budgets = ShutdownSettings(drain_timeout=drain, cleanup_timeout=cleanup, flush_timeout=flush)
    return Worker("hosted", settings=WorkerSettings(shutdown=budgets), observers=())


async def until(is_so: Callable[[], bool]) -> None:
    """Return when it is so. Looked at again and again: no event can be awaited from two kinds of loops."""
    while not is_so():  # noqa: ASYNC110
        await anyio.sleep(0.001)


@frozen
class _Status:
    _tell: Callable[[], None]

    def started(self, value: object = None) -> None:
        assert isinstance(value, Worker)
        self._tell()
