"""A Trio run in a thread of its own, held by asyncio code: `async with TrioThread(...):`.

Entered when the run says that it has started, left when it has ended. Trio's guest mode would save the thread, but a
job that blocks its event loop would block the host's, and the host could not leave without it.
"""

import asyncio
import atexit
import contextlib
import contextvars
import logging
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

import trio

from milvaion_trio.embed.crossing import tell, until_done

__all__ = ["Started", "TrioThread"]

HOST_LOOKS = 1.0
"""Seconds between two looks whether the host's loop still exists: it cannot tell, and waking once costs 50 us."""

JOINED = 5.0
"""Seconds for a thread to end that has said its last word: microseconds, on any machine that is not out of memory."""

_log = logging.getLogger("milvaion_trio.embed")

Started = Callable[[], None]
"""To be called in the thread, when the function that runs there has started."""


class TrioThread:
    """One async function under `trio.run`, in a daemon thread, with the context variables of who made this.

    When it is cancelled it is waited for, `patience` seconds at most; then the thread is left behind, and said so.
    """

    def __init__(self, function: Callable[[Started], Awaitable[None]], *, name: str, patience: float) -> None:
        self._function = function
        self._name = name
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._started: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._scope = trio.CancelScope()
        self._is_cancelled = self._is_left = False
        self._error: BaseException | None = None
        self.token: trio.lowlevel.TrioToken | None = None
        """Of the run, once it has begun."""
        context = contextvars.copy_context()
        # A daemon, as a program that forgets it must be able to end; `_at_exit` gives it the time it was promised.
        self._thread = threading.Thread(target=lambda: context.run(self._run), name=name, daemon=True)

    async def __aenter__(self) -> Self:
        """Start it; raises what the function raises before it has started. If cancelled, it has ended."""
        self._thread.start()
        atexit.register(self._at_exit)
        await self._wait(self._started)
        if not self._started.done():
            self._finish()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for its end, and cancel it if there is an error; raises what the function raised, as itself."""
        if isinstance(error, GeneratorExit):  # who waited was thrown away, and can wait for nothing any more
            self.cancel()
            return
        if error is not None:
            await self._stop()  # noqa: ASYNC102  # asyncio: shields itself
        else:
            await self._wait(self._ended)  # noqa: ASYNC102  # asyncio: what it waits for has no end of its own
        self._finish()

    def cancel(self) -> None:
        """Cancel the function, from any thread, also before the run has begun and after it has ended."""
        self._is_cancelled = True
        self.soon(self._scope.cancel)

    def soon(self, act: Callable[[], object]) -> None:
        """Do something in the thread; without effect before the run has begun and after it has ended."""
        if self.token is not None:
            with contextlib.suppress(trio.RunFinishedError):
                self.token.run_sync_soon(act)

    def leave_behind(self) -> None:
        """Cancel it and wait for it no more: who waits goes on as if it had ended."""
        self.cancel()
        self._is_left = True
        _log.error(
            "%s has not ended in the time it has: a job ignores its cancellation, or blocks its thread. "
            "The thread is left behind and ends with that job, or with the process",
            self._name,
        )
        if not self._ended.done():
            self._ended.set_result(None)

    async def _wait(self, future: "asyncio.Future[None]") -> None:
        """Return when it or the end has come. If cancelled, so is the function, and that is waited for."""
        try:
            if not self._ended.done():
                await asyncio.wait([future, self._ended], return_when=asyncio.FIRST_COMPLETED)
        except GeneratorExit:
            self.cancel()
            raise
        except BaseException:
            await self._stop()  # noqa: ASYNC102  # asyncio: shields itself
            self._finish()
            raise

    async def _stop(self) -> None:
        """Cancel the function and wait for its end, as long as there is patience."""
        self.cancel()
        if not await until_done(self._ended, self._patience):
            self.leave_behind()

    def _finish(self) -> None:
        """The thread is over, or given up; raise what it raised."""
        atexit.unregister(self._at_exit)
        if not self._is_left:
            self._thread.join(JOINED)
        if self._error is not None:
            try:
                raise self._error
            finally:
                self._error = None  # which holds this frame, which holds it

    # --- in the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            trio.run(self._main)
        except BaseException as error:  # noqa: ASYNC103  # raised by `_finish`, in the host
            self._error = error
            if self._is_left:  # nobody is there any more to raise it
                _log.exception("%s, which was left behind, failed", self._name)
        finally:
            tell(self._loop, self._ended)

    async def _main(self) -> None:
        self.token = trio.lowlevel.current_trio_token()
        with self._scope:
            if self._is_cancelled:  # before there was a token
                self._scope.cancel()
            trio.lowlevel.spawn_system_task(self._watch_host)
            await self._function(lambda: tell(self._loop, self._started))

    async def _watch_host(self) -> None:
        while not self._loop.is_closed():  # noqa: ASYNC110  # nobody tells when it is
            await trio.sleep(HOST_LOOKS)
        _log.warning("the event loop that hosts %s was closed before it had ended; it is cancelled", self._name)
        self._scope.cancel()

    def _at_exit(self) -> None:
        """The program ends while nobody waits any more: end as after a cancellation."""
        self.cancel()
        self._thread.join(self._patience)
