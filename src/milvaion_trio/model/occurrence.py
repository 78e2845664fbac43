"""The statuses of an occurrence and the table of what may become what.

Two rules of this module.
Everything that changes a status goes through `transition`; nobody sets one directly.
The table knows neither who applies it nor what is published: `policy.lifecycle` decides that.

An occurrence is one execution of a scheduled job; its retries are further attempts of the same occurrence.
The drawing in docs/explanation/occurrence-states.md is made from the table.
"""

import enum
from collections.abc import Mapping

from milvaion_trio.model.errors import InvalidTransition

__all__ = ["FINAL", "TRANSITIONS", "OccurrenceEvent", "OccurrenceStatus", "status_name", "transition"]


class OccurrenceStatus(enum.IntEnum):
    """The numbers that travel (WIRE.md 4.2)."""

    QUEUED = 0
    RUNNING = 1
    """Has started, and has no outcome yet: also while it waits for its next attempt."""
    COMPLETED = 2
    FAILED = 3
    CANCELLED = 4
    TIMED_OUT = 5
    UNKNOWN = 6
    """Nothing was heard of it for too long. Not an end: it may turn up again."""
    SKIPPED = 7
    """A workflow left it out; it never runs."""


class OccurrenceEvent(enum.Enum):
    """What can happen to an occurrence."""

    START = "start"
    """An attempt begins."""
    HEARTBEAT = "heartbeat"
    """It runs or waits for its next attempt, and somebody says so."""
    RETURN = "return"
    """The job returned."""
    FAIL = "fail"
    """The job failed and no retry is left, or none can help."""
    RETRY = "retry"
    """The job failed and will be tried again."""
    SNOOZE = "snooze"
    """The job asked to be run again later."""
    INTERRUPT = "interrupt"
    """The worker is leaving; the message goes back to its queue."""
    CANCEL = "cancel"
    """A cancel signal stopped the job, or kept it from starting."""
    TIME_OUT = "time out"
    """The time limit stopped the job."""
    REFUSE = "refuse"
    """A worker got the message and cannot run it: no such job, say."""
    LOSE = "lose"
    """The API's zombie detector heard nothing of it for too long (WIRE.md 4.8)."""
    SKIP = "skip"
    """A workflow decided that the step is not needed."""
    DISPATCH_AGAIN = "dispatch again"
    """A workflow repeats a failed step under the same occurrence id (WIRE.md 12.1)."""


_S = OccurrenceStatus
_E = OccurrenceEvent

TRANSITIONS: Mapping[tuple[OccurrenceStatus, OccurrenceEvent], OccurrenceStatus] = {
    (_S.QUEUED, _E.START): _S.RUNNING,
    (_S.QUEUED, _E.CANCEL): _S.CANCELLED,
    (_S.QUEUED, _E.REFUSE): _S.FAILED,
    (_S.QUEUED, _E.SKIP): _S.SKIPPED,
    # The zombie detector also looks at messages that nobody consumes.
    (_S.QUEUED, _E.LOSE): _S.UNKNOWN,
    # A next attempt, or the same one again after the worker or the broker died.
    (_S.RUNNING, _E.START): _S.RUNNING,
    (_S.RUNNING, _E.HEARTBEAT): _S.RUNNING,
    (_S.RUNNING, _E.RETURN): _S.COMPLETED,
    (_S.RUNNING, _E.FAIL): _S.FAILED,
    # Waiting stays Running: the API judges Queued by its creation date, so a waiting retry would soon be a zombie.
    (_S.RUNNING, _E.RETRY): _S.RUNNING,
    (_S.RUNNING, _E.SNOOZE): _S.RUNNING,
    # Nothing is reported at a shutdown: another worker goes on at once, and Queued would be refused by the API anyhow.
    (_S.RUNNING, _E.INTERRUPT): _S.RUNNING,
    (_S.RUNNING, _E.CANCEL): _S.CANCELLED,
    (_S.RUNNING, _E.TIME_OUT): _S.TIMED_OUT,
    # A retry copy can reach a worker that does not know the job any more.
    (_S.RUNNING, _E.REFUSE): _S.FAILED,
    (_S.RUNNING, _E.LOSE): _S.UNKNOWN,
    # Unknown heals: the job was there all the time, only its heartbeats were late. So it allows what Running allows,
    # and whatever is not an end makes it Running again.
    (_S.UNKNOWN, _E.START): _S.RUNNING,
    (_S.UNKNOWN, _E.HEARTBEAT): _S.RUNNING,
    (_S.UNKNOWN, _E.RETURN): _S.COMPLETED,
    (_S.UNKNOWN, _E.FAIL): _S.FAILED,
    (_S.UNKNOWN, _E.RETRY): _S.RUNNING,
    (_S.UNKNOWN, _E.SNOOZE): _S.RUNNING,
    # Interrupted work reports nothing, so nothing tells anybody that it was alive.
    (_S.UNKNOWN, _E.INTERRUPT): _S.UNKNOWN,
    (_S.UNKNOWN, _E.CANCEL): _S.CANCELLED,
    (_S.UNKNOWN, _E.TIME_OUT): _S.TIMED_OUT,
    (_S.UNKNOWN, _E.REFUSE): _S.FAILED,
    # The one way out of an end: the workflow engine sets a failed step back to Queued before it sends it again. It
    # treats Failed, TimedOut and Unknown as a failed step.
    (_S.FAILED, _E.DISPATCH_AGAIN): _S.QUEUED,
    (_S.TIMED_OUT, _E.DISPATCH_AGAIN): _S.QUEUED,
    (_S.UNKNOWN, _E.DISPATCH_AGAIN): _S.QUEUED,
}
"""Every allowed step; what is not in it raises."""

FINAL = frozenset({_S.COMPLETED, _S.FAILED, _S.CANCELLED, _S.TIMED_OUT, _S.SKIPPED})
"""The ends. Nothing that a worker does leads out of them, and no Running may follow them on the wire (WIRE.md 4.3)."""


def transition(status: OccurrenceStatus, event: OccurrenceEvent) -> OccurrenceStatus:
    """The status after the event; raises `InvalidTransition` when the table has no such step."""
    after = TRANSITIONS.get((status, event))
    if after is None:
        allowed = ", ".join(known.value for before, known in TRANSITIONS if before is status) or "nothing"
        raise InvalidTransition(
            f"An occurrence that is {status.name} cannot {event.value!r}. Allowed there: {allowed}. "
            "This is a bug in milvaion-trio: a status was reported that does not follow from the last one."
        )
    return after


def status_name(status: OccurrenceStatus) -> str:
    """Milvaion's name of a status, e.g. `TimedOut`."""
    return status.name.title().replace("_", "")
