"""What users do to a worker without meaning harm, each of which once ended it or hung it."""

import contextlib
import threading
from collections.abc import AsyncIterator

import pytest
import trio
from attrs import evolve
from tests.support.workers import OCCURRENCE, job_message
from trio.testing import MockClock

from milvaion_trio import BrokerUnreachable, JobContext, JobResult, SettingsError, Worker, current_job, job, loading
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.policy import lifecycle
from milvaion_trio.runtime import os_signals, reporting
from milvaion_trio.testing import under_test

# --- logs -------------------------------------------------------------------------------------------------------------


async def test_a_log_message_need_not_be_a_text(worker: Worker, autojump_clock: MockClock) -> None:
    """`ctx.log.error(error)` is the most natural slip there is."""

    @worker.job()
    async def work(ctx: JobContext) -> None:
        ctx.log.error(ValueError("oh no"))  # type: ignore[arg-type]  # the slip
        ctx.progress(0.5, 7)  # type: ignore[arg-type]  # another
        await trio.sleep(1)

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    assert kit.occurrence(occurrence).status is OccurrenceStatus.COMPLETED
    assert kit.occurrence(occurrence).messages == ("oh no", "7")


async def test_what_is_logged_is_shown_as_it_was_then(worker: Worker) -> None:
    """A fact that the job changes afterwards, in its thread or not, does not change in the log."""

    @worker.job()
    def work(ctx: JobContext) -> None:
        facts = {"a": 1}
        ctx.log.info("facts", facts=facts)
        facts["b"] = 2

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        with trio.fail_after(5):
            await kit.run_until_idle()

    assert [record.log.data for record in kit.occurrence(occurrence).logs] == [{"facts": {"a": 1}}]


async def test_a_job_may_log_from_threads_of_its_own(worker: Worker) -> None:
    """Through `current_job()` too; and the other jobs' logs go on leaving every half second."""

    @worker.job()
    async def work() -> str:
        await trio.to_thread.run_sync(lambda: current_job().log.info("from below"))
        return "done"

    @worker.job()
    async def other(ctx: JobContext) -> None:
        ctx.log.info("at the start")
        await trio.sleep(2)

    async with under_test(worker) as kit:
        with trio.fail_after(5):
            below = kit.enqueue(work)
            await kit.run_until_idle()
            slow = kit.enqueue(other)
            await trio.sleep(1)
            assert kit.occurrence(slow).messages == ("at the start",)
            assert kit.occurrence(slow).final is None

    assert kit.occurrence(below).result == "done"
    assert kit.occurrence(below).messages == ("from below",)


async def test_a_thread_that_outlives_its_worker_may_still_log(worker: Worker) -> None:
    """Its lines are lost, and the host program is not disturbed."""
    worker.settings = evolve(
        worker.settings, shutdown=evolve(worker.settings.shutdown, drain_timeout=0, cleanup_timeout=0.1)
    )
    released, ended = threading.Event(), trio.Event()
    token = trio.lowlevel.current_trio_token()

    @worker.job()
    def deaf(ctx: JobContext) -> None:
        released.wait(10)
        for number in range(100):
            ctx.log.info(f"too late {number}")
        token.run_sync_soon(ended.set)

    async with under_test(worker) as kit:
        kit.enqueue(deaf)
        await trio.sleep(0.1)
        kit.drain()
        with trio.fail_after(5):
            await kit.stopped()
    released.set()

    with trio.fail_after(5):
        await ended.wait()
    await trio.testing.wait_all_tasks_blocked()


# --- results and defects ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "failure", [JobResult.failure(ValueError("x")), JobResult(succeeded=False, message=ValueError("x"))]
)
async def test_a_failure_may_be_given_as_an_error(
    worker: Worker, autojump_clock: MockClock, failure: JobResult
) -> None:
    """It fails this job, with the error's text."""

    @worker.job(max_retries=0)
    async def work() -> JobResult:
        return failure

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    assert kit.occurrence(occurrence).status is OccurrenceStatus.FAILED
    assert "x" in str(kit.occurrence(occurrence).exception)


