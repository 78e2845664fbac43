"""`--reload`: a supervisor that runs the worker as a child process, and drains and restarts it when the code changes.

A new process, not a new import: modules keep state, and only a fresh interpreter runs what stands in the files.
The supervisor counts the signals and hands them on, so the worker leaves as it would alone (runtime/os_signals.py).
"""

import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, TypeAlias

import trio
from attrs import define, field
from cyclopts import Parameter
from rich.text import Text

from milvaion_trio.cli.failures import ExitCode, UsageError
from milvaion_trio.cli.lifeline import end_with
from milvaion_trio.cli.terminal import QUIET, error_console
from milvaion_trio.cli.watching import check_watchable, watch
from milvaion_trio.model.exception_groups import sole
from milvaion_trio.runtime.job_process import this_interpreter

__all__ = ["COMMAND_LINE", "LifelineOption", "ReloadDirOption", "ReloadOption", "reloading"]

ReloadOption: TypeAlias = Annotated[
    bool,
    Parameter(
        name="--reload",
        negative="",
        help="Drain and start again whenever the code or the settings change. Needs milvaion-trio[reload].",
    ),
]
ReloadDirOption: TypeAlias = Annotated[
    list[Path] | None,
    Parameter(
        name="--reload-dir",
        negative="",
        metavar="FOLDER",
        help="With --reload: where the code is, repeatable; the current folder unless given.",
    ),
]
LifelineOption: TypeAlias = Annotated[int | None, Parameter(name="--lifeline", show=False, negative="")]
"""How a supervisor tells its child that it is one: the file descriptor that closes when the supervisor is gone."""

COMMAND_LINE: ContextVar[Sequence[str]] = ContextVar("COMMAND_LINE")
"""The name and the arguments of the command that is run: what a child is to run again."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
LONG = 30.0
"""Seconds of draining after which a person wants to know why: the default budgets are 28."""
LAST_PATIENCE = 3.0
"""Seconds for the third signal to be heard on a busy machine; whoever is stuck outside of Python never hears it."""


def reloading(reload: bool, folders: Sequence[Path] | None, settings: Path | None, lifeline: int | None) -> int | None:
    """Where `--reload` was given, run this same command line as a child process, and again after every change.

    Returns the last child's exit code; `None` in the child itself and without `--reload`: then the worker is to be
    served here. Raises `UsageError` when nothing can be watched, `CommandFailed` when that fails later.
    """
    if lifeline is not None:
        end_with(lifeline)
        return None
    if not reload:
        if folders is not None:
            raise UsageError("--reload-dir says where --reload looks for changes: give --reload as well.")
        return None
    folders = folders or [Path()]
    check_watchable(folders)
    supervisor = _Supervisor([folder.resolve() for folder in folders], None if settings is None else settings.resolve())
    try:
        return trio.run(supervisor.run)
    except BaseExceptionGroup as group:
        raise sole(group) from None


@define(eq=False)
class _Supervisor:
    """One child at a time, what it was told, and what has changed since it was started."""

    _folders: Sequence[Path]
    _settings: Path | None
    _told: int = field(default=0, init=False)
    """Signals that this process got: drain, cancel, leave at once."""
    _has_child: bool = field(default=False, init=False)
    _is_reloading: bool = field(default=False, init=False)
    """Whether the child drains because of a change."""
    _sent: int = field(default=0, init=False)
    """Signals that the child got from here."""
    _news: trio.Event = field(factory=trio.Event, init=False)
    """A change, or the first signal: whoever waits has something to do."""

    async def run(self) -> int:
        """Supervise until told to leave. If cancelled, the child is killed."""
        # What the receiver puts back at its end: then the child is gone, and only its exit code is left to tell.
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        with trio.open_signal_receiver(*_SIGNALS) as signals:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._count, signals)
                await nursery.start(watch, self._folders, self._settings, self._changed)
                folders = ", ".join(map(_shown, self._folders))
                _say(f"Watching {folders}: the worker starts again when the code changes.")
                code = await self._children()
                nursery.cancel_scope.cancel()
        return code

    async def _children(self) -> int:
        """One child after the other; returns the exit code of the last."""
        # Never written to. The kernel closes it with this process, however that ends.
        lifeline, kept = os.pipe()
        code: int = ExitCode.FORCED  # told to leave before there was a child
        try:
            while not self._told:
                self._news = trio.Event()  # what has changed until now, the new child reads
                self._has_child, self._is_reloading, self._sent = True, False, 0
                code = await self._child(lifeline)
                self._has_child = False
                if not self._is_reloading and not self._told:
                    _say(f"The worker ended with exit code {code}. It starts again when the code changes.")
                    await self._news.wait()
            return code
        finally:
            os.close(lifeline)
            os.close(kept)

    async def _child(self, lifeline: int) -> int:
        """Run a child to its end, which is asked for when there are news; returns its exit code."""
        name, *arguments = COMMAND_LINE.get()
        # Ctrl-C in a terminal reaches every process of its foreground group, the child twice then: so it counts only
        # what is handed on, and blocks SIGINT until it can say so (`end_with`).
        # Without a terminal it has a group of its own, for those who signal groups.
        # -B: bytecode counts as current for all of the second in which it was written, whatever follows in it.
        process = await trio.lowlevel.open_process(
            [*this_interpreter(), "-B", "-m", "milvaion_trio", name, f"--lifeline={lifeline}", *arguments],
            pass_fds=(lifeline,),
            preexec_fn=_block_sigint,
            process_group=None if sys.stdin is not None and sys.stdin.isatty() else 0,
        )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._end, process)
                await process.wait()
                nursery.cancel_scope.cancel()
        finally:
            if process.poll() is None:  # a bug, or the files cannot be watched any more
                process.kill()
                with trio.move_on_after(LAST_PATIENCE, shield=True):
                    await process.wait()
        code = process.returncode
        assert code is not None
        return code if code >= 0 else 128 - code  # as shells say that a signal ended it

    async def _end(self, process: trio.Process) -> None:
        """Hand on what there is to be told, from the first news on. May be cancelled."""
        await self._news.wait()
        if not self._told:
            self._is_reloading = True
        with trio.move_on_after(LONG):
            await self._hand_on(process)
        _say(f"The worker has not left after {LONG:g} s. Ctrl-C gives it less time, and the third one none.")
        await self._hand_on(process)

    async def _hand_on(self, process: trio.Process) -> None:
        """Let the child have had as many signals as this process, and the first one in any case. Never returns."""
        while True:
            self._news = trio.Event()
            if self._sent < max(self._told, 1):
                self._sent += 1
                process.terminate()
            elif self._told >= 3:
                await trio.sleep(LAST_PATIENCE)
                process.kill()
            else:
                await self._news.wait()

    async def _count(self, signals: AsyncIterator[int]) -> None:
        async for _ in signals:
            self._told += 1
            self._news.set()

    def _changed(self, paths: list[Path]) -> None:
        if not self._told and not self._is_reloading:
            more = f" and {len(paths) - 1} more" if len(paths) > 1 else ""
            drains = "drains and " if self._has_child else ""
            _say(f"{_shown(paths[0])}{more} changed: the worker {drains}starts again.")
        self._news.set()


def _block_sigint() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])


def _shown(path: Path) -> str:
    here = Path.cwd().resolve()
    return str(path.relative_to(here)) if path.is_relative_to(here) and path != here else str(path)


def _say(text: str) -> None:
    error_console().print(Text(text, style=QUIET))
