"""The end of a worker whose supervisor is gone: a pipe that nobody writes to, and that the kernel closes in any case.

Separate from `reload`, because this is the child's side: the supervisor may be killed at any moment, and nobody could
stop the worker with Ctrl-C after that.
"""

import os
import signal
import threading
import time

from milvaion_trio.cli.failures import UsageError
from milvaion_trio.runtime.os_signals import FORCED_EXIT, handed_on

__all__ = ["end_with"]

BETWEEN = 0.5
"""Seconds from draining to cancelling: enough for what is about to end anyway."""
LEAVING = 10.0
"""Seconds to leave, then without ceremony: clean-up and flush have 8 by default."""


def end_with(lifeline: int) -> None:
    """From now on, end this process soon after the other end of this pipe is closed.

    Running jobs are cancelled and go back to their queues, or return with the connection if the event loop is blocked.
    SIGINT, which the supervisor counts and hands on as SIGTERM, has no effect here, and its own for what jobs start.
    Raises `UsageError` for anything else that somebody takes for a lifeline.
    """
    try:
        os.set_inheritable(lifeline, False)
    except OSError as error:
        raise UsageError("--lifeline is how --reload talks to the process that it starts; leave it out.") from error
    # A handler and no mask, nor SIG_IGN: programs that jobs start would inherit these, and Ctrl-C would not end them.
    signal.signal(signal.SIGINT, handed_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])  # before the thread, which inherits the mask
    threading.Thread(target=_wait, args=(lifeline,), name="lifeline", daemon=True).start()


def _wait(lifeline: int) -> None:
    os.read(lifeline, 1)
    for patience in (BETWEEN, LEAVING):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(patience)
    os._exit(FORCED_EXIT)
