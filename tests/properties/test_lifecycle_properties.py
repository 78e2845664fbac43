"""One occurrence under everything a broker, a network, a .NET worker and a user can do to it.

The machine below is the runtime in miniature: it carries out what `admit` and `conclude` decide, with a broker that is
a list and a disk that is a set. It may kill the process, lose the link, duplicate messages and let a retry copy
overtake the confirms of the attempt before. It never loses its disk: then a second run is promised, not prevented.
"""

import json
from collections import Counter

from attrs import define, field
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from milvaion_trio.model.envelope import Message
from milvaion_trio.model.headers import AttemptKey, attempt_key
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.instant import MINIMUM
from milvaion_trio.model.occurrence import FINAL, OccurrenceEvent, OccurrenceStatus, transition
from milvaion_trio.model.outcome import (
    Cancelled,
    Completed,
    Failed,
    Interrupted,
    Outcome,
    RetryRequested,
    Snoozed,
    TimedOut,
)
from milvaion_trio.policy.admission import DEATHS_ALLOWED, SUSPECT_DEATHS
from milvaion_trio.policy.ledger import Ledger
from milvaion_trio.policy.lifecycle import (
    Adopt,
    AlreadyConcluded,
    CancelledBeforeStart,
    Conclusion,
    Quarantine,
    Refuse,
    RetryCopy,
    Run,
    admit,
    conclude,
    conclude_cancelled_before_start,
    conclude_refusal,
)
from milvaion_trio.policy.retry import RetryPolicy

OCCURRENCE = OccurrenceId("019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193")
BODY = json.dumps({"id": "019d4a10-3b5c-7e21-8f04-6a1d2c9be077", "jobNameInWorker": "SendEmailJob"}).encode()

outcomes: st.SearchStrategy[Outcome] = st.one_of(
    st.just(Completed("done")),
    st.builds(Failed, st.just("boom"), permanent=st.booleans()),
    st.just(Failed("boom")),
    st.builds(RetryRequested, st.sampled_from([0.0, 5.0]), st.just("later")),
    st.just(Snoozed(1.0)),
    st.just(TimedOut(1.0, 1.1)),
    st.just(Interrupted()),
)


@define(eq=False)
class Going:
    """A run: the messages it answers for, and how far it is."""

    attempt: AttemptKey
    custody: list[Message]
    reason: str | None = None
    concluded: bool = field(default=False)


