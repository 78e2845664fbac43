"""Worker processes as a scenario handles them: started, killed, told to leave, started again under the same name.

Separate from the play, which knows what the processes are for; here they are only processes with a folder each.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import cattrs
import trio
from attrs import define, evolve, field
from tests.support.commands import environment

from torture.effects import Effects
from torture.forking import forked_worker
from torture.telling import VARIABLE, Told

__all__ = ["WorkerProcess", "WorkerProcesses"]

PROJECT: Final = Path(__file__).parents[1]
PATIENCE: Final = 90.0
"""Seconds for a process to be ready, or to end, on a machine that has more to do."""


@define(eq=False)
class WorkerProcess:
    """A worker process by name: the one that runs now, or the last one."""

    told: Told
    folder: Path
    effects: Effects
    process: trio.Process | None = field(default=None, init=False)
    starts: int = field(default=0, init=False)
    codes: list[int] = field(factory=list, init=False)
    """Of all that ended."""
    _started_at: float = field(default=0.0, init=False)

    @property
    def name(self) -> str:
        """Its name, which it keeps over restarts."""
        return self.told.name

    async def start(self, **changes: Any) -> None:
        """Start it, with these changes to what it is told; returns at once, see `ready`. If cancelled: it may run."""
        self.starts += 1
        self._started_at = time.time()
        told = json.dumps(cattrs.unstructure(evolve(self.told, **changes)))
        with (self.folder / "log.txt").open("ab") as log:
            self.process = await trio.lowlevel.open_process(
                await trio.to_thread.run_sync(forked_worker, "torture.worker_program:worker"),
                cwd=self.folder,
                env={**environment(), "PYTHONPATH": os.pathsep.join([str(PROJECT), *sys.path]), VARIABLE: told},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    async def ready(self) -> None:
        """Return when it consumes. Raises `RuntimeError` if it ends instead. If cancelled, nothing changes."""
        if not await self.seen("ready"):
            raise RuntimeError(f"{self.name} ended with {self.codes[-1:]}:\n{self.log[-3000:]}")

    async def seen(self, what: str) -> bool:
        """Wait for this line of the process that runs now; false if it ends first. If cancelled, nothing changes."""
        with trio.fail_after(PATIENCE):
            while not any(line.worker == self.name and line.at >= self._started_at for line in self.effects.of(what)):
                has_ended = not self.is_running
                if not self.effects.look() and has_ended:
                    return False
                await trio.sleep(0.02)
        return True

    @property
    def pid(self) -> int | None:
        """Of the worker itself, once it has started; `process` only stands for it."""
        for line in reversed(self.effects.lines):
            if line.what == "start" and line.worker == self.name:
                return line.pid if line.at >= self._started_at else None
        return None

    @property
    def is_running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self.process is not None and self.process.poll() is None

    @property
    def log(self) -> str:
        """What it wrote to stderr, over all restarts."""
        return (self.folder / "log.txt").read_text(errors="replace")

    async def kill(self) -> None:
        """SIGKILL, and return when it has ended. If cancelled, it may still run."""
        self.effects.look()
        pid = self.pid
        with suppress(ProcessLookupError):
            if pid is not None:
                os.kill(pid, signal.SIGKILL)
            elif self.process is not None:
                self.process.kill()
        await self.ended()

    def terminate(self) -> None:
        """SIGTERM: the first drains, the second cancels, the third leaves at once."""
        if self.process is not None and self.is_running:
            self.process.send_signal(signal.SIGTERM)

    async def ended(self) -> int:
        """Return the exit code when it has ended, -9 after SIGKILL. If cancelled, nothing changes."""
        assert self.process is not None
        with trio.fail_after(PATIENCE + self.told.drain + self.told.cleanup):
            code = await self.process.wait()
        self.codes.append(code)
        self.process = None
        return code

    def resources(self) -> dict[str, int] | None:
        """File descriptors, threads and resident kB of the process, if it runs."""
        with suppress(OSError, StopIteration):
            home = Path(f"/proc/{self.pid}")
            status = dict(line.split(":", 1) for line in (home / "status").read_text().splitlines())
            return {
                "fds": len(list((home / "fd").iterdir())),
                "threads": int(status["Threads"]),
                "rss_kb": int(status["VmRSS"].split()[0]),
            }
        return None


@define(eq=False)
class WorkerProcesses:
    """All worker processes of a run."""

    folder: Path
    effects: Effects
    told: Told
    """What every one is told, but for its name and folders."""
    all: dict[str, WorkerProcess] = field(factory=dict)

    def add(self, name: str, **changes: Any) -> WorkerProcess:
        """A worker process that is not started yet, with a folder of its own."""
        folder = self.folder / name
        folder.mkdir()
        told = evolve(self.told, name=name, storage=str(folder / "storage"), **changes)
        worker = self.all[name] = WorkerProcess(told, folder, self.effects)
        return worker

    async def start(self, *names: str, **changes: Any) -> list[WorkerProcess]:
        """Add these and return them when all are ready. Raises `RuntimeError`. If cancelled, some may run."""
        workers = [self.add(name, **changes) for name in names]
        async with trio.open_nursery() as nursery:
            for worker in workers:
                nursery.start_soon(worker.start)
        for worker in workers:
            await worker.ready()
        return workers

    @property
    def running(self) -> list[WorkerProcess]:
        """Those that run."""
        return [worker for worker in self.all.values() if worker.is_running]

    async def leave(self) -> None:
        """Let all leave in an orderly way. If cancelled, some may still run."""
        async with trio.open_nursery() as nursery:
            for worker in self.running:
                worker.terminate()
                nursery.start_soon(worker.ended)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """While inside, processes may run; killed on leaving those that still do, cancelled or not."""
        try:
            yield
        finally:
            with trio.move_on_after(PATIENCE, shield=True):
                for worker in self.running:
                    await worker.kill()
