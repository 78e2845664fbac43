"""An external scheduler in virtual time, on an embedded broker."""

import pytest

from milvaion_trio import ExternalScheduler, WorkerSettings
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model.settings import HeartbeatSettings
from milvaion_trio.testing.clock import clock_ns


@pytest.fixture
def broker() -> EmbeddedBroker:
    return EmbeddedBroker()


@pytest.fixture
def milvaion(broker: EmbeddedBroker) -> ExternalScheduler:
    settings = WorkerSettings(worker_id="nightly", heartbeat=HeartbeatSettings(job_interval=60))
    return ExternalScheduler(broker, settings=settings, source="cron", clock_ns=clock_ns)
