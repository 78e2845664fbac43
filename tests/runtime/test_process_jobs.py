"""Jobs in processes: reused, stopped, killed with all they have started. In real time, as processes are."""

import errno
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio
from attrs import evolve
from tests.support import process_jobs
from tests.support.processes import is_alive, none_alive, numbers_in, until

from milvaion_trio import SettingsError, Worker
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.settings import ShutdownSettings
from milvaion_trio.runtime import process_frames, processes
from milvaion_trio.testing import WorkerUnderTest, under_test

BEHAVIOURS = (
    *("raises", "permanent", "later", "snooze", "never", "exit", "failure", "success"),
    *("text", "unjsonable", "nothing", "stdin", "trio", "unknown"),
)

LONG = 30.0
"""Seconds after which a test fails. Starting an interpreter takes a second or two on a busy machine."""


@pytest.fixture
def worker(worker: Worker) -> Worker:
    """Cancelled jobs get half a second to clean up."""
    budgets = ShutdownSettings(drain_timeout=0.1, cleanup_timeout=0.5, flush_timeout=1)
    worker.settings = evolve(worker.settings, shutdown=budgets)
    return worker


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    """Whatever a test does, this process has no more children afterwards."""
    before = children()
    yield
    assert [number for number in children() - before if is_alive(number)] == []


