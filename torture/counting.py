"""Figures about a run, from its evidence: copies, second runs, times to recover.

Separate from the invariants, which only say what must not be: these are printed when all is well, too.
"""

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from torture.effects import Effect
from torture.evidence import FINALS, Evidence, Fault, Status

__all__ = [
    "attempts_seen",
    "copies",
    "copies_of_one_run",
    "extra_runs",
    "finals",
    "lost",
    "median_and_most",
    "recoveries",
    "runs",
    "unconfirmed",
]


def finals(evidence: Evidence) -> dict[str, list[Status]]:
    """The final statuses of each occurrence as they came, copies included."""
    found: dict[str, list[Status]] = defaultdict(list)
    for status in evidence.statuses:
        if status.status in FINALS:
            found[status.occurrence].append(status)
    return found


def lost(evidence: Evidence) -> list[str]:
    """Occurrences that were dispatched and never reported to have ended."""
    ended = finals(evidence)
    return [occurrence for occurrence in evidence.expected if occurrence not in ended]


def copies(statuses: Iterable[Status]) -> Counter[str]:
    """How many publishes of each message id were more than one.

    What the broker had delivered before is no second publish, unless it comes first: then the earlier delivery was not
    one that this API saw, and each that is not marked is a publish of its own.
    """
    publishes: Counter[str] = Counter()
    for status in statuses:
        if not status.redelivered or not publishes[status.message_id]:
            publishes[status.message_id] += 1
    return Counter({identity: count - 1 for identity, count in publishes.items() if count > 1})


def copies_of_one_run(evidence: Evidence) -> Counter[str]:
    """Those of `copies` that are not of an occurrence of which an attempt ran twice: two runs say the same."""
    twice = {occurrence for (occurrence, _), begun in runs(evidence.effects).items() if len(begun) > 1}
    return copies(status for status in evidence.statuses if status.occurrence not in twice)


def runs(effects: Iterable[Effect]) -> dict[tuple[str, int], list[Effect]]:
    """The beginnings of each attempt."""
    found: dict[tuple[str, int], list[Effect]] = defaultdict(list)
    for effect in effects:
        if effect.what == "begin":
            found[effect.occurrence, effect.attempt].append(effect)
    return found


def extra_runs(effects: Iterable[Effect]) -> int:
    """Beginnings beyond one of each attempt."""
    return sum(len(begun) - 1 for begun in runs(effects).values())


def attempts_seen(effects: Iterable[Effect]) -> dict[str, set[int]]:
    """The numbers of the attempts of each occurrence that began."""
    found: dict[str, set[int]] = defaultdict(set)
    for occurrence, attempt in runs(effects):
        found[occurrence].add(attempt)
    return found


def unconfirmed(effects: Iterable[Effect]) -> Counter[str]:
    """The message ids that had no answer when a worker's publishing connection was lost, and how often."""
    found: Counter[str] = Counter()
    for effect in effects:
        if effect.what == "unconfirmed":
            found.update(identity for identity in effect.facts.get("ids", ()) if identity)
    return found


def recoveries(evidence: Evidence) -> list[tuple[Fault, float | None]]:
    """Seconds from the end of each fault to the next job that begins; `None` where none was left to begin.

    After a fault that hit one worker it is that worker's next job. For one that was dispatched later, it is the time
    from then on: before, there was nothing to begin.
    """
    begun = sorted(
        (effect.at, effect.worker, evidence.dispatched.get(effect.occurrence, 0.0))
        for effect in evidence.effects
        if effect.what == "begin"
    )
    names = {effect.worker for effect in evidence.effects}
    found: list[tuple[Fault, float | None]] = []
    for fault in evidence.faults:
        if fault.recovers:
            whose = {fault.whom} if fault.whom in names else names
            waits = [at - max(since, fault.ended) for at, who, since in begun if at >= fault.ended and who in whose][:1]
            again = [one.began - fault.ended for one in evidence.faults if one.whom == fault.whom]
            found.append((fault, min([*waits, *(wait for wait in again if waits and wait >= 0)], default=None)))
    return found


def median_and_most(seconds: Sequence[float]) -> tuple[float, float] | None:
    """Rounded for people."""
    return (round(statistics.median(seconds), 2), round(max(seconds), 2)) if seconds else None
