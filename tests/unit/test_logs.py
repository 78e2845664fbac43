"""The log lines of events: none is lost for being filtered at another level."""

import pytest

from milvaion_trio.logs import log_event
from milvaion_trio.model.events import JobConcluded
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.occurrence import OccurrenceStatus


@pytest.mark.parametrize(
    ("level", "status", "lines"),
    [
        ("INFO", OccurrenceStatus.COMPLETED, ["job completed: work o, attempt 1, 0.250 s: why"]),
        ("WARNING", OccurrenceStatus.COMPLETED, []),
        ("WARNING", OccurrenceStatus.FAILED, ["job failed: work o, attempt 1, 0.250 s: why"]),
        ("ERROR", OccurrenceStatus.TIMED_OUT, []),
    ],
)
def test_an_end_is_logged_at_its_own_level(
    caplog: pytest.LogCaptureFixture, level: str, status: OccurrenceStatus, lines: list[str]
) -> None:
    """Sabotage: ask whether INFO is wanted, whatever the end."""
    caplog.set_level(level, "milvaion_trio")

    log_event(JobConcluded("work", OccurrenceId("o"), 1, status, 0.25, "why"))

    assert [record.getMessage() for record in caplog.records] == lines
