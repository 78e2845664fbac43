"""What a look at a worker finds: a verdict, what it is about, and one line with what to do."""

import enum
from collections.abc import Iterable

from attrs import frozen

__all__ = ["Area", "Finding", "Verdict", "worst"]


class Verdict(enum.Enum):
    """How bad it is, from good to bad."""

    OK = "ok"
    WARNING = "warning"
    """Workers start, and something will not be as expected."""
    FAILED = "failed"
    """Workers do not start, or cannot do their work."""


class Area(enum.Enum):
    """What it is about."""

    SETTINGS = "settings"
    JOBS = "jobs"
    BROKER = "broker"
    TOPOLOGY = "topology"
    MILVAION = "milvaion"
    REDIS = "redis"


@frozen
class Finding:
    """One thing that was found."""

    area: Area
    verdict: Verdict
    text: str


def worst(findings: Iterable[Finding]) -> Verdict:
    """The worst verdict; good when nothing was found."""
    order = list(Verdict)
    return max((finding.verdict for finding in findings), key=order.index, default=Verdict.OK)
