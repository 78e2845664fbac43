"""No process of a job outlives the worker, whichever way that ends."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
import trio
from tests.support.commands import command, environment, finish
from tests.support.processes import is_alive, none_alive, numbers_in

LONG = 30.0
"""Seconds after which a test fails; two interpreters start in each, one after the other."""

WORKER = '''
import os
import subprocess
import sys
import threading
import time
from contextlib import asynccontextmanager
from pathlib import Path

from milvaion_trio import Worker

worker = Worker("holding")
MANY = 100  # the more threads, the later the kernel closes what a killed process had open


@worker.job(run="process")
def hold() -> None:
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path("noted").write_text(f"{os.getpid()} {program.pid}")
    Path("noted").rename("pids")
    sum(range(10**11))  # and does not listen


def fork():
    """Somebody whom the worker forks, and who outlives it."""
    while not Path("pids").exists():
        time.sleep(0.01)
    if (forked := os.fork()) == 0:
        os.closerange(0, 3)
        time.sleep(600)
        os._exit(0)
    Path("noted_too").write_text(str(forked))
    Path("noted_too").rename("forked")


@worker.lifespan
@asynccontextmanager
async def enqueue_it(worker):
    for _ in range(MANY):
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()
    threading.Thread(target=fork, daemon=True).start()
    await hold.enqueue()
    yield
'''


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
async def test_nothing_is_left_of_a_worker(number: signal.Signals, tmp_path: Path) -> None:
    """Neither after SIGTERM, nor when it was killed and could do nothing about it; nor by what a fork of it holds."""
    (tmp_path / "holding.py").write_text(WORKER)
    worker = subprocess.Popen(  # noqa: ASYNC220  # no fork of somebody's: what is killed is the worker itself
        command("run", "holding:worker", "--drain-timeout", "0.1", "--cleanup-timeout", "0.5"),
        cwd=tmp_path,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with trio.fail_after(LONG):
        numbers = await numbers_in(tmp_path / "pids")
        [forked] = await numbers_in(tmp_path / "forked")
        assert all(map(is_alive, (*numbers, forked)))
        worker.send_signal(number)
        try:
            ended = await trio.to_thread.run_sync(finish, worker)
            await none_alive(*numbers)
        finally:
            os.kill(forked, signal.SIGKILL)

    assert ended.code == (0 if number == signal.SIGTERM else -signal.SIGKILL), ended.err
