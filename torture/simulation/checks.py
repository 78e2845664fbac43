"""What must be true of every seed, as pure functions over its plan and its history.

Each returns sentences, none where all is well. The numbers I1 to I14 are those of the torture suite's invariants.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from milvaion_trio.model import topology
from milvaion_trio.model.occurrence import OccurrenceStatus as S
from milvaion_trio.model.wire import decode_logs
from torture.simulation.fates import Fate, Kind
from torture.simulation.history import Attempt, History, Moment, host_of, read, status_of
from torture.simulation.jobs import LATER, OBEYS_AFTER, PATIENT_DELAY, SNOOZE, WORK_DELAY
from torture.simulation.plan import DISK_FAULTS, Fault, Plan
from torture.simulation.trace import Trace, identity

__all__ = ["CHECKS", "problems"]

EARLY: Final = 0.05
"""Seconds that a retry may come before its time (guarantee G4)."""

DEATHS_REFUSED: Final = 3
"""Deaths of processes after which an attempt is refused."""

_EXPECTED_ERRORS: Final = re.compile(
    r"broker does not take a report|messages that wait for queue .* cannot be sent on"
    r"|after its message was given back; its outcome is ignored"
    r"|the outbox \S+ (cannot be written|cannot be opened|is damaged)"
)


def problems(plan: Plan, trace: Trace) -> list[str]:
    """Everything that is wrong with a seed."""
    history = read(trace.events)
    return [problem for check in CHECKS for problem in check(plan, history)]


def is_quiet_at_the_end(plan: Plan, history: History) -> Iterator[str]:
    """I8: queues and outboxes are empty, no task and nothing else is left, no error was logged that nobody expects."""
    for event in history.rest:
        if event.what == "error" and _EXPECTED_ERRORS.search(event.detail):
            continue
        if event.what == "end":
            if event.detail != "0 tasks left":
                yield event.detail
            continue
        yield f"{event.who}: {event.what} {event.about} {event.detail}"


def nothing_is_lost(plan: Plan, history: History) -> Iterator[str]:
    """I1: after each dispatch comes a final status of its occurrence."""
    for label, dispatched in history.dispatched:
        attempts = history.of(history.attempt(label).number)
        if not any(final.index > dispatched.index for attempt in attempts for final in attempt.finals):
            yield f"{label} was lost: no final status after its dispatch"


def ends_are_right(plan: Plan, history: History) -> Iterator[str]:
    """I2: one distinct final status of an attempt from each life, the one that its fate asks for."""
    for attempt in history.attempts.values():
        fate = plan.by_number[attempt.number]
        by_life: dict[str, set[bytes]] = {}
        for final in attempt.finals:
            by_life.setdefault(final.who, set()).add(final.body)
            status = S(status_of(final))
            if status not in _possible(fate, attempt, history):
                yield f"{attempt.label}, which {fate.kind}, ended as {status.name}"
            yield from _contradictions(attempt, final, status)
        for who, bodies in by_life.items():
            if len(bodies) > 1:
                yield f"{attempt.label}: {who} told {len(bodies)} different ends"
            had = _first_by_life(attempt.at_work)
            if any(retry.who == who and had.get(who, math.inf) < retry.index for retry in attempt.retries):
                yield f"{attempt.label}: {who} told its end and sent a retry"


def _possible(fate: Fate, attempt: Attempt, history: History) -> set[S]:
    possible = {fate.right_end}
    if fate.number in history.cancels:
        possible.add(S.CANCELLED)
    if any(count >= DEATHS_REFUSED for count in history.most_deaths(attempt).values()):
        possible.add(S.FAILED)
    return possible


def _contradictions(attempt: Attempt, final: Moment, status: S) -> Iterator[str]:
    """What the job's code did in this life, if it ran there, must be what was told."""
    hows = {ended.detail for ended in attempt.ended if ended.who == final.who}
    if hows and (status is S.COMPLETED) != ("returned" in hows):
        yield f"{attempt.label}: its code {hows} and {final.who} told {status.name}"


def nothing_follows_a_final(plan: Plan, history: History) -> Iterator[str]:
    """I3: no life tells Running after the final status of that attempt."""
    for attempt in history.attempts.values():
        first = _first_by_life(attempt.finals)
        for running in attempt.running:
            if first.get(running.who, math.inf) < running.index:
                yield f"{attempt.label}: {running.who} told Running after the end"
    for number, beat in history.heartbeats:
        attempts = list(history.of(number))
        if not any(beat.who in _first_by_life(attempt.finals) for attempt in attempts):
            continue
        if not any(_is_alive(attempt, beat) for attempt in attempts):
            yield f"{identity(number)}: {beat.who} told that it is alive after its end"


def _first_by_life(moments: Sequence[Moment]) -> dict[str, int]:
    first: dict[str, int] = {}
    for moment in moments:
        first.setdefault(moment.who, moment.index)
    return first


