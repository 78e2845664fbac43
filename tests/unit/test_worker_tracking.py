"""How messages change what is known of workers (WIRE.md 4.7)."""

from typing import Any

import pytest
from attrs import evolve

from milvaion_trio.model.history import InstanceRecord, WorkerRecord
from milvaion_trio.model.ids import InstanceId, WorkerId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.messages import WorkerHeartbeat, WorkerMetadata, WorkerRegistration
from milvaion_trio.policy.worker_tracking import heartbeat_seen, instance_lost, is_instance_lost, registered

NOW = Instant.parse("2026-04-02T09:15:30Z")
WORKER, INSTANCE = WorkerId("reports"), InstanceId("reports-5f0c2a9b")


def registration(**fields: Any) -> WorkerRegistration:
    return WorkerRegistration(worker_id=WORKER, instance_id=INSTANCE, **fields)


def heartbeat(jobs: int = 0, at: Instant = NOW, *, is_stopping: bool = False) -> WorkerHeartbeat:
    return WorkerHeartbeat(
        worker_id=WORKER, instance_id=INSTANCE, current_jobs=jobs, timestamp=at, is_stopping=is_stopping
    )


def instance(**fields: Any) -> InstanceRecord:
    return InstanceRecord(**{"worker_id": WORKER, "instance_id": INSTANCE, "last_heartbeat": NOW, **fields})


def test_a_registration_tells_of_the_group_and_of_the_process() -> None:
    told = registration(
        display_name="Reports",
        host_name="host",
        ip_address="10.0.0.1",
        routing_patterns={"Report": "reports.report.*"},
        job_types=("Report",),
        max_parallel_jobs=4,
        version="1.2",
        metadata=WorkerMetadata(heartbeat_interval=5, is_external=True),
    )

    assert registered(None, told, NOW) == (
        WorkerRecord(
            worker_id=WORKER,
            display_name="Reports",
            registered_at=NOW,
            routing_patterns={"Report": "reports.report.*"},
            job_types=("Report",),
            max_parallel_jobs=4,
            version="1.2",
            heartbeat_interval=5.0,
            is_external=True,
        ),
        instance(host_name="host", ip_address="10.0.0.1"),
    )


@pytest.mark.parametrize("interval", [0, -1])
def test_who_tells_no_interval_is_taken_to_have_the_usual_one(interval: int) -> None:
    """An API would drop it at every sweep (WIRE.md 3.6)."""
    worker, _ = registered(None, registration(metadata=WorkerMetadata(heartbeat_interval=interval)), NOW)

    assert worker.heartbeat_interval == 30


def test_a_registration_brings_a_process_back() -> None:
    before = instance(lost_at=NOW, stopped_at=NOW, current_jobs=3, host_name="host", ip_address="10.0.0.1")

    _, after = registered(before, registration(), NOW.plus(5))

    assert after == instance(last_heartbeat=NOW.plus(5), host_name="host", ip_address="10.0.0.1")


def test_a_heartbeat_tells_of_an_unknown_process_too() -> None:
    assert heartbeat_seen(None, heartbeat(3), NOW) == instance(current_jobs=3)


def test_a_heartbeat_counts_from_when_it_was_read() -> None:
    """A worker whose clock is wrong is not lost for that."""
    after = heartbeat_seen(instance(lost_at=NOW, host_name="host"), heartbeat(2, NOW.plus(-9999)), NOW.plus(5))

    assert after == instance(last_heartbeat=NOW.plus(5), current_jobs=2, host_name="host")


def test_who_says_good_bye_is_gone_and_no_late_heartbeat_brings_it_back() -> None:
    gone = heartbeat_seen(instance(current_jobs=2), heartbeat(2, NOW.plus(9), is_stopping=True), NOW.plus(10))

    assert gone == instance(last_heartbeat=NOW.plus(10), stopped_at=NOW.plus(9))
    assert heartbeat_seen(gone, heartbeat(2, NOW.plus(9)), NOW.plus(11)) is gone
    assert heartbeat_seen(gone, heartbeat(1, NOW.plus(10)), NOW.plus(11)).stopped_at is None


@pytest.mark.parametrize(
    ("seconds", "interval", "is_so"), [(90, 30, False), (91, 30, True), (15, 5, False), (16, 5, True)]
)
def test_a_process_is_lost_after_three_silent_intervals(seconds: int, interval: int, is_so: bool) -> None:
    worker = WorkerRecord(worker_id=WORKER, registered_at=NOW, heartbeat_interval=interval)

    assert is_instance_lost(instance(), worker, NOW.plus(seconds)) is is_so
    assert is_instance_lost(instance(), None, NOW.plus(seconds)) is (seconds > 90)


def test_who_is_known_to_be_gone_is_not_lost_once_more() -> None:
    gone = instance_lost(instance(current_jobs=3), NOW.plus(91))

    assert gone == instance(lost_at=NOW.plus(91))
    assert not is_instance_lost(gone, None, NOW.plus(500))
    assert not is_instance_lost(evolve(instance(), stopped_at=NOW), None, NOW.plus(500))
