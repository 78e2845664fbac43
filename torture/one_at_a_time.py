"""Runs of exclusive keys, as their jobs wrote them down: which overlap, and whether their fencing tokens grow.

Separate from the scenarios, which hurt different things: they are judged by the same intervals.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from attrs import frozen

from torture.counting import finals
from torture.evidence import Evidence
from torture.expectations import Act
from torture.invariants import INVARIANTS
from torture.play import Play

__all__ = [
    "CLEANUP",
    "JUDGED",
    "LEASE",
    "acts",
    "again_is_announced",
    "ends_are_equal",
    "fences_grow",
    "overlaps",
    "spans_of",
    "tell",
]

KEYS: Final = 10
LEASE: Final = 5.0
CLEANUP: Final = 1.0
JUDGED: Final = frozenset(INVARIANTS) - {"I2", "I4", "I10"}
"""A message that a dead worker leaves behind is sent away first, as that worker's lease still lasts. So it is another
attempt by its id: its end, reported twice, has two message ids (`ends_are_equal`), and its run is announced by its
number alone (`again_is_announced`). When jobs go on is a matter of leases."""


@frozen(kw_only=True)
class Span:
    """From the beginning of a job's code to its end, or to the end of its process."""

    key: str
    began: float
    ended: float
    fence: int
    worker: str


def tell(play: Play) -> None:
    """What workers have to know."""
    play.tell(max_parallel=4, cleanup=CLEANUP, exclusive="account-{key}", exclusive_lease=LEASE)
    play.allow(judged=JUDGED, recovery_limit=None)


def acts(play: Play, longest: float) -> Iterator[Act]:
    """All jobs, a tenth of them for each key."""
    for number in range(play.size.jobs):
        yield Act(ends=["ok"], takes=play.random.uniform(0.02, longest), key=f"k{number % KEYS}")


def spans_of(evidence: Evidence) -> dict[str, list[Span]]:
    """All runs of each key, in order."""
    ends = {line.token: line.at for line in evidence.effects if line.what in {"end", "out"}}
    starts: dict[str, list[float]] = defaultdict(list)
    for line in evidence.effects:
        if line.what == "start":
            starts[line.worker].append(line.at)
    found: dict[str, list[Span]] = defaultdict(list)
    for line in evidence.effects:
        if line.what == "begin" and line.facts.get("key"):
            killed = next((at for at in starts[line.worker] if at > line.at), float("inf"))
            fence = line.facts.get("fence")
            found[str(line.facts["key"])].append(
                Span(
                    key=str(line.facts["key"]),
                    began=line.at,
                    ended=ends.get(line.token, killed),
                    fence=fence if isinstance(fence, int) else -1,
                    worker=line.worker,
                )
            )
    for spans in found.values():
        spans.sort(key=lambda span: span.began)
    return found


def overlaps(evidence: Evidence) -> Iterator[tuple[Span, Span]]:
    """Two runs of a key at once, the earlier first."""
    for spans in spans_of(evidence).values():
        last: Span | None = None
        for span in spans:
            if last is not None and span.began < last.ended:
                yield last, span
            if last is None or span.ended > last.ended:
                last = span


def fences_grow(evidence: Evidence) -> Iterator[str]:
    """Of each key, a later run has a larger token."""
    for key, spans in spans_of(evidence).items():
        for before, behind in pairwise(spans):
            if behind.fence <= before.fence:
                yield f"a later run of {key} has the token {behind.fence}, the one before {before.fence}"


def ends_are_equal(evidence: Evidence) -> Iterator[str]:
    """The finals of an occurrence say the same, and there is a run for each."""
    begun = Counter(line.occurrence for line in evidence.effects if line.what == "begin")
    for occurrence, seen in finals(evidence).items():
        ids, statuses = {status.message_id for status in seen}, {status.status for status in seen}
        if len(statuses) != 1 or len(ids) > begun[occurrence]:
            kinds = sorted(statuses)
            yield f"{occurrence} began {begun[occurrence]} times and has {len(ids)} finals, of status {kinds}"


def again_is_announced(evidence: Evidence) -> Iterator[str]:
    """A run of an attempt that was begun before knows that it is not the first."""
    seen: set[tuple[str, int]] = set()
    for line in sorted((line for line in evidence.effects if line.what == "begin"), key=lambda line: line.at):
        if (line.occurrence, line.attempt) in seen and line.run < 2:
            yield f"{line.occurrence} began again as run {line.run}"
        seen.add((line.occurrence, line.attempt))
