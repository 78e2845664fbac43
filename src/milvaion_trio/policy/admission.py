"""What to do with a message that has just arrived: the first decision in the life of a job (DESIGN.md 5.1).

One rule is above all others: a message is only ever settled without a run when something else answers for it, that is a
concluded attempt, a run that goes on here, or a final status that is published instead.
"""

from collections.abc import Callable, Iterable
from typing import TypeAlias, TypeVar

from attrs import frozen

from milvaion_trio.model.envelope import Message
from milvaion_trio.model.errors import InvalidMessage, JobNotRegistered
from milvaion_trio.model.headers import EARLIER_DEATHS, PARKED, AttemptKey, attempt_key, count, occurrence_id
from milvaion_trio.model.ids import JobId, OccurrenceId, parse_guid
from milvaion_trio.model.json_text import read
from milvaion_trio.model.messages import EMPTY_GUID, JobMessage
from milvaion_trio.model.wire import decode_job
from milvaion_trio.policy.ledger import Ledger

__all__ = [
    "DEATHS_ALLOWED",
    "SUSPECT_DEATHS",
    "Admission",
    "Adopt",
    "AlreadyConcluded",
    "CancelledBeforeStart",
    "Quarantine",
    "Refuse",
    "Run",
    "admit",
]

DEATHS_ALLOWED = 3
"""From that many deaths on an attempt is not run again (RELIABILITY.md 2.4). They are counted exactly, so a few are
enough; one death says nothing about which of the jobs that ran is to blame, and the second one hardly more."""
SUSPECT_DEATHS = 2
"""From that many on it runs alone: whatever the process dies of then, it is not of a neighbour (RELIABILITY.md 2.4)."""

R = TypeVar("R")


@frozen
class Run:
    """Run the job."""

    occurrence_id: OccurrenceId
    attempt: AttemptKey
    job: JobMessage
    redelivered: bool
    """It was handed out before, here or elsewhere, and may have run in part."""
    deaths: int = 0
    """How many processes of this worker died while it ran."""

    @property
    def is_suspect(self) -> bool:
        """Whether nothing may be started beside it, since it may be what the processes died of."""
        return self.deaths >= SUSPECT_DEATHS


@frozen
class Adopt:
    """No second run: `running`, which runs here, answers for this message. It is settled together with that run's."""

    occurrence_id: OccurrenceId
    attempt: AttemptKey
    """What the message asks for. Mostly the same as `running`; see `admit`."""
    running: AttemptKey


@frozen
class AlreadyConcluded:
    """No second run: ack it as soon as everything that the attempt published is confirmed."""

    attempt: AttemptKey


@frozen
class CancelledBeforeStart:
    """No run: the occurrence was cancelled after this message was dispatched. Report Cancelled."""

    occurrence_id: OccurrenceId
    attempt: AttemptKey
    job: JobMessage
    reason: str


@frozen
class Refuse:
    """No run is possible: report Failed and send a dead letter, both with `error`."""

    occurrence_id: OccurrenceId
    attempt: AttemptKey
    job: JobMessage
    """As much of it as could be read."""
    error: str


@frozen
class Quarantine:
    """Nothing can be reported, as the message does not say for which occurrence or job: set it aside."""

    problem: str


Admission: TypeAlias = Run | Adopt | AlreadyConcluded | CancelledBeforeStart | Refuse | Quarantine


