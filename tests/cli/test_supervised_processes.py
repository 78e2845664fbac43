"""What `run --processes` does about processes that end, shown on stand-ins that live for a moment."""

import errno
import itertools
import json
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import define, field

from milvaion_trio.cli import processes
from milvaion_trio.cli.failures import CommandFailed
from milvaion_trio.cli.logging_setup import LogFormat, set_up_logging
from milvaion_trio.cli.processes import keep_running
from milvaion_trio.cli.reload import COMMAND_LINE
from milvaion_trio.model.settings import ShutdownSettings, WorkerSettings

STAND_IN = """
import json, os, signal, socket, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
number, tether = (int(each.partition("=")[2]) for each in sys.argv[1:] if each.startswith(("--process=", "--tether=")))
place = os.environ["STAND_IN_PLACE"]
link = socket.socket(fileno=tether)
lives = json.load(open(f"{place}/plan.json"))
before = open(f"{place}/lives-{number}", "a+")
before.seek(0)
count = len(before.readlines())
print(time.monotonic(), os.getpid(), os.getpgrp(), file=before, flush=True)
life = lives[str(number)]
for step in life[min(count, len(life) - 1)]:
    if step == "up":
        link.send(b"u")
    elif step == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    elif step == "heed":
        print(number, *link.recv(1), file=open(f"{place}/heard", "a"), flush=True)
    elif step == "sleep":
        time.sleep(0.2)
    elif step == "wait":
        time.sleep(60)
    else:
        sys.exit(step)
"""
"""Follows its plan, one list of steps for each of its lives; the last one again and again."""

FORMS: tuple[LogFormat, ...] = ("text", "json")
PATIENCE = 20.0
"""Seconds after which a supervisor that does not end is told to."""
UP_AND_HEED = ["up", "heed", 0]


@define(eq=False)
class Played:
    """A supervisor of stand-ins, and what they left."""

    place: Path
    log: pytest.LogCaptureFixture
    has_ended: bool = field(default=False, init=False)

    def plan(self, *lives: list[list[object]]) -> None:
        """For each process its lives."""
        plan = {str(number): each for number, each in enumerate(lives, 1)}
        (self.place / "plan.json").write_text(json.dumps(plan))

    def signal_when(self, happened: Callable[[], object], number: int = signal.SIGTERM) -> None:
        """Send this process, which is the supervisor, a signal when it happened."""

        def look() -> None:
            while not happened() and not self.has_ended:
                time.sleep(0.005)
            if not self.has_ended:
                os.kill(os.getpid(), number)

        threading.Thread(target=look, daemon=True).start()

    def run(self, count: int, *, burst: bool = False, budgets: tuple[float, float, float] = (20.0, 0.0, 0.0)) -> int:
        """Supervise so many to the end; returns the exit code. The budgets: to drain, to clean up, to flush."""
        drain, cleanup, flush = budgets
        shutdown = ShutdownSettings(drain_timeout=drain, cleanup_timeout=cleanup, flush_timeout=flush)
        guards = [threading.Timer(PATIENCE + each, os.kill, (os.getpid(), signal.SIGTERM)) for each in range(3)]
        for guard in guards:
            guard.start()
        try:
            return keep_running(WorkerSettings(processes=count, shutdown=shutdown), burst=burst)
        finally:
            self.has_ended = True
            ended_by_itself = guards[0].is_alive()
            for guard in guards:
                guard.cancel()
            assert ended_by_itself

    def lives(self, number: int) -> list[float]:
        """When each life of this process began."""
        return [float(began) for began, _, _ in self._lives(number)]

    def is_in_its_own_group(self, number: int) -> bool:
        """Whether nobody who signals the group of the supervisor meets this process in its last life."""
        _, pid, group = self._lives(number)[-1]
        return pid == group and int(group) != os.getpgrp()

    def _lives(self, number: int) -> list[list[str]]:
        path = self.place / f"lives-{number}"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def heard(self) -> list[str]:
        path = self.place / "heard"
        return sorted(path.read_text().splitlines()) if path.exists() else []

    @property
    def told(self) -> list[str]:
        return [re.sub(r"pid \d+", "pid N", record.getMessage()) for record in self.log.records]


@pytest.fixture
def played(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Played]:
    caplog.set_level("INFO", "milvaion_trio")
    program = tmp_path / "stand_in.py"
    program.write_text(STAND_IN)
    monkeypatch.setenv("STAND_IN_PLACE", str(tmp_path))
    monkeypatch.setattr(processes, "this_interpreter", lambda: [sys.executable, "-I", "-S", str(program)])
    monkeypatch.setattr(processes, "FIRST_PAUSE", 0.02)
    token = COMMAND_LINE.set(["run", "shop:worker"])
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield Played(tmp_path, caplog)
    for number, handler in before.items():
        signal.signal(number, handler)
    COMMAND_LINE.reset(token)


