"""How the played API is set up: the values that Milvaion 1.1 ships in its settings file (WIRE.md 4)."""

import enum

from attrs import frozen

__all__ = ["ApiSettings", "Generation"]


class Generation(enum.Enum):
    """Which Milvaion is played (WIRE.md 14)."""

    V1_1 = "OccurrenceId"
    """The value is the member by which it knows an occurrence."""
    V1_0 = "CorrelationId"


@frozen(kw_only=True)
class ApiSettings:
    """Times are in seconds."""

    generation: Generation = Generation.V1_1
    status_interval: float = 0.1
    status_prefetch: int = 10
    log_interval: float = 0.5
    log_batch_limit: int = 10_000
    log_buffer_limit: int = 100_000
    log_wait_tries: int = 20
    log_wait: float = 120.0
    heartbeat_interval: float = 0.1
    sweep_interval: float = 30.0
    zombie_interval: float = 100.0
    zombie_timeout_minutes: float = 5.0
    auto_disable_threshold: int = 5
    auto_disable_window_minutes: float = 60.0
    worker_life: float = 300.0
    """How long the entry of a worker stays in Redis without being renewed."""
    instance_life: float = 120.0
    recovery_age: float = 120.0
    """An API that starts fails what is older and has not ended."""