def children() -> set[int]:
    return {int(number) for number in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


async def test_a_function_runs_in_a_process_that_is_used_again(
    worker: Worker, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its data, result, logs and all of its context are there; what it prints is printed by the worker."""
    worker.job("Look", run="process", max_parallel=1, timeout=60)(process_jobs.look_around)

    with trio.fail_after(LONG):
        async with under_test(worker) as kit:
            first, second, wrong = (kit.enqueue("Look", {"Number": number}) for number in (120, 2, "three"))
            await kit.run_until_idle()

    seen = json.loads(kit.occurrence(first).result or "")
    assert 50 < seen.pop("left") < 60
    process = seen.pop("process")
    assert seen == {
        "is_leader": True,
        "occurrence": first,
        "key": first,
        "attempt": 1,
        "run": 1,
        "retries": 3,
        "name": "Look",
        "word": "hello",
    }
    assert process != os.getpid()
    assert json.loads(kit.occurrence(second).result or "")["process"] == process
    assert kit.occurrence(first).messages == tuple(f"line {number}" for number in range(120))
    assert kit.occurrence(second).logs[1].log.data == {"word": "hello"}
    assert capfd.readouterr().out == "printed by 120\nprinted by 2\n"
    assert "InvalidJobData" in (kit.occurrence(wrong).exception or "")
    assert not kit.occurrence(wrong).retries


async def test_what_it_forks_can_be_ended(worker: Worker) -> None:
    """SIGTERM means "stop the job" to the process of the job alone."""
    worker.job("Fork", run="process")(process_jobs.fork_and_end)

    with trio.fail_after(LONG):
        async with under_test(worker) as kit:
            occurrence = kit.enqueue("Fork")
            await kit.run_until_idle()

    assert kit.occurrence(occurrence).result == str(-signal.SIGTERM)


async def test_what_the_worker_blocks_is_not_blocked_there(worker: Worker) -> None:
    """What a job starts shall hear both; masks are inherited."""
    worker.job("Blocked", run="process")(process_jobs.blocked_signals)

    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
    try:
        with trio.fail_after(LONG):
            async with under_test(worker) as kit:
                occurrence = kit.enqueue("Blocked")
                await kit.run_until_idle()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    assert kit.occurrence(occurrence).result == "[]"


async def test_a_kernel_without_pidfd_runs_them_too(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sandboxes and old kernels refuse it; that must not end the worker."""

    def refused(pid: int, flags: int = 0) -> int:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", refused)
    worker.job("Behave", run="process")(process_jobs.behave)
    worker.job("Die", run="process", max_retries=0)(process_jobs.die)

    with trio.fail_after(LONG):
        async with under_test(worker) as kit:
            good, bad = kit.enqueue("Behave", "success"), kit.enqueue("Die", "kill")
            await kit.run_until_idle()

    assert kit.occurrence(good).status is OccurrenceStatus.COMPLETED
    assert kit.occurrence(bad).status is OccurrenceStatus.FAILED


async def test_what_it_returns_or_raises_keeps_its_meaning(worker: Worker) -> None:
    """Nothing of it has to be picklable: what is reported of it leaves the process, itself it does not."""
    worker.job("Behave", run="process", max_parallel=1, max_retries=1, never_retry=(process_jobs.Unwanted,))(
        process_jobs.behave
    )

    with trio.fail_after(LONG):
        async with under_test(worker) as kit:
            ids = {word: kit.enqueue("Behave", word) for word in BEHAVIOURS}
            await until(
                lambda: all(kit.occurrence(each).final or kit.occurrence(each).retries for each in ids.values())
            )
            views = {word: kit.occurrence(each) for word, each in ids.items()}
            kit.stop()
            await kit.stopped()

    retried = {word: retry.delay for word, view in views.items() for retry in view.retries}
    again = dict.fromkeys(("raises", "exit", "failure", "trio", "unknown"), 60.0)
    assert retried == {**again, "later": 7.0, "snooze": 8.0}
    assert {word for word, view in views.items() if view.dead_letters} == {"permanent", "never"}
    assert "MoreUnwanted" in (views["never"].exception or "")
    text = views["permanent"].exception or ""
    assert text.startswith("Type: milvaion_trio.model.errors.PermanentFailure\nMessage: no use\nStackTrace:   File ")
    assert "in behave" in text
    assert "process_child" not in text, "the frames of ours tell a job's author nothing"
    completed = {word: view.result for word, view in views.items() if view.status is OccurrenceStatus.COMPLETED}
    assert "behave.<locals>.Local" in (completed.pop("unjsonable") or "")
    assert completed == {
        "success": '[1,"hello"]',
        "text": "of a class of its own",
        "nothing": "Behave finished without a return value",
        "stdin": "",
    }
    assert any("has no JSON form" in message for message in views["unjsonable"].messages)
    texts = {word: " ".join(f"{log.log.data} {log.log.message}" for log in view.logs) for word, view in views.items()}
    assert "of a class that nobody else can find" in texts["raises"]
    assert 'in a job with run="process", return or raise' in texts["trio"]


async def test_progress_is_told_while_the_job_runs(worker: Worker, tmp_path: Path) -> None:
    worker.job("Slow", run="process")(process_jobs.log_and_wait)

    with trio.fail_after(LONG):
        async with under_test(worker) as kit:
            occurrence = kit.enqueue("Slow", f"{tmp_path}")
            await until(lambda: "a quarter" in kit.occurrence(occurrence).messages)
            (tmp_path / "go").touch()
            await kit.run_until_idle()

    assert kit.occurrence(occurrence).logs[0].log.data == {"Progress": 0.25}
    assert kit.occurrence(occurrence).result == "went on"


@pytest.mark.parametrize("how", ["user", "timeout", "shutdown"])
async def test_being_told_to_stop_raises_in_the_job_and_its_finally_blocks_run(
    worker: Worker, tmp_path: Path, how: str
) -> None:
    """The reason decides the outcome, as in a task; the process is not used again."""
    timeout = 1 if how == "timeout" else 0
    worker.job("Look", run="process")(process_jobs.look_around)
    worker.job("Wait", run="process", timeout=timeout, max_retries=0)(process_jobs.wait)

    with trio.fail_after(LONG):
        async with under_test(worker) as kit:
            kit.enqueue("Look", {"Number": 1})
            await kit.run_until_idle()  # there is a process, so that the time limit is the job's alone
            occurrence = kit.enqueue("Wait", f"{tmp_path}")
            process = await started(kit)
            if how == "user":
                kit.cancel(occurrence, "enough")
            if how == "shutdown":
                kit.stop()
                await kit.stopped()
            else:
                await kit.run_until_idle()
            assert not is_alive(process)

    assert {path.suffix for path in await trio.Path(tmp_path).iterdir()} == {".cancelled", ".checked", ".cleaned"}
    view = kit.occurrence(occurrence)
    if how == "shutdown":
        assert view.final is None
        assert len(kit.queue("Wait").ready) == 1
    elif how == "user":
        assert view.result == "Wait was cancelled: enough"
    else:
        assert view.status is OccurrenceStatus.TIMED_OUT


async def test_a_job_that_does_not_stop_is_killed_with_all_that_it_has_started(worker: Worker, tmp_path: Path) -> None:
    """After the clean-up time; then its slot is free, and the next job gets a new process."""
    worker.job("Deaf", run="process", max_parallel=1)(process_jobs.wait_with_others)

    with trio.fail_after(LONG):
        async with under_test(worker) as kit:
            first, second = kit.enqueue("Deaf", f"{tmp_path}"), tmp_path / "second"
            second.mkdir()
            numbers = await numbers_in(tmp_path / "pids")
            kit.enqueue("Deaf", f"{second}")
            kit.cancel(first, "enough")
            others = await numbers_in(second / "pids")
            assert not is_alive(numbers[0]), "a slot is free when the process is dead"
            await none_alive(*numbers)
            assert (tmp_path / "told").exists()
            assert kit.occurrence(first).result == "Deaf was cancelled: enough"
            kit.stop()
            await kit.stopped()
            await none_alive(*others)

    assert len(kit.queue().ready) == 1
    assert not kit.heartbeats[-1].current_jobs


async def test_a_process_that_dies_fails_the_attempt_alone(worker: Worker) -> None:
    """It is said how it died, the job is tried again, and no other job notices."""
    said = {
        "exit": "ended with exit code 3",
        "kill": "was killed by SIGKILL",
        "segfault": "was killed by SIGSEGV",
        "fork": "ended with exit code 4",
    }
    worker.job("Die", run="process", max_retries=0)(process_jobs.die)
    worker.job("DieTwice", run="process", max_retries=1, base_retry_delay=0.01)(process_jobs.die)
    worker.job("Slow", run="process")(process_jobs.look_around)

    with trio.fail_after(LONG):
        async with under_test(worker) as kit:
            ids = {how: kit.enqueue("Die", how) for how in said}
            twice, beside = kit.enqueue("DieTwice", "exit"), kit.enqueue("Slow", {"Number": 1})
            await kit.run_until_idle()
            await none_alive(await started(kit))

    for how, words in said.items():
        assert f"JobProcessDied\nMessage: The job's process {words}" in (kit.occurrence(ids[how]).exception or "")
    assert len(kit.occurrence(twice).retries) == 1
    assert kit.occurrence(beside).status is OccurrenceStatus.COMPLETED


async def test_a_program_does_not_outlive_the_process_that_started_it(worker: Worker) -> None:
    """It is in the process group of the job, which is killed whole, however the process ended."""
    worker.job("Die", run="process", max_retries=0)(process_jobs.die)

    with trio.fail_after(LONG):
        async with under_test(worker) as kit:
            kit.enqueue("Die", "program")
            await kit.run_until_idle()
            await none_alive(await started(kit))


async def test_a_process_ends_when_it_was_idle_for_long(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "IDLE", 0.05)
    worker.job("Look", run="process")(process_jobs.look_around)

    with trio.fail_after(LONG):
        async with under_test(worker) as kit:
            occurrence = kit.enqueue("Look", {"Number": 1})
            await kit.run_until_idle()
            await none_alive(json.loads(kit.occurrence(occurrence).result or "")["process"])


def at_the_top() -> None: ...


async def asynchronous() -> None: ...


def replaced() -> None: ...


REPLACED, replaced = replaced, at_the_top


class Lent:
    """What a job cannot take along."""


def borrows(lent: Lent) -> None: ...


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (asynchronous, 'run="process" but is an `async def`'),
        (lambda: None, "it is a lambda"),
        (functools.partial(at_the_top), "it has no name of its own"),
        (REPLACED, "test_process_jobs.replaced is something else"),
        (borrows, "needs Lent, which cannot cross into the process"),
    ],
)
def test_what_a_process_would_not_find_stops_the_start(
    worker: Worker, target: Callable[..., object], problem: str
) -> None:
    worker.provide(Lent, Lent)
    worker.job("Lost", run="process")(target)

    with pytest.raises(SettingsError) as caught:
        worker.prepare()

    assert problem in str(caught.value)


