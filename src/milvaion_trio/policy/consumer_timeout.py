"""Which jobs may run for longer than the broker waits for their ack.

RabbitMQ takes a message back that nobody acked within its `consumer_timeout`, and a message is acked last, when its
job's end has been reported (RELIABILITY.md 0, finding 4; DESIGN.md 5, Timeout).
"""

from collections.abc import Mapping
from typing import Final

__all__ = ["consumer_timeout_warnings"]

_SAFE_PART: Final = 0.8
"""What a job may use of it: clean-up, reporting and the confirms come after its time limit (DESIGN.md 5)."""


def consumer_timeout_warnings(limits: Mapping[str, float | None], consumer_timeout: float) -> list[str]:
    """One line for each job whose time limit is too long, or that has none, by the jobs' names.

    Both in seconds; `consumer_timeout` 0 is a broker that waits for ever. A message may allow its run more, or less.
    """
    safe = _SAFE_PART * consumer_timeout
    return [
        f"{name} may run for {f'{limit:g} s' if limit else 'ever (ExecutionTimeoutSeconds 0)'}, but after "
        f"{consumer_timeout:g} s (Worker:RabbitMQ:ConsumerTimeout, the broker's consumer_timeout) RabbitMQ closes the "
        "channel and delivers the message again: to this worker, which goes on with the run it has, or to another one, "
        f"which runs the job a second time. Limit it to {safe:g} s, or raise the timeout in the broker and here."
        for name, limit in limits.items()
        if consumer_timeout > 0 and (not limit or limit > safe)
    ]
