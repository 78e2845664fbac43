"""What surrounds jobs in a served worker: lifespan, providers, discovery, clients, observers, local occurrences."""

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from tests.support.workers import OCCURRENCE, job_message
from trio.testing import MockClock

from milvaion_trio import Job, JobContext, NoCurrentJob, SettingsError, Worker, current_job
from milvaion_trio.model import events
from milvaion_trio.model.events import Event
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.testing import under_test


class Mailer:
    def __init__(self, name: str = "real") -> None:
        self.name = name


# --- occurrences of our own clients -----------------------------------------------------------------------------------


async def test_local_occurrences_are_not_reported_to_an_api_that_does_not_know_them(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """No status, log or dead letter, but retries as ever (DESIGN.md 2, Dispatch)."""
    attempts = 0

    @worker.job(max_retries=1, base_retry_delay=1)
    async def work(ctx: JobContext) -> None:
        nonlocal attempts
        attempts += 1
        ctx.log.info("nobody reads this")
        await trio.sleep(100)
        raise ValueError

    async with under_test(worker, local_occurrences=False) as kit:
        kit.enqueue(work)
        cancelled = kit.enqueue(work)
        await trio.sleep(1)
        kit.cancel(cancelled)
        await kit.run_until_idle()

    assert attempts == 3
    assert (kit.statuses, kit.logs, kit.dead_letters) == ((), (), ())


async def test_occurrences_of_an_api_are_reported_always(worker: Worker, autojump_clock: MockClock) -> None:
    """What counts is who dispatched the message, on each of its attempts."""

    @worker.job(max_retries=1, base_retry_delay=1)
    async def work(ctx: JobContext) -> None:
        if ctx.attempt == 1:
            raise ValueError

    async with under_test(worker, local_occurrences=False) as kit:
        kit.dispatch(job_message("work"))
        await kit.run_until_idle()

    assert kit.occurrence(OCCURRENCE).status is OccurrenceStatus.COMPLETED


# --- lifespan and providers -------------------------------------------------------------------------------------------


async def test_the_lifespan_surrounds_serving(worker: Worker, autojump_clock: MockClock) -> None:
    """It is entered before the first job and left after the last one, and after the worker has said good-bye."""
    told: list[str] = []

    @worker.lifespan
    @contextlib.asynccontextmanager
    async def lifespan(served: Worker) -> AsyncIterator[None]:
        assert served is worker
        told.append("up")
        yield
        told.append("down")

    @worker.job()
    async def work() -> None:
        await trio.sleep(1)
        told.append("job")

    worker.observe(lambda event: told.append("stopped") if isinstance(event, events.WorkerStopped) else None)
    async with under_test(worker) as kit:
        kit.enqueue(work)
        await trio.sleep(0.5)

    assert told == ["up", "job", "stopped", "down"]


async def test_a_lifespan_that_fails_ends_the_start_with_its_own_error(
    worker: Worker, autojump_clock: MockClock
) -> None:
    """Not a group, and nothing was connected."""

    @worker.lifespan
    @contextlib.asynccontextmanager
    async def lifespan(served: Worker) -> AsyncIterator[None]:
        raise OSError("no database")
        yield

    with pytest.raises(OSError, match="no database"):
        await worker.serve()


async def test_the_cause_of_a_failed_start_is_kept(worker: Worker, autojump_clock: MockClock) -> None:
    """Whoever reads the traceback sees why."""

    @worker.lifespan
    @contextlib.asynccontextmanager
    async def lifespan(served: Worker) -> AsyncIterator[None]:
        raise OSError("no database") from TimeoutError("asked for 5 s")
        yield

    with pytest.raises(OSError, match="no database") as caught:
        await worker.serve()

    assert isinstance(caught.value.__cause__, TimeoutError)


async def test_jobs_are_given_what_they_ask_for_by_type(worker: Worker, autojump_clock: MockClock) -> None:
    """One per run for scope `job`, one for all for scope `worker`; closed before the job is concluded."""
    told: list[str] = []

    class Session:
        pass

    @contextlib.asynccontextmanager
    async def open_session(mailer: Mailer) -> AsyncIterator[Session]:
        told.append(f"open with {mailer.name}")
        yield Session()
        await trio.sleep(1)
        told.append("closed")

    worker.provide(Mailer, Mailer, scope="worker")
    worker.provide(Session, open_session)
    mailers: set[Mailer] = set()

    @worker.job()
    async def work(session: Session, mailer: Mailer) -> None:
        assert isinstance(session, Session)
        mailers.add(mailer)
        told.append("job")

    async with under_test(worker) as kit:
        first = kit.enqueue(work)
        await kit.run_until_idle()
        kit.enqueue(work)
        await kit.run_until_idle()

    assert told == ["open with real", "job", "closed"] * 2
    assert len(mailers) == 1
    assert kit.occurrence(first).statuses[-1].duration_ms == 1000


async def test_class_jobs_get_constructor_parameters_in_the_same_way(worker: Worker, autojump_clock: MockClock) -> None:
    """A new instance for each attempt."""
    worker.provide(Mailer, Mailer)

    @worker.job("SendJob")
    class Send(Job):
        def __init__(self, mailer: Mailer) -> None:
            self.mailer = mailer

        async def execute(self, ctx: JobContext, data: str) -> str:
            return f"{self.mailer.name} mail to {data}"

    async with under_test(worker) as kit:
        occurrence = kit.enqueue("SendJob", "Ada")
        await kit.run_until_idle()

    assert kit.occurrence(occurrence).result == "real mail to Ada"


async def test_a_provider_that_fails_fails_the_job(worker: Worker, autojump_clock: MockClock) -> None:
    """It is retried like one that raised."""

    async def make() -> Mailer:
        raise OSError("no mail server")

    worker.provide(Mailer, make)

    @worker.job(max_retries=1, base_retry_delay=1)
    async def work(mailer: Mailer) -> None: ...

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    assert len(kit.retries) == 1
    assert "no mail server" in str(kit.occurrence(occurrence).exception)


# --- finding and calling jobs -----------------------------------------------------------------------------------------


async def test_discovered_jobs_are_served(
    worker: Worker, autojump_clock: MockClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Functions with the free decorator, in all modules of the package."""
    package = tmp_path / "discovered_jobs"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "mail.py").write_text(
        "from milvaion_trio import job\n\n@job()\nasync def send(data: str) -> str:\n    return data\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    worker.discover("discovered_jobs")

    async with under_test(worker) as kit:
        occurrence = kit.enqueue("send", "found")
        await kit.run_until_idle()

    assert kit.occurrence(occurrence).result == "found"
    for name in [name for name in sys.modules if name.startswith("discovered_jobs")]:
        del sys.modules[name]


async def test_a_job_enqueues_another_one(worker: Worker, autojump_clock: MockClock) -> None:
    """`definition.enqueue` uses the broker that the worker serves on."""
    done: list[float] = []

    @worker.job()
    async def second(data: float) -> None:
        done.append(trio.current_time() - data)

    @worker.job()
    async def first() -> None:
        await second.enqueue(trio.current_time(), delay=30)

    async with under_test(worker) as kit:
        kit.enqueue(first)
        await kit.run_until_idle()

    assert done == [30]


async def test_the_current_job_is_known_deep_inside_and_nowhere_else(worker: Worker, autojump_clock: MockClock) -> None:
    """Also in tasks that the job starts; not between jobs."""
    seen: list[str] = []

    async def deep() -> None:
        seen.append(current_job().occurrence_id)

    @worker.job()
    async def work() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(deep)

    async with under_test(worker) as kit:
        occurrences = [kit.enqueue(work) for _ in range(3)]
        await kit.run_until_idle()

    assert sorted(seen) == sorted(occurrences)
    with pytest.raises(NoCurrentJob):
        current_job()


# --- observers --------------------------------------------------------------------------------------------------------


async def test_an_observer_that_raises_does_not_stop_a_job(
    worker: Worker, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told about once and gets no further events; others do."""
    calls: list[Event] = []

    def broken(event: Event) -> None:
        calls.append(event)
        raise RuntimeError("broken observer")

    worker.observe(broken)

    @worker.job()
    async def work() -> str:
        return "done"

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()

    assert len(calls) == 1
    assert kit.occurrence(occurrence).result == "done"
    assert any(isinstance(event, events.JobConcluded) for event in kit.events)
    assert len([record for record in caplog.records if "broken" in record.getMessage()]) == 1


async def test_an_error_without_words_is_named_once(worker: Worker, autojump_clock: MockClock) -> None:
    @worker.job(max_retries=1, base_retry_delay=60)
    async def work(ctx: JobContext) -> None:
        if ctx.attempt == 1:
            raise ValueError

    async with under_test(worker) as kit:
        kit.enqueue(work)
        await kit.run_until_idle()
        told = [event.text for event in kit.events if isinstance(event, events.JobRetried)]

    assert told == ["ValueError"]


async def test_events_tell_the_life_of_a_job(worker: Worker, autojump_clock: MockClock) -> None:
    """What logs, metrics and live views are made from."""

    @worker.job(max_retries=1, base_retry_delay=60)
    async def work(ctx: JobContext) -> str:
        await trio.sleep(2)
        if ctx.attempt == 1:
            raise ValueError("not yet")
        return "done"

    async with under_test(worker) as kit:
        occurrence = kit.enqueue(work)
        await kit.run_until_idle()
        told = [event for event in kit.events if hasattr(event, "job_name")]

    assert told == [
        events.JobStarted("work", occurrence, 1, 1),
        events.JobRetried("work", occurrence, 1, 60, "retry", "ValueError: not yet"),
        events.JobStarted("work", occurrence, 2, 1),
        events.JobConcluded("work", occurrence, 2, OccurrenceStatus.COMPLETED, 2, "done"),
    ]


async def test_a_worker_does_not_serve_twice_at_the_same_time(worker: Worker, autojump_clock: MockClock) -> None:
    """The second call is told to use a second worker."""
    async with under_test(worker):
        with pytest.raises(SettingsError, match="serves already"):
            await worker.serve()
