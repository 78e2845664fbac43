"""A watch over queues that are consumed and deliver nothing, although there are messages and there is room for them.

Separate because no other part can notice it: the connection lives, the broker knows the consumer, and nothing comes.
Celery's workers and aio-pika's are known for it (RELIABILITY.md 2.5, F31). The cure is a new connection, which costs
no run: what runs is recognised when its message comes back.
"""

import logging
from collections.abc import Iterator

import trio
from attrs import define, field

from milvaion_trio.model.errors import LinkLost
from milvaion_trio.ports import Consumer, QueueState
from milvaion_trio.runtime.consumptions import Consumption, Consumptions
from milvaion_trio.runtime.readiness import Readiness
from milvaion_trio.runtime.supervisor import SupervisedLink

__all__ = ["INTERVAL", "MISSES", "Stalls"]

INTERVAL = 15.0
"""Seconds between two looks. The first look at a stall may still see the deliveries before it, two more find it: so
within 45 s, and within 60 (RELIABILITY.md 2.5, F31) where the broker does not even answer."""

MISSES = 2
"""Looks in a row: at one alone, a message may just have come and be on its way."""

MOST_MISSES = 40
"""Where a new connection does not help, the next one comes after twice as many looks, up to this many: 10 minutes."""

_log = logging.getLogger("milvaion_trio.runtime")


@define(eq=False)
class _Sight:
    """What was seen of a consumption at the last look."""

    received: int = 0
    unsettled: int = 0
    misses: int = 0


@define(eq=False, kw_only=True)
class Stalls:
    """Looks at each queue that is consumed, and gives up the connection over which one is silent."""

    consuming: SupervisedLink[Consumer]
    consumptions: Consumptions
    readiness: Readiness
    _sights: dict[Consumption, _Sight] = field(factory=dict, init=False)
    _stalled: dict[str, int] = field(factory=dict, init=False)
    """The queues that delivered nothing, each with how many looks it takes until that is said again."""

    async def watch(self) -> None:
        """Look at every interval. Runs until cancelled."""
        while True:
            due = trio.current_time() + INTERVAL
            try:
                await self._look()
            except LinkLost:
                pass  # it is made again already
            except Exception:  # a defect of ours; no job depends on this watch
                _log.exception("whether a queue has fallen silent cannot be told")
            await trio.sleep_until(due)

    async def _look(self) -> None:
        """Look at all queues; raises `LinkLost`. If cancelled, the rest is looked at next time."""
        self._sights = {consumption: self._sights.get(consumption, _Sight()) for consumption in self.consumptions}
        consumer = self.consuming.current
        if consumer is None:
            return
        for consumption in self._silent():
            state: QueueState | None = None
            with trio.move_on_after(INTERVAL) as patience:
                state = await consumer.state(consumption.queue)
            is_left = consumption not in self.consumptions
            if not is_left and not self._has_come(consumption):
                self._judge(consumption, _trouble(state, is_answered=not patience.cancelled_caught))
            if patience.cancelled_caught or self.consuming.current is not consumer:
                return  # all others would wait as long

    def _silent(self) -> Iterator[Consumption]:
        """Those that should have got something, if there was anything; the broker is asked about no others."""
        for consumption, sight in self._sights.items():
            has_come = self._has_come(consumption)
            sight.received, sight.unsettled = consumption.received, consumption.deliveries.unsettled
            if has_come:
                sight.misses = 0
                self._deliver_again(consumption.queue)
            elif consumption.has_room:
                yield consumption
            else:
                sight.misses = 0

    def _has_come(self, consumption: Consumption) -> bool:
        sight = self._sights[consumption]
        return consumption.received > sight.received or consumption.deliveries.unsettled > sight.unsettled

    def _judge(self, consumption: Consumption, trouble: str) -> None:
        sight, queue = self._sights[consumption], consumption.queue
        if not trouble:
            sight.misses = 0
            self._deliver_again(queue)
            return
        sight.misses += 1
        if sight.misses < self._stalled.get(queue, MISSES):
            return
        self._stalled[queue] = min(2 * self._stalled.get(queue, MISSES), MOST_MISSES)
        self.readiness.report(_part(queue), trouble)
        self.consuming.give_up(f"queue {queue} delivers nothing: {trouble}")  # which is told

    def _deliver_again(self, queue: str) -> None:
        if self._stalled.pop(queue, None) is not None:
            self.readiness.report(_part(queue), "")
            _log.info("queue %s is no longer silent", queue)


def _part(queue: str) -> str:
    return f"deliveries of {queue}"


def _trouble(state: QueueState | None, *, is_answered: bool) -> str:
    """What is wrong with a queue that has room for deliveries and got none; "" for nothing."""
    if not is_answered:
        return f"the broker does not say within {INTERVAL:g} s what is in it"
    if state is None:
        return "the broker does not know it"
    if not state.consumers:
        return "the broker knows no consumer of it"
    if state.ready:
        return f"messages wait in it ({state.ready}), and there is room for them here"
    return ""
