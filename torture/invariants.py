"""What must be true of every run, I1 to I14: pure functions from evidence to what violates them.

Each yields sentences. An invariant that a scenario gives no evidence for finds nothing to complain of.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from attrs import frozen

from torture.counting import attempts_seen, copies_of_one_run, extra_runs, finals, lost, recoveries, runs, unconfirmed
from torture.effects import Effect
from torture.evidence import FINALS, Evidence

__all__ = ["INVARIANTS", "Violation", "judge"]

CANCELLED: Final = 4
"""The status, as in `evidence.FINALS`."""
EARLY: Final = 0.05
"""Seconds that a retry may come too early: the clock of two processes and the line that one writes."""
MOST_FDS: Final = 100
MOST_THREADS: Final = 40
MOST_RSS_KB: Final = 400_000
"""A worker has a tenth of each when it is idle; what leaks passes them within thousands of jobs."""


@frozen
class Violation:
    """A broken invariant."""

    invariant: str
    about: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.about}"


def all_end(evidence: Evidence) -> Iterator[str]:
    """I1: what was dispatched has an end, and nothing else has."""
    for occurrence in lost(evidence):
        seen = [effect.how for effect in evidence.effects if effect.occurrence == occurrence and effect.what == "begin"]
        yield f"{occurrence} is lost; it began {len(seen)} times"
    for occurrence in finals(evidence).keys() - evidence.expected.keys():
        yield f"{occurrence} ended and was never dispatched"


def one_end(evidence: Evidence) -> Iterator[str]:
    """I2: one final status after equal message ids are counted once, and the one that was to be expected."""
    for occurrence, seen in finals(evidence).items():
        ids, statuses = {status.message_id for status in seen}, {status.status for status in seen}
        if len(ids) != 1 or len(statuses) != 1:
            yield f"{occurrence} has {len(ids)} finals, of status {sorted(statuses)}: {sorted(ids)}"
        wanted = evidence.expected.get(occurrence)
        if wanted is not None and not statuses <= {wanted.status, wanted.or_status}:
            yield f"{occurrence} ended with {sorted(statuses)} instead of {wanted.status}"
    if evidence.explains_copies:
        at_risk = unconfirmed(evidence.effects)
        for identity, count in copies_of_one_run(evidence).items():
            if count > at_risk[identity]:
                yield f"{identity} was published {1 + count} times, without an answer {at_risk[identity]} times"


def ends_are_last(evidence: Evidence) -> Iterator[str]:
    """I3: nothing non-final behind a final.

    A second run by another process, which cannot know of the end, is none of this; neither is a copy.
    """
    ended: dict[str, set[str]] = defaultdict(set)
    seen: set[str] = set()
    for status in evidence.statuses:
        if status.status in FINALS:
            ended[status.occurrence].add(status.instance)
        elif status.message_id not in seen and status.occurrence in ended:
            number = status.message_id.rpartition(":running:")[2]
            if status.instance in ended[status.occurrence] or not (number.isdigit() or status.is_heartbeat):
                yield f"{status.occurrence} is said to be running behind its end: {status.message_id}"
        seen.add(status.message_id)


def runs_are_few(evidence: Evidence) -> Iterator[str]:
    """I4: no second run without a fault that explains it, and each is announced to the job as such."""
    counts: Counter[str] = Counter()
    for (occurrence, attempt), begun in runs(evidence.effects).items():
        counts[occurrence] += len(begun)
        for again in sorted(begun, key=lambda effect: effect.at)[1:]:
            if not again.redelivered or again.run < 2:
                yield f"attempt {attempt} of {occurrence} ran again unannounced, as run {again.run}"
    for occurrence, wanted in evidence.expected.items():
        if wanted.most_runs is not None and counts[occurrence] > wanted.most_runs:
            yield f"{occurrence} ran {counts[occurrence]} times, at most {wanted.most_runs} can be explained"
    extra = extra_runs(evidence.effects)
    if evidence.most_extra_runs is not None and extra > evidence.most_extra_runs:
        yield f"{extra} second runs, at most {evidence.most_extra_runs} can be explained"


def dead_letters_are_right(evidence: Evidence) -> Iterator[str]:
    """I5: dead-lettered is what is exhausted, failed for good or refused, and nothing else."""
    wanted = {occurrence for occurrence, what in evidence.expected.items() if what.dead_letter}
    found = set(evidence.dead_letters)
    yield from (f"{occurrence} has no dead letter" for occurrence in wanted - found)
    yield from (f"{occurrence} has a dead letter" for occurrence in found - wanted)
    yield from (f"{occurrence} has a second, different dead letter" for occurrence in evidence.second_dead_letters)


def logs_are_whole(evidence: Evidence) -> Iterator[str]:
    """I6: of each attempt that ended there is a run whose log entries are all there, in order."""
    lines: dict[str, list[int]] = defaultdict(list)
    for line in evidence.logs:
        if line.number not in lines[line.token]:  # a batch may come twice
            lines[line.token].append(line.number)
    ended: dict[tuple[str, int], list[Effect]] = defaultdict(list)
    for effect in evidence.effects:
        if effect.what == "end":
            ended[effect.occurrence, effect.attempt].append(effect)
    reported = finals(evidence)
    for (occurrence, attempt), all_runs in ended.items():
        wanted = evidence.expected.get(occurrence)
        if wanted is None or not wanted.logs or occurrence not in reported:
            continue
        told = [lines[run.token] for run in all_runs]
        if wanted.status == CANCELLED and not any(told):
            continue  # it was stopped before it had said anything
        if not any(numbers and numbers == list(range(len(numbers))) for numbers in told):
            yield f"no run of attempt {attempt} of {occurrence} has its log: {told}"


def retries_are_right(evidence: Evidence) -> Iterator[str]:
    """I7: attempts are numbered without a gap up to the expected one, and none comes too early, nor too late."""
    reported = finals(evidence)
    for occurrence, numbers in attempts_seen(evidence.effects).items():
        wanted = evidence.expected.get(occurrence)
        if wanted is None:
            continue
        if occurrence in reported and numbers != set(range(1, wanted.attempts + 1)):
            yield f"{occurrence} has the attempts {sorted(numbers)} instead of 1 to {wanted.attempts}"
    begun, ended = _first_begin(evidence.effects), _first_end(evidence.effects)
    for (occurrence, attempt), at in begun.items():
        wanted = evidence.expected.get(occurrence)
        before = ended.get((occurrence, attempt - 1))
        if wanted is None or wanted.delay is None or before is None:
            continue
        waited = at - before
        if waited < wanted.delay - EARLY:
            yield f"attempt {attempt} of {occurrence} came after {waited:.2f} s instead of {wanted.delay:g} s"
        if evidence.latest is not None and waited > 1.25 * wanted.delay + evidence.latest:
            yield f"attempt {attempt} of {occurrence} came as late as {waited:.2f} s, its delay is {wanted.delay:g} s"


def nothing_is_left(evidence: Evidence) -> Iterator[str]:
    """I8: at the end all queues are empty and unused, and every outbox is empty and whole."""
    for queue, (messages, consumers) in evidence.queues.items():
        yield f"{queue} has {messages} messages and {consumers} consumers"
    for outbox in evidence.leftovers:
        if outbox.rows:
            yield f"{outbox.path} has {outbox.rows} rows"
        if outbox.integrity != "ok":
            yield f"{outbox.path}: {outbox.integrity}"


def nothing_leaks(evidence: Evidence) -> Iterator[str]:
    """I9: files, threads and memory of a worker process are bounded."""
    for one in evidence.resources:
        for what, found, limit in (
            ("file descriptors", one.fds, MOST_FDS),
            ("threads", one.threads, MOST_THREADS),
            ("kB of memory", one.rss_kb, MOST_RSS_KB),
        ):
            if found > limit:
                yield f"{one.worker} has {found} {what}, more than {limit}"


def work_goes_on(evidence: Evidence) -> Iterator[str]:
    """I10: jobs begin again soon after a fault has ended."""
    if evidence.recovery_limit is None:
        return
    for fault, seconds in recoveries(evidence):
        if seconds is not None and seconds > evidence.recovery_limit:
            yield f"{seconds:.1f} s from the end of {fault.kind} of {fault.whom} to the next job"


def live_runs_beat(evidence: Evidence) -> Iterator[str]:
    """I11: a run that lives is said to be running often enough for nobody to take it for dead."""
    limit = evidence.heartbeat_limit
    if limit is None:
        return
    beats: dict[str, list[float]] = defaultdict(list)
    for status in evidence.statuses:
        beats[status.occurrence].append(status.at)
    ended = {effect.token: effect.at for effect in evidence.effects if effect.what == "end"}
    for effect in evidence.effects:
        if effect.what == "begin" and effect.token in ended:
            times = [effect.at, *(at for at in beats[effect.occurrence] if effect.at <= at <= ended[effect.token])]
            gap = max(b - a for a, b in zip(times, [*times[1:], ended[effect.token]], strict=True))
            if gap > limit:
                yield f"nothing was heard of {effect.occurrence} for {gap:.1f} s while it ran"


def queues_are_unchanged(evidence: Evidence) -> Iterator[str]:
    """I12: Milvaion's queues can still be declared as it declares them."""
    yield from evidence.changed_queues


