"""`demo` shows every ending, checks itself, and looks right on a terminal, in a pipe and without colours."""

import os
import pty
import re
import signal
import subprocess
import threading

import pytest
from tests.support.commands import HERE, PATIENCE, Ended, command, environment, finish, start

from milvaion_trio.cli.demo_record import Ending, Fate
from milvaion_trio.cli.demo_story import STORY, broken_promises

ROWS = {
    "SendEmail": ("1", "completed", "running, completed, 6 logs"),
    "ResizeImage": ("1", "completed", "running, completed"),
    "CountWords": ("1", "completed", "running, completed, 1 log"),
    "SyncStock": ("3", "completed", "3 running, completed, 4 logs"),
    "PrintLabel": ("3", "failed, dead letter", "3 running, failed, 6 logs"),
    "ChargeCard": ("1", "failed, dead letter", "running, failed, 2 logs"),
    "SendInvoice": ("1", "failed, dead letter", "running, failed, 2 logs"),
    "CrawlSite": ("1", "timed out", "running, timed out, 2 logs"),
    "ExportVideo": ("1", "cancelled", "running, cancelled, 3 logs"),
    "AwaitPayment": ("1", "completed", "3 running, completed, 2 logs"),
    "BuildIndex": ("1", "back in its queue", "running, 1 log"),
}

ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A command on a pseudo-terminal of 130 columns."""

    def __init__(self, env: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        os.set_blocking(self._master, True)
        self._process = subprocess.Popen(
            command("demo"), cwd=HERE, env=env, stdin=slave, stdout=slave, stderr=slave, close_fds=True
        )
        os.close(slave)
        self._read: list[bytes] = []
        self._reader = threading.Thread(target=self._read_all, daemon=True)
        self._reader.start()

    def _read_all(self) -> None:
        try:
            while chunk := os.read(self._master, 65536):
                self._read.append(chunk)
        except OSError:  # EIO: the other side is closed
            return

    def finish(self) -> Ended:
        code = self._process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        os.close(self._master)
        return Ended(code, b"".join(self._read).decode().replace("\r\n", "\n"), "")


@pytest.fixture(scope="module")
def demos() -> dict[str, Ended]:
    """Three demos at the same time, for they mostly wait."""
    on_terminal = Terminal(environment(TERM="xterm-256color", COLUMNS="130", LINES="40"))
    without_colour = Terminal(environment(TERM="xterm-256color", COLUMNS="130", LINES="40", NO_COLOR="1"))
    in_a_pipe = start(["demo"])
    return {
        "pipe": finish(in_a_pipe),
        "terminal": on_terminal.finish(),
        "terminal without colour": without_colour.finish(),
    }


@pytest.mark.parametrize("where", ["pipe", "terminal", "terminal without colour"])
def test_every_job_ends_as_promised(where: str, demos: dict[str, Ended]) -> None:
    assert demos[where].code == 0, demos[where]
    assert "All 11 jobs ended as promised." in demos[where].out
    assert demos[where].err == ""


@pytest.mark.parametrize("where", ["pipe", "terminal", "terminal without colour"])
@pytest.mark.parametrize("job", ROWS)
def test_the_closing_table_says_how_a_job_ended(job: str, where: str, demos: dict[str, Ended]) -> None:
    table = ESCAPE.sub("", demos[where].out).rpartition("Reported")[2]
    attempts, ending, reported = ROWS[job]

    row = next(line for line in table.splitlines() if line.startswith(job))

    assert re.fullmatch(rf"{job} +{attempts} +{ending} +\d+\.\d s +{reported} *", row), row


def test_the_rows_are_all_the_demo_shows() -> None:
    assert list(ROWS) == [scene.job.name for scene in STORY]
    assert {scene.ending for scene in STORY} == set(Ending)


@pytest.mark.parametrize("where", ["pipe", "terminal without colour"])
def test_without_colours_it_tells_in_plain_lines(where: str, demos: dict[str, Ended]) -> None:
    """No escape sequence at all, and a line for each thing that happens."""
    out = demos[where].out

    assert "\x1b" not in out
    assert re.search(r"^ +\d+\.\d\d  SyncStock +attempt 1 failed, the next one starts in 0.8 s$", out, re.MULTILINE)
    assert re.search(r"^ +\d+\.\d\d  BuildIndex +went back to its queue: the worker shuts down$", out, re.MULTILINE)


def test_on_a_terminal_one_table_is_redrawn(demos: dict[str, Ended]) -> None:
    out = demos["terminal"].out

    assert re.search(r"^SyncStock +fails twice, then recovers +running +\d\.\d s", ESCAPE.sub("", out), re.MULTILINE)
    assert re.search(
        r"^ChargeCard +fails for good at once +failed, dead letter +PermanentFailure: the card",
        ESCAPE.sub("", out),
        re.M,
    )
    assert "\x1b[32m" in out
    assert "attempt 1 failed" not in out


def test_ctrl_c_drains_and_shows_what_there_is() -> None:
    process = start(["demo"])
    assert process.stdout is not None
    next(line for line in process.stdout if "ResizeImage" in line)

    process.send_signal(signal.SIGINT)
    ended = finish(process)

    assert ended.code == 0
    assert ended.err == ""
    assert re.search(r"^ResizeImage +1 +completed", ended.out, re.MULTILINE)
    assert ended.lines[-1] == "Stopped early, so not every job ended as it would have."


def test_an_ending_that_was_not_promised_is_named() -> None:
    scene = next(scene for scene in STORY if scene.job.name == "ChargeCard")
    fate = Fate("ChargeCard", attempts=2, ending=Ending.COMPLETED, statuses=scene.statuses, text="charged")

    assert broken_promises(scene, fate) == [
        "ChargeCard: ending is completed, promised was failed, dead letter",
        "ChargeCard: attempts is 2, promised was 1",
        "ChargeCard: dead letters is 0, promised was 1",
        "ChargeCard: it ended with 'charged', which does not say 'stolen'",
    ]