def starts_that_fail(monkeypatch: pytest.MonkeyPatch, error: Exception, which: list[int]) -> list[int]:
    """Let the system deny these starts, counted from 1; returns those that are still to come."""
    left, count, start = which[:], itertools.count(1), trio.lowlevel.open_process

    async def denied(*arguments: Any, **options: Any) -> trio.Process:
        if (number := next(count)) in left:
            left.remove(number)
            raise error
        return await start(*arguments, **options)

    monkeypatch.setattr(trio.lowlevel, "open_process", denied)
    return left


def test_one_signal_lets_all_drain_and_is_handed_on_once(played: Played) -> None:
    played.plan([UP_AND_HEED], [UP_AND_HEED], [UP_AND_HEED])
    played.signal_when(lambda: played.told.count("process 3 started: pid N"))

    code = played.run(3)

    assert code == 0
    assert played.heard == ["1 1", "2 1", "3 1"]
    assert all(played.is_in_its_own_group(number) for number in (1, 2, 3)), "Ctrl-C reaches them, too"


def test_the_first_goes_ahead(played: Played) -> None:
    """The others are started when it is up."""
    played.plan([["sleep", *UP_AND_HEED]], [UP_AND_HEED])
    played.signal_when(lambda: played.lives(2))

    played.run(2)

    assert played.lives(2)[0] - played.lives(1)[0] > 0.2


def test_a_process_that_dies_is_replaced_after_a_pause_that_grows(played: Played) -> None:
    played.plan([["up", "die"], ["up", "die"], ["up", "die"], ["up", "die"], UP_AND_HEED])
    played.signal_when(lambda: len(played.lives(1)) == 5)

    code = played.run(1)

    assert code == 0
    pauses = [float(match[1]) for line in played.told if (match := re.search(r"SIGKILL.* started in ([\d.]+) s", line))]
    assert len(pauses) == 4
    began = played.lives(1)
    gaps = [later - earlier for earlier, later in itertools.pairwise(began)]
    assert all(gap >= 0.9 * 0.02 * 2**count for count, gap in enumerate(gaps)), gaps


def test_after_a_steady_life_the_pause_is_the_first_again(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "FIRST_PAUSE", 0.1)
    monkeypatch.setattr(processes, "STEADY", 0.0)
    played.plan([["up", "die"], ["up", "die"], ["up", "die"], UP_AND_HEED])
    played.signal_when(lambda: len(played.lives(1)) == 4)

    assert played.run(1) == 0
    assert len([line for line in played.told if "another one is started in 0.1 s" in line]) == 3, played.told


