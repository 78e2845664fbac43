"""A run: one attempt of a job while this worker owns it.

The record that the executor, the cancellation, the heartbeats and the shutdown share.
It is written by synchronous code only, so no interleaving can see half of a change.
"""

import enum
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import trio
from attrs import define, field

from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.messages import JobMessage
from milvaion_trio.model.outcome import StopReason
from milvaion_trio.ports import Delivery
from milvaion_trio.runtime.registry import RegisteredJob

if TYPE_CHECKING:
    from milvaion_trio.policy.lifecycle import Conclusion

__all__ = ["Phase", "Run"]


WAIT_IGNORED = 0.01
"""Which part of its time limit a job may have waited before its code runs without getting it back. Setting the deadline
of a scope anew costs 2 us, and nearly all jobs have waited less."""


class Phase(enum.Enum):
    """How far a run has come."""

    RUNNING = enum.auto()
    """Job code runs, or is about to."""
    CONCLUDING = enum.auto()
    """The outcome is known; its reports are on their way to the broker."""
    DISOWNED = enum.auto()
    """The shutdown gave the message back although the job had not ended; whatever it still returns is ignored."""


@define(eq=False, kw_only=True)
class Run:
    """One attempt in the hands of this worker. Its delivery is acked, or given back, by the run's task alone."""

    occurrence_id: OccurrenceId
    attempt: AttemptKey
    job: JobMessage
    registered: RegisteredJob
    delivery: Delivery
    """The newest: the message may come again, over a new connection or as a twin (`adopt`)."""
    run_number: int
    reported: bool
    """Whether a Milvaion API knows the occurrence, so that it wants statuses and logs."""
    started_at: Instant
    started_clock: float
    """`trio.current_time()` when the attempt was admitted."""
    time_limit: float | None
    """Seconds."""
    scope: trio.CancelScope
    deaths: int = 0
    """How many processes of this worker died while the attempt ran."""
    is_suspect: bool = False
    """Whether no other job is started while it runs, because of these deaths."""
    phase: Phase = Phase.RUNNING
    told_to_stop: bool = False
    """Readable from the job's thread; set by `tell`."""
    left_behind: bool = False
    """Whether the job's code ignored its cancellation and still runs somewhere; its slots stay taken until it ends."""
    code_ended: Callable[[], None] | None = None
    """Called in Trio's thread when code that was left behind has ended."""
    fencing_token: int | None = None
    """Of its exclusive key."""
    must_end_by: float = math.inf
    """On Trio's clock: all cleaning up is cut off then, as its exclusive key may be somebody else's."""
    on_concluded: "Callable[[Conclusion], Awaitable[None]] | None" = None
    """Awaited when its conclusion is published, before its message is acked."""
    _earlier: tuple[Delivery, ...] = field(default=(), init=False)
    """Deliveries that came before the newest; most of them are void, as their connection was lost."""
    _reason: StopReason | None = field(default=None, init=False)
    _reason_text: str = field(default="", init=False)

    def stop(self, reason: StopReason, text: str) -> bool:
        """Record why and cancel the job's scope; `False` when it was already told to stop or has ended.

        The first recorded reason stays: a signal that comes after the deadline does not turn a timeout into a cancel.
        """
        if self.phase is not Phase.RUNNING or self.stop_reason is not None:
            return False
        self._reason = reason
        self._reason_text = text
        self.scope.cancel(reason=text)
        return True

    def begin_time(self) -> None:
        """Count the job's limit from now, as its code is about to run; a slow disk must not use it up."""
        if self.time_limit is not None:
            now = trio.current_time()
            if now - self.started_clock > self.time_limit * WAIT_IGNORED:
                self.scope.deadline = now + self.time_limit

    def wait_to_begin(self) -> None:
        """Let its time limit count for nothing until `begins_now`."""
        self.scope.deadline = math.inf

    def begins_now(self, at: Instant) -> None:
        """It has what it waited for, and begins only now."""
        self.started_at, self.started_clock = at, trio.current_time()
        if self.time_limit is not None:
            self.scope.deadline = self.started_clock + self.time_limit

    def tell(self) -> None:
        """Let code that runs elsewhere than in a task see that, and why, its scope was cancelled."""
        _ = self.stop_reason  # recorded now, if it is the deadline
        self.told_to_stop = True

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the job was told to stop, or `None`. The deadline of the scope records itself."""
        # A job's own thread reads what was recorded: there is no clock, and it is told by `tell` first.
        if self._reason is None and trio.lowlevel.in_trio_run() and self.scope.deadline <= trio.current_time():
            self._reason = StopReason.TIMEOUT
            self._reason_text = f"time limit of {self.time_limit or 0:g} s"
        return self._reason

    @property
    def stop_text(self) -> str:
        """The words that came with the reason."""
        return self._reason_text

    @property
    def deadline(self) -> float | None:
        """The end of the time limit on Trio's clock, or `None` without a limit."""
        return None if math.isinf(self.scope.deadline) else self.scope.deadline

    def adopt(self, delivery: Delivery) -> None:
        """Answer for this delivery too: it is settled together with the ones before it."""
        self._earlier = (*self._earlier, self.delivery)
        self.delivery = delivery

    def ack(self) -> None:
        """Settle every delivery of this run as done."""
        for delivery in (*self._earlier, self.delivery):
            delivery.ack()

    def requeue(self) -> None:
        """Give every delivery of this run back to its queue."""
        for delivery in (*self._earlier, self.delivery):
            delivery.requeue()

    def left_behind_no_more(self) -> None:
        """Say that the job's code has ended after all; to be called in Trio's thread."""
        self.left_behind = False  # it may have ended before anybody could wait for its end
        if self.code_ended is not None:
            self.code_ended()
