"""Grace: code that Trio cannot interrupt is told to stop, and gets a while to end by itself.

Separate because threads, asyncio tasks and processes need the same: while their code has not ended, nothing that
stands on its end (slots, provided values, the message) may be touched, and nothing may wait for it without a limit.
"""

from collections.abc import Awaitable, Callable

import trio

__all__ = ["with_grace"]


async def with_grace(ended: Callable[[], Awaitable[object]], tell: Callable[[], object], grace: float) -> bool:
    """Wait for `ended`; returns whether the code has ended.

    If cancelled, `tell` is called, once, and after `grace` more seconds the wait is given up. The cancellation is held
    back: whoever called this passes a checkpoint if the code has not ended, or ended because it was told.
    """
    has_ended = False

    async def tell_when_cancelled() -> None:
        try:
            await trio.sleep_forever()
        finally:
            if not has_ended:
                tell()
                patience.deadline = trio.current_time() + grace

    async with trio.open_nursery() as nursery:
        with trio.CancelScope(shield=True) as patience:
            # The task ends with the nursery, later than this scope; all it may do then is set its deadline.
            nursery.start_soon(tell_when_cancelled)  # noqa: ASYNC111
            await ended()
            has_ended = True
        # Shielded, as the code has ended: what it returned or raised counts, although the job was cancelled.
        nursery.cancel_scope.shield = True
        nursery.cancel_scope.cancel()
    return has_ended