def the_api_is_content(evidence: Evidence) -> Iterator[str]:
    """I13: nothing that a real API would try for ever, throw away or misread."""
    yield from evidence.stuck


def texts_are_clean(evidence: Evidence) -> Iterator[str]:
    """I14: no secret, no NUL and no lone surrogate on any wire."""
    yield from evidence.unclean


INVARIANTS: Final[Mapping[str, Callable[[Evidence], Iterable[str]]]] = {
    "I1": all_end,
    "I2": one_end,
    "I3": ends_are_last,
    "I4": runs_are_few,
    "I5": dead_letters_are_right,
    "I6": logs_are_whole,
    "I7": retries_are_right,
    "I8": nothing_is_left,
    "I9": nothing_leaks,
    "I10": work_goes_on,
    "I11": live_runs_beat,
    "I12": queues_are_unchanged,
    "I13": the_api_is_content,
    "I14": texts_are_clean,
}


def judge(evidence: Evidence) -> list[Violation]:
    """All that violates the invariants by which this evidence is to be judged."""
    return [
        Violation(name, about)
        for name, check in INVARIANTS.items()
        if evidence.judged is None or name in evidence.judged
        for about in check(evidence)
    ]


def _first_begin(effects: Iterable[Effect]) -> dict[tuple[str, int], float]:
    return {key: min(effect.at for effect in begun) for key, begun in runs(effects).items()}


def _first_end(effects: Iterable[Effect]) -> dict[tuple[str, int], float]:
    found: dict[tuple[str, int], float] = {}
    for effect in effects:
        if effect.what == "end":
            key = effect.occurrence, effect.attempt
            found[key] = min(found.get(key, effect.at), effect.at)
    return found
