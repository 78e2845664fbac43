"""Slots: how many jobs run at once, per job and per worker. Both limits are real.

`trio.CapacityLimiter` ties a token to a task; here the intake takes a slot and the job's task gives it back, and
taking a free slot must not cost a pass of the scheduler. So this is a count and a queue.
"""

from collections.abc import Callable

import trio

__all__ = ["Slots", "giver", "take_both"]


class Slots:
    """A number of slots, handed out in the order they were asked for."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.taken: int = 0
        self._waiting = trio.lowlevel.ParkingLot()

    def try_take(self) -> bool:
        """Take a slot if one is free. Then nobody waits for one, since `give` hands them to those who wait."""
        if self.taken >= self.total:
            return False
        self.taken += 1
        return True

    async def take(self) -> None:
        """Take a slot, waiting for one if need be. If cancelled, no slot was taken."""
        if self.try_take():
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        # The slot is handed over by `give`, still counted as taken, so nobody can slip in between.
        await self._waiting.park()

    def give(self) -> None:
        """Give a slot back: to the first who waits, else to the pool."""
        if self._waiting:
            self._waiting.unpark()
        else:
            self.taken -= 1


async def take_both(job: Slots, worker: Slots) -> None:
    """Take a slot of the job, then one of the worker. If cancelled, neither is taken."""
    await job.take()
    try:
        await worker.take()
    except BaseException:
        job.give()
        raise


def giver(job: Slots, worker: Slots) -> Callable[[], None]:
    """A function that gives both slots back."""

    def give() -> None:
        worker.give()
        job.give()

    return give
