"""`run --processes`: a supervisor that runs no jobs itself, and keeps so many processes running that do.

They are new interpreters with the same command line, never forks: a fork would have Trio's state and none of its
threads. What is said between the two goes over a socket, see `tether`.
The first process goes ahead, so that what keeps a worker from starting is told once.
"""

import contextlib
import logging
import math
import random
import signal
import socket
import subprocess
from collections.abc import AsyncIterator

import trio
from attrs import define, field, frozen

from milvaion_trio.cli.failures import CommandFailed, ExitCode
from milvaion_trio.cli.reload import COMMAND_LINE, LAST_PATIENCE
from milvaion_trio.cli.tether import ANOTHER_WANTED, UP, Asked
from milvaion_trio.model.exception_groups import sole
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.policy.backoff import retry_delay
from milvaion_trio.runtime.job_process import this_interpreter

__all__ = ["FIRST_PAUSE", "keep_running"]

FIRST_PAUSE = 0.5
"""Seconds before a process that died is started again; doubled with each further death that follows soon."""
LONGEST_PAUSE = 30.0
"""Seconds: nobody is left to shorten it when what kills the processes is over."""
STEADY = 60.0
"""Seconds of running after which a death counts as the first one again."""
STARTS = 3
"""Tries to start, of a process while no other is up: the broker was tried for long, and what starts us tries again."""
GRACE = 2.0
"""Seconds beyond the budgets before a process that was asked to leave is killed: one that the worker itself allows for
what surrounds it, and one for the end of the interpreter."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)

_log = logging.getLogger("milvaion_trio")


def keep_running(settings: WorkerSettings, *, burst: bool) -> int:
    """Keep `settings.processes` processes of this command line running until told to leave.

    With `burst` until they have left by themselves. Returns the worst of their last exit codes. Raises `CommandFailed`
    when the system denies what supervising needs.
    """
    supervisor = _Supervisor(settings, burst)
    try:
        return trio.run(supervisor.run)
    except (OSError, BaseExceptionGroup) as raised:
        error = sole(raised)
        if isinstance(error, OSError):
            raise CommandFailed(f"The supervisor could not go on, and its processes are gone: {error}.") from error
        raise error from None


@define(eq=False)
class _Life:
    """One process, from its start to its end."""

    process: trio.Process
    link: trio.socket.SocketType
    began: float
    was_up: bool = False

    def end(self, number: int) -> "_End":
        """How it ended."""
        code = self.process.returncode
        assert code is not None
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        words = f"ended with exit code {code}" if code >= 0 else f"was ended by {name}"
        return _End(
            who=f"process {number} (pid {self.process.pid})",
            code=code if code >= 0 else 128 - code,
            how=words if self.was_up else f"{words} before it was up",
            was_up=self.was_up,
            lasted=trio.current_time() - self.began,
        )


@frozen(kw_only=True)
class _End:
    """How a process ended, or that it could not be started."""

    who: str
    code: int
    """As shells say it: 128 and the signal, if it was one."""
    how: str
    """The same in words."""
    was_up: bool = False
    lasted: float = 0.0


@define(eq=False)
class _Supervisor:
    """What was asked of it, and which processes are up."""

    _settings: WorkerSettings
    _is_burst: bool
    _asked: int = field(default=0, init=False)
    """Signals that this process got: drain, stop, leave at once."""
    _leaving: trio.Event = field(factory=trio.Event, init=False)
    _news: trio.Event = field(factory=trio.Event, init=False)
    """Set when something is asked, and replaced."""
    _kill_at: float = field(default=math.inf, init=False)
    _has_gone_ahead: trio.Event = field(factory=trio.Event, init=False)
    _up: set[int] = field(factory=set, init=False)
    _code: int = field(default=ExitCode.DONE, init=False)

    async def run(self) -> int:
        """Supervise until every process has left for good. If cancelled, they are killed."""
        # What the receiver puts back at its end: then all of them are gone, and only the exit code is left to tell.
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        with trio.open_signal_receiver(*_SIGNALS) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._count, signals)
                async with trio.open_nursery() as kept:
                    kept.start_soon(self._keep, 1)
                    await self._has_gone_ahead.wait()
                    for number in range(2, self._settings.processes + 1):
                        kept.start_soon(self._keep, number)
                nursery.cancel_scope.cancel()
        return ExitCode.FORCED if self._asked >= Asked.LEAVE else self._code

    async def _keep(self, number: int) -> None:
        """Start the process of this number, and again when it has ended, until it is not wanted any more.

        If cancelled, it is killed.
        """
        failed_starts = short_lives = 0
        while not self._leaving.is_set():
            end = await self._live(number)
            if self._leaving.is_set() or (self._is_burst and end.code == ExitCode.DONE):
                if end.code != ANOTHER_WANTED:  # which is not wanted any more
                    self._code = max(self._code, end.code)
                break
            if end.code == ANOTHER_WANTED:
                _log.info("%s has run its jobs, another one is started", end.who)
                failed_starts = short_lives = 0
                continue
            failed_starts = 0 if end.was_up else failed_starts + 1
            if not self._up and self._is_hopeless(end.code, failed_starts):
                tries = "" if failed_starts == 1 else f", {failed_starts} times in a row"
                _log.error("%s %s%s; no process runs, so this one leaves too", end.who, end.how, tries)
                self._code = max(self._code, end.code)
                self._ask(Asked.DRAIN)
                break
            if end.lasted >= STEADY:
                short_lives = 0
            pause = retry_delay(FIRST_PAUSE, short_lives, cap=LONGEST_PAUSE, jitter=0.1, draw=random.random())
            short_lives += 1
            _log.warning("%s %s, another one is started in %.1f s", end.who, end.how, pause)
            with trio.move_on_after(pause):
                await self._leaving.wait()
        self._has_gone_ahead.set()

    @staticmethod
    def _is_hopeless(code: int, failed_starts: int) -> bool:
        """Whether starting a process again changes nothing, so far as one can tell."""
        return failed_starts >= (1 if code == ExitCode.USAGE else STARTS)

    # --- one process ------------------------------------------------------------------------------------------------

    async def _live(self, number: int) -> _End:
        """Run a process to its end. If cancelled, it is killed."""
        try:
            life = await self._begun(number)
        except (OSError, RuntimeError) as error:  # no memory, file numbers or threads now, or no interpreter
            return _End(who=f"process {number}", code=ExitCode.FAILED, how=f"could not be started: {error}")
        process = life.process
        with life.link:
            _log.info("process %d started: pid %d", number, process.pid)
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._hear, number, life)
                    nursery.start_soon(self._hand_on, number, life)
                    await process.wait()
                    nursery.cancel_scope.cancel()
            finally:
                self._up.discard(number)
                if process.poll() is None:  # a defect of ours
                    process.kill()
                    with trio.move_on_after(LAST_PATIENCE, shield=True):
                        await process.wait()
        return life.end(number)

    async def _begun(self, number: int) -> _Life:
        """Start a process. If cancelled, there is none."""
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            process = await self._started(number, theirs)
            undo.pop_all()
        return _Life(process, trio.socket.from_stdlib_socket(ours), trio.current_time())

    async def _started(self, number: int, link: socket.socket) -> trio.Process:
        name, *arguments = COMMAND_LINE.get()
        hidden = (f"--process={number}", f"--tether={link.fileno()}")
        return await trio.lowlevel.open_process(
            [*this_interpreter(), "-m", "milvaion_trio", name, *hidden, *arguments],
            stdin=subprocess.DEVNULL,
            pass_fds=(link.fileno(),),
            process_group=0,  # Ctrl-C of the terminal is for the supervisor
        )

    async def _hear(self, number: int, life: _Life) -> None:
        """Wait for the process to say that it is up. If cancelled, nothing changes."""
        with contextlib.suppress(OSError):
            if await life.link.recv(1) == UP:
                life.was_up = True
                self._up.add(number)
                self._has_gone_ahead.set()

    async def _hand_on(self, number: int, life: _Life) -> None:
        """Ask the process for all that is asked of this one, and kill it when it takes too long. Never returns."""
        said = 0
        while True:
            news = self._news
            while said < self._asked:
                said += 1
                with contextlib.suppress(OSError):  # it ends already
                    await life.link.send(bytes([said]))
            with trio.move_on_at(self._kill_at) as patience:
                await news.wait()
            if patience.cancelled_caught:
                _log.error("process %d (pid %d) has not left in time and is killed", number, life.process.pid)
                life.process.kill()
                await trio.sleep_forever()

    # --- leaving ----------------------------------------------------------------------------------------------------

    async def _count(self, signals: AsyncIterator[int]) -> None:
        """Ask for one thing more with each signal. Ends by being cancelled."""
        async for _ in signals:
            self._ask(min(self._asked + 1, Asked.LEAVE))

    def _ask(self, what: int) -> None:
        budgets = self._settings.shutdown
        seconds = {
            Asked.DRAIN: budgets.drain_timeout + budgets.cleanup_timeout + budgets.flush_timeout + GRACE,
            Asked.STOP: budgets.cleanup_timeout + budgets.flush_timeout + GRACE,
            Asked.LEAVE: LAST_PATIENCE,
        }
        self._asked = max(self._asked, what)
        self._kill_at = min(self._kill_at, trio.current_time() + seconds[Asked(self._asked)])
        self._leaving.set()
        self._news.set()
        self._news = trio.Event()
