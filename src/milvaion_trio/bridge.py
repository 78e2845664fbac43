"""The only place where asyncio meets Trio: a loop for one link, calls into it, byte streams on it.

Importing trio-asyncio changes asyncio for the whole process: an `asyncio.run` that comes later would get a loop that
runs on Trio (LIBRARIES.md 1.2). Here that is taken back at once, so that a host that runs asyncio keeps its own loops;
what is left is that finding the running loop costs up to a microsecond. So this module is imported when a client
library needs it, and by nothing that `import milvaion_trio` imports.

What is forbidden here, each for a crash or a hang that was seen (LIBRARIES.md 1.4): iterating an asyncio iterator from
Trio, a loop without its own exception handler, asyncio's signal handling, `loop.stop()`.
"""

import asyncio
import socket
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any, ParamSpec, SupportsIndex, TypeVar

import trio
from attrs import define, field

if sys.version_info >= (3, 14):
    raise ImportError(
        "The asyncio bridge needs trio-asyncio, which cannot be imported on Python 3.14 or newer "
        "(python-trio/trio-asyncio#160). Use Python 3.11 to 3.13 for jobs on asyncio and for the driver aio-pika."
    )

# On 3.12 and 3.13 it names asyncio's child watchers, which are deprecated there (python-trio/trio-asyncio#152): nothing
# that a user could mend, so nobody's `-W error` shall fall over it.
with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "'AbstractChildWatcher' is deprecated", DeprecationWarning)
    import trio_asyncio
    from trio_asyncio._base import BaseTrioEventLoop, TrioAsyncioExit  # nowhere public

# Ctrl-C that lands in an asyncio callback would end the loop, and whoever waits for it would wait for ever
# (LIBRARIES.md 1.4.3). Protected, it is raised in Trio's main task instead, and closes what is open on its way out.
for _name in ("_main_loop", "_main_loop_one", "_main_loop_exit"):
    if not hasattr(BaseTrioEventLoop, _name):
        raise ImportError(f"This version of trio-asyncio is not known: it has no {_name}. Use 0.16.0.")
    setattr(BaseTrioEventLoop, _name, trio.lowlevel.enable_ki_protection(getattr(BaseTrioEventLoop, _name)))

# What it has put in the place of asyncio's own functions, since its loops are not what asyncio calls running.
_patches: Any = sys.modules["trio_asyncio._loop"]
for _name in ("_faked_policy", "_original_policy", "_new_run_get", "_orig_run_get", "current_loop"):
    if not hasattr(_patches, _name):
        raise ImportError(f"This version of trio-asyncio is not known: it has no {_name}. Use 0.16.0.")


class _ProgramPolicy:
    """asyncio's policy as everything outside Trio sees it: the one of before the import, or one that was set since.

    trio-asyncio steps aside where a policy is set, but counts the one of before as none, and keeps one per thread.
    """

    def __init__(self) -> None:
        self._policy: asyncio.AbstractEventLoopPolicy = _patches._original_policy

    @property
    def policy(self) -> asyncio.AbstractEventLoopPolicy:
        return self._policy

    @policy.setter
    def policy(self, policy: asyncio.AbstractEventLoopPolicy | None) -> None:
        self._policy = asyncio.DefaultEventLoopPolicy() if policy is None else policy


def _running_loop() -> asyncio.AbstractEventLoop | None:
    """As trio-asyncio finds it, without an exception for each call outside Trio: ten times faster."""
    if trio.lowlevel.in_trio_task():
        loop: asyncio.AbstractEventLoop | None = trio.lowlevel.current_task().context.get(_patches.current_loop)
    else:
        loop = _patches._orig_run_get()
    return loop


_patches._faked_policy = _ProgramPolicy()
_patches._new_run_get = asyncio.events._get_running_loop = asyncio._get_running_loop = _running_loop

__all__ = ["Abandoned", "Bridge", "ByteStreams", "TrioAsyncioExit", "TrioExecutor", "open_bridge"]

TrioExecutor: Any = trio_asyncio.TrioExecutor

P = ParamSpec("P")
T = TypeVar("T")


class Abandoned(Exception):
    """Asyncio code was cancelled from inside, by its library: how aiormq says that a connection is gone.

    Raised in place of `asyncio.CancelledError`, which passes every `except Exception` (RELIABILITY.md 0.10).
    """