@pytest.mark.parametrize(
    ("place", "name"),
    [(lifecycle, "conclude_refusal"), (reporting.Reporter, "started"), (lifecycle, "conclude")],
    ids=["refusal", "start", "conclusion"],
)
async def test_a_defect_anywhere_costs_one_message_at_most(
    worker: Worker, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, place: object, name: str
) -> None:
    """The message goes back and comes again; neighbours are served."""

    @worker.job()
    async def work() -> str:
        return "served"

    whole = getattr(place, name)
    calls = 0

    def defective(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise OSError("a defect")
        return whole(*args, **kwargs)

    monkeypatch.setattr(place, name, defective)
    async with under_test(worker) as kit:
        if name == "conclude_refusal":
            kit.dispatch(job_message("Unknown"), to=work)
        else:
            kit.dispatch(job_message("work"), to=work)
        await kit.run_until_idle()
        neighbour = kit.enqueue(work)
        await kit.run_until_idle()

    assert calls > 1
    assert kit.occurrence(neighbour).result == "served"
    assert kit.occurrence(OCCURRENCE).final is not None


# --- leaving ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("drained_before", [False, True])
async def test_a_lifespan_that_does_not_end_is_cut_after_the_budgets(
    worker: Worker, autojump_clock: MockClock, drained_before: bool
) -> None:
    """Cancelling serve takes clean-up plus flush, and a second for what stands around the tree, also after a drain."""

    @worker.lifespan
    @contextlib.asynccontextmanager
    async def forever(worker: Worker) -> AsyncIterator[None]:
        yield
        await trio.sleep(3600)

    async with under_test(worker) as kit:
        if drained_before:
            kit.drain()
            await trio.sleep(10)
        began = trio.current_time()
        kit.stop()
        await kit.stopped()

        assert trio.current_time() - began == pytest.approx(5 + 3 + 1)


async def test_a_drain_is_bounded_with_all_that_stands_around_the_tree(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """Drain, clean-up and flush, and a second: 29 s together, inside Kubernetes' 30."""

    @worker.lifespan
    @contextlib.asynccontextmanager
    async def forever(worker: Worker) -> AsyncIterator[None]:
        yield
        await trio.sleep(3600)

    async with under_test(worker) as kit:
        kit.drain()
        await kit.stopped()

        assert trio.current_time() == pytest.approx(20 + 5 + 3 + 1)


async def test_leaving_before_the_start_is_over_ends_the_start(worker: Worker, autojump_clock: MockClock) -> None:
    """`nursery.start` returns, without an error about `started`."""
    worker.broker.refuse_connections = True  # type: ignore[attr-defined]  # it is the embedded one

    async with trio.open_nursery() as nursery:

        async def drain_soon() -> None:
            await trio.sleep(1)
            worker.drain()

        nursery.start_soon(drain_soon)
        await nursery.start(worker.serve)

    assert trio.current_time() < 30


async def test_the_start_up_limit_holds_for_both_connections_together(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """30 seconds are 30 seconds, also when the first connection took most of them."""
    broker = worker.broker
    broker.refuse_connections = True  # type: ignore[attr-defined]  # it is the embedded one

    async def relent_for_a_moment() -> None:
        await trio.sleep(20)
        broker.refuse_connections = False  # type: ignore[attr-defined]  # as above

        def refuse_again(event: object) -> None:
            broker.refuse_connections = True  # type: ignore[attr-defined]  # as above

        worker.observe(refuse_again)

    worker.observe(lambda event: None)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(relent_for_a_moment)
        with pytest.raises(BrokerUnreachable):
            await worker.serve()

        assert trio.current_time() <= 31


# --- idle -------------------------------------------------------------------------------------------------------------


async def test_waiting_for_idle_ends_with_the_worker(worker: Worker, autojump_clock: MockClock) -> None:
    """Also when the broker went away before: `run --burst` must not hang on SIGTERM."""
    async with under_test(worker) as kit:
        kit.broker.refuse_connections = True
        kit.broker.drop_connection()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(worker.idle)
            await trio.sleep(1)
            kit.drain()
            with trio.fail_after(60):
                await kit.stopped()


async def test_a_message_that_waits_for_a_slot_is_not_idle(worker: Worker, autojump_clock: MockClock) -> None:
    """It counts from the moment it was taken out of its queue."""

    @worker.job(max_parallel=1)
    async def work() -> None:
        await trio.sleep(10)

    async with under_test(worker) as kit:
        kit.enqueue(work)
        kit.enqueue(work)
        await worker.idle()

        assert trio.current_time() >= 20


# --- slots and signals ------------------------------------------------------------------------------------------------


async def test_a_cancel_while_a_message_waits_for_a_slot_keeps_it_from_starting(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """The message was admitted before the cancel, and is judged again when there is a slot."""
    worker.settings = evolve(worker.settings, max_parallel_jobs=1)
    started: list[str] = []

    @worker.job(max_parallel=2)
    async def work(data: str) -> None:
        started.append(data)
        await trio.sleep(10)

    async with under_test(worker) as kit:
        kit.enqueue(work, "first")
        second = kit.enqueue(work, "second")
        await trio.sleep(5)
        kit.cancel(second)
        await kit.run_until_idle()

    assert started == ["first"]
    assert kit.occurrence(second).status is OccurrenceStatus.CANCELLED


async def test_a_message_given_back_without_a_slot_has_not_run(worker: Worker, autojump_clock: MockClock) -> None:
    """Its redelivery is our own doing: `run_number` stays 1, and nothing is said about a second run."""
    worker.settings = evolve(worker.settings, max_parallel_jobs=1)
    numbers: list[int] = []

    @worker.job(max_parallel=2, timeout=0)
    async def work(ctx: JobContext) -> None:
        numbers.append(ctx.run_number)
        await trio.sleep(100)

    async with under_test(worker) as kit:
        kit.enqueue(work)
        second = kit.enqueue(work)
        await kit.run_until_idle()

    assert numbers == [1, 1]
    assert kit.occurrence(second).messages == ()


async def test_a_ctrl_c_of_the_host_does_not_end_up_in_a_job(worker: Worker, autojump_clock: MockClock) -> None:
    """Job code is protected from KeyboardInterrupt, which goes to the program's main task instead."""

    @worker.job()
    async def work() -> str:
        return str(trio.lowlevel.currently_ki_protected())

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    assert kit.occurrence(occurrence).result == "True"


async def test_signals_cannot_be_taken_in_another_thread() -> None:
    """Said as what to do, not as Python's ValueError."""
    with pytest.raises(SettingsError, match="main thread"):
        await trio.to_thread.run_sync(os_signals.to_handle, True)


async def test_signals_are_left_alone_when_told_so() -> None:
    assert os_signals.to_handle(False) == ()
    assert len(os_signals.to_handle(True)) == 2


# --- the rest ---------------------------------------------------------------------------------------------------------


async def test_a_refused_registration_is_sent_again(worker: Worker, autojump_clock: MockClock) -> None:
    """Unregistered, the worker would get no jobs for two minutes."""

    @worker.job()
    async def work() -> None: ...

    broker = EmbeddedBroker()
    broker.refuse_next(1)
    async with under_test(worker, broker=broker) as kit:
        assert trio.current_time() == pytest.approx(1)
        assert len(kit.registrations) == 1


@pytest.mark.parametrize("name", ["user_name", "userName", "UserName", "USERNAME"])
async def test_members_of_the_data_are_found_in_any_spelling(
    worker: Worker, autojump_clock: MockClock, name: str
) -> None:
    @worker.job()
    async def work(ctx: JobContext) -> str:
        return str(ctx.get_data(name))

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work, {"userName": "ada"})
        await kit.run_until_idle()

    assert kit.occurrence(occurrence).result == "ada"


def test_a_lifespan_that_is_no_context_manager_is_refused_with_advice(worker: Worker) -> None:
    async def lifespan(worker: Worker) -> AsyncIterator[None]:
        yield

    with pytest.raises(SettingsError, match="asynccontextmanager"):
        worker.lifespan(lifespan)  # type: ignore[arg-type]  # the mistake


def test_what_is_no_job_cannot_be_added(worker: Worker) -> None:
    with pytest.raises(SettingsError, match="@job"):
        worker.add(print)  # type: ignore[arg-type]  # the mistake


def test_jobs_of_installed_distributions_are_added(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """`worker.discover()` without a package takes the entry-point group `milvaion_trio.jobs`."""

    @job("Announced")
    async def announced() -> None: ...

    monkeypatch.setattr(loading, "entry_point_jobs", lambda: [announced])

    worker.discover()

    assert worker.registry.definitions == (announced,)
