"""Slots: how many jobs run at once, per job and per worker. Both limits are real.

`trio.CapacityLimiter` ties a token to a task; here the intake takes a slot and the job's task gives it back, and
taking a free slot must not cost a pass of the scheduler. So this is a count and a queue.

A slot can be taken alone: then none is handed out until it is given back. That is how a job runs of which the worker's
process may have died (RELIABILITY.md 2.4).
"""

import trio
from attrs import define

__all__ = ["Slots", "Taken", "take_both", "try_take_both"]


class Slots:
    """A number of slots, handed out in the order they were asked for."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.taken: int = 0
        self.is_alone: bool = False
        """Whether one is taken alone. Others may still be taken: it waits for their end, or has waited long enough."""
        self._waiting: dict[trio.lowlevel.Task, bool] = {}
        """Those who wait, in their order, and whether they want to be alone."""
        self._left_alone = trio.lowlevel.ParkingLot()

    @property
    def has_room(self) -> bool:
        """Whether a slot can be taken at once. Then nobody waits for one, since `give` hands them to those who wait."""
        return self.taken < self.total and not self.is_alone

    def try_take(self, *, alone: bool = False) -> bool:
        """Take a slot if one is free."""
        if not self.has_room:
            return False
        self.taken += 1
        self.is_alone = alone
        return True

    async def take(self, *, alone: bool = False) -> None:
        """Take a slot, waiting for one if need be; `alone`: no other is handed out from then on.

        If cancelled, no slot was taken.
        """
        if self.try_take(alone=alone):
            await trio.lowlevel.cancel_shielded_checkpoint()
            return
        task = trio.lowlevel.current_task()
        self._waiting[task] = alone

        def no_longer_wait(_: object) -> trio.lowlevel.Abort:
            del self._waiting[task]
            return trio.lowlevel.Abort.SUCCEEDED

        # The slot is handed over by `give`, already taken, so nobody can slip in between. No event is waited for: it
        # could still be set after the wait was cancelled, and before the task is told of that.
        await trio.lowlevel.wait_task_rescheduled(no_longer_wait)

    async def until_alone(self) -> None:
        """Return when the slot that is taken alone is the only one taken. If cancelled, nothing changes."""
        if self.taken > 1:
            await self._left_alone.park()
        else:
            await trio.lowlevel.checkpoint()

    def no_longer_alone(self) -> None:
        """Keep the slot that was taken alone, and let others have theirs."""
        self.is_alone = False
        self._hand_out()

    def give(self, *, alone: bool = False) -> None:
        """Give a slot back, for those who wait first; `alone` as it was taken."""
        self.taken -= 1
        if alone:
            self.is_alone = False
        if self._waiting:
            self._hand_out()
        if self.taken == 1:
            self._left_alone.unpark_all()

    def _hand_out(self) -> None:
        while self._waiting and self.has_room:
            first = next(iter(self._waiting))
            self.try_take(alone=self._waiting.pop(first))
            trio.lowlevel.reschedule(first)


def try_take_both(job: Slots, worker: Slots) -> bool:
    """Take a slot of the job and one of the worker, if both are free."""
    if not (job.has_room and worker.has_room):
        return False
    job.taken += 1
    worker.taken += 1
    return True


async def take_both(job: Slots, worker: Slots, *, alone: bool = False) -> None:
    """Take a slot of the job, then one of the worker, `alone` there. If cancelled, neither is taken."""
    await job.take()
    try:
        await worker.take(alone=alone)
    except BaseException:
        job.give()
        raise


@define(eq=False)
class Taken:
    """A slot of a job and one of the worker, in the hands of whoever gives them back."""

    _job: Slots
    _worker: Slots
    _alone: bool = False
    """Whether the worker's was taken alone."""

    def no_longer_alone(self) -> None:
        """Keep both, and let others run beside."""
        if self._alone:
            self._alone = False
            self._worker.no_longer_alone()

    def give(self) -> None:
        """Give both back."""
        self._worker.give(alone=self._alone)
        self._job.give()
