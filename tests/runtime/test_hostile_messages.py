"""What a worker makes of messages that nobody should send, whatever brought them."""

from collections.abc import Iterable

from tests.support.hostile import CASES, Expected, HostileCase, add_probes, decoded_message
from trio.testing import MockClock

from milvaion_trio import Worker
from milvaion_trio.model import headers, topology
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.testing import WorkerUnderTest, under_test


async def test_every_hostile_message_ends_as_it_should(worker: Worker, autojump_clock: MockClock) -> None:
    """Each runs once, is refused with one dead letter, or is set aside; and the job behind them runs (G5, G9)."""
    runs: list[str] = []
    add_probes(worker, runs)

    async with under_test(worker) as kit:
        for case in CASES:
            kit.dispatch(decoded_message(case), to="Probe")
        other = kit.enqueue("Probe")
        await kit.run_until_idle()

    assert kit.occurrence(other).status is OccurrenceStatus.COMPLETED
    assert {case.name: _end(kit, case, runs) for case in CASES} == {case.name: case.expected for case in CASES}
    assert len(kit.quarantined) == sum(case.expected == "quarantined" for case in CASES)
    assert kit.broker.queue(topology.FAILED_QUEUE).depth == sum(case.expected == "refused" for case in CASES)


def _end(kit: WorkerUnderTest, case: HostileCase, runs: Iterable[str]) -> Expected | str:
    """How it ended, or everything that happened if that is no end."""
    view = kit.occurrence(case.occurrence_id)
    finals = [status.status for status in view.statuses if status.status is not OccurrenceStatus.RUNNING]
    letters = [m for m in kit.sent_to(topology.DEAD_LETTER_EXCHANGE) if _is_about(m.message.headers, case)]
    aside = any(message.body == case.body for message in kit.quarantined)
    match sum(run == case.occurrence_id for run in runs), finals, len(letters):
        case 1, [OccurrenceStatus.COMPLETED], 0:
            return "runs"
        case 0, [OccurrenceStatus.FAILED], 1:
            return "refused"
        case 0, [], 0 if aside:
            return "quarantined"
        case happened:
            return str(happened)


def _is_about(found: object, case: HostileCase) -> bool:
    return isinstance(found, dict) and found.get(headers.CORRELATION_ID) == case.occurrence_id
