"""The inside of a job process: takes one attempt after the other from the worker and runs it.

No Trio runs here. SIGTERM means that the job is to stop: `JobCancelled` is raised in it. The process ends when the
worker closes its end of the connection, and dies with the worker, however that dies.
"""

import contextlib
import fcntl
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from functools import cache
from types import FrameType
from typing import cast

from milvaion_trio.model.error_text import error_text
from milvaion_trio.model.errors import JobCancelled
from milvaion_trio.model.exception_groups import leaves
from milvaion_trio.model.json_text import write
from milvaion_trio.model.messages import LogLevel
from milvaion_trio.model.outcome import Outcome
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.policy.retry import RetryPolicy
from milvaion_trio.runtime import process_frames
from milvaion_trio.runtime.addresses import Address, found_at
from milvaion_trio.runtime.context import JobContext, enter
from milvaion_trio.runtime.definition import define_job
from milvaion_trio.runtime.endings import OUR_FRAMES, failed, returned
from milvaion_trio.runtime.log_buffer import as_logged
from milvaion_trio.runtime.process_context import ProcessContext, RemoteRun
from milvaion_trio.runtime.process_frames import Done, Frames, Log, Raised, Request, framed, kind_name
from milvaion_trio.runtime.registry import RegisteredJob, Registry
from milvaion_trio.runtime.run import Run

__all__ = ["main"]


def main() -> None:
    """Run what the worker sends until it closes the connection; the arguments of the program say where it is."""
    connection, lifeline = (int(argument) for argument in sys.argv[1:3])
    _die_with_the_worker(lifeline)
    process_frames.in_job_process = True
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError):  # there may be none
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    jobs = _Jobs(socket.socket(fileno=connection))
    signal.signal(signal.SIGTERM, jobs.on_sigterm)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT, signal.SIGTERM])  # masks are inherited
    jobs.serve()


def _block() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])


def _die_with_the_worker(lifeline: int) -> None:
    """Die when it does, even by SIGKILL, with all that jobs have started; it never writes to the lifeline."""
    os.set_inheritable(lifeline, False)
    if sys.platform == "linux":
        # The kernel sends this to the whole group when the last writer is gone, busy or not: no thread, no GIL needed.
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
        # Not PR_SET_PDEATHSIG of prctl(2): that comes when one thread of the worker is gone, mostly before the last one
        # has closed its end, and with the killed process would go what was asked for here.
    else:
        threading.Thread(target=_kill_at_the_end_of, args=(lifeline,), daemon=True).start()
    poll = select.poll()
    poll.register(lifeline)
    if poll.poll(0):  # it died before we could ask
        os._exit(0)


def _kill_at_the_end_of(lifeline: int) -> None:
    os.read(lifeline, 1)
    os.killpg(0, signal.SIGKILL)


class _Jobs:
    """The jobs of this process, one at a time."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        connection.set_inheritable(False)
        # Python forgets the signals that come while it forks; blocked, they wait.
        os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=self._after_fork)
        self._send_lock = threading.Lock()
        self._run: RemoteRun | None = None
        self._was_told = False
        """For good: a process in which a job was interrupted wherever it was gets no other."""
        self._is_interruptible = False
        self._is_sending = False
        self._has_main = False

    def _after_fork(self) -> None:
        """What a job forks must not hold the connection open, nor write to it, and SIGTERM is to end it."""
        self._connection.close()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _unblock()

    def serve(self) -> None:
        frames, received = Frames(), list[object]()
        while data := self._connection.recv(65536):
            frames.feed(data, received.append)
            for each in received:
                if isinstance(each, Request):
                    self._send(Done(each.number, self._ending(each)))
            received.clear()

    # --- one attempt ------------------------------------------------------------------------------------------------

    def _ending(self, request: Request) -> Outcome | Raised:
        run = self._run = RemoteRun(request, self._was_told)
        try:
            with self._interruptible():
                value = self._called(run)
            return returned(value, lambda text: self._log(request.number, LogLevel.WARNING, text, None, "UserDefined"))
        except BaseException as error:  # noqa: ASYNC103  # the barrier; no Trio runs here
            return _raised(error)  # noqa: ASYNC104
        finally:
            self._run = None
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):
                    stream.flush()

    def _called(self, run: RemoteRun) -> object:
        if run.request.main is not None and not self._has_main:
            from multiprocessing.spawn import prepare  # takes a while, and few need it

            prepare(run.request.main)
            self._has_main = True
        registered = run.found = _registered(run.request.address, run.request.name)
        context = ProcessContext(run, self)
        arguments: dict[str, object] = dict.fromkeys(registered.needed, context)
        parameters = registered.parameters
        if parameters.context is not None:
            arguments[parameters.context] = context
        if registered.reader is not None and parameters.data is not None:
            data = registered.reader.read(run.job.job_data)
            context.bind_data(data)
            arguments[parameters.data.name] = data
        enter(context)
        return registered.callable_for(arguments)()

    # --- being told to stop -----------------------------------------------------------------------------------------

    def on_sigterm(self, number: int, frame: FrameType | None) -> None:
        """The job is to stop: said once, and never in the middle of a frame to the worker."""
        if self._was_told:
            return
        self._was_told = True
        if self._run is not None:
            self._run.told_to_stop = True
        if not self._is_sending:
            self._stop_if_told()

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        self._is_interruptible = True
        try:
            self._stop_if_told()
            yield
        finally:
            self._is_interruptible = False

    def _stop_if_told(self) -> None:
        if self._was_told and self._is_interruptible:
            raise JobCancelled("the job was told to stop")

    # --- to the worker ----------------------------------------------------------------------------------------------

    def log(
        self, run: Run, level: LogLevel, message: str, data: dict[str, object] | None, *, category: str = "UserCode"
    ) -> None:
        """Send an entry of the job's log. Waits only while the worker is slower than the job."""
        remote = self._run
        if remote is not None and remote is cast("object", run):  # not of a thread that an earlier job has left behind
            self._log(remote.request.number, level, message, data, category)

    def _log(self, number: int, level: LogLevel, message: str, data: dict[str, object] | None, category: str) -> None:
        text, facts = as_logged(message, data)
        self._send(Log(number, level, text, None if facts is None else write(facts), category))

    def _send(self, value: Done | Log) -> None:
        is_main = threading.current_thread() is threading.main_thread()
        was_told = self._was_told
        if is_main:
            self._is_sending = True
        try:
            # The worker is gone if this fails; nobody is left to tell.
            with self._send_lock, contextlib.suppress(OSError):
                self._connection.sendall(framed(value))
        finally:
            if is_main:
                self._is_sending = False
        if is_main and not was_told:
            self._stop_if_told()


@cache
def _registered(address: Address, name: str) -> RegisteredJob:
    registry = Registry()
    registry.add(define_job(found_at(address), name))  # type: ignore[arg-type]  # checked where it is used
    registry.prepare(WorkerSettings(), context_type=JobContext, provided=())
    return registry.jobs[0]


def _raised(error: BaseException) -> Raised:
    inner = tuple(leaves(error))
    return Raised(
        outcome=failed(error, RetryPolicy()),
        text=error_text(error, skip_frames_in=OUR_FRAMES),
        kinds=frozenset(kind_name(kind) for leaf in inner for kind in type(leaf).__mro__),
        because_told=all(isinstance(leaf, JobCancelled) for leaf in inner),
    )
