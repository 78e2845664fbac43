"""`run` serves a worker, tells it in logs on stderr, and says by its exit code how it left."""

import json
import signal
import subprocess
import time
from pathlib import Path

from tests.support.commands import PATIENCE, finish, run_command, start

HANGING_WORKER = """
import time
from contextlib import asynccontextmanager

from milvaion_trio import Worker

worker = Worker("hanging-worker")


@worker.job()
def hang():
    print(worker.settings.shutdown.flush_timeout, flush=True)
    time.sleep(60)


@worker.lifespan
@asynccontextmanager
async def enqueue_it(worker):
    await hang.enqueue()
    yield
"""
"""Its job is in a thread, which no cancellation can end."""


def test_burst_ends_when_every_job_is_done() -> None:
    ended = run_command("run", "sample_worker:busy", "--burst")

    assert ended.code == 0
    assert ended.out == ""
    assert ended.err.startswith(
        "This worker runs on the embedded broker: its queues are in this process and end with it.\n"
    )
    assert ended.err.count("INFO    milvaion_trio: job completed: count_to") == 3
    assert "worker stopped: busy-worker-" in ended.err.splitlines()[-1]


def test_json_logs_are_one_object_a_line() -> None:
    ended = run_command("run", "sample_worker:busy", "--burst", "--log-format", "json", "--log-level", "debug")

    records = [json.loads(line) for line in ended.err.splitlines()]
    assert ended.code == 0
    assert records[0]["level"] == "warning"  # that the broker is in this process
    assert all(set(record) == {"time", "level", "logger", "message"} for record in records)
    assert [record["level"] for record in records if record["message"].startswith("job started")] == ["debug"] * 3


def test_sigterm_drains() -> None:
    """A service manager's signal ends an idle worker with 0."""
    process = start(["run", "sample_worker:worker"])
    assert process.stderr is not None
    next(line for line in process.stderr if "worker ready" in line)

    process.send_signal(signal.SIGTERM)
    ended = finish(process)

    assert ended.code == 0
    assert "shutdown: 0 running jobs may end" in ended.err


def test_the_budgets_of_the_command_line_end_a_job_that_hangs(tmp_path: Path) -> None:
    """Instead of 20 s to go on and 5 s to clean up: a service manager may allow less."""
    (tmp_path / "hanging.py").write_text(HANGING_WORKER)
    budgets = ("--drain-timeout", "0.2", "--cleanup-timeout", "0.2", "--flush-timeout", "0.7")
    process = start(["run", "hanging:worker", *budgets], cwd=tmp_path)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "0.7\n"
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        ended = finish(process)
    finally:
        process.kill()

    assert ended.code == 0
    assert "shutdown: 1 running job may end" in ended.err
    assert time.monotonic() - began < 4.5  # the cleanup alone would have 5


def test_the_third_signal_ends_even_a_worker_whose_loop_is_blocked() -> None:
    process = start(["run", "sample_worker:stuck"])
    assert process.stdout is not None
    assert process.stdout.readline() == "blocking\n"

    for _ in range(PATIENCE * 5):  # equal signals that follow closely are one to the kernel
        process.send_signal(signal.SIGINT)
        try:
            process.wait(0.2)
            break
        except subprocess.TimeoutExpired:
            continue

    assert finish(process).code == 130
