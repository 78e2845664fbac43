"""The jobs of the simulated workers: they do what the fate of their occurrence says, and note it.

Separate from the lives of the workers, which only hand them over. They are made once, as a worker's preparations cost
more than a short job; which life of which host they run in is told by a context variable.
"""

from collections.abc import Awaitable, Sequence
from contextvars import ContextVar
from typing import Final, Protocol

import trio
from attrs import frozen

from milvaion_trio import JobContext, PermanentFailure, RetryLater, Snooze
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.settings import JobPolicy
from milvaion_trio.ports import Outbox
from milvaion_trio.runtime.definition import JobDefinition, job
from milvaion_trio.runtime.reporting import label
from torture.simulation.fates import MAX_RETRIES, Fate, Kind
from torture.simulation.plan import Point

__all__ = ["JOBS", "LATER", "LIFE", "OBEYS_AFTER", "PATIENT_DELAY", "SNOOZE", "WORK_DELAY", "Life", "Order"]

PATIENT_DELAY: Final = 130.0
"""Beyond one leg of a delay, so that its retries pass the hop queue."""

WORK_DELAY: Final = 5.0
LATER: Final = 250.0
SNOOZE: Final = 7.0
OBEYS_AFTER: Final = 2.0
"""Seconds that a stubborn job takes to obey."""


class Life(Protocol):
    """What a job notes things with."""

    def fate(self, occurrence_id: str) -> Fate:
        """What is to become of this occurrence."""

    def outbox(self) -> Outbox:
        """A new one for this life."""

    def killed_by(self, fate: Fate) -> None:
        """Die of this job, unless that happened often enough."""

    def note(self, what: str, about: str = "", detail: str = "") -> None:
        """Something happened; nothing that a dead one did counts."""

    def reach(self, point: Point) -> None:
        """The job comes by here, and a trap may spring."""


LIFE: Final[ContextVar[Life]] = ContextVar("life of a simulated worker")


@frozen
class Order:
    """The data of every job."""

    number: int


class _Failure(Exception):
    """What a job fails with. Made where it is raised, and without a story of its own."""


async def _play(ctx: JobContext, order: Order) -> str:
    life = LIFE.get()
    fate = life.fate(ctx.occurrence_id)
    attempt: AttemptKey = ctx._run.attempt  # jobs are not told how often they snoozed
    about = label(attempt)
    life.note("began", about, f"run {ctx.run_number}")
    life.reach(Point.BEGAN)
    if fate.kind is Kind.KILLER:
        life.killed_by(fate)
    how = "cancelled"
    try:
        await _work(ctx, fate)
        how = _end(fate, attempt)
        if how == "returned":
            return f"done {order.number}"
        raise {
            "failed": _Failure("no"),
            "failed for good": PermanentFailure("never"),
            "snoozed": Snooze(SNOOZE),
            "later": RetryLater(LATER),
        }[how]
    except trio.Cancelled:
        if fate.kind is Kind.STUBBORN:
            with trio.CancelScope(shield=True):
                await trio.sleep(OBEYS_AFTER)
        raise
    finally:
        life.note("ended", about, how)
        life.reach(Point.ENDED)


async def _work(ctx: JobContext, fate: Fate) -> None:
    for line in range(fate.lines):
        ctx.log.info(f"line {line}")
        if line % 20 == 10:
            await trio.sleep(0.3)
    if fate.seconds:
        await trio.sleep(fate.seconds)


def _end(fate: Fate, attempt: AttemptKey) -> str:
    if fate.kind is Kind.KILLER:
        return "returned"
    earlier = attempt.snoozes if fate.kind is Kind.SNOOZED else attempt.retry_count
    if fate.kind is Kind.PERMANENT and earlier >= fate.failures:
        return "failed for good"
    if earlier >= fate.failures:
        return "returned"
    return {Kind.SNOOZED: "snoozed", Kind.LATER: "later"}.get(fate.kind, "failed")


_QUICK: Final[JobPolicy] = {"max_retries": MAX_RETRIES, "base_retry_delay": WORK_DELAY, "timeout": 0}

JOBS: Final[Sequence[JobDefinition[..., Awaitable[str]]]] = (
    job("Work", **_QUICK)(_play),
    job("Patient", **(_QUICK | JobPolicy(base_retry_delay=PATIENT_DELAY)))(_play),
    job("Single", **(_QUICK | JobPolicy(max_parallel=1)))(_play),
)