def admit(
    message: Message,
    *,
    redelivered: bool,
    ledger: Ledger[R],
    is_concluded: Callable[[AttemptKey], bool],
    deaths: Callable[[AttemptKey, int], int],
    knows: Callable[[str], bool],
    known_names: Iterable[str],
) -> Admission:
    """Decide on one delivery. Nothing is changed; who carries the decision out records it before the next delivery.

    The questions are asked in this order, the cheap ones about the headers before the body is read.

    1. *For which occurrence?* None: quarantine.
    2. *Concluded already?* The attempt is known by its key (`AttemptKey`). A key without a dispatch stamp, from a
       retry copy of a .NET worker, is not unique: a workflow's next dispatch leads to the same one. Then only a
       redelivered message counts as the old one; not one that this process gave back without having run it, and not
       while an attempt with that key runs here: it may be the second of that name, whose own message this is.
    3. *Does the occurrence run here?* Then that run answers for this message too. Mostly it is the same attempt, come
       back over a new link. If it is another one of the same occurrence, a second run at the same time could only
       do the same work twice and report two outcomes: a workflow that dispatches again something it believes lost
       gets the outcome of the run that was not lost. Not so a later attempt of the same dispatch, which a twin of the
       running one asked for: when the running one asks for the attempts between, the twin's worker has concluded
       them and acks them, and nobody would run the last one. It runs beside.
       A run that is concluded and only waits for its confirms does not count: its retry copy can arrive before them,
       and adopting that would lose the job.
    4. *Readable?* Broken, but with ids: refuse. Without: quarantine.
    5. *Cancelled before it started?* The ledger knows, and for which dispatch.
    6. *Is there such a job?* If not: refuse.
    7. *How many processes died while it ran?* Three or more: refuse. Asked of fresh messages too, since a broker that
       died with the process may forget that it handed the message out; but not where the key is not unique (2).
    """
    occurrence = occurrence_id(message)
    if occurrence is None:
        return Quarantine(
            "There is no occurrence id: neither in the headers nor as correlation id is there a valid guid."
        )
    attempt = attempt_key(message, occurrence)
    running = ledger.running(occurrence)
    is_stamped = attempt.dispatch_stamp is not None
    is_known_by_key = is_stamped or (redelivered and not ledger.was_returned_unstarted(attempt))
    comes_back = redelivered and not is_stamped and attempt == running
    if is_known_by_key and not comes_back and is_concluded(attempt):
        return AlreadyConcluded(attempt)
    if running is not None and (comes_back or not is_concluded(running)) and not _comes_after(attempt, running):
        return Adopt(occurrence, attempt, running)
    try:
        job, problem = decode_job(message.body), None
    except InvalidMessage as invalid:
        salvaged = _salvage(message.body)
        if salvaged is None:
            return Quarantine(invalid.problem)
        job, problem = salvaged, invalid.problem
    if job.id == EMPTY_GUID:
        return Quarantine("There is no job id: the body's Id is absent or the empty guid.")
    reason = ledger.cancelled(attempt)
    if reason is not None:
        return CancelledBeforeStart(occurrence, attempt, job, reason)
    if problem is not None:
        return Refuse(occurrence, attempt, job, f"The message is not a valid job message: {problem}")
    if not knows(job.job_name_in_worker):
        return Refuse(occurrence, attempt, job, str(JobNotRegistered(job.job_name_in_worker, tuple(known_names))))
    died = deaths(attempt, 0) if is_known_by_key else 0
    if PARKED in message.headers:  # it had other keys before it was sent away, as somebody held its lease
        died = deaths(attempt, count(message.headers, PARKED)) + count(message.headers, EARLIER_DEATHS)
    if died >= DEATHS_ALLOWED:
        return Refuse(occurrence, attempt, job, _deaths_text(job.job_name_in_worker, died))
    return Run(occurrence, attempt, job, redelivered, died)


def _comes_after(attempt: AttemptKey, running: AttemptKey) -> bool:
    """Whether the running one asked for it, or a twin of it did, in the same dispatch."""
    is_same_dispatch = attempt.dispatch_stamp == running.dispatch_stamp
    return is_same_dispatch and (attempt.retry_count, attempt.snoozes) > (running.retry_count, running.snoozes)


def _deaths_text(job_name: str, deaths: int) -> str:
    return (
        f"The worker process died {deaths} times while {job_name} ran for this occurrence, the last time with no other "
        "job started beside it, so it is not run again. Look for what ends the process: memory beyond its limit, a "
        "crash in native code, os._exit, a signal; the log of the system and of whatever restarts the worker tells "
        'which. run="process" gives a job a process of its own, whose death is an ordinary failure. '
        "The dead letter, where failures of this job are reported, holds its data."
    )


def _salvage(body: bytes) -> JobMessage | None:
    """What can be reported of a body that is no valid job message, if it is an object with an id."""
    try:
        value = read(body)
    except InvalidMessage:
        return None
    if not isinstance(value, dict):
        return None
    texts = {name.lower(): text for name, text in value.items() if isinstance(text, str)}
    job_id = parse_guid(texts.get("id"))
    if job_id is None:
        return None
    return JobMessage(
        id=JobId(job_id),
        job_name_in_worker=texts.get("jobnameinworker", ""),
        display_name=texts.get("displayname"),
        job_data=texts.get("jobdata"),
    )
