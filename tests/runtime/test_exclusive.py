"""Exclusive keys: of one key, one run at a time, in and across workers, also when leases cannot be renewed."""

import contextlib
import logging
import threading
from collections import defaultdict
from collections.abc import AsyncIterator

import pytest
import trio
from attrs import define, evolve, field, frozen
from tests.support.keepers import UnreliableKeeper
from tests.support.workers import OCCURRENCE, guid, job_message, story
from trio.testing import MockClock

from milvaion_trio import JobContext, JobSettings, Snooze, Worker, WorkerSettings
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model import headers, topology
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.events import JobReturned
from milvaion_trio.model.settings import RabbitMQSettings
from milvaion_trio.runtime.holds import Holds
from milvaion_trio.runtime.keeper import Keeper
from milvaion_trio.testing import under_test

LEASE = 15.0


@pytest.fixture
def keeper() -> UnreliableKeeper:
    return UnreliableKeeper.in_memory()


@define
class Overlaps:
    """Notes which runs of a key there were, and fails when two are at once."""

    now: dict[object, int] = field(factory=lambda: defaultdict(int))
    most: int = 0
    tokens: dict[object, list[int]] = field(factory=lambda: defaultdict(list))
    ended: int = 0

    async def run(self, key: object, seconds: float, token: int | None = None) -> None:
        self.now[key] += 1
        self.most = max(self.most, self.now[key])
        if token is not None:
            self.tokens[key].append(token)
        try:
            await trio.sleep(seconds)
            self.ended += 1
        finally:
            self.now[key] -= 1


@frozen
class Payment:
    account_no: str
    amount: int = 0


async def test_runs_of_one_key_follow_each_other(worker: Worker, autojump_clock: MockClock) -> None:
    """Those of other keys run beside; each run of a key has a larger token than the one before."""
    seen = Overlaps()

    @worker.job(exclusive="account-{account_no}")
    async def pay(ctx: JobContext, payment: Payment) -> None:
        await seen.run(payment.account_no, 2, ctx.fencing_token)

    async with under_test(worker) as kit:
        for number in range(10):
            kit.enqueue(pay, {"AccountNo": str(number % 2)})
        await kit.run_until_idle()

    assert (seen.most, seen.ended) == (1, 10)
    assert all(tokens == sorted({*tokens}) for tokens in seen.tokens.values())
    assert [len(tokens) for tokens in seen.tokens.values()] == [5, 5]


async def test_two_workers_never_run_one_key_at_once(keeper: UnreliableKeeper, autojump_clock: MockClock) -> None:
    seen, broker = Overlaps(), EmbeddedBroker()
    workers = [Worker("tests", observers=()) for _ in range(2)]
    for each in workers:

        @each.job("pay", exclusive="all")
        async def pay() -> None:
            await seen.run("all", 3)

    async with (
        under_test(workers[0], broker=broker, coordination=keeper) as kit,
        under_test(workers[1], broker=broker, coordination=keeper),
    ):
        for _ in range(12):
            kit.enqueue("pay")
        await kit.run_until_idle()

    assert (seen.most, seen.ended) == (1, 12)


async def test_what_waits_for_its_key_holds_no_slot(worker: Worker, autojump_clock: MockClock) -> None:
    """One of them looks for a second, the others are sent away at once; other jobs run meanwhile."""
    others: list[float] = []

    @worker.job(exclusive="all")
    async def slow() -> None:
        await trio.sleep(100)

    @worker.job()
    async def other() -> None:
        others.append(trio.current_time())

    worker.settings = WorkerSettings(worker_id="tests", max_parallel_jobs=2)
    async with under_test(worker) as kit:
        for _ in range(5):
            kit.enqueue(slow)
        await trio.sleep(10)
        for _ in range(20):
            kit.enqueue(other)
        await trio.sleep(3)

        assert len(others) == 20
        kit.stop()


