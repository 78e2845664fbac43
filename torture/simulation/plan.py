"""The program of one seed: which workers, which jobs, which faults, and when.

Drawn before anything runs, so that no change of the worker changes it. Each seed leaves most kinds of faults out
(swarm testing: Groce et al., ISSTA 2012), as faults of all kinds at once hide each other.
"""

import enum
from random import Random
from typing import Final, TypeAlias

from attrs import field, frozen

from torture.simulation.fates import MAX_RETRIES, Fate, Kind

__all__ = ["DISK_FAULTS", "Fault", "Plan", "Point", "Step", "StepKind", "Trap", "WORLD", "drawn"]

WORLD: Final = -1
"""In the place of a host: all of them."""

CALM_AT: Final = 400.0
"""Second from which on no further fault begins. Every one of them ends by itself."""


class StepKind(enum.StrEnum):
    """What the world does to workers at some time."""

    DISPATCH = "dispatch"
    AGAIN = "dispatch again"
    """The same occurrence with a new stamp, as workflows do."""
    COPY = "copy"
    """The same message once more."""
    CANCEL = "cancel"
    FAULT = "fault"


class Fault(enum.StrEnum):
    """What can go wrong at a time."""

    SEVER = "links lost"
    SEVER_PUBLISHING = "publishing link lost"
    SEVER_CONSUMING = "consuming link lost"
    UNREACHABLE = "broker unreachable"
    """Links are lost and none can be had for a while: with `WORLD`, a broker that restarts."""
    HOLD_CONFIRMS = "confirms held"
    HOLD_ACKS = "acks held"
    """Lost when the link is lost meanwhile."""
    HOLD_DELIVERIES = "deliveries held"
    BLOCK = "publishing blocked"
    """As by a memory alarm: nothing that is published arrives."""
    REFUSE = "publishes refused"
    DEAF = "signals unreachable"
    DRAIN = "drained"
    STOP = "stopped"
    CRASH = "crashed"
    SLOW_DISK = "slow disk"
    FULL_DISK = "full disk"
    DAMAGE = "outbox file damaged"


class Point(enum.StrEnum):
    """A step of a worker at which a trap can spring."""

    PUBLISH = "before a publish arrives"
    PART = "when a part of a publish has arrived"
    STORED = "after a publish arrived, before its confirm"
    CONFIRMED = "when a confirm comes"
    ACKED = "after an ack"
    HANDED = "when a delivery was handed over"
    BEGAN = "when job code begins"
    ENDED = "when job code ends"
    WRITTEN = "when the disk has written"
    """Before anybody is told."""


@frozen
class Step:
    """Something at a time."""

    at: float
    kind: StepKind
    occurrence: int = 0
    host: int = WORLD
    fault: Fault | None = None
    seconds: float = 0.0
    """How long the fault lasts."""
    count: int = 0
    """How many publishes are refused."""


@frozen
class Trap:
    """A fault at the n-th time that a host comes by a point."""

    host: int
    point: Point
    nth: int
    fault: Fault


Many: TypeAlias = tuple[Step, ...]


@frozen(kw_only=True)
class Plan:
    """Everything that is decided beforehand."""

    seed: int
    hosts: int
    with_disk: bool
    loses_disk: float
    """How likely a crash takes the disk along."""
    max_parallel: int
    job_parallel: int
    heartbeats: bool
    lag: float
    """Seconds that a publish, and as long that its confirm takes."""
    drain_timeout: float
    fates: tuple[Fate, ...]
    steps: Many
    traps: tuple[Trap, ...]
    by_number: dict[int, Fate] = field(init=False)

    @by_number.default
    def _by_number(self) -> dict[int, Fate]:
        return {fate.number: fate for fate in self.fates}

    def has(self, *faults: Fault) -> bool:
        """Whether the script has one of these."""
        return any(step.fault in faults for step in self.steps)

    def __str__(self) -> str:
        disk = f"with a disk that {self.loses_disk:.0%} of crashes take along" if self.with_disk else "without a disk"
        return (
            f"{self.hosts} hosts {disk}, {self.max_parallel} jobs at once, lag {self.lag:g} s; "
            f"{len(self.fates)} occurrences, {len(self.steps) - len(self.fates)} further steps, {len(self.traps)} traps"
        )


_KINDS: Final = {
    Kind.OK: 30,
    Kind.SLOW: 14,
    Kind.FLAKY: 12,
    Kind.EXHAUSTED: 6,
    Kind.PERMANENT: 6,
    Kind.TIMEOUT: 6,
    Kind.SNOOZED: 6,
    Kind.LATER: 3,
    Kind.LOGGING: 8,
    Kind.STUBBORN: 3,
    Kind.KILLER: 1,
    Kind.UNKNOWN: 2,
    Kind.WRONG_DATA: 2,
    Kind.BROKEN: 2,
}

