"""Jobs for processes, which must stand in a module that another interpreter can import."""

import enum
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from attrs import frozen

from milvaion_trio import (
    JobCancelled,
    JobContext,
    JobResult,
    PermanentFailure,
    RetryLater,
    Snooze,
    current_job,
)
from milvaion_trio.runtime import process_frames

__all__ = [
    "Look",
    "Unwanted",
    "behave",
    "die",
    "fork_and_end",
    "log_and_wait",
    "look_around",
    "wait",
    "wait_with_others",
]


class Word(enum.StrEnum):
    HELLO = "hello"


@frozen
class Look:
    number: int
    word: Word = Word.HELLO


class Unwanted(Exception):
    """What no retry can help."""


class MoreUnwanted(Unwanted):
    """And what derives from it."""


def look_around(ctx: JobContext, look: Look) -> dict[str, object]:
    """What a job sees of itself."""
    assert current_job() is ctx
    assert ctx.data == look
    assert process_frames.in_job_process
    print(f"printed by {look.number}")
    for number in range(look.number):
        ctx.log.info(f"line {number}", word=look.word)
    return {
        "process": os.getpid(),
        "is_leader": os.getpid() == os.getpgrp() == os.getsid(0),
        "occurrence": ctx.occurrence_id,
        "key": ctx.idempotency_key,
        "attempt": ctx.attempt,
        "run": ctx.run_number,
        "retries": ctx.max_retries,
        "name": ctx.job.job_name_in_worker,
        "left": 0 if ctx.deadline is None else ctx.deadline - time.monotonic(),
        "word": look.word,
    }


def behave(ctx: JobContext, how: str) -> object:
    """Return or raise something of every kind."""

    class Local(Exception):
        def __reduce__(self) -> str:
            raise TypeError("cannot be pickled")

    class Text(str):
        __slots__ = ()

    match how:
        case "raises":
            raise Local("of a class that nobody else can find")
        case "permanent":
            raise PermanentFailure("no use")
        case "later":
            raise RetryLater(7, "not yet")
        case "snooze":
            raise Snooze(8)
        case "never":
            raise ExceptionGroup("several", [ValueError("one"), MoreUnwanted("two")])
        case "exit":
            sys.exit(3)
        case "failure":
            return JobResult.failure("said so")
        case "success":
            return JobResult.success([1, Word.HELLO])
        case "text":
            return Text("of a class of its own")
        case "unjsonable":
            return Local
        case "nothing":
            return None
        case "stdin":
            return sys.stdin.read()
        case "trio":
            return ctx.cancel_scope
    raise ValueError(how)


def die(ctx: JobContext, how: str) -> None:
    """End the process, not only the job."""
    match how:
        case "exit":
            os._exit(3)
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "program":  # which holds nothing of the process open, and would live on
            program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
            ctx.log.info("started", process=program.pid)
            os._exit(5)
        case "fork":  # a copy of the process that outlives it, with all its files open
            if (forked := os.fork()) == 0:
                time.sleep(600)
            ctx.log.info("started", process=forked)
            os._exit(4)


def log_and_wait(ctx: JobContext, folder: str) -> str:
    """Log, and go on when there is a file `go`."""
    ctx.progress(0.25, "a quarter")
    while not Path(folder, "go").exists():
        time.sleep(0.005)
    return "went on"


def wait(ctx: JobContext, folder: str) -> None:
    """Wait to be stopped, and leave a word about it."""
    place = Path(folder, f"{ctx.attempt}")
    try:
        ctx.log.info("started", process=os.getpid())
        time.sleep(600)
    except JobCancelled:
        place.with_suffix(".cancelled").touch()
        try:
            ctx.check_cancelled()
        except JobCancelled:
            place.with_suffix(".checked").touch()
        raise
    finally:
        place.with_suffix(".cleaned").touch()


def wait_with_others(ctx: JobContext, folder: str) -> None:
    """Start a program, note who runs, and ignore being stopped."""
    program = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(folder, "noted").write_text(f"{os.getpid()} {program.pid}")
    Path(folder, "noted").rename(Path(folder, "pids"))
    while True:
        try:
            time.sleep(600)
        except JobCancelled:
            Path(folder, "told").touch()


def fork_and_end() -> int | None:
    """What a job forks is ended as usual; -15 for SIGTERM."""
    forked = multiprocessing.get_context("fork").Process(target=_stubborn)
    forked.start()
    forked.terminate()
    forked.join(20)
    code = forked.exitcode
    forked.kill()
    return code


def blocked_signals() -> list[int]:
    """Those that this process and what it starts do not hear."""
    return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))


def _stubborn() -> None:
    while True:
        try:
            time.sleep(60)
        except Exception:  # as code does that goes on whatever happens
            continue
