"""How a process of `run --processes` hears from its supervisor, and says that it is up: a socket between the two.

Not by signals: service managers send theirs to every process, which would count one request twice and cancel its jobs.
Here SIGTERM and SIGINT drain, however often they come, and what the supervisor asks for comes over the socket. Its end
says that the supervisor is gone, however that happened; nobody would end the process then.
"""

import contextlib
import enum
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from types import FrameType

import trio
from attrs import define, field

from milvaion_trio.cli.failures import UsageError
from milvaion_trio.cli.lifeline import BETWEEN, LEAVING
from milvaion_trio.logs import log_event
from milvaion_trio.model.events import Event, JobLimitReached
from milvaion_trio.runtime.os_signals import FORCED_EXIT
from milvaion_trio.worker import Worker

__all__ = ["ANOTHER_WANTED", "UP", "Asked", "Tether", "tethered"]

ANOTHER_WANTED = 75
"""Exit code of a process that has run all the jobs it may: EX_TEMPFAIL of sysexits.h."""
UP = b"u"
"""Said once by the process when it takes jobs."""


_log = logging.getLogger("milvaion_trio")


class Asked(enum.IntEnum):
    """What the supervisor asks for, each as one byte."""

    DRAIN = 1
    STOP = 2
    LEAVE = 3


def tethered(number: int) -> "Tether":
    """The process's end of the socket with this file number, listened to from now on.

    Raises `UsageError` for anything else that somebody takes for one.
    """
    try:
        link = socket.socket(fileno=number)
        link.set_inheritable(False)
    except OSError as error:
        raise UsageError("--tether is how --processes talks to what it starts; leave it out.") from error
    tether = Tether(link)
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, tether.drain)
    threading.Thread(target=tether.listen, name="tether", daemon=True).start()
    return tether


@define(eq=False)
class Tether:
    """What was asked so far, and who is told of it."""

    _link: socket.socket
    _drains: bool = field(default=False, init=False)
    _stops: bool = field(default=False, init=False)
    """Two flags that are only ever set: they are written in a thread and in signal handlers, where no lock is safe."""
    _obey: Callable[[], None] | None = field(default=None, init=False)
    is_spent: bool = field(default=False, init=False)
    """Whether the process has run all the jobs it may."""

    @property
    def is_to_leave(self) -> bool:
        """Whether it was asked to, in whatever way."""
        return self._drains

    def listen(self) -> None:
        """Take what the supervisor says until it is gone, then end this process soon. It blocks."""
        with contextlib.suppress(OSError):  # a reset is an end too
            while said := self._link.recv(1):
                self._heed(said[0])
        for asked, patience in ((Asked.DRAIN, BETWEEN), (Asked.STOP, LEAVING), (Asked.LEAVE, 0.0)):
            self._heed(asked)
            time.sleep(patience)

    def drain(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Let running jobs end and take no more; also as the handler of a signal."""
        self._heed(Asked.DRAIN)

    def _heed(self, asked: int) -> None:
        if asked >= Asked.LEAVE:  # here, as the event loop may be blocked
            os._exit(FORCED_EXIT)
        self._drains = True
        self._stops = self._stops or asked >= Asked.STOP
        if self._obey is not None:
            self._obey()

    async def serve(self, worker: Worker, *, burst: bool) -> None:
        """Serve until asked to leave; with `burst` also until nothing is left to do.

        If cancelled, the running jobs are cancelled and go back to their queues.
        """
        soon = trio.lowlevel.current_trio_token().run_sync_soon
        worker.observers = tuple(_log_calmly if each is log_event else each for each in worker.observers)
        worker.observe(self._note)
        with trio.CancelScope() as serving:
            self._obey = partial(_soon, soon, lambda: self._tell(worker, serving))
            self._tell(worker, serving)
            async with trio.open_nursery() as nursery:
                await nursery.start(partial(worker.serve, handle_signals=False))
                with contextlib.suppress(OSError):  # the supervisor is gone
                    self._link.send(UP)
                if burst:
                    await worker.idle()
                    worker.drain()

    def _tell(self, worker: Worker, serving: trio.CancelScope) -> None:
        """Hand on what was asked; before it serves, a worker that is to drain has nothing to wait for."""
        if self._stops or (self._drains and worker.trio_token is None):
            serving.cancel()
        elif self._drains:
            worker.drain()

    def _note(self, event: Event) -> None:
        self.is_spent = self.is_spent or isinstance(event, JobLimitReached)


def _log_calmly(event: Event) -> None:
    """Here somebody starts another process, so that the limit is no warning."""
    if isinstance(event, JobLimitReached):
        _log.info(
            "job limit reached: jobs=%d (max_jobs_per_process), the process leaves when they have ended", event.jobs
        )
    else:
        log_event(event)


def _soon(soon: Callable[[Callable[[], None]], None], tell: Callable[[], None]) -> None:
    with contextlib.suppress(trio.RunFinishedError):
        soon(tell)
