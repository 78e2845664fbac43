"""What is dispatched once more, of an occurrence that is known by its row, its dead letter, or both."""

import pytest
from attrs import evolve
from tests.support.workers import JOB_ID, guid

from milvaion_trio.cli.repeating import again_of
from milvaion_trio.model.history import FailedOccurrence, OccurrenceRecord
from milvaion_trio.model.ids import JobId, WorkerId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.messages import EMPTY_GUID

NOW = Instant.parse("2030-01-01T00:00:00Z")
ROW = OccurrenceRecord(
    id=guid(1),
    job_id=JOB_ID,
    job_name="WorkJob",
    worker_id=WorkerId("w"),
    created_at=NOW,
    job_data='{"to":"ada"}',
    pattern="w.elsewhere.*",
)
LETTER = FailedOccurrence(
    occurrence_id=ROW.id,
    failed_at=NOW,
    job_id=JOB_ID,
    job_name="WorkJob",
    worker_id=WorkerId("w"),
    job_data='{"to":"bob"}',
    exception="no",
)


def test_it_goes_where_the_first_one_went() -> None:
    """The pattern of a job may be its own; only where nobody has seen it, it is that of its group and name."""
    assert again_of(ROW).to.pattern == "w.elsewhere.*"
    assert again_of(evolve(ROW, pattern=None)).to.pattern == "w.work.*"
    assert again_of(None, LETTER).to.pattern == "w.work.*"


def test_its_data_are_those_of_the_dispatch_else_those_of_the_dead_letter() -> None:
    """A letter without a dispatch is of a monitor that began later: the job would run with nothing."""
    assert again_of(ROW, LETTER).data == '{"to":"ada"}'
    assert again_of(evolve(ROW, job_data=None), LETTER).data == '{"to":"bob"}'
    assert again_of(None, LETTER).data == '{"to":"bob"}'


@pytest.mark.parametrize("unknown", [JobId(EMPTY_GUID), None])
def test_a_job_without_an_id_gets_one(unknown: JobId | None) -> None:
    """Of another scheduler's heartbeats there is the empty one, by which a worker refuses a message."""
    again = again_of(evolve(ROW, job_id=unknown))

    assert again.job_id not in (EMPTY_GUID, "", None)
    assert again_of(ROW, LETTER).job_id == JOB_ID


def test_it_is_a_new_occurrence() -> None:
    """With the old id it would be taken for the one that has ended."""
    again = again_of(ROW, LETTER)

    ids = {again.publication().message.headers["OccurrenceId"] for _ in range(2)}

    assert again.of == ROW.id
    assert len(ids) == 2
    assert ROW.id not in ids
