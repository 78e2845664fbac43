"""SIGTERM and SIGINT, with real processes: the first drains, the second cancels, the third leaves at once."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import trio

from milvaion_trio import Worker

SCRIPT = """
import contextlib, signal, sys, time
import trio
from milvaion_trio import Worker
from milvaion_trio.model.events import ShutdownBegan, WorkerReady

worker = Worker("signals", observers=())
ready, leaving = trio.Event(), trio.Event()

def say(word):
    print(word, flush=True)

@worker.observe
def watch(event):
    if isinstance(event, WorkerReady):
        ready.set()
    elif isinstance(event, ShutdownBegan):
        leaving.set()
        say("leaving")

@worker.job()
async def work(data: str) -> None:
    say("running")
    try:
        if data == "short":
            await leaving.wait()
            await trio.sleep(0.2)
        elif data == "endless":
            await trio.sleep_forever()
        elif data == "busy":
            while True:
                pass
        elif data == "blocking":
            time.sleep(60)
        say("finished")
    except trio.Cancelled:
        say("cancelled")
        raise

async def enqueue():
    await ready.wait()
    if sys.argv[1] == "idle":
        say("running")
    else:
        await work.enqueue(sys.argv[1])

@worker.lifespan
@contextlib.asynccontextmanager
async def lifespan(worker):
    async with trio.open_nursery() as nursery:
        nursery.start_soon(enqueue)
        yield
        nursery.cancel_scope.cancel()

before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
trio.run(worker.serve)
after = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
say("restored" if after == before else f"{before} {after}")
"""


class Program:
    """The script as a process of its own, whose words are read as they come."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def hear(self) -> str:
        """The next word it says; empty at its end."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def end(self) -> tuple[int, float, list[str]]:
        """Its exit code, how long it took from now, and what it said until then."""
        began = time.perf_counter()
        output, _ = self._process.communicate(timeout=20)
        return self._process.returncode, time.perf_counter() - began, output.split()


@pytest.fixture
def started() -> Iterator[Callable[[str], Program]]:
    with _programs() as start:
        yield start


@contextmanager
def _programs() -> Iterator[Callable[[str], Program]]:
    processes: list[subprocess.Popen[str]] = []

    def start(job: str) -> Program:
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, job], stdout=subprocess.PIPE, text=True)
        processes.append(process)
        program = Program(process)
        assert program.hear() == "running"
        return program

    try:
        yield start
    finally:
        for process in processes:
            process.kill()
            process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_drains(started: Callable[[str], Program], number: signal.Signals) -> None:
    """The running job ends by itself, the exit code is 0, and the handlers of before are back."""
    program = started("short")
    program.send(number)

    code, _, words = program.end()

    assert (code, words) == (0, ["leaving", "finished", "restored"])


def test_an_idle_worker_leaves_at_the_first_signal(started: Callable[[str], Program]) -> None:
    """Without waiting for any of the budgets, of which flushing has the shortest: 3 s."""
    program = started("idle")
    program.send(signal.SIGTERM)

    code, seconds, words = program.end()

    assert (code, words) == (0, ["leaving", "restored"])
    assert seconds < 2.5  # tens of milliseconds where nothing else runs


def test_the_second_signal_cancels_at_once(started: Callable[[str], Program]) -> None:
    """The job's clean-up runs, its message goes back, the exit code is 0 still."""
    program = started("endless")
    program.send(signal.SIGTERM)
    assert program.hear() == "leaving"
    program.send(signal.SIGINT)

    code, seconds, words = program.end()

    assert (code, words) == (0, ["cancelled", "restored"])
    assert seconds < 2.5


@pytest.mark.parametrize("job", ["busy", "blocking"])
def test_the_third_signal_leaves_even_while_a_job_blocks_the_loop(started: Callable[[str], Program], job: str) -> None:
    """Within 200 ms and with code 130, when no task can run any more (RELIABILITY.md F3)."""
    program = started(job)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        time.sleep(0.1)  # two signals of one kind that come together are one
        program.send(number)

    code, seconds, words = program.end()

    assert (code, words) == (130, [])
    assert seconds < 0.2


async def test_signals_are_left_alone_when_a_worker_is_embedded(worker: Worker) -> None:
    """The host's main task decides; the worker is a task of it (DESIGN.md 2)."""
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]

    async with trio.open_nursery() as nursery:
        await nursery.start(worker.serve)
        during = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        worker.drain()

    assert during == before


def test_handlers_of_the_host_stay() -> None:
    """A program that has taken the signals before keeps them."""
    script = SCRIPT.replace("before =", "signal.signal(signal.SIGTERM, lambda *_: worker.drain())\nbefore =", 1)
    script = script.replace('say("leaving")', 'say("leaving")\n        say(signal.getsignal(signal.SIGTERM).__name__)')
    process = subprocess.Popen([sys.executable, "-c", script, "idle"], stdout=subprocess.PIPE, text=True)
    program = Program(process)
    assert program.hear() == "running"
    program.send(signal.SIGTERM)

    code, _, words = program.end()

    assert (code, words) == (0, ["leaving", "<lambda>", "restored"])
