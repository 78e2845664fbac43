"""Whether anybody reads what the worker reports.

A report without a reader is confirmed by the broker all the same, so nothing else would ever tell: jobs run, and the
dashboard shows none of it.
"""

import logging
from collections.abc import Mapping
from typing import Final, TypeAlias

import trio
from attrs import define, field

from milvaion_trio.model.topology import STATUS_QUEUE
from milvaion_trio.ports import Consumer, QueueState
from milvaion_trio.runtime.declaration import REPORT_QUEUES
from milvaion_trio.runtime.presence import REGISTRATION_INTERVAL
from milvaion_trio.runtime.supervisor import SupervisedLink

__all__ = ["MANY_STATUSES", "Readers", "States", "is_behind", "states_of", "unread"]

MANY_STATUSES: Final = 1000
"""Statuses that wait: 10 s of work for a Milvaion API, which reads about 100 a second (WIRE.md 4.3)."""

States: TypeAlias = Mapping[str, QueueState | None]
"""Of the queues that a Milvaion API reads, by name; `None`: there is no such queue."""

_log = logging.getLogger("milvaion_trio.runtime")


async def states_of(consumer: Consumer) -> States:
    """The queues that a Milvaion API reads, as they are now; raises `LinkLost`. If cancelled, nothing changes."""
    return {queue: await consumer.state(queue) for queue in REPORT_QUEUES}


def unread(states: States) -> tuple[str, ...]:
    """The queues that nobody reads."""
    return tuple(queue for queue, state in states.items() if state is None or state.consumers == 0)


def is_behind(before: States, now: States) -> bool:
    """Whether many statuses wait and more than before, although somebody reads them."""
    was, waiting = before.get(STATUS_QUEUE), now.get(STATUS_QUEUE)
    return (
        was is not None
        and waiting is not None
        and waiting.consumers > 0
        and waiting.ready > max(MANY_STATUSES, was.ready)
    )


@define(eq=False, kw_only=True)
class Readers:
    """Looks at the queues of a Milvaion API, and logs what has changed about its reading."""

    consuming: SupervisedLink[Consumer]
    _states: States = field(factory=dict, init=False)
    _unread: tuple[str, ...] = field(default=(), init=False)
    _is_behind: bool = field(default=False, init=False)

    async def watch(self) -> None:
        """Look now, and as often as the worker registers. Runs until cancelled."""
        while True:
            try:
                self.judge(await self.consuming.use(states_of))
            except Exception:  # a defect of ours; no job depends on what this would have told
                _log.exception("whether anybody reads what is reported cannot be told")
            await trio.sleep(REGISTRATION_INTERVAL)

    def judge(self, states: States) -> None:
        """Log what is new since the last look."""
        nobody = unread(states)
        if nobody and nobody != self._unread:
            _log.warning(
                "nobody reads %s: is there no Milvaion server on this virtual host? Jobs run, and what is reported "
                "about them waits there",
                ", ".join(nobody),
            )
        elif self._unread and not nobody:
            _log.info("all that is reported is read again")
        waiting = states.get(STATUS_QUEUE)
        ready = 0 if waiting is None else waiting.ready
        if not self._is_behind and is_behind(self._states, states):
            self._is_behind = True
            _log.warning(
                "the Milvaion server does not keep up: %d statuses wait in %s, and they become more. It reads about "
                "100 a second; until then its dashboard is late, and running jobs may be taken for dead",
                ready,
                STATUS_QUEUE,
            )
        elif self._is_behind and ready <= MANY_STATUSES:
            self._is_behind = False
            _log.info("the Milvaion server keeps up again: %d statuses wait in %s", ready, STATUS_QUEUE)
        self._states, self._unread = states, nobody
