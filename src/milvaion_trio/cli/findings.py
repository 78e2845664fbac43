"""What a look at a worker finds: a verdict, what it is about, and one line with what to do."""

import enum
from collections.abc import Iterable, Sequence

from attrs import frozen
from rich.text import Text

from milvaion_trio.cli.terminal import BAD, GOOD, WAITING, output_console, write_json

__all__ = ["Area", "Finding", "Verdict", "print_findings", "worst"]


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
    SCHEDULES = "schedules"
    OUTBOX = "outbox"
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


_STYLES = {Verdict.OK: GOOD, Verdict.WARNING: WAITING, Verdict.FAILED: BAD}


def print_findings(findings: Sequence[Finding], *, as_json: bool) -> None:
    """One line each; or one JSON object with the worst verdict and all of them."""
    if as_json:
        facts = [
            {"area": finding.area.value, "verdict": finding.verdict.value, "text": finding.text} for finding in findings
        ]
        write_json({"verdict": worst(findings).value, "findings": facts})
        return
    console = output_console()
    for finding in findings:
        verdict = (f"{finding.verdict.value:<8} ", _STYLES[finding.verdict])
        console.print(Text.assemble(verdict, f"{finding.area.value:<9} ", finding.text))
