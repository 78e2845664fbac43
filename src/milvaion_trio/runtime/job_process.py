"""One job process: started, spoken to, told to stop, killed with everything it has started.

It is a fresh interpreter, never a fork: a fork of this one would have Trio's state and none of its threads.
Not `trio.lowlevel.open_process`, which reaps a child once it is dead: its group is killed after that, and until then
nobody else may have its number.
Not `multiprocessing.Process`, whose waits block, and which adds a resource tracker process that outlives the worker.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import trio
from attrs import define, field

from milvaion_trio.model.errors import JobProcessDied
from milvaion_trio.runtime.process_frames import Done, Frames, Log

__all__ = ["JobProcess", "this_interpreter"]

REAPING = 5.0
"""Seconds in which a killed process is gone, unless it hangs in the kernel."""

LAST_WORDS = 1.0
"""Seconds in which what a dead process has sent is read."""

_PROGRAM = (
    "import sys; sys.path[:] = sys.argv.pop(1).split({separator!r}); "
    "from milvaion_trio.runtime.process_child import main; main()"
)


def this_interpreter() -> list[str]:
    """How to start another one like this, with its options."""
    return [sys.executable, *subprocess._args_from_interpreter_flags()]  # type: ignore[attr-defined]  # as multiprocessing


@define(eq=False)
class JobProcess:
    """A process that runs one attempt at a time. Its group, and so all that its jobs start, has its number."""

    _popen: "subprocess.Popen[bytes]"
    _stream: trio.SocketStream
    _lifeline: int
    """Written to by nobody: when it is closed here, and however that happens, the kernel kills the group."""
    ended: trio.Event = field(factory=trio.Event, init=False)
    """Set once the process is dead and so is its group."""
    on_end: Callable[[], None] | None = field(default=None, init=False)
    """Called when `ended` is set."""
    idle_since: float | None = field(default=None, init=False)
    """On Trio's clock; `None` while a job runs in it."""
    _answered: trio.Event = field(factory=trio.Event, init=False)
    """Unset while somebody waits for an answer."""
    _frames: Frames = field(factory=Frames, init=False)
    _number: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        """Nobody waits for an answer yet."""
        self._answered.set()

    @classmethod
    def start(cls) -> "JobProcess":
        """Start one, which takes a few milliseconds; it is of use when its imports are done. Raises `OSError`.

        Somebody must run `watched` for it at once.
        """
        ours, theirs = socket.socketpair()
        with theirs, contextlib.ExitStack() as undo:
            undo.callback(ours.close)
            end, lifeline = os.pipe()
            _lifelines.add(lifeline)
            undo.callback(_close, lifeline)
            inherited = (theirs.fileno(), end)
            try:
                popen = subprocess.Popen(
                    [
                        *this_interpreter(),
                        "-c",
                        _PROGRAM.format(separator=os.pathsep),
                        os.pathsep.join(sys.path),
                        *map(str, inherited),
                    ],
                    stdin=subprocess.DEVNULL,
                    pass_fds=inherited,
                    # A group of its own to kill, and a session of its own: Ctrl-C of the terminal is for the worker.
                    start_new_session=True,
                )
            finally:
                os.close(end)
            undo.pop_all()
        return cls(popen, trio.SocketStream(trio.socket.from_stdlib_socket(ours)), lifeline)

    # --- one attempt ------------------------------------------------------------------------------------------------

    def request_number(self) -> int:
        """The next number for a request to this process."""
        self._number += 1
        return self._number

    async def ask(self, frames: bytes, number: int, on_log: Callable[[Log], None]) -> "Done | None":
        """Send a framed request and return its answer; `None` when the process ends instead.

        If cancelled, the process must be killed: what it still answers would be taken for the next one's.
        """
        answers: list[Done] = []
        self._answered = trio.Event()

        def take(value: object) -> None:
            if isinstance(value, Log):
                if value.number == number:
                    on_log(value)
            elif isinstance(value, Done):
                answers.append(value)

        try:
            await self._stream.send_all(frames)
            while not answers:
                data = await self._stream.receive_some(65536)
                if not data:
                    return None
                self._frames.feed(data, take)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return None
        finally:
            self._answered.set()
        return answers[0]

    # --- its end ----------------------------------------------------------------------------------------------------

    def tell_to_stop(self) -> None:
        """Raise `JobCancelled` in its job."""
        self._send(os.kill, signal.SIGTERM)

    def kill(self) -> None:
        """Kill it with its group."""
        self._send(os.killpg, signal.SIGKILL)

    def release(self) -> None:
        """Let it end by itself: it does when nobody can ask it any more."""
        with contextlib.suppress(OSError):
            self._stream.socket.shutdown(socket.SHUT_WR)

    async def died(self) -> None:
        """Kill it and return when it is dead, or hangs in the kernel. Not cancelled meanwhile."""
        self.kill()
        with trio.CancelScope(shield=True, relative_deadline=REAPING):
            await self.ended.wait()

    def obituary(self) -> JobProcessDied:
        """How it ended, for the job that it has taken with it."""
        return JobProcessDied(self._popen.returncode)

    async def watched(self) -> None:
        """Wait for its end, then kill what is left of its group. If cancelled, it is killed with its group."""
        try:
            await _exited(self._popen)
        finally:
            self.kill()  # before it is reaped: until then nobody else can have its number
            with trio.CancelScope(shield=True, relative_deadline=REAPING):
                await _exited(self._popen)
            self._popen.poll()
            self.ended.set()
            if self.on_end is not None:
                self.on_end()
            _close(self._lifeline)
            # What it sent last is still to be read; then the stream ends, as nobody is left who could write to it.
            with trio.CancelScope(shield=True, relative_deadline=LAST_WORDS):
                await self._answered.wait()
            self._stream.socket.close()

    def _send(self, how: Callable[[int, int], None], number: int) -> None:
        if not self.ended.is_set():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                how(self._popen.pid, number)


_lifelines: set[int] = set()
"""What is open of them in this process."""


def _close(lifeline: int) -> None:
    _lifelines.discard(lifeline)
    os.close(lifeline)


def _close_all() -> None:
    """In a fork of this process: one that outlives it would keep alive what is to die with it."""
    while _lifelines:
        os.close(_lifelines.pop())


os.register_at_fork(after_in_child=_close_all)


async def _exited(popen: "subprocess.Popen[bytes]") -> None:
    """Return when the process is dead, without reaping it where the system can tell. If cancelled, nothing changes."""
    try:
        descriptor = os.pidfd_open(popen.pid)
    except ProcessLookupError:
        return
    except (AttributeError, OSError):  # not Linux, or a kernel or sandbox without it, or no descriptor left
        await trio.to_thread.run_sync(_wait, popen, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1))
        return
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        trio.lowlevel.notify_closing(descriptor)
        os.close(descriptor)


def _wait(popen: "subprocess.Popen[bytes]") -> None:
    try:
        os.waitid(os.P_PID, popen.pid, os.WEXITED | os.WNOWAIT)
    except AttributeError:
        popen.wait()
    except ChildProcessError:  # reaped already
        return
