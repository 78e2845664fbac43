"""Unique keys: of one key, one occurrence waits or runs; the next may come when that has ended, however it did."""

from typing import Any

import pytest
import trio
from attrs import evolve
from tests.support.keepers import UnreliableKeeper
from tests.support.workers import guid, job_message
from trio.testing import MockClock

from milvaion_trio import Client, JobContext, Worker
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model import headers
from milvaion_trio.model.errors import AlreadyDispatched, NotPublished, PermanentFailure, RetryLater
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.occurrence import OccurrenceEvent
from milvaion_trio.policy.lifecycle import Conclusion, RetryCopy
from milvaion_trio.runtime.keeper import Keeper
from milvaion_trio.runtime.registrar import Registrar
from milvaion_trio.testing import under_test
from milvaion_trio.testing.clock import clock_ns

A_DAY = 86_400.0
SHORT = 60.0


@pytest.fixture
def keeper() -> UnreliableKeeper:
    return UnreliableKeeper.in_memory()


async def owner(keeper: UnreliableKeeper, key: str) -> OccurrenceId:
    """Whose the key is; a free one is claimed. If cancelled, it may be."""
    return await keeper.claim(key, guid(0xBAD), 0.001)


async def test_a_second_one_is_refused_until_the_first_has_ended(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    """While it waits, while it runs, and while it waits for a retry."""
    attempts: list[int] = []

    @worker.job(max_retries=1, base_retry_delay=100)
    async def work(ctx: JobContext) -> None:
        attempts.append(ctx.attempt)
        await trio.sleep(100)
        if ctx.attempt == 1:
            raise ValueError("once")

    async with under_test(worker, coordination=keeper) as kit:
        first = await work.enqueue(unique="report", delay=100)
        for _ in range(8):
            await trio.sleep(49)
            with pytest.raises(AlreadyDispatched, match="has the unique key 'report' and waits or runs") as refused:
                await work.enqueue(unique="report")
            assert refused.value.occurrence_id == first
            assert await work.enqueue(unique="report", on_duplicate="merge") == first
        await kit.run_until_idle()
        assert attempts == [1, 2]

        second = await work.enqueue(unique="report")
        assert second != first
        kit.cancel(second)
        await kit.run_until_idle()


async def dead(ctx: JobContext) -> None:
    raise PermanentFailure("no")


async def late(ctx: JobContext) -> None:
    await trio.sleep(1000)


async def good(ctx: JobContext) -> None:
    return None


async def never() -> None:
    raise AssertionError("it was not enqueued")


@pytest.mark.parametrize("job", [dead, late, good])
async def test_every_end_frees_the_key(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock, job: Any
) -> None:
    worker.job("work", timeout=10)(job)
    async with under_test(worker, coordination=keeper) as kit, worker.client() as client:
        for _ in range(2):
            await client.enqueue("work", unique="report")
            await kit.run_until_idle()


async def test_what_never_starts_frees_the_key_too(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    """A cancel before the start, and a message that no worker can run."""

    @worker.job()
    async def work(data: int) -> None: ...

    async with under_test(worker, coordination=keeper) as kit, worker.client() as client:
        first = await client.enqueue(work, 1, unique="report", delay=10)
        kit.cancel(first)
        await kit.run_until_idle()
        await keeper.claim("other", guid(5), A_DAY)
        message = job_message("gone", occurrence_id=guid(5))
        kit.dispatch(evolve(message, headers={**message.headers, headers.UNIQUE: "other"}))
        await kit.run_until_idle()

        assert await owner(keeper, "report") == await owner(keeper, "other") == guid(0xBAD)


async def test_a_job_brings_its_key(worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock) -> None:
    @worker.job(unique="import-{account}")
    async def work(data: dict[str, object]) -> None:
        await trio.sleep(5)

    async with under_test(worker, coordination=keeper) as kit, worker.client() as client:
        await work.enqueue({"Account": 5})
        for enqueue in (work.enqueue({"account": 5}), client.enqueue("WORK", {"account": 5})):
            with pytest.raises(AlreadyDispatched):
                await enqueue
        await client.enqueue(work, {"account": 6})
        await client.enqueue(work, {"account": 5}, unique="another")
        with pytest.raises(ValueError, match="the data has no account"):
            await work.enqueue({"acount": 5})
        await kit.run_until_idle()


async def test_what_was_surely_not_published_gives_its_key_up(
    keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    async with Client(EmbeddedBroker(), worker_id="tests", coordination=keeper) as client:
        for _ in range(2):
            with pytest.raises(NotPublished, match="There is no queue"):
                await client.enqueue("work", unique="report")


async def test_who_is_cancelled_while_the_key_is_being_claimed_leaves_it_free(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    """The keeper has granted it, and the answer is on its way; nothing was published."""

    work = worker.job("work")(never)
    async with under_test(worker, coordination=keeper) as kit, worker.client() as client:
        keeper.answers_after = 3
        with trio.move_on_after(1) as limit:
            await client.enqueue(work, unique="report")
        keeper.answers_after = 0

        assert limit.cancelled_caught
        assert await owner(keeper, "report") == guid(0xBAD)
        await kit.run_until_idle()


async def test_one_claim_without_an_answer_is_asked_again(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    """By the same occurrence, so twice is once."""
    ran: list[str] = []

    @worker.job()
    async def work(ctx: JobContext) -> None:
        ran.append(ctx.occurrence_id)

    def first_is_lost(request: str) -> None:
        keeper.is_away = request == "claim" and sum(each.startswith("claim report") for each in keeper.asked) == 1

    keeper.on_request = first_is_lost
    async with under_test(worker, coordination=keeper) as kit, worker.client() as client:
        occurrence = await client.enqueue(work, unique="report")
        await kit.run_until_idle()

    assert ran == [occurrence]


async def test_what_waits_for_a_connection_has_no_key_yet(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    """Who gives up waiting has surely published nothing, and may try again elsewhere."""
    worker.job("work")(good)
    broker = EmbeddedBroker()
    async with Client(broker, worker_id="tests", coordination=keeper) as client:
        with broker.unreachable():
            broker.drop_connection()
            await trio.sleep(0.1)  # it is noticed
            with trio.move_on_after(5) as waiting:
                await client.enqueue("work", unique="report")

        assert waiting.cancelled_caught
        assert await owner(keeper, "report") == guid(0xBAD)


async def test_what_may_have_been_published_keeps_its_key(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    @worker.job()
    async def work() -> None:
        await trio.sleep(50)

    async with under_test(worker, coordination=keeper) as kit, worker.client() as client:
        with trio.move_on_after(5), kit.broker.hold_confirms():
            await client.enqueue(work, unique="report")
        with pytest.raises(AlreadyDispatched):
            await client.enqueue(work, unique="report")
        await kit.run_until_idle()


async def test_without_its_keeper_nothing_is_enqueued(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    work = worker.job("work")(never)
    async with under_test(worker, coordination=keeper) as kit, worker.client() as client:
        keeper.is_away = True
        with pytest.raises(NotPublished, match="unique key 'report' could not be claimed"):
            await client.enqueue(work, unique="report")
        keeper.is_away = False
        await kit.run_until_idle()


async def test_a_client_without_a_keeper_says_what_to_do() -> None:
    async with Client(EmbeddedBroker(), worker_id="tests") as client:
        with pytest.raises(NotPublished, match="A unique key needs Redis"):
            await client.enqueue("work", unique="report")


@pytest.mark.parametrize(
    "options",
    [
        {"unique": " "},
        {"unique": "a", "unique_for": 0},
        {"unique": "a", "unique_for": float("nan")},
        {"unique": "a", "on_duplicate": "replace"},
        {"exclusive": ""},
    ],
)
async def test_options_that_mean_nothing_are_refused(keeper: UnreliableKeeper, options: dict[str, Any]) -> None:
    async with Client(EmbeddedBroker(), worker_id="tests", coordination=keeper) as client:
        with pytest.raises(
            ValueError, match=r"is empty; it must be|it must be seconds from 1|must be 'refuse' or 'merge'"
        ):
            await client.enqueue("work", **options)


async def test_a_key_that_others_freed_is_not_claimed_again(
    keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    """A worker without its keeper asks for a retry, another worker ends it; only then is there a keeper again."""
    message = evolve(job_message("work", occurrence_id=guid(1)), headers={headers.UNIQUE: "report"})
    attempt = headers.attempt_key(message, guid(1))
    retry = Conclusion(event=OccurrenceEvent.RETRY, retry=RetryCopy(5.0, 1, 0))
    registrar = Registrar(Keeper(keeper), clock_ns)
    await keeper.claim("report", guid(1), A_DAY)
    async with registrar.open(trio.CancelScope):
        keeper.is_away = True
        registrar.begun(message, attempt)
        await registrar.concluded(message, attempt, retry)
        await trio.sleep(20)
        keeper.is_away = False
        await keeper.give_up("report", guid(1))
        await trio.sleep(60)

        assert await owner(keeper, "report") == guid(0xBAD)


async def test_a_key_is_no_longer_prolonged_by_a_worker_that_gave_its_job_back(
    keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    """Another worker runs it and frees the key, while the first is still there with another job."""
    broker, ended = EmbeddedBroker(), list[str]()
    workers = [Worker("tests", observers=()) for _ in range(2)]
    budgets = workers[0].settings.shutdown
    workers[0].settings = evolve(workers[0].settings, shutdown=evolve(budgets, drain_timeout=10 * SHORT))

    @workers[0].job("long", timeout=0)
    async def long() -> None:
        try:
            await trio.sleep(10 * SHORT)
        finally:
            ended.append("long")

    for each in workers:

        @each.job("work", exclusive="all")
        async def work(ctx: JobContext) -> None:
            await trio.sleep(10)
            ended.append(ctx.occurrence_id)

    async with under_test(workers[0], broker=broker, coordination=keeper) as first, workers[0].client() as client:
        first.enqueue("long")
        occurrence = await client.enqueue("work", unique="report", unique_for=SHORT)
        await trio.sleep(1)
        first.drain()
        async with under_test(workers[1], broker=broker, coordination=keeper):
            keeper.forget()  # its lease is lost at the next renewal
            while not ended:  # noqa: ASYNC110  # nobody tells of it
                await trio.sleep(1)
            await trio.sleep(2 * SHORT)
            assert ended == [occurrence]
            assert await owner(keeper, "report") == guid(0xBAD)


async def test_a_key_is_prolonged_while_its_job_runs_or_waits_to_be_retried(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    @worker.job(timeout=0)
    async def work(ctx: JobContext) -> None:
        await trio.sleep(3 * SHORT)
        if ctx.attempt == 1:
            raise RetryLater(5 * SHORT)

    async with under_test(worker, coordination=keeper) as kit, worker.client() as client:
        first = await client.enqueue(work, unique="report", unique_for=SHORT)
        for _ in range(10):
            await trio.sleep(SHORT)
            assert await owner(keeper, "report") == first
        await trio.sleep(2 * SHORT)
        await kit.run_until_idle()
        assert await owner(keeper, "report") == guid(0xBAD)


async def test_a_key_is_prolonged_while_its_job_waits_for_another_key(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    """However often its message is sent away: a second one would run beside it in the end."""

    @worker.job(exclusive="all")
    async def work() -> None: ...

    await keeper.acquire("exclusive:all", "somebody", 10 * SHORT)
    async with under_test(worker, coordination=keeper) as kit, worker.client() as client:
        first = await client.enqueue(work, unique="report", unique_for=SHORT)
        for _ in range(9):
            await trio.sleep(SHORT)
            assert await owner(keeper, "report") == first
        await kit.run_until_idle()
        assert await owner(keeper, "report") == guid(0xBAD)


async def test_a_key_runs_out_when_its_occurrence_is_lost(
    keeper: UnreliableKeeper, worker: Worker, autojump_clock: MockClock
) -> None:
    @worker.job()
    async def work() -> None: ...

    async with under_test(worker, coordination=keeper) as kit:
        kit.drain()
        await kit.stopped()
        async with worker.client() as client:
            await client.enqueue(work, unique="report", unique_for=60, delay=100)
            await trio.sleep(159)
            with pytest.raises(AlreadyDispatched):
                await client.enqueue(work, unique="report")
            await trio.sleep(2)
            await client.enqueue(work, unique="report")


async def test_freeing_a_key_survives_an_outage(
    worker: Worker, keeper: UnreliableKeeper, autojump_clock: MockClock
) -> None:
    @worker.job()
    async def work() -> None:
        await trio.sleep(5)

    async with under_test(worker, coordination=keeper) as kit, worker.client() as client:
        await client.enqueue(work, unique="report")
        keeper.is_away = True
        await kit.run_until_idle()
        await trio.sleep(100)
        keeper.is_away = False
        await trio.sleep(10)

        await client.enqueue(work, unique="report")
        await kit.run_until_idle()