def test_a_local_function_stops_the_start(worker: Worker) -> None:
    @worker.job(run="process")
    def inside() -> None: ...

    with pytest.raises(SettingsError, match="defined inside a function"):
        worker.prepare()


PROGRAM = """
import sys

import trio

from milvaion_trio import Worker
from milvaion_trio.testing import under_test

worker = Worker("tests", observers=())

class Mine(Exception):
    pass

@worker.job(run="process", max_parallel=1, never_retry=(Mine,), base_retry_delay=0.01, max_retries=1)
def work(data: str) -> str:
    if data == "raise":
        raise Mine
    return f"{__name__} {data}"

async def main() -> None:
    async with under_test(worker) as kit:
        ids = [kit.enqueue(work, data) for data in ("done", "raise")]
        await kit.run_until_idle()
    for each in ids:
        view = kit.occurrence(each)
        print(view.result or view.exception, len(view.dead_letters))
    print("asyncio" in sys.modules)

if __name__ == "__main__":
    trio.run(main)
"""


def test_a_job_in_the_program_itself_is_found(tmp_path: Path) -> None:
    """As multiprocessing does it: the program is imported as `__mp_main__`. Nothing of it needs asyncio."""
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)

    done = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=LONG, check=False)

    assert done.stdout.splitlines()[0] == "__mp_main__ done 0", done.stderr
    assert "Mine" in done.stdout
    assert done.stdout.splitlines()[-2:] == [" 1", "False"]


async def test_a_program_that_serves_while_it_is_imported_is_told_so(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a guard each process would start a worker of its own, and that one processes."""
    monkeypatch.setattr(process_frames, "in_job_process", True)  # as a job process does before it imports anything

    with pytest.raises(SettingsError, match="Serve it under `if __name__ == "):
        await worker.serve()


async def started(kit: WorkerUnderTest) -> int:
    """The process of the job that has logged that it started. If cancelled, nothing changes."""
    while True:
        for record in kit.logs:
            if record.log.message == "started" and record.log.data is not None:
                return int(str(record.log.data["process"]))
        await trio.sleep(0.01)