def _is_alive(attempt: Attempt, beat: Moment) -> bool:
    """Whether this life may say at that moment that this attempt runs, or waits for its time."""
    has_it = any(moment.who == beat.who and moment.index < beat.index for moment in (*attempt.began, *attempt.at_hop))
    return has_it and _first_by_life(attempt.finals).get(beat.who, math.inf) > beat.index


def retries_are_contiguous(plan: Plan, history: History) -> Iterator[str]:
    """I7: each retry asks for the next attempt, no earlier than it should, with all that the message said."""
    for attempt in history.attempts.values():
        if (attempt.handed or attempt.began) and not attempt.put:
            yield f"{attempt.label} was never asked for"
        fate = plan.by_number[attempt.number]
        if attempt.began and attempt.counts[0] >= max(fate.attempts, 1):
            yield f"{attempt.label} is one attempt too many"
        for retry in attempt.retries:
            asked, _, said = retry.detail.partition(" in ")
            if asked != _next(fate, attempt):
                yield f"{attempt.label}: the retry of {retry.who} asks for {asked}"
            elif f"kept {fate.number} " not in said:
                yield f"{attempt.label}: the retry of {retry.who} lost a header"
            else:
                began = min((moment.at for moment in history.attempt(asked).began), default=math.inf)
                first = min(moment.at for moment in attempt.retries)
                if began < first + _delay(fate, attempt) - EARLY:
                    yield f"{asked} began {first + _delay(fate, attempt) - began:g} s early"


def _next(fate: Fate, attempt: Attempt) -> str:
    retries, snoozes = attempt.counts
    counts = f"{retries}.{snoozes + 1}" if fate.kind is Kind.SNOOZED else f"{retries + 1}.{snoozes}"
    return f"{attempt.dispatch}:{counts}"


def _delay(fate: Fate, attempt: Attempt) -> float:
    match fate.kind:
        case Kind.SNOOZED:
            return SNOOZE
        case Kind.LATER:
            return LATER
    return math.ldexp(PATIENT_DELAY if fate.job == "Patient" else WORK_DELAY, attempt.counts[0])


def no_run_without_a_reason(plan: Plan, history: History) -> Iterator[str]:
    """I4: no life runs an attempt twice; another one only if the message came again, or there were several."""
    for attempt in history.attempts.values():
        for who, runs in Counter(moment.who for moment in attempt.began).items():
            if runs > 1 and not history.has_lost_disk(who):
                yield f"{attempt.label} ran {runs} times in {who}"
        again = sum(handed.detail.endswith(" again") for handed in attempt.handed)
        if len(attempt.began) > len(attempt.put) + again:
            yield f"{attempt.label} ran {len(attempt.began)} times, and nothing asked for that"


def no_run_after_a_written_end(plan: Plan, history: History) -> Iterator[str]:
    """I4: what a disk says is concluded is not run again by those who have that disk."""
    for attempt in history.attempts.values():
        for written in attempt.written:
            for began in attempt.began:
                is_same = host_of(began.who) == host_of(written.who)
                if is_same and began.index > written.index and not history.has_lost_disk(began.who, written.index):
                    yield f"{attempt.label} began in {began.who} although its end was written by {written.who}"


def ends_are_written_first(plan: Plan, history: History) -> Iterator[str]:
    """S7 before S8: what concludes an attempt is on the disk before it is on the wire, so that no restart misses it."""
    if not plan.with_disk or plan.has(Fault.FULL_DISK, Fault.DAMAGE):
        return  # it goes on in memory
    for attempt in history.attempts.values():
        for final in attempt.finals:
            if not any(host_of(one.who) == host_of(final.who) and one.index < final.index for one in attempt.written):
                yield f"{attempt.label}: {final.who} told its end before it was written"


def no_run_after_three_deaths(plan: Plan, history: History) -> Iterator[str]:
    """F27: what killed its process three times is not run again by those who have that disk."""
    if not plan.with_disk or plan.has(*DISK_FAULTS):
        return  # nobody can remember what could not be written
    for attempt in history.attempts.values():
        for host, deaths in history.deaths(attempt).items():
            if len(deaths) < DEATHS_REFUSED or history.has_lost_disk(host):
                continue
            for began in attempt.began:
                if host_of(began.who) == host and began.index > deaths[DEATHS_REFUSED - 1]:
                    yield f"{attempt.label} began in {began.who} after {len(deaths)} deaths"


def dead_letters_are_the_failed(plan: Plan, history: History) -> Iterator[str]:
    """I5: a dead letter for each attempt that ended as Failed, and for no other."""
    for attempt in history.attempts.values():
        has_failed = any(status_of(final) == S.FAILED for final in attempt.finals)
        if has_failed != bool(attempt.dead_letters):
            yield f"{attempt.label}: failed {has_failed}, dead letters {len(attempt.dead_letters)}"


