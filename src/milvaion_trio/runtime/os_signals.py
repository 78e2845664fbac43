"""SIGINT and SIGTERM: the first drains, the second cancels the jobs, the third leaves at once.

A plain handler that counts, not `trio.open_signal_receiver`: the third signal must work even while a job blocks the
event loop, when no task can run.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

import trio

from milvaion_trio.runtime.shutdown import Shutdown

__all__ = ["FORCED_EXIT", "default_handlers_in_place", "handled"]

FORCED_EXIT = 130
"""Exit code of a program that was told three times: 128 + SIGINT, as shells know it."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def handled(shutdown: Shutdown) -> Iterator[None]:
    """Count SIGINT and SIGTERM while the context is open; the handlers of before come back afterwards.

    Only in the main thread, which is the only one Python lets handle signals.
    """
    token = trio.lowlevel.current_trio_token()
    count = 0

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count >= 3:
            os._exit(FORCED_EXIT)
        # Reentrant and safe in a signal handler, unlike setting the event here.
        token.run_sync_soon(shutdown.drain if count == 1 else shutdown.stop)

    before = {number: signal.signal(number, handle) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def default_handlers_in_place() -> bool:
    """Whether this is the main task of `trio.run` in the main thread, and nobody has taken the signals."""
    if threading.current_thread() is not threading.main_thread():
        return False
    nursery = trio.lowlevel.current_task().parent_nursery
    if nursery is None or nursery.parent_task is not trio.lowlevel.current_root_task():
        return False
    return all(_is_default(signal.getsignal(number)) for number in _SIGNALS)


def _is_default(handler: object) -> bool:
    # While trio.run runs, SIGINT has Trio's own handler wherever Python's default was in place before.
    return (
        handler in (signal.SIG_DFL, signal.default_int_handler)
        or getattr(handler, "__module__", "").partition(".")[0] == "trio"
    )