@define(eq=False)
class ByteStreams:
    """A connected socket as asyncio's pair of streams, with what Trio code does to it directly."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    _loop: Any

    def write(self, data: bytes) -> None:
        """Hand over bytes, behind all that was handed over before. Call it only while the connection lives."""
        self.writer.write(data)

    def abort(self) -> None:
        """Close the socket at once, whatever is unsent; closing it in peace can wait for ever for a silent peer."""
        self.writer.transport.abort()

    def abort_after(self, seconds: float) -> None:
        """Do so then, and with that wake whoever waits for the peer, if the loop still runs."""
        self._loop.call_later(seconds, self.abort)


@define(eq=False)
class Bridge:
    """An asyncio loop that lives as long as one link; its tasks end with it."""

    _on_error: Callable[[str], None]
    """Told about each error that no asyncio code handled."""
    _loop: Any = field(default=None, init=False)
    _opened: trio.Event = field(factory=trio.Event, init=False)
    _left: trio.Event = field(factory=trio.Event, init=False)
    _unended: set[asyncio.Future[Any]] = field(factory=set, init=False)
    """Work that is not to be cancelled in the middle."""

    async def call(self, function: Callable[P, Awaitable[T]], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run an asyncio coroutine function and return what it returns.

        Raises what it raises, or `Abandoned`. If cancelled, the coroutine is cancelled, once, and waited for; it may
        have done its work all the same.
        """
        try:
            result: T = await trio_asyncio.aio_as_trio(function, loop=self._loop)(*args, **kwargs)
        except asyncio.CancelledError as error:  # never ours: a cancellation of Trio's comes back as `trio.Cancelled`
            raise Abandoned from error  # noqa: ASYNC104
        return result

    def to_the_end(self, work: Coroutine[Any, Any, object]) -> None:
        """Do this in asyncio, whoever is cancelled; `all_ended` waits for it. What it raises is told."""
        task = self._loop.create_task(work)
        self._unended.add(task)
        task.add_done_callback(self._unended.discard)

    async def all_ended(self) -> None:
        """In asyncio: return when everything that was to go on to its end has. If cancelled, it goes on."""
        if self._unended:
            await asyncio.wait(self._unended)

    async def streams(
        self, connected: socket.socket, on_data: Callable[[bytes], bytes], on_end: Callable[[Exception | None], None]
    ) -> ByteStreams:
        """Streams over a socket, which is theirs from now on. To be awaited by asyncio code, with `call`.

        What comes is given to `on_data`, and only what that returns reaches the reader. `on_end` is told when
        the connection is over, by whatever means, and why, if that is known. If cancelled, the socket is closed.
        """
        reader = _FilteredReader(on_data, on_end, self._loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        try:
            transport, _ = await self._loop.create_connection(lambda: protocol, sock=connected)
        except BaseException:
            connected.close()
            raise
        return ByteStreams(reader, asyncio.StreamWriter(transport, protocol, reader, self._loop), self._loop)

    async def run(self) -> None:
        """Hold the loop from `opened` to `leave`. Cancellation does not reach it: what uses it is to close first."""
        try:
            with trio.CancelScope(shield=True):
                async with trio_asyncio.open_loop() as loop:
                    # The default handler would end the loop's nursery, and with it the whole run.
                    loop.set_exception_handler(self._tell)
                    self._loop = loop
                    self._opened.set()
                    await self._left.wait()
        except BaseExceptionGroup as group:
            # What ends with an error while the loop ends has nobody left who waits for it.
            errors, rest = group.split(Exception)
            if errors is not None:
                self._on_error(f"unhandled errors while closing: {errors.exceptions!r}")
            if rest is not None:
                raise rest from None
        finally:
            self._opened.set()

    async def opened(self) -> None:
        """Return when there is a loop, which takes no I/O. Not cancelled meanwhile."""
        with trio.CancelScope(shield=True):
            await self._opened.wait()

    @property
    def loop(self) -> Any:
        """The loop itself, for code that knows asyncio; there is one from `opened` on."""
        return self._loop

    def leave(self) -> None:
        """Let the loop end; what still runs on it is cancelled."""
        self._left.set()

    def _tell(self, _: object, context: dict[str, Any]) -> None:
        error = context.get("exception")
        problem = str(context.get("message") or "unhandled error")
        self._on_error(f"{problem}: {error!r}" if error is not None else problem)


@asynccontextmanager
async def open_bridge(on_error: Callable[[str], None]) -> AsyncIterator[Bridge]:
    """A bridge for as long as the context is open. What is raised inside comes out as it is, in no group.

    The loop runs in a task of its own, so that neither its nurseries nor its context variables reach the caller.
    If cancelled, the loop lives on until the context has been left.
    """
    bridge = Bridge(on_error)
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bridge.run)
        await bridge.opened()
        try:
            yield bridge
        except BaseException as error:  # noqa: ASYNC103  # raised again below, out of the nursery
            failure = error
        # A cancellation from outside is in `failure` already; the nursery must not raise it again, in a group.
        nursery.cancel_scope.shield = True
        bridge.leave()
    if failure is not None:
        raise failure


class _FilteredReader(asyncio.StreamReader):
    """A reader that lets somebody else have the bytes first."""

    def __init__(
        self, on_data: Callable[[bytes], bytes], on_end: Callable[[Exception | None], None], loop: Any
    ) -> None:
        super().__init__(loop=loop)
        self._on_data = on_data
        self._on_end = on_end

    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        if rest := self._on_data(bytes(data)):
            super().feed_data(rest)

    def feed_eof(self) -> None:
        self._on_end(None)
        super().feed_eof()

    def set_exception(self, exc: Exception) -> None:
        self._on_end(exc)
        super().set_exception(exc)
