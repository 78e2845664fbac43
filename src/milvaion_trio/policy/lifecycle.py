"""The life of a job: two decisions, one when its message arrives, one when its code has ended.

`admit` says whether a message becomes a run; `conclude` says what an outcome puts on the wire.
Between them the job runs, which is nothing to decide. Each has a module of its own; the runtime imports both from here.
"""

from milvaion_trio.policy.admission import (
    Admission,
    Adopt,
    AlreadyConcluded,
    CancelledBeforeStart,
    Quarantine,
    Refuse,
    Run,
    admit,
)
from milvaion_trio.policy.conclusion import (
    Conclusion,
    DeadLetterFacts,
    Parked,
    RetryCopy,
    conclude,
    conclude_cancelled_before_start,
    conclude_parked,
    conclude_refusal,
)
from milvaion_trio.policy.system_logs import SystemLog

__all__ = [
    "admit",
    "Admission",
    "Run",
    "Adopt",
    "AlreadyConcluded",
    "CancelledBeforeStart",
    "Refuse",
    "Quarantine",
    "conclude",
    "conclude_refusal",
    "conclude_cancelled_before_start",
    "conclude_parked",
    "Conclusion",
    "RetryCopy",
    "Parked",
    "DeadLetterFacts",
    "SystemLog",
]