def test_one_that_ran_its_jobs_is_replaced_at_once(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a pause, however often."""
    monkeypatch.setattr(processes, "FIRST_PAUSE", 3600.0)
    played.plan([["up", 75], ["up", 75], ["up", 75], UP_AND_HEED])
    played.signal_when(lambda: len(played.lives(1)) == 4)

    assert played.run(1) == 0
    assert played.told.count("process 1 (pid N) has run its jobs, another one is started") == 3


def test_one_that_ran_its_jobs_when_all_leave_has_drained(played: Played) -> None:
    """The code by which it asks for another process is none of the supervisor's."""
    played.plan([["up", "heed", 75]])
    played.signal_when(lambda: played.told.count("process 1 started: pid N"))

    assert played.run(1) == 0
    assert len(played.lives(1)) == 1


def test_the_exit_code_is_the_worst(played: Played) -> None:
    """Whoever comes last."""
    played.plan([["up", "heed", 1]], [["up", "heed", "sleep", 3]], [["up", "heed", "sleep", "sleep", 0]])
    played.signal_when(lambda: played.lives(3))

    assert played.run(3) == 3


def test_what_cannot_start_for_its_settings_is_not_tried_again(played: Played) -> None:
    """And its exit code is handed on; the others are not even started."""
    played.plan([[2]], [UP_AND_HEED])

    code = played.run(2)

    assert code == 2
    assert (len(played.lives(1)), len(played.lives(2))) == (1, 0)
    assert played.told[1:] == [
        "process 1 (pid N) ended with exit code 2 before it was up; no process runs, so this one leaves too"
    ]


def test_what_dies_at_its_start_again_and_again_is_given_up(played: Played) -> None:
    played.plan([[1]], [UP_AND_HEED])

    code = played.run(2)

    assert code == 1
    assert (len(played.lives(1)), len(played.lives(2))) == (3, 0)
    assert played.told[-1] == (
        "process 1 (pid N) ended with exit code 1 before it was up, 3 times in a row; no process runs, so this one "
        "leaves too"
    )


def test_one_that_was_up_and_cannot_start_again_is_given_up(played: Played) -> None:
    """What was up once does not count as a process that works."""
    played.plan([["up", "die"], [2]])

    assert played.run(1) == 2
    assert len(played.lives(1)) == 2


@pytest.mark.parametrize("error", [OSError(errno.ENOMEM, "no memory"), RuntimeError("can't start new thread")])
def test_what_the_system_does_not_start_now_is_tried_again(
    played: Played, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """No other process suffers from it."""
    monkeypatch.setattr(processes, "LONGEST_PAUSE", 0.02)
    failing = starts_that_fail(monkeypatch, error, [2, 3, 4, 5])
    played.plan([UP_AND_HEED], [UP_AND_HEED])
    played.signal_when(lambda: len(played.lives(2)) == 1)

    assert played.run(2) == 0
    assert played.heard == ["1 1", "2 1"]
    assert not failing
    assert played.told.count(f"process 2 could not be started: {error}, another one is started in 0.0 s") == 4


def test_what_the_system_does_not_start_while_none_is_up_is_given_up(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = starts_that_fail(monkeypatch, OSError(errno.EMFILE, "too many"), [1, 2, 3])
    played.plan([UP_AND_HEED])

    assert played.run(1) == 1
    assert not failing
    assert played.told[-1] == (
        f"process 1 could not be started: [Errno {errno.EMFILE}] too many, 3 times in a row; no process runs, so this "
        "one leaves too"
    )


def test_what_ends_the_supervisor_is_told_in_a_sentence(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> float:
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(processes, "retry_delay", broken)
    played.plan([["up", "die"]])

    with pytest.raises(CommandFailed, match=r"The supervisor could not go on, .*: \[Errno 24\] too many\.$"):
        played.run(1)


def test_while_another_one_works_nothing_is_given_up(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one whose settings are wrong meanwhile: who puts them right need not start it all again."""
    monkeypatch.setattr(processes, "LONGEST_PAUSE", 0.02)
    played.plan([UP_AND_HEED], [[2], [2], [1], [1], [1], [1], UP_AND_HEED])
    played.signal_when(lambda: len(played.lives(2)) == 7)

    assert played.run(2) == 0
    assert played.heard == ["1 1", "2 1"]


def test_one_that_does_not_leave_in_time_is_killed(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not before the time that all the settings together give, and the exit code tells."""
    monkeypatch.setattr(processes, "GRACE", 0.1)
    played.plan([["up", "heed", "wait"]], [UP_AND_HEED])
    played.signal_when(lambda: played.lives(2))

    code = played.run(2, budgets=(0.2, 0.2, 0.2))

    assert code == 128 + signal.SIGKILL
    assert time.monotonic() - played.lives(2)[0] >= 0.7
    assert "process 1 (pid N) has not left in time and is killed" in played.told


def test_one_that_does_not_stop_in_time_is_killed(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the second signal, not before the time that cleaning up and flushing have."""
    monkeypatch.setattr(processes, "GRACE", 0.1)
    played.plan([["up", "heed", "heed", "wait"]])
    played.signal_when(lambda: "process 1 started: pid N" in played.told)
    stopped: list[float] = []

    def drains() -> bool:
        if played.heard:
            stopped.append(time.monotonic())
        return bool(stopped)

    played.signal_when(drains)

    code = played.run(1, budgets=(3600.0, 0.2, 0.2))

    assert code == 128 + signal.SIGKILL
    assert time.monotonic() - stopped[0] >= 0.5


def test_the_second_and_the_third_signal_are_handed_on_too(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the third nothing is waited for."""
    monkeypatch.setattr(processes, "LAST_PATIENCE", 0.5)
    played.plan([["up", "heed", "heed", "heed", "wait"]])
    played.signal_when(lambda: "process 1 started: pid N" in played.told)
    played.signal_when(lambda: len(played.heard) == 1, signal.SIGINT)
    played.signal_when(lambda: len(played.heard) == 2)

    code = played.run(1)

    assert code == 130
    assert played.heard == ["1 1", "1 2", "1 3"]


def test_a_signal_ends_a_pause(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "FIRST_PAUSE", 3600.0)
    played.plan([["up", "die"]])
    played.signal_when(lambda: any("another one is started in" in line for line in played.told))

    assert played.run(1) == 0
    assert len(played.lives(1)) == 1
    assert re.search(r"another one is started in (2\d|30)\.\d s$", played.told[-1]), (
        "the longest pause is half a minute"
    )


def test_in_a_burst_each_leaves_by_itself(played: Played) -> None:
    """One that died instead is replaced, as its messages are back in their queues."""
    played.plan([["up", 0]], [["up", "die"], ["up", 0]])

    assert played.run(2, burst=True) == 0
    assert (len(played.lives(1)), len(played.lives(2))) == (1, 2)


def test_each_says_in_every_line_which_one_it_is(capfd: pytest.CaptureFixture[str]) -> None:
    record = logging.makeLogRecord({"name": "shop", "levelname": "INFO", "msg": "hello"})
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        for process in (2, None):
            for form in FORMS:
                set_up_logging("info", form, process)
                root.handlers[0].emit(record)
    finally:
        root.handlers[:], _ = before
        root.setLevel(before[1])

    told = capfd.readouterr().err.splitlines()
    assert [told[0].split(" ", 1)[1], told[2].split(" ", 1)[1]] == ["INFO    shop[2]: hello", "INFO    shop: hello"]
    assert [json.loads(told[1]).get("process"), json.loads(told[3]).get("process", "absent")] == [2, "absent"]
