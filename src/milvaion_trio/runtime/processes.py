"""The job processes of a worker: reused, ended when idle for long, replaced when one died.

There are as many as jobs run in processes at once, which the slots limit; the job that needs a new one starts it.
"""

import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator
from typing import cast

import trio
from attrs import define, field

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.json_text import read
from milvaion_trio.model.outcome import Outcome
from milvaion_trio.runtime import process_frames
from milvaion_trio.runtime.addresses import address_of
from milvaion_trio.runtime.context import LogSink
from milvaion_trio.runtime.grace import with_grace
from milvaion_trio.runtime.job_process import JobProcess
from milvaion_trio.runtime.process_frames import Done, Log, Raised, Request, framed
from milvaion_trio.runtime.run import Run

__all__ = ["JobProcesses", "RaisedInProcess"]

IDLE = 60.0
"""Seconds that a process waits for its next job; a start costs a fifth of a second and the imports of the jobs."""

LEAVING = 0.5
"""Seconds in which processes without a job end by themselves when the worker leaves."""

KILLING = 0.25
"""Seconds of the clean-up time, at most a tenth of it, that are left for killing: so a killed job has ended in time."""


class RaisedInProcess(Exception):
    """What a job raised in its process; `raised` says all that is known of it."""

    def __init__(self, raised: Raised) -> None:
        self.raised = raised
        super().__init__(raised.text)


@define(eq=False)
class JobProcesses:
    """The job processes of one worker."""

    _sink: LogSink
    _grace: float
    """Seconds that a job has to end after it was told to."""
    _nursery: trio.Nursery | None = field(default=None, init=False)
    _all: set[JobProcess] = field(factory=set, init=False)
    _idle: list[JobProcess] = field(factory=list, init=False)

    @contextlib.asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Processes may be started while the context is open; on leaving, all are dead, and so are their groups."""
        if process_frames.in_job_process:
            raise SettingsError(
                [
                    "A job process started a worker of its own while it imported the program. "
                    'Serve it under `if __name__ == "__main__":` only.'
                ]
            )
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            try:
                yield
            finally:
                for process in self._all:
                    process.release()
                with trio.CancelScope(shield=True, relative_deadline=LEAVING):
                    for process in tuple(self._all):
                        await process.ended.wait()
                nursery.cancel_scope.cancel()

    async def run(self, run: Run) -> Outcome:
        """Run the job in a process and return the outcome of what it returned.

        Raises `RaisedInProcess` for what it raised, `JobProcessDied` when the process ended before it.
        If cancelled, `JobCancelled` is raised in the job; when it has not ended in time, its process group is killed.
        """
        process = self._idle.pop() if self._idle else self._start()
        process.idle_since = None
        number = process.request_number()
        answer: Done | None = None
        was_told = False

        async def answered() -> None:
            nonlocal answer
            answer = await process.ask(framed(_request(run, number)), number, log)

        def log(entry: Log) -> None:
            facts = None if entry.data is None else cast("dict[str, object]", read(entry.data))  # it was one
            self._sink.log(run, entry.level, entry.message, facts, category=entry.category)

        def tell() -> None:
            nonlocal was_told
            was_told = True
            run.tell()
            process.tell_to_stop()

        try:
            has_ended = await with_grace(answered, tell, self._grace - min(KILLING, self._grace / 10))
        except BaseException:
            process.kill()
            raise
        if has_ended and answer is not None and not was_told:
            self._put_back(process)
        else:
            await self._end(process, run, is_dying=has_ended and answer is None)
        if was_told and (answer is None or (isinstance(answer.ending, Raised) and answer.ending.because_told)):
            await trio.lowlevel.checkpoint()  # the job's own cancellation, which was held back until now
        if answer is None:
            raise process.obituary()
        if isinstance(answer.ending, Raised):
            raise RaisedInProcess(answer.ending)
        return answer.ending

    def _start(self) -> JobProcess:
        if self._nursery is None:
            raise AssertionError("job processes are started while the worker serves")
        process = JobProcess.start()
        self._all.add(process)
        self._nursery.start_soon(self._watch, process)
        return process

    def _put_back(self, process: JobProcess) -> None:
        process.idle_since = trio.current_time()
        self._idle.append(process)

    async def _end(self, process: JobProcess, run: Run, *, is_dying: bool) -> None:
        """Have the process dead, whatever it does; a job's slot is free when it is."""
        if is_dying:  # how it does by itself is worth knowing
            with trio.move_on_after(LEAVING, shield=True):
                await process.ended.wait()
        await process.died()
        if not process.ended.is_set():
            run.left_behind = True
            process.on_end = run.left_behind_no_more

    async def _watch(self, process: JobProcess) -> None:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._release_when_idle, process)
                await process.watched()
                nursery.cancel_scope.cancel()
        finally:
            self._all.discard(process)
            if process in self._idle:
                self._idle.remove(process)

    async def _release_when_idle(self, process: JobProcess) -> None:
        while True:
            now = trio.current_time()
            since = now if process.idle_since is None else process.idle_since
            if now >= since + IDLE:
                self._idle.remove(process)
                process.release()
                await trio.sleep(LEAVING)
                process.kill()
                return
            await trio.sleep_until(since + IDLE)


def _request(run: Run, number: int) -> Request:
    address = address_of(run.registered.definition.target)
    return Request(
        number=number,
        main=_main_module() if address.module == "__main__" else None,
        address=address,
        name=run.registered.name,
        job=run.job,
        attempt=run.attempt,
        run_number=run.run_number,
        fencing_token=run.fencing_token,
        max_retries=run.registered.effective.retry.max_retries,
        deadline=None if run.deadline is None else time.monotonic() + run.deadline - trio.current_time(),
    )


def _main_module() -> dict[str, object]:
    # As multiprocessing.spawn.get_preparation_data, which also decides the program's start method for it.
    main = sys.modules["__main__"]
    if (spec := getattr(main, "__spec__", None)) is not None:
        return {"init_main_from_name": spec.name}
    return {"init_main_from_path": os.path.abspath(str(main.__file__))}
