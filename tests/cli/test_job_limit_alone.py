"""`max_jobs_per_process` without a supervisor that starts another process: a warning, or no limit at all."""

import itertools
import os
import re
import subprocess
import threading
from pathlib import Path

from tests.support.commands import PATIENCE, command, run_command, start

ALONE = """
from contextlib import asynccontextmanager
from milvaion_trio import Worker

worker = Worker("shop")

@worker.job(max_parallel=5)
async def work() -> None: ...

@worker.lifespan
@asynccontextmanager
async def begin(worker):
    for _ in range(5):
        await work.enqueue()
    yield
"""


def test_alone_it_leaves_in_order_and_says_why(tmp_path: Path) -> None:
    """For whatever supervises it to start it again."""
    (tmp_path / "shop.py").write_text(ALONE)

    ended = run_command("run", "shop:worker", "--max-jobs-per-process", "3", cwd=tmp_path)

    assert ended.code == 0
    assert ended.err.count("job completed: ") == 3
    assert re.search(r"WARNING .*job limit reached: jobs=3 \(max_jobs_per_process\); this worker leaves", ended.err)


def test_in_a_burst_of_its_own_there_is_no_limit(tmp_path: Path) -> None:
    """Nobody would run the rest, and the exit code would say that all is done."""
    (tmp_path / "shop.py").write_text(ALONE)

    ended = run_command("run", "shop:worker", "--max-jobs-per-process", "3", "--burst", cwd=tmp_path)

    assert ended.code == 0
    assert ended.err.count("job completed: ") == 5
    assert "Worker:MaxJobsPerProcess has no effect with --burst without --processes: nobody would run" in ended.err
    assert "job limit reached" not in ended.err


def test_with_reload_there_is_no_limit(tmp_path: Path) -> None:
    """What supervises it waits for a change, and nobody would run the rest."""
    (tmp_path / "shop.py").write_text(ALONE)
    child, ours = os.pipe()
    with subprocess.Popen(
        command("run", "shop:worker", "--max-jobs-per-process", "3", "--lifeline", str(child)),
        cwd=tmp_path,
        pass_fds=[child],
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        guard = threading.Timer(PATIENCE, process.kill)
        guard.start()
        assert process.stderr is not None
        told = []
        for line in process.stderr:
            told.append(line)
            if sum("job completed: " in each for each in told) == 5:
                break
        os.close(ours)  # as when the supervisor is gone
        told += process.stderr
        guard.cancel()
    os.close(child)

    assert sum("job completed: " in line for line in told) == 5, told
    assert any("Worker:MaxJobsPerProcess has no effect with --reload: nobody" in line for line in told)


def test_a_dev_worker_has_no_limit(tmp_path: Path) -> None:
    """Nothing would start it again."""
    (tmp_path / "shop.py").write_text(ALONE)
    at = ("--socket", tmp_path / "socket", "--set", "max_jobs_per_process=3")

    with start(["dev", "shop:worker", *at], cwd=tmp_path) as process:
        guard = threading.Timer(PATIENCE, process.kill)
        guard.start()
        assert process.stdout is not None
        done = list(itertools.islice((line for line in process.stdout if " completed" in line), 5))
        process.terminate()
        guard.cancel()

    assert len(done) == 5
