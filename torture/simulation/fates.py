"""What is to become of each occurrence of a simulation: how its job behaves, and which ends of it are right.

Separate because the jobs act by it and the checks judge by it, and neither may know the other.
"""

import enum
from typing import Final

from attrs import frozen

from milvaion_trio.model.occurrence import OccurrenceStatus

__all__ = ["MAX_RETRIES", "RIGHT_ENDS", "STAMPS_FROM", "Fate", "Kind"]

MAX_RETRIES: Final = 2
STAMPS_FROM: Final = 1_893_456_000
"""The unix second at which the virtual clock begins, for dispatch stamps."""

S = OccurrenceStatus


class Kind(enum.StrEnum):
    """How a job behaves."""

    OK = "returns"
    SLOW = "returns after a while"
    FLAKY = "fails once or twice, then returns"
    EXHAUSTED = "fails every time"
    PERMANENT = "fails for good, at once or after a retry"
    TIMEOUT = "is stopped at its time limit"
    SNOOZED = "snoozes once or twice, then returns"
    LATER = "asks for a retry after a long time, then returns"
    LOGGING = "writes lines to its log"
    STUBBORN = "takes its time to obey a cancellation"
    KILLER = "kills its process, some times"
    UNKNOWN = "is no job of any worker"
    WRONG_DATA = "gets data that it cannot take"
    BROKEN = "comes as no valid message"


RIGHT_ENDS: Final = {
    **dict.fromkeys(Kind, S.COMPLETED),
    Kind.EXHAUSTED: S.FAILED,
    Kind.PERMANENT: S.FAILED,
    Kind.TIMEOUT: S.TIMED_OUT,
    Kind.UNKNOWN: S.FAILED,
    Kind.WRONG_DATA: S.FAILED,
    Kind.BROKEN: S.FAILED,
}


@frozen(kw_only=True)
class Fate:
    """What becomes of one occurrence."""

    number: int
    kind: Kind
    job: str
    failures: int = 0
    """How many attempts fail, snooze or kill their process before one does not."""
    seconds: float = 0.0
    """How long each attempt takes."""
    limit: int | None = None
    """Seconds an attempt may take."""
    lines: int = 0
    """Of its log, in each attempt."""

    @property
    def right_end(self) -> OccurrenceStatus:
        """The final status when nobody cancels it."""
        return RIGHT_ENDS[self.kind]

    @property
    def attempts(self) -> int:
        """How many attempts it takes at most, snoozes not counted; 0 where none can run."""
        match self.kind:
            case Kind.UNKNOWN | Kind.BROKEN:
                return 0
            case Kind.EXHAUSTED:
                return MAX_RETRIES + 1
            case Kind.FLAKY | Kind.PERMANENT | Kind.LATER:
                return self.failures + 1
        return 1
