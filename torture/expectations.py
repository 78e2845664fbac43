"""What a job's data asks of it, and what must become of it: the same text tells the job and the judge.

Separate because the worker processes import it too, and nothing of the harness beyond it.
"""

from attrs import frozen

__all__ = ["Act", "Expected", "expected"]


@frozen(kw_only=True)
class Act:
    """The data of a torture job: how each attempt ends, the last word for all further ones."""

    ends: list[str]
    """Words of `endings.ENDINGS`."""
    takes: float = 0.0
    """Seconds of work before the end."""
    delay: float | None = None
    """Seconds until a retry, where the job says so itself; else what its policy says."""
    lines: int = 1
    """Log entries of each run."""
    key: str = ""
    """What it must not share with another run at the same time, where its worker was told so."""

    def ending(self, attempt: int) -> str:
        """The word of this attempt, which is 1 or more."""
        return self.ends[min(attempt, len(self.ends)) - 1]


@frozen(kw_only=True)
class Expected:
    """What must become of one occurrence."""

    status: int
    """The final one: 2 Completed, 3 Failed, 4 Cancelled, 5 TimedOut."""
    or_status: int | None = None
    """Another one that is as good, where two things happen at the same moment."""
    attempts: int = 1
    """How many attempts it takes."""
    dead_letter: bool = False
    delay: float | None = None
    """Seconds that its retries wait at least; `None` where that is not judged."""
    most_runs: int | None = None
    """All attempts and second runs together; `None` where only the sum over all occurrences is limited."""
    logs: bool = True
    """Whether its log entries are judged."""


STATUSES = {"ok": 2, "fail": 3, "permanent": 3, "time-out": 5, "cancel": 4}


def expected(act: Act, max_retries: int) -> Expected:
    """What this data must lead to where nothing interferes, under a policy with so many retries."""
    attempt = 1
    while act.ending(attempt) == "fail" and attempt <= max_retries:
        attempt += 1
    last = act.ending(attempt)
    return Expected(status=STATUSES[last], attempts=attempt, dead_letter=last in {"fail", "permanent"}, delay=act.delay)