def acks_come_last(plan: Plan, history: History) -> Iterator[str]:
    """G1: nothing is acked before the broker confirmed what replaces it."""
    for attempt in history.attempts.values():
        for ack in attempt.acked:
            if not _is_answered(attempt, ack, history):
                yield f"{attempt.label} was acked by {ack.who} before anything that replaces it was confirmed"


def _is_answered(attempt: Attempt, ack: Moment, history: History) -> bool:
    if _is_concluded(attempt, ack.index):
        return True
    handed = max((one.index for one in attempt.handed if one.who == ack.who and one.index < ack.index), default=-1)
    if ack.detail == topology.HOP_QUEUE:  # it went on its way
        ids = {moment.detail for moment in attempt.put}
        confirms = (
            confirm
            for other in history.of(attempt.number)
            if f"{other.label}:retry" in ids
            for confirm in other.confirmed.get("retry", ())
        )
        return any(confirm.who == ack.who and handed < confirm.index < ack.index for confirm in confirms)
    # Another attempt of the occurrence that ran here answered for it.
    return any(
        confirm.who == ack.who and handed < confirm.index < ack.index
        for other in history.of(attempt.number)
        for role in ("final", "retry")
        for confirm in other.confirmed.get(role, ())
    )


def _is_concluded(attempt: Attempt, index: int) -> bool:
    def is_confirmed(role: str) -> bool:
        return any(confirm.index < index for confirm in attempt.confirmed.get(role, ()))

    if is_confirmed("retry"):
        return True
    has_failed = any(final.index < index and status_of(final) == S.FAILED for final in attempt.finals)
    return is_confirmed("final") and (not has_failed or is_confirmed("dead-letter"))


def cancels_are_obeyed(plan: Plan, history: History) -> Iterator[str]:
    """G7: who hears a cancel stops what it runs of it, at once."""
    for number, cancels in history.cancels.items():
        for cancel in cancels:
            if cancel.detail != "heard by all":
                continue
            for attempt in history.of(number):
                for began in attempt.began:
                    if began.index > cancel.index or _is_over(attempt, began, cancel, history):
                        continue
                    yield f"{attempt.label} ran on in {began.who} after its cancel"


def _is_over(attempt: Attempt, began: Moment, cancel: Moment, history: History) -> bool:
    """Whether this run had ended before the cancel, or ended as soon as it can after it."""
    if history.crashes.get(began.who, math.inf) < math.inf:
        return True
    ends = [ended for ended in attempt.ended if ended.who == began.who and ended.index > began.index]
    return any(ended.at <= cancel.at + OBEYS_AFTER + EARLY for ended in ends)


def _shares_its_occurrence(history: History, attempt: Attempt, who: str) -> bool:
    """Whether another dispatch of it ran in the same life: log entries name the occurrence only."""
    return any(
        other is not attempt and other.number == attempt.number and any(moment.who == who for moment in other.began)
        for other in history.attempts.values()
    )


def logs_are_gapless(plan: Plan, history: History) -> Iterator[str]:
    """I6: all lines of a finished run, in order, before its end."""
    for attempt in history.attempts.values():
        fate = plan.by_number[attempt.number]
        if not fate.lines:
            continue
        for ended in attempt.ended:
            final = next((moment for moment in attempt.finals if moment.who == ended.who), None)
            if ended.detail != "returned" or final is None:
                continue
            began = max(moment.index for moment in attempt.began if moment.who == ended.who)
            # What an earlier life wrote down and could not send is sent now, and is not this run's.
            # What the broker refuses comes later, behind what it took from the same batch.
            end = math.inf if plan.has(Fault.REFUSE) else final.index
            bodies = {
                moment.detail: moment.body
                for moment in history.logs.get((ended.who, attempt.number), ())
                if began < moment.index < end and moment.detail.startswith(f"sim-{ended.who}:")
            }
            lines = [record.log.message for body in bodies.values() for record in decode_logs(body).logs]
            numbers = [int(line.removeprefix("line ")) for line in lines if line.startswith("line ")]
            if plan.has(Fault.REFUSE) or _shares_its_occurrence(history, attempt, ended.who):
                numbers = sorted(set(numbers))
            if numbers != list(range(fate.lines)):
                yield f"{attempt.label}: {ended.who} told {len(numbers)} of {fate.lines} lines, or out of order"


CHECKS: Final[Sequence[Callable[[Plan, History], Iterator[str]]]] = (
    nothing_is_lost,
    ends_are_right,
    nothing_follows_a_final,
    retries_are_contiguous,
    no_run_without_a_reason,
    no_run_after_a_written_end,
    ends_are_written_first,
    no_run_after_three_deaths,
    dead_letters_are_the_failed,
    acks_come_last,
    cancels_are_obeyed,
    logs_are_gapless,
    is_quiet_at_the_end,
)