_ONE_HOST: Final = frozenset((Fault.DRAIN, Fault.STOP, Fault.CRASH))
DISK_FAULTS: Final = frozenset((Fault.SLOW_DISK, Fault.FULL_DISK, Fault.DAMAGE))
_TRAPPED: Final = (
    Fault.SEVER,
    Fault.SEVER_PUBLISHING,
    Fault.SEVER_CONSUMING,
    Fault.CRASH,
    Fault.CRASH,
    Fault.DRAIN,
    Fault.HOLD_ACKS,
)


def drawn(seed: int) -> Plan:
    """The plan of this seed."""
    draw = Random(f"plan {seed}")
    fates = tuple(_fate(draw, number) for number in range(1, draw.randint(12, 36)))
    span = draw.choice((5.0, 60.0, 200.0))
    hosts = draw.choice((1, 1, 2, 2, 3))
    with_disk = draw.random() < 0.6
    steps = [
        *_dispatches(draw, fates, span),
        *_faults(draw, hosts, with_disk=with_disk),
    ]
    return Plan(
        seed=seed,
        hosts=hosts,
        with_disk=with_disk,
        loses_disk=draw.choice((0.0, 0.0, 0.5)),
        max_parallel=draw.choice((1, 3, 6, 10)),
        job_parallel=draw.choice((1, 2, 4)),
        heartbeats=draw.random() < 0.1,
        lag=draw.choice((0.0, 0.0, 0.0, 0.01, 1.0)),
        drain_timeout=draw.choice((0.0, 5.0, 20.0)),
        fates=fates,
        steps=tuple(sorted(steps, key=lambda step: step.at)),
        traps=tuple(_traps(draw, hosts, with_disk=with_disk)),
    )


def _fate(draw: Random, number: int) -> Fate:
    (kind,) = draw.choices(list(_KINDS), list(_KINDS.values()))
    job = draw.choice(("Work", "Work", "Patient", "Single"))
    seconds = draw.choice((0.0, 0.0, 0.5, 3.0, 10.0))
    failures = 0
    limit = None
    match kind:
        case Kind.SLOW | Kind.STUBBORN:
            seconds = draw.uniform(20, 150)
        case Kind.TIMEOUT:
            seconds, limit = draw.uniform(20, 150), draw.choice((1, 15))
        case Kind.EXHAUSTED:
            failures = MAX_RETRIES + 1
        case Kind.PERMANENT:
            failures = draw.randint(0, 1)
        case Kind.FLAKY | Kind.SNOOZED:
            failures = draw.randint(1, 2)
        case Kind.LATER:
            failures = 1
        case Kind.KILLER:
            failures = draw.randint(1, 4)
    lines = draw.randint(1, 60) if kind is Kind.LOGGING else 0
    return Fate(number=number, kind=kind, job=job, failures=failures, seconds=seconds, limit=limit, lines=lines)


def _dispatches(draw: Random, fates: tuple[Fate, ...], span: float) -> list[Step]:
    steps = []
    cancels, copies, repeats = (draw.random() < odds for odds in (0.5, 0.3, 0.2))
    for fate in fates:
        at = draw.uniform(0, span)
        steps.append(Step(at, StepKind.DISPATCH, fate.number))
        if cancels and draw.random() < 0.15:
            steps.append(Step(at + draw.choice((-1.0, 0.0, 0.5, 3.0, 30.0, 150.0)), StepKind.CANCEL, fate.number))
        if copies and draw.random() < 0.15:
            steps.append(Step(at + draw.choice((0.0, 1.0, 20.0, 200.0)), StepKind.COPY, fate.number))
        if repeats and draw.random() < 0.15:
            later = at + draw.choice((1.0, 20.0, 200.0))
            steps.append(Step(later, StepKind.AGAIN, fate.number))
    return steps


def _faults(draw: Random, hosts: int, *, with_disk: bool) -> list[Step]:
    kinds = [fault for fault in Fault if draw.random() < 0.35 and (with_disk or fault not in DISK_FAULTS)]
    if not kinds:
        return []
    steps = []
    for _ in range(draw.choice((0, 1, 2, 4, 8))):
        fault = draw.choice(kinds)
        host = draw.randrange(hosts) if fault in _ONE_HOST | DISK_FAULTS or draw.random() < 0.5 else WORLD
        seconds = draw.choice((0.5, 3.0, 8.0, 40.0, 100.0))
        steps.append(Step(draw.uniform(0, CALM_AT), StepKind.FAULT, 0, host, fault, seconds, draw.choice((1, 3, 30))))
    return steps


def _traps(draw: Random, hosts: int, *, with_disk: bool) -> list[Trap]:
    points = [point for point in Point if draw.random() < 0.5 and (with_disk or point is not Point.WRITTEN)]
    if not points:
        return []
    return [
        Trap(
            draw.randrange(hosts),
            draw.choice(points),
            draw.choice((1, 2, 3, 5, 8, 13, 21, 34, 55, 89)),
            draw.choice(_TRAPPED),
        )
        for _ in range(draw.choice((0, 1, 2, 3, 6)))
    ]
