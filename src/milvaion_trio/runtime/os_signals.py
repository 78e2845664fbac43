"""SIGINT and SIGTERM: the first drains, the second cancels the jobs, the third leaves at once.

A plain handler that counts, not `trio.open_signal_receiver`: the third signal must work even while a job blocks the
event loop, when no task can run.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import trio

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.runtime.shutdown import Shutdown

__all__ = ["FORCED_EXIT", "cancelled_by_signals", "counted", "handed_on", "handled", "to_handle"]

FORCED_EXIT = 130
"""Exit code of a program that was told three times: 128 + SIGINT, as shells know it."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def handed_on(number: int, frame: FrameType | None) -> None:
    """A handler that does nothing: this signal arrives as another one too, by way of a supervisor, and counts once."""


def to_handle(asked: bool | None) -> tuple[signal.Signals, ...]:
    """The signals that serving takes: both, none, or if nobody says those whose handlers are still the default ones.

    Never one that is `handed_on`.
    Of its own accord only in the main task of `trio.run` in the main thread.
    Raises `SettingsError` when asked to in another thread, where Python lets nobody handle signals.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if asked:
        if not in_main_thread:
            raise SettingsError(["serve(handle_signals=True) works in the main thread only; leave the signals to it."])
        return tuple(number for number in _SIGNALS if signal.getsignal(number) is not handed_on)
    if asked is False or not in_main_thread or not _in_main_task():
        return ()
    return tuple(number for number in _SIGNALS if _is_default(signal.getsignal(number)))


def handled(shutdown: Shutdown, numbers: tuple[signal.Signals, ...]) -> contextlib.AbstractContextManager[None]:
    """Count these signals while the context is open, for a worker that serves in this thread."""
    soon = trio.lowlevel.current_trio_token().run_sync_soon
    # Reentrant and safe in a signal handler, unlike setting the events here.
    return counted(numbers, lambda: soon(shutdown.drain), lambda: soon(shutdown.stop))


@contextlib.contextmanager
def counted(numbers: tuple[signal.Signals, ...], drain: Callable[[], None], stop: Callable[[], None]) -> Iterator[None]:
    """Call `drain` at the first of these signals and `stop` at the second, in the handler; leave at the third.

    The handlers of before come back when the context is left. In the main thread only, whichever thread serves.
    """
    count = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count >= 3:
            os._exit(FORCED_EXIT)
        drain() if count == 1 else stop()

    before = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            # None stands for a handler that was not made in Python, which Python cannot give back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


@contextlib.contextmanager
def cancelled_by_signals() -> Iterator[None]:
    """Cancel what is done inside at the first SIGINT or SIGTERM, and leave the process at the third."""
    soon = trio.lowlevel.current_trio_token().run_sync_soon
    with trio.CancelScope() as scope:

        def cancel() -> None:
            soon(scope.cancel)

        with counted(_SIGNALS, cancel, cancel):
            yield


def _in_main_task() -> bool:
    nursery = trio.lowlevel.current_task().parent_nursery
    return nursery is not None and nursery.parent_task is trio.lowlevel.current_root_task()


def _is_default(handler: object) -> bool:
    # While trio.run runs, SIGINT has Trio's own handler wherever Python's default was in place before.
    return (
        handler in (signal.SIG_DFL, signal.default_int_handler)
        or getattr(handler, "__module__", "").partition(".")[0] == "trio"
    )
