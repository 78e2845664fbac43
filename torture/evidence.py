"""What is known about a run when it is over, as values: all that the invariants are judged by.

Separate from who collects it (`collecting`), so that the invariants are tried on evidence made by hand.
"""

from collections.abc import Mapping, Sequence

from attrs import field, frozen

from torture.effects import Effect
from torture.expectations import Expected

__all__ = ["FINALS", "Evidence", "Fault", "Leftover", "LogLine", "Resources", "Status"]

FINALS = frozenset({2, 3, 4, 5})
"""Completed, Failed, Cancelled, TimedOut."""


@frozen(kw_only=True)
class Status:
    """A status update as it came over the wire, copies included, in order of arrival."""

    occurrence: str
    status: int
    message_id: str
    instance: str
    redelivered: bool
    """Whether the broker had delivered it before: the API lost its connection."""
    at: float
    is_heartbeat: bool = False
    """A Running without a start time."""


@frozen(kw_only=True)
class LogLine:
    """An entry that a job wrote, as the API stored it."""

    occurrence: str
    token: str
    number: int


@frozen(kw_only=True)
class Fault:
    """Something that was done to a worker or a server."""

    kind: str
    """`worker-kill`, `broker-kill`, `restart` …"""
    whom: str
    began: float
    """Unix seconds, as all times here."""
    ended: float
    """When it was over: the server serves again, the process is started again."""
    recovers: bool = True
    """Whether work is expected to go on after it, so that the time until then is judged."""
    facts: Mapping[str, object] = field(factory=dict)


@frozen(kw_only=True)
class Leftover:
    """An outbox file when all workers had left."""

    path: str
    rows: int
    integrity: str
    """What SQLite's `integrity_check` says."""


@frozen(kw_only=True)
class Resources:
    """A worker process near its end."""

    worker: str
    fds: int
    threads: int
    rss_kb: int


@frozen(kw_only=True)
class Evidence:
    """Everything about one run."""

    expected: Mapping[str, Expected] = field(factory=dict)
    """By occurrence; what was certainly dispatched."""
    dispatched: Mapping[str, float] = field(factory=dict)
    """When, in Unix seconds; long ago where it is not said."""
    statuses: Sequence[Status] = ()
    dead_letters: Sequence[str] = ()
    """The occurrence of each that arrived, copies included."""
    second_dead_letters: Sequence[str] = ()
    """Those that differ from the first of their occurrence."""
    logs: Sequence[LogLine] = ()
    effects: Sequence[Effect] = ()
    faults: Sequence[Fault] = ()
    queues: Mapping[str, tuple[int, int]] = field(factory=dict)
    """Those that are not empty at the end: messages, consumers."""
    leftovers: Sequence[Leftover] = ()
    resources: Sequence[Resources] = ()
    changed_queues: Sequence[str] = ()
    """Milvaion's that cannot be declared any more as the API does."""
    stuck: Sequence[str] = ()
    """What a real API would try for ever, threw away, or complains of."""
    unclean: Sequence[str] = ()
    """Texts on the wire with a secret, a NUL or a lone surrogate."""
    most_extra_runs: int | None = None
    """Over all occurrences; `None` where only those of each are limited."""
    explains_copies: bool = False
    """Whether a status that was published twice must have been without an answer when its link was lost."""
    recovery_limit: float | None = 15.0
    """Seconds; `None` where it is not judged."""
    heartbeat_limit: float | None = None
    """Seconds between two Running of a live run; `None` where it is not judged."""
    latest: float | None = None
    """Seconds that a retry may be late beyond a quarter of its delay; `None` under faults, which delay anything."""
    judged: frozenset[str] | None = None
    """The invariants that this scenario is judged by; `None` for all."""
