"""`serving`: a worker beside a block of code, in every host, where there is no nursery to start it in."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol, TypeVar

import trio
from attrs import frozen

from milvaion_trio.host import is_on_asyncio
from milvaion_trio.model.settings import WorkerSettings

__all__ = ["Ready", "Servable", "serving"]


class Servable(Protocol):
    """What can be hosted: a `Worker`."""

    @property
    def settings(self) -> WorkerSettings:
        """What it was told."""

    @property
    def trio_token(self) -> trio.lowlevel.TrioToken | None:
        """The Trio run in which it serves now."""

    async def serve(self, *, handle_signals: bool | None = None, task_status: Any = ...) -> None:
        """Run until it has left. If cancelled, it leaves within its budgets."""

    def drain(self) -> None:
        """Ask it to leave."""


W = TypeVar("W", bound=Servable)


@asynccontextmanager
async def serving(worker: W, *, handle_signals: bool | None = None) -> AsyncIterator[W]:
    """Serve the worker while the context is open, on Trio, AnyIO or asyncio; entered when it takes jobs.

    Left normally, the worker drains, which takes at most its three budgets. Left by an error, it is cancelled.
    When the worker fails, the block is cancelled and what the worker raised is raised here, as itself.
    If cancelled, the worker is cancelled and waited for, at most `cleanup_timeout + flush_timeout` seconds and two.
    """
    if is_on_asyncio():
        from milvaion_trio.embed.asyncio_host import serving_on_asyncio as serving_here  # asyncio, for who has it
    else:
        serving_here = _serving_on_trio
    async with serving_here(worker, handle_signals):
        yield worker


@asynccontextmanager
async def _serving_on_trio(worker: Servable, handle_signals: bool | None) -> AsyncIterator[None]:
    ready = trio.Event()
    broken: BaseException | None = None
    failure: BaseException | None = None

    async def serve() -> None:
        nonlocal broken
        try:
            await worker.serve(handle_signals=handle_signals, task_status=Ready(ready.set))
        except trio.Cancelled:
            raise
        except BaseException as error:  # noqa: ASYNC103  # raised again below, out of the nursery
            broken = error
            inside.cancel()
        finally:
            ready.set()

    try:
        async with trio.open_nursery() as nursery:
            with trio.CancelScope() as inside:
                nursery.start_soon(serve)  # noqa: ASYNC113  # `ready` is waited for
                await ready.wait()
                try:
                    yield
                except BaseException as error:  # noqa: ASYNC103  # raised again below, out of the nursery
                    failure = error
            if failure is None:
                worker.drain()
            else:
                nursery.cancel_scope.shield = True  # what cancelled the block is in `failure` already
                nursery.cancel_scope.cancel()
    finally:
        if broken is not None:
            raise broken
    if failure is not None:
        raise failure


@frozen
class Ready:
    """A task status for who only wants to know when."""

    _tell: Callable[[], None]

    def started(self, value: object = None) -> None:
        """The worker takes jobs."""
        self._tell()
