"""What a round tells our own programs, in one variable; the programs of peers need none of it.

Separate, as both sides of it import it: the harness that writes it, and the programs that read it.
"""

import json
import os

from attrs import asdict, frozen

__all__ = ["VARIABLE", "Told", "read", "written"]

VARIABLE = "BENCH_TOLD"
MOST_OF_ONE_JOB = 50_000
"""Of one consumer AMQP lets nobody hold more than 65,535 messages."""


@frozen(kw_only=True)
class Told:
    """How a worker of ours is to run."""

    port: int = 5672
    vhost: str = "/"
    driver: str = "amqp"
    """Of the settings of the same name."""
    is_reported: bool = True
    in_flight: int = 100
    running_after: float = 0.0
    """Of the settings of the same name, seconds."""
    computing: float = 0.0
    """Seconds of CPU that each job takes."""
    sleepers: int = 0
    """Jobs that sleep beside those that are counted."""
    storage: str = "worker_data"
    redis_port: int = 0
    """0 for no Redis."""

    @property
    def sleeping_jobs(self) -> dict[str, int]:
        """How many sleep of each job that sleeps, by its name; of as few jobs as they need."""
        starts = range(0, self.sleepers, MOST_OF_ONE_JOB)
        return {f"Sleep{start}": min(MOST_OF_ONE_JOB, self.sleepers - start) for start in starts}


def written(told: Told) -> dict[str, str]:
    """As an environment."""
    return {VARIABLE: json.dumps(asdict(told))}


def read() -> Told:
    """What this process was told."""
    return Told(**json.loads(os.environ.get(VARIABLE, "{}")))
