"""What a worker process is told by the harness: one value, as JSON in one environment variable.

Separate because both sides of the process border import it.
"""

from typing import Final

from attrs import frozen

__all__ = ["VARIABLE", "Told"]

VARIABLE: Final = "MTRIO_TORTURE"


@frozen(kw_only=True)
class Told:
    """The settings of one worker process. Times are in seconds."""

    name: str
    """Of the process; kept over restarts, as is its storage."""
    worker_id: str
    """Of its group."""
    effects: str
    """The path of the effects file."""
    storage: str
    """The folder of its outbox."""
    host: str
    rabbitmq_port: int
    redis_port: int
    username: str = "guest"
    password: str = "guest"
    vhost: str
    cancel_channel: str
    driver: str = "amqp"
    """What it speaks AMQP with."""
    disk: bool = True
    """Whether the outbox is on disk."""
    max_parallel: int = 4
    max_retries: int = 3
    base_delay: float = 1.0
    time_limit: float = 60.0
    job_heartbeat: float = 60.0
    drain: float = 20.0
    cleanup: float = 5.0
    flush: float = 3.0
    amqp_heartbeat: int = 0
    """0 for the default."""
    schedules: bool = False
    """Whether it may lead the scheduling."""
    lease: float = 10.0
    """Of the leader."""
    exclusive: str = ""
    """What the jobs' exclusive keys are made from; empty for none."""
    exclusive_lease: float = 15.0
    probes: bool = False
    """Whether it has the jobs that hostile messages ask for (`torture.probes`)."""
    sabotages: list[str]
    """Names of `torture.sabotages`."""
    records_deliveries: bool = False
    """Whether each delivery that is taken, and each that leaves none in hand when it is settled, is written down."""
    crash: str = ""
    """`point:n`: SIGKILL to itself at the n-th passing of the point; empty for none."""
