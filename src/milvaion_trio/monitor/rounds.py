"""What a monitor does by the clock: find lost occurrences and workers, and delete what is old enough.

Separate from reading messages, which goes on meanwhile: each step is one visit to the store, between two batches.
"""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import trio
from attrs import define

from milvaion_trio.model.settings import MonitorSettings
from milvaion_trio.monitor.ends import Ends
from milvaion_trio.monitor.keeper import Keeper

__all__ = ["Rounds"]

LOOKED_AT: Final = 10_000
"""Unfinished occurrences of a round: 0.1 s for the store. Those come first whose silence is the longest too long."""
DELETED: Final = 1000
"""Occurrences that go at a time, so that messages are written in between."""
SHOWN: Final = 3
"""Ids in a log line."""

_log = logging.getLogger("milvaion_trio.monitor")


@define(eq=False, kw_only=True)
class Rounds:
    """Looks every `check_interval`."""

    keeper: Keeper
    ends: Ends
    settings: MonitorSettings
    do: Callable[[Callable[[], Any]], Awaitable[Any]]
    """Does something with the store in its thread, again until the store is there."""

    async def run(self) -> None:
        """Look again and again, first after one interval. Runs until cancelled."""
        while True:
            await trio.sleep(self.settings.check_interval)
            await self.look()

    async def look(self) -> None:
        """One round. If cancelled, a part of it is done."""
        try:
            await self._find_lost()
            await self._find_lost_instances()
            if self.settings.retention_days:
                await self._delete_old()
        except Exception:  # a defect of ours, which must not keep the history from being written
            _log.exception("a round of the monitor was left out")

    async def _find_lost(self) -> None:
        timeout = self.settings.zombie_timeout
        lost, ends = await self.do(partial(self.keeper.find_lost, timeout, LOOKED_AT))
        if lost:
            ids = ", ".join(row.id for row in lost[:SHOWN])
            more = f" and {len(lost) - SHOWN} more" if len(lost) > SHOWN else ""
            _log.warning("lost, as nothing was heard of them for too long: %s%s", ids, more)
        await self.ends.tell(ends)

    async def _find_lost_instances(self) -> None:
        for instance in await self.do(self.keeper.find_lost_instances):
            heard = instance.last_heartbeat.text
            _log.warning("worker lost: %s of %s is silent since %s", instance.instance_id, instance.worker_id, heard)

    async def _delete_old(self) -> None:
        deleted = DELETED
        while deleted >= DELETED:
            deleted = await self.do(partial(self.keeper.delete_old, self.settings.retention_days, DELETED))
            await trio.lowlevel.checkpoint()