async def test_a_message_that_is_sent_away_is_not_reported_as_a_run(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    """It comes again as the same attempt: no attempt is used up, and the log says once what it waits for."""
    attempts: list[tuple[int, int]] = []

    @worker.job(exclusive="all", max_retries=0)
    async def work(ctx: JobContext) -> None:
        attempts.append((ctx.attempt, ctx.run_number))

    async with under_test(worker, coordination=keeper) as kit:
        token = await keeper.acquire("exclusive:all", "somebody", 20)
        assert token is not None
        kit.dispatch(job_message("work"))
        await trio.sleep(15)
        assert set(story(kit, OCCURRENCE)) == {"retry", "logs"}
        await kit.run_until_idle()

    assert attempts == [(1, 1)]
    assert [word for word in story(kit, OCCURRENCE) if word != "retry"] == ["logs", "RUNNING", "COMPLETED"]
    (line,) = (record.log for record in kit.logs)
    assert "another run has its exclusive key 'all'" in line.message
    assert {retry.retry_count for retry in kit.retries} == {0}
    assert {retry.delay for retry in kit.retries} <= {1.0, 2.0, 5.0, 10.0}


async def test_a_message_is_sent_away_before_it_is_acked(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    """Until its copy is confirmed nobody knows whether there is one."""

    @worker.job(exclusive="all")
    async def work() -> None: ...

    async with under_test(worker, coordination=keeper) as kit:
        await keeper.acquire("exclusive:all", "somebody", 5)
        with kit.broker.hold_confirms():
            kit.dispatch(job_message("work"))
            while not kit.broker.delayed:  # noqa: ASYNC110  # nobody tells of it
                await trio.sleep(0.1)
            await trio.sleep(0.5)  # the copy comes after a second
            assert (kit.queue().depth, kit.broker.delayed) == (1, 1)
        await trio.sleep(0.1)
        assert (kit.queue().depth, kit.broker.delayed) == (0, 1)
        await kit.run_until_idle()

        assert kit.occurrence(OCCURRENCE).final is not None


async def test_what_a_snoozed_or_failed_job_has_counted_stays(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    attempts: list[int] = []

    @worker.job(exclusive="all", max_retries=1, base_retry_delay=1)
    async def work(ctx: JobContext) -> None:
        attempts.append(ctx.attempt)
        if len(attempts) == 1:
            raise Snooze(1)
        if len(attempts) == 2:
            raise ValueError("once")

    async with under_test(worker, coordination=keeper) as kit:
        kit.enqueue(work)
        for _ in range(3):
            await trio.sleep(0.5)
            await _taken(keeper, 5)
            await trio.sleep(5)
        await kit.run_until_idle()

    assert attempts == [1, 1, 2]


async def test_the_client_names_a_key_over_the_jobs_own(worker: Worker, autojump_clock: MockClock) -> None:
    seen = Overlaps()

    @worker.job(exclusive="{occurrence_id}")
    async def work() -> None:
        await seen.run("one", 1)

    async with under_test(worker) as kit, worker.client() as client:
        for _ in range(3):
            await client.enqueue(work, exclusive="one")
        await kit.run_until_idle()

    assert (seen.most, seen.ended) == (1, 3)


async def test_a_very_long_key_is_the_same_from_a_client_and_from_the_job(
    worker: Worker, autojump_clock: MockClock
) -> None:
    seen, account = Overlaps(), "a" * 1000

    @worker.job(exclusive="{account_no}")
    async def pay(payment: Payment) -> None:
        await seen.run("one", 2)

    async with under_test(worker) as kit, worker.client() as client:
        for _ in range(2):
            await client.enqueue(pay, {"AccountNo": account})
            await client.enqueue(pay, {"AccountNo": "another"}, exclusive=account)
        await kit.run_until_idle()

    assert (seen.most, seen.ended) == (1, 4)


async def test_a_key_that_only_a_client_names_is_held_long_enough(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    """Where no job has a key, nothing at the start says that clean-up may take longer than a lease lasts."""
    budgets = evolve(worker.settings.shutdown, cleanup_timeout=30.0)
    worker.settings = evolve(worker.settings, shutdown=budgets, exclusive_lease=15.0)
    ran: list[int] = []

    @worker.job()
    async def work(ctx: JobContext) -> None:
        await trio.sleep(60)
        ran.append(ctx.run_number)

    async with under_test(worker, coordination=keeper) as kit, worker.client() as client:
        await client.enqueue(work, exclusive="one")
        await kit.run_until_idle()

    assert ran == [1]


async def test_a_missing_field_fails_the_job_for_good(worker: Worker, autojump_clock: MockClock) -> None:
    @worker.job(exclusive="account-{account}")
    async def work(data: dict[str, object]) -> None:
        raise AssertionError("it has no key")

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work, {"amount": 5})
        await kit.run_until_idle()

    final = kit.occurrence(occurrence).final
    assert final is not None
    assert "The key 'account-{account}' of work cannot be made: the data has no account (it has amount)." in str(
        final.exception
    )
    assert len(kit.dead_letters) == 1


async def test_jobs_without_a_key_ask_nobody(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    @worker.job()
    async def work(ctx: JobContext) -> None:
        assert ctx.fencing_token is None

    async with under_test(worker, coordination=keeper) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    assert kit.occurrence(occurrence).final is not None
    assert not [each for each in keeper.asked if "exclusive:" in each or "occurrence:" in each]
    assert not [each for each in keeper.asked if each.startswith(("claim", "give_up", "ended", "has_ended"))]


# --- leases -----------------------------------------------------------------------------------------------------------


async def test_a_lease_is_renewed_while_the_job_runs_and_given_up_behind_it(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    @worker.job(exclusive="all")
    async def work() -> None:
        await trio.sleep(62)

    async with under_test(worker, coordination=keeper) as kit:
        kit.enqueue(work)
        for _ in range(6):
            await trio.sleep(10)
            assert await keeper.acquire("exclusive:all", "somebody", 1) is None
        await trio.sleep(2.1)

        assert await keeper.acquire("exclusive:all", "somebody", 1) is not None
    assert keeper.asked.count("renew exclusive:all") == 12


async def test_a_lease_counts_from_before_each_request(keeper: UnreliableKeeper, autojump_clock: MockClock) -> None:
    """The keeper counts from when it grants, which may be long before its answer arrives."""
    keeper.answers_after = 1.5
    asked: dict[str, float] = {}
    keeper.on_request = lambda request: asked.update({request: trio.current_time()})
    holds = Holds(keeper=Keeper(keeper), holder="a", seconds=LEASE, grace=5, most_waiting=1)
    async with holds.open():
        hold = await holds.get("exclusive:all", lambda: True)
        assert hold is not None
        assert hold.until == asked["acquire"] + LEASE

        await trio.sleep(LEASE / 3 + 1)
        assert hold.until == asked["renew"] + LEASE


@pytest.mark.parametrize("how", ["away", "silent"])
async def test_a_job_is_out_before_its_lease_ends(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock, how: str
) -> None:
    """Reckoned from before the last renewal that was granted, its clean-up included; then it runs again."""
    begun: list[tuple[float, int]] = []
    ended: list[float] = []

    @worker.job(exclusive="all", max_retries=0)
    async def work(ctx: JobContext) -> None:
        begun.append((trio.current_time(), ctx.run_number))
        try:
            await trio.sleep(30)
        finally:
            async with ctx.cleanup():  # noqa: ASYNC102  # bounded there
                await trio.sleep(60)  # noqa: ASYNC102  # cut off at the end of the clean-up time
            ended.append(trio.current_time())

    async with under_test(worker, coordination=keeper) as kit:
        occurrence = kit.enqueue(work)
        await trio.sleep(12)  # the second renewal was granted at 10
        setattr(keeper, f"is_{how}", True)
        await trio.sleep(13)
        assert len(begun) == len(ended) == 1
        assert 10 + LEASE - 1 < ended[0] < 10 + LEASE
        assert kit.queue().depth + kit.broker.delayed == 1
        setattr(keeper, f"is_{how}", False)
        await kit.run_until_idle()

    assert [number for _, number in begun] == [1, 2]
    returned = [event for event in kit.events if isinstance(event, JobReturned)]
    assert len(returned) == 1
    assert "its lease 'exclusive:all' could not be renewed" in returned[0].why
    assert kit.occurrence(occurrence).final is not None


async def test_all_cleaning_up_together_is_over_before_the_lease_ends(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    """Of several blocks, and of what the job was given: a transaction that is ended there belongs to the key too."""
    ended: list[float] = []

    @contextlib.asynccontextmanager
    async def connection() -> AsyncIterator[Overlaps]:
        try:
            yield Overlaps()
        finally:
            try:
                await trio.sleep(3)  # noqa: ASYNC102  # shielded by who closes it
            finally:
                ended.append(trio.current_time())

    worker.provide(Overlaps, connection)

    @worker.job(exclusive="all")
    async def work(ctx: JobContext, given: Overlaps) -> None:
        try:
            await trio.sleep(30)
        finally:
            for _ in range(3):
                async with ctx.cleanup():  # noqa: ASYNC102  # bounded there
                    await trio.sleep(4)  # noqa: ASYNC102

    async with under_test(worker, coordination=keeper) as kit:
        kit.enqueue(work)
        await trio.sleep(1)
        keeper.is_away = True
        await trio.sleep(29)
        assert len(ended) == 1
        assert LEASE - 1 < ended[0] < LEASE
        keeper.is_away = False
        await kit.run_until_idle()


async def test_nothing_begins_with_a_lease_that_was_lost_before(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    """Each answer may take seconds, and so may the question whether a copy of the message was run."""
    worker.settings = evolve(
        worker.settings,
        exclusive_lease=3.0,
        shutdown=evolve(worker.settings.shutdown, cleanup_timeout=0.4),
    )
    began: list[tuple[float, bool]] = []

    def slow(request: str) -> None:
        keeper.delay = {"acquire": 1.8, "claim": 1.9, "renew": 1.8}.get(request, 0) if trio.current_time() < 20 else 0

    @worker.job(exclusive="all")
    async def work() -> None:
        began.append((trio.current_time(), trio.current_time() < 20))

    keeper.on_request = slow
    async with under_test(worker, coordination=keeper) as kit:
        message = job_message("work")
        kit.dispatch(evolve(message, headers={**message.headers, headers.PARKED: 1, headers.SNOOZES: 1}))
        await kit.run_until_idle()

    assert [early for _, early in began] == [False]


async def test_a_keeper_that_forgets_between_two_answers_hurts_one_run_at_most(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    """Two ask for a key at once, and it is given to both: one of them runs, and the worker goes on."""
    seen = Overlaps()
    asked = 0

    def forgetful(request: str) -> None:
        nonlocal asked
        if request == "acquire" and (asked := asked + 1) <= 2:
            keeper.delay = 0.5 * asked  # both are on their way, and answered one after the other
        else:
            keeper.delay = 0

    @worker.job(exclusive="all")
    async def work() -> None:
        await seen.run("all", 2)

    keeper.on_request = forgetful
    async with under_test(worker, coordination=keeper) as kit:
        kit.enqueue(work)
        kit.enqueue(work)
        await trio.sleep(0.75)
        keeper.forget()
        await kit.run_until_idle()

    assert (seen.most, seen.ended) == (1, 2)


async def test_a_job_whose_keeper_forgot_its_lease_is_stopped_at_the_next_renewal(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    """A Redis that was started empty: somebody else may hold the key by then."""
    begun: list[tuple[float, int | None]] = []

    @worker.job(exclusive="all")
    async def work(ctx: JobContext) -> None:
        begun.append((trio.current_time(), ctx.fencing_token))
        await trio.sleep(12)

    async with under_test(worker, coordination=keeper) as kit:
        kit.enqueue(work)
        await trio.sleep(6)
        keeper.forget()
        await kit.run_until_idle()

    assert [at for at, _ in begun] == [0, 10]
    assert begun[1][1] > begun[0][1]  # type: ignore[operator]


async def test_short_outages_of_the_keeper_stop_nothing(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    ran: list[int] = []

    @worker.job(exclusive="all")
    async def work(ctx: JobContext) -> None:
        await trio.sleep(30)
        ran.append(ctx.run_number)

    async with under_test(worker, coordination=keeper) as kit:
        kit.enqueue(work)
        for _ in range(3):
            await trio.sleep(4)
            keeper.is_away = True
            await trio.sleep(4)
            keeper.is_away = False
        await kit.run_until_idle()

    assert ran == [1]


async def test_without_its_keeper_an_exclusive_job_waits_and_others_do_not(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning tells it, and one that it is over."""
    ran: list[str] = []

    @worker.job(exclusive="all")
    async def one(ctx: JobContext) -> None:
        ran.append("exclusive")

    @worker.job()
    async def other() -> None:
        ran.append("other")

    keeper.is_away = True
    with caplog.at_level(logging.WARNING, "milvaion_trio"):
        async with under_test(worker, coordination=keeper) as kit:
            for _ in range(3):
                kit.enqueue(one)
                kit.enqueue(other)
            await trio.sleep(60)
            assert ran == ["other"] * 3
            keeper.is_away = False
            await kit.run_until_idle()

    assert ran[3:] == ["exclusive"] * 3
    told = [record.getMessage() for record in caplog.records if record.name == "milvaion_trio.runtime"]
    assert len(told) == 2
    assert "leases and schedules cannot be kept: nobody listens; jobs with an exclusive key wait" in told[0]


async def test_code_that_nobody_can_stop_keeps_its_lease(keeper: UnreliableKeeper) -> None:
    """Its timeout is reported, and its thread goes on: until it ends, nobody else may have the key."""
    settings = WorkerSettings(worker_id="tests", shutdown=evolve(WorkerSettings().shutdown, cleanup_timeout=0.1))
    worker = Worker(settings=settings, observers=())
    release, began = threading.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    @worker.job(exclusive="all", timeout=0.1)
    def work() -> None:
        token.run_sync_soon(began.set)
        release.wait(10)

    async with under_test(worker, coordination=keeper) as kit:
        occurrence = kit.enqueue(work)
        with trio.fail_after(10):
            await began.wait()
            await kit.run_until_idle()
        assert kit.occurrence(occurrence).final is not None
        await trio.sleep(0.3)  # real seconds: a lease that is let go is not given up in the same moment
        assert await keeper.acquire("exclusive:all", "somebody", 1) is None
        release.set()
        with trio.fail_after(10):
            await _taken(keeper, 1)


async def test_code_that_goes_on_when_its_worker_has_left_keeps_its_lease(keeper: UnreliableKeeper) -> None:
    """Its thread may outlive the worker: until it or the lease has ended, nobody else may have the key."""
    budgets = evolve(WorkerSettings().shutdown, cleanup_timeout=0.1, drain_timeout=0.1)
    worker = Worker(settings=WorkerSettings(worker_id="tests", shutdown=budgets), observers=())
    release, began = threading.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    @worker.job(exclusive="all")
    def work() -> None:
        token.run_sync_soon(began.set)
        release.wait(10)

    try:
        with trio.fail_after(10):
            async with under_test(worker, coordination=keeper) as kit:
                kit.enqueue(work)
                await began.wait()
                kit.stop()
                await kit.stopped()
        assert await keeper.acquire("exclusive:all", "somebody", 1) is None
    finally:
        release.set()


async def _taken(keeper: UnreliableKeeper, seconds: float) -> None:
    """Have the key as soon as it can be had."""
    while await keeper.acquire("exclusive:all", "somebody", seconds) is None:  # noqa: ASYNC110  # nobody tells of it
        await trio.sleep(0.01)


async def test_a_cancel_reaches_a_job_that_waits_for_its_key(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    @worker.job(exclusive="all")
    async def work() -> None:
        raise AssertionError("it was cancelled")

    async with under_test(worker, coordination=keeper) as kit:
        await keeper.acquire("exclusive:all", "somebody", 1000)
        kit.dispatch(job_message("work"))
        await trio.sleep(0.5)
        kit.cancel(OCCURRENCE)
        await kit.run_until_idle(within=20)

    final = kit.occurrence(OCCURRENCE).final
    assert final is not None
    assert "cancelled" in str(final.result)


async def test_what_waits_for_its_key_goes_back_when_the_worker_leaves(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    @worker.job(exclusive="all")
    async def work() -> None:
        raise AssertionError("somebody else has its key")

    async with under_test(worker, coordination=keeper) as kit:
        await keeper.acquire("exclusive:all", "somebody", 1000)
        kit.dispatch(job_message("work"))
        await trio.sleep(0.15)
        kit.stop()
        await kit.stopped()

        assert kit.queue().depth + kit.broker.delayed == 1


async def test_deaths_are_counted_over_waits(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    """A job that kills its workers leaves its lease behind each time, so the message is sent away before it runs."""
    runs: list[int] = []

    @worker.job(exclusive="all")
    async def work(ctx: JobContext) -> None:
        runs.append(ctx.run_number)

    async with under_test(worker, coordination=keeper) as kit:
        await keeper.acquire("exclusive:all", "the dead one", 10)
        message = job_message("work", occurrence_id=guid(1))
        told = {headers.PARKED: 1, headers.EARLIER_RUNS: 2, headers.EARLIER_DEATHS: 2, headers.SNOOZES: 1}
        kit.dispatch(evolve(message, headers={**message.headers, **told}))
        await kit.run_until_idle()
        assert runs == [3]
        kit.dispatch(evolve(message, headers={**message.headers, **told, headers.EARLIER_DEATHS: 3}, timestamp=2))
        await kit.run_until_idle()

    assert runs == [3]
    assert "died 3 times" in str(kit.occurrence(guid(1)).exception)


async def test_a_message_and_the_copy_by_which_it_was_sent_away_run_once(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    """Its worker died between the copy's confirm and the ack. Either may come first; a later attempt is no twin."""
    runs: list[tuple[str, int]] = []

    @worker.job(exclusive="all", max_retries=1, base_retry_delay=5)
    async def work(ctx: JobContext) -> None:
        runs.append((ctx.occurrence_id, ctx.attempt))
        await trio.sleep(1)
        if ctx.attempt == 1:
            raise ValueError("once")

    async with under_test(worker, coordination=keeper) as kit:
        for number in (1, 2):
            message = job_message("work", occurrence_id=guid(number))
            copy = evolve(message, headers={**message.headers, headers.PARKED: 1, headers.SNOOZES: 1})
            other = evolve(message, headers={**message.headers, headers.PARKED: 2, headers.SNOOZES: 2})
            for each in (copy, other) if number == 1 else (other, copy):
                kit.dispatch(each)
            await kit.run_until_idle()

    assert runs == [(guid(number), attempt) for number in (1, 2) for attempt in (1, 2)]


@pytest.mark.parametrize("other", ["copy", "redelivered"])
async def test_another_worker_does_not_run_the_other_one_of_a_message_and_its_copy(
    keeper: UnreliableKeeper, autojump_clock: MockClock, other: str
) -> None:
    """Nothing but the mark tells it: what the first worker remembers is gone with it."""
    broker, ran = EmbeddedBroker(), list[str]()
    message = job_message("work")
    copy = evolve(message, headers={**message.headers, headers.PARKED: 1, headers.SNOOZES: 1})
    second_copy = evolve(message, headers={**message.headers, headers.PARKED: 2, headers.SNOOZES: 2})

    def worker(name: str) -> Worker:
        made = Worker("tests", observers=())

        @made.job("work", exclusive="all")
        async def work() -> None:
            ran.append(name)

        return made

    async with under_test(worker("first"), broker=broker, coordination=keeper) as kit:
        kit.dispatch(copy)
        await kit.run_until_idle()
        kit.stop()
        await kit.stopped()
        kit.dispatch(second_copy if other == "copy" else message)
        if other == "redelivered":  # a worker takes it and dies
            queue = topology.queue_name(topology.routing_pattern("tests", "work"))
            async with broker.consuming() as consumer, consumer.consume(queue, prefetch=1) as deliveries:
                await deliveries.receive()
    async with under_test(worker("second"), broker=broker, coordination=keeper) as kit:
        await kit.run_until_idle()
        assert (kit.queue().depth, kit.broker.delayed) == (0, 0)

    assert ran == ["first"]


async def test_while_nobody_can_tell_whether_its_copy_was_run_a_message_waits(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    began: list[float] = []

    @worker.job("work", exclusive="all")
    async def work() -> None:
        began.append(trio.current_time())

    def deaf_for_claims(request: str) -> None:
        keeper.is_away = request == "claim" and trio.current_time() < 20

    keeper.on_request = deaf_for_claims
    async with under_test(worker, coordination=keeper) as kit:
        message = job_message("work")
        kit.dispatch(evolve(message, headers={**message.headers, headers.PARKED: 1, headers.SNOOZES: 1}))
        await kit.run_until_idle()

    assert [at >= 20 for at in began] == [True]


async def test_a_key_is_kept_until_others_can_know_that_the_message_was_run(
    keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    """Else a copy of it, at another worker, begins between the end of the code and the mark."""
    broker, ran = EmbeddedBroker(), list[str]()
    workers = {name: Worker("tests", observers=()) for name in ("first", "second")}
    for name, worker in workers.items():

        @worker.job("work", exclusive="all")
        async def work(name: str = name) -> None:
            ran.append(name)
            await trio.sleep(1)

    def slow_marks(request: str) -> None:
        keeper.delay = 1.5 if keeper.asked[-1].startswith("give_up concluded:") else 0.0

    keeper.on_request = slow_marks
    message = job_message("work")
    copies = [
        evolve(message, headers={**message.headers, headers.PARKED: count, headers.SNOOZES: count}) for count in (1, 2)
    ]
    async with under_test(workers["first"], broker=broker, coordination=keeper) as first:
        first.dispatch(copies[0])
        await trio.sleep(0.5)
        first.drain()
        async with under_test(workers["second"], broker=broker, coordination=keeper) as second:
            second.dispatch(copies[1])
            await second.run_until_idle()

    assert ran == ["first"]


async def test_no_more_runs_begin_than_a_process_may_run(keeper: UnreliableKeeper, autojump_clock: MockClock) -> None:
    """What is sent away counts for nothing."""
    worker = Worker(settings=WorkerSettings(worker_id="tests", max_jobs_per_process=2), observers=())
    ran: list[float] = []

    @worker.job(exclusive="all")
    async def work() -> None:
        ran.append(trio.current_time())
        await trio.sleep(1)

    async with under_test(worker, coordination=keeper) as kit:
        for _ in range(4):
            kit.enqueue(work)
        with trio.fail_after(60):
            await kit.stopped()

        assert len(ran) == 2
        assert kit.queue().depth + kit.broker.delayed == 2


# --- at start ---------------------------------------------------------------------------------------------------------


def test_a_field_that_the_data_cannot_have_stops_the_start(worker: Worker) -> None:
    @worker.job(exclusive="{acount_no}-{AccountNo}", unique="{occurrence_id}")
    async def pay(payment: Payment) -> None: ...

    with pytest.raises(SettingsError) as refused:
        worker.prepare()

    assert refused.value.problems == (
        "pay: exclusive is '{acount_no}-{AccountNo}', and the data of this job has no field 'acount_no'.",
        "pay: unique is '{occurrence_id}': every occurrence has another occurrence_id, so it would keep nobody out.",
    )


@pytest.mark.parametrize("template", ["{", "{a.b}", "{a!r}", "{}", "{0}"])
def test_a_template_that_is_none_stops_the_start(worker: Worker, template: str) -> None:
    @worker.job(exclusive=template)
    async def pay(payment: dict[str, object]) -> None: ...

    with pytest.raises(SettingsError, match="exclusive is"):
        worker.prepare()


def test_on_rabbitmq_without_redis_a_key_stops_the_start() -> None:
    settings = WorkerSettings(worker_id="tests", rabbitmq=RabbitMQSettings(), redis=None)
    worker = Worker(settings=settings, observers=())

    @worker.job(exclusive="all")
    async def pay() -> None: ...

    with pytest.raises(
        SettingsError, match=r"pay has a key \(exclusive\), and this worker is on RabbitMQ without Redis"
    ):
        worker.prepare()


def test_a_lease_that_ends_before_its_job_can_stops_the_start() -> None:
    settings = WorkerSettings(worker_id="tests", exclusive_lease=9, jobs={"pay": JobSettings(exclusive="all")})
    worker = Worker(settings=settings, observers=())

    @worker.job()
    async def pay() -> None: ...

    with pytest.raises(SettingsError, match=r"Worker:ExclusiveLease is 9 s.*Allowed are 9\.75 s or more"):
        worker.prepare()