class Occurrence(RuleBasedStateMachine):
    """See the module."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = 1000.0
        self.queue: list[tuple[Message, bool]] = []
        self.published: list[Message] = []
        """What the broker may still duplicate."""
        self.going: list[Going] = []
        self.ledger = Ledger[Going]()
        self.disk: set[AttemptKey] = set()
        self.deaths = Counter[AttemptKey]()
        """Of processes that died while the attempt ran; kept on the disk until it is concluded."""
        self.finals: list[tuple[AttemptKey, OccurrenceStatus]] = []
        self.status = OccurrenceStatus.QUEUED
        self.started: set[tuple[int, int]] = set()
        """Retry and snooze counts that ran since the last dispatch, here or in .NET."""
        self.dispatches = 0
        self.is_cancelled = False
        """A cancel that covers the last dispatch is remembered in this process."""

    @initialize(max_retries=st.integers(0, 3), retry_on_timeout=st.booleans())
    def dispatch_first(self, max_retries: int, retry_on_timeout: bool) -> None:
        self.policy = RetryPolicy(max_retries=max_retries, retry_on_timeout=retry_on_timeout)
        self.dispatch()

    # --- what the world does ---

    @precondition(lambda self: self.status in (OccurrenceStatus.FAILED, OccurrenceStatus.TIMED_OUT))
    @rule()
    def a_workflow_dispatches_it_again(self) -> None:
        self.apply(OccurrenceEvent.DISPATCH_AGAIN)
        self.dispatch()

    @precondition(lambda self: self.published)
    @rule(data=st.data())
    def the_broker_duplicates_a_message(self, data: st.DataObject) -> None:
        self.queue.append((data.draw(st.sampled_from(self.published)), False))

    @precondition(lambda self: self.dispatches == 1 and len(self.queue) == 1 and not self.going)
    @rule()
    def a_dotnet_worker_takes_it_and_fails(self) -> None:
        """Only in the first dispatch: later, keys without a stamp would be those of the dispatch before."""
        attempt = attempt_key(self.queue[0][0], OCCURRENCE)
        if attempt in self.disk or attempt.retry_count >= self.policy.max_retries:
            return
        if self.status is not OccurrenceStatus.RUNNING:
            self.apply(OccurrenceEvent.START)
        self.started.add((attempt.retry_count, attempt.snoozes))
        self.queue = [(Message(body=BODY, headers=headers(None, attempt.retry_count + 1, 0)), False)]
        self.published = []

    @precondition(lambda self: self.status in (OccurrenceStatus.QUEUED, OccurrenceStatus.RUNNING))
    @rule(is_heard_again=st.booleans())
    def the_zombie_detector_gives_it_up(self, is_heard_again: bool) -> None:
        self.apply(OccurrenceEvent.LOSE)
        if is_heard_again and self.running():
            self.apply(OccurrenceEvent.HEARTBEAT)

    @rule()
    def a_user_cancels_it(self) -> None:
        self.clock += 1
        self.is_cancelled = True
        self.ledger.cancel(OCCURRENCE, "enough", self.clock)
        for run in self.ledger.find(OCCURRENCE):
            run.reason = "enough"

    @precondition(lambda self: self.going)
    @rule()
    def the_link_is_lost(self) -> None:
        for run in self.going:
            self.give_back(run)

    @precondition(lambda self: self.going)
    @rule()
    def the_process_is_killed(self) -> None:
        self.deaths.update(run.attempt for run in self.running())
        for run in self.going:
            self.give_back(run)
        self.going = []
        self.ledger = Ledger()
        self.is_cancelled = False

    # --- what the worker does ---

    @precondition(lambda self: self.queue)
    @rule(data=st.data(), is_known=st.sampled_from([True] * 9 + [False]))
    def a_message_arrives(self, data: st.DataObject, is_known: bool) -> None:
        message, redelivered = self.queue.pop(data.draw(st.integers(0, len(self.queue) - 1)))
        self.receive(message, redelivered, is_known)

    @precondition(lambda self: self.running())
    @rule(outcome=outcomes, confirms_are_late=st.booleans())
    def the_job_ends(self, outcome: Outcome, confirms_are_late: bool) -> None:
        [run] = self.running()
        self.end(run, Cancelled(run.reason) if run.reason is not None else outcome)
        if not confirms_are_late:
            self.everything_is_confirmed()

    @precondition(lambda self: len(self.running()) < len(self.going))
    @rule()
    def everything_is_confirmed(self) -> None:
        for run in [run for run in self.going if run.concluded]:
            self.leave(run)

    # --- what must hold ---

    @invariant()
    def it_never_runs_twice_at_once(self) -> None:
        assert len(self.running()) <= 1

    @invariant()
    def an_attempt_has_at_most_one_final_status(self) -> None:
        assert len({attempt for attempt, _ in self.finals}) == len(self.finals)

    @invariant()
    def attempts_are_contiguous_and_not_too_many(self) -> None:
        counts = {count for count, _ in self.started}
        assert counts == set(range(len(counts)))
        assert len(counts) <= self.policy.max_retries + 1
        for count in counts:
            snoozes = {snoozes for known, snoozes in self.started if known == count}
            assert snoozes == set(range(len(snoozes)))

    @invariant()
    def something_answers_for_it_until_it_has_ended(self) -> None:
        if self.status not in FINAL:
            waiting = [attempt_key(message, OCCURRENCE) for message, _ in self.queue]
            assert self.running() or any(attempt not in self.disk for attempt in waiting)

    def teardown(self) -> None:
        """Whatever happened, it comes to an end once it is left alone."""
        if not hasattr(self, "policy"):
            return
        while self.queue or self.going:
            self.everything_is_confirmed()
            for run in self.running():
                self.end(run, Completed())
            if self.queue:
                self.receive(*self.queue.pop())
        assert self.status in FINAL
        self.an_attempt_has_at_most_one_final_status()

    # --- how it is carried out ---

    def running(self) -> list[Going]:
        return [run for run in self.going if not run.concluded]

    def dispatch(self) -> None:
        self.clock += 10
        self.dispatches += 1
        self.started = set()
        self.is_cancelled = False
        self.publish(Message(body=BODY, headers={"OccurrenceId": OCCURRENCE}, timestamp=int(self.clock)))

    def publish(self, message: Message) -> None:
        self.queue.append((message, False))
        if attempt_key(message, OCCURRENCE).dispatch_stamp is not None:
            self.published.append(message)

    def apply(self, event: OccurrenceEvent) -> None:
        self.status = transition(self.status, event)

    def receive(self, message: Message, redelivered: bool, is_known: bool = True) -> None:
        admission = admit(
            message,
            redelivered=redelivered,
            ledger=self.ledger,
            is_concluded=self.disk.__contains__,
            deaths=lambda attempt, _: self.deaths[attempt],
            knows=lambda _: is_known,
            known_names=("CleanUpJob",),
        )
        match admission:
            case Run(attempt=attempt):
                assert not self.is_cancelled
                assert self.deaths[attempt] < DEATHS_ALLOWED
                assert admission.is_suspect == (self.deaths[attempt] >= SUSPECT_DEATHS)
                self.apply(OccurrenceEvent.START)
                self.started.add((attempt.retry_count, attempt.snoozes))
                run = Going(attempt, [message])
                self.going.append(run)
                self.ledger.add(attempt, run)
            case Adopt(running=running):
                adopting = self.ledger.find_attempt(running)
                assert adopting is not None
                adopting.custody.append(message)
            case AlreadyConcluded():
                pass
            case CancelledBeforeStart(attempt=attempt):
                self.publish_conclusion(attempt, conclude_cancelled_before_start(admission))
            case Refuse(attempt=attempt):
                assert not is_known or self.deaths[attempt] == DEATHS_ALLOWED
                self.publish_conclusion(attempt, conclude_refusal(admission))
            case Quarantine():
                raise AssertionError(admission)

    def end(self, run: Going, outcome: Outcome) -> None:
        conclusion = conclude(
            outcome,
            job_name="SendEmailJob",
            retry_count=run.attempt.retry_count,
            snoozes=run.attempt.snoozes,
            policy=self.policy,
            now=MINIMUM,
        )
        if conclusion.requeue:
            self.apply(conclusion.event)
            self.give_back(run)
            self.leave(run)
            return
        self.publish_conclusion(run.attempt, conclusion)
        run.concluded = True
        if conclusion.dead_letter is not None and conclusion.dead_letter.exception.startswith("Max retries"):
            assert {count for count, _ in self.started} == set(range(self.policy.max_retries + 1))

    def publish_conclusion(self, attempt: AttemptKey, conclusion: Conclusion) -> None:
        self.apply(conclusion.event)
        self.disk.add(attempt)
        del self.deaths[attempt]
        if conclusion.status is not None:
            assert conclusion.status is self.status
            self.finals.append((attempt, conclusion.status))
        assert (conclusion.status is None) == (conclusion.retry is not None)
        assert (conclusion.status is OccurrenceStatus.FAILED) == (conclusion.dead_letter is not None)
        match conclusion.retry:
            case RetryCopy(retry_count=retry_count, snoozes=snoozes):
                self.publish(Message(body=BODY, headers=headers(attempt.dispatch_stamp, retry_count, snoozes)))

    def give_back(self, run: Going) -> None:
        self.queue += [(message, True) for message in run.custody]
        run.custody = []

    def leave(self, run: Going) -> None:
        self.going.remove(run)
        self.ledger.remove(run.attempt, run)


def headers(stamp: str | None, retry_count: int, snoozes: int) -> dict[str, object]:
    written: dict[str, object] = {"CorrelationId": OCCURRENCE, "x-retry-count": retry_count, "x-mtrio-snoozes": snoozes}
    return written if stamp is None else written | {"x-mtrio-dispatch": stamp}


TestOccurrence = Occurrence.TestCase
TestOccurrence.settings = settings(max_examples=300, stateful_step_count=50, deadline=None)
