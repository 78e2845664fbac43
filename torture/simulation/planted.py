"""Bugs to plant: each takes one safeguard out of the worker, from outside, to see that some seed notices.

They are the mistakes that a change could make unseen: all of them pass every job of a calm day.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, TypeAlias

import trio
from attrs import evolve

from milvaion_trio.model import headers
from milvaion_trio.outbox.backlog import Backlog, Row
from milvaion_trio.outbox.disk import DiskOutbox
from milvaion_trio.outbox.journal import Journal
from milvaion_trio.outbox.memory import MemoryOutbox
from milvaion_trio.policy.ledger import Ledger
from milvaion_trio.runtime.reporting import Reporter

__all__ = ["PLANTED", "planted"]

Replacement: TypeAlias = tuple[type, str, Callable[..., Any]]
"""A class, the name of a method, and what stands there instead."""

OUTBOXES: Final = (MemoryOutbox, DiskOutbox)


def _ack_before_confirm() -> Iterator[Replacement]:
    for outbox in OUTBOXES:
        conclude = outbox.conclude

        async def at_once(self: Any, *args: Any, conclude: Callable[..., Any] = conclude) -> None:
            with trio.move_on_after(0):  # the rows are taken, and nobody waits for them
                await conclude(self, *args)

        yield outbox, "conclude", at_once


def _no_concluded_check() -> Iterator[Replacement]:
    for outbox in OUTBOXES:
        yield outbox, "is_concluded", lambda self, attempt: False


def _no_adoption() -> Iterator[Replacement]:
    yield Ledger, "running", lambda self, occurrence_id: None


def _order_broken() -> Iterator[Replacement]:
    def give_back(self: Any, batch: Sequence[Row]) -> None:
        self._taken = ()
        self._waiting.extend(batch)  # behind what came later, instead of before it

    def start_over(self: Any) -> None:
        """The rows stay as they are, instead of going into their first order."""

    yield Backlog, "give_back", give_back
    yield Backlog, "start_over", start_over


def _old_retry_count() -> Iterator[Replacement]:
    retry_copy = Reporter._retry_copy

    def wrong(self: Any, delivery: Any, attempt: Any, *rest: Any) -> Any:
        report = retry_copy(self, delivery, attempt, *rest)
        message = report.publication.message
        if attempt.retry_count == 1:  # the first retry is right, as anybody would have tried it
            old = {**message.headers, headers.RETRY_COUNT: attempt.retry_count}
            message = evolve(message, headers=old)
        return evolve(report, publication=evolve(report.publication, message=message))

    yield Reporter, "_retry_copy", wrong


def _forgotten_before_confirm() -> Iterator[Replacement]:
    def give_back(self: Any, batch: Sequence[Row]) -> None:
        self._taken = ()
        for row in batch:  # it was sent, after all
            self._unqueue(row)

    yield Backlog, "give_back", give_back


def _published_before_written() -> Iterator[Replacement]:
    add = Journal.add

    def wrong(self: Any, rows: Sequence[Row], *rest: Any) -> None:
        add(self, rows, *rest)
        self._owner.unstored(rows)  # as if the disk were full: in memory they may go at once

    yield Journal, "add", wrong


PLANTED: Final[Mapping[str, Callable[[], Iterator[Replacement]]]] = {
    "ack-before-confirm": _ack_before_confirm,
    "no-concluded-check": _no_concluded_check,
    "no-adoption": _no_adoption,
    "order-broken": _order_broken,
    "old-retry-count": _old_retry_count,
    "forgotten-before-confirm": _forgotten_before_confirm,
    "published-before-written": _published_before_written,
}
"""By name, what is replaced."""


@contextmanager
def planted(name: str | None) -> Iterator[None]:
    """While inside, the worker has this bug. Raises `LookupError` for one that nobody knows."""
    if name is None:
        yield
        return
    if name not in PLANTED:
        raise LookupError(f"There is no bug {name}; there are {', '.join(PLANTED)}.")
    with ExitStack() as stack:
        for owner, method, wrong in tuple(PLANTED[name]()):
            stack.callback(setattr, owner, method, getattr(owner, method))
            setattr(owner, method, wrong)
        yield
