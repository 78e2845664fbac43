"""What `dev` keeps is found by other terminals in the same folder, while it runs and afterwards."""

import json
import re
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen
from tests.support.commands import HERE, PATIENCE, Ended, environment, finish, run_command, start

GOOD, BAD = ("GenerateReportJob", '{"year": 2024}'), ("GenerateReportJob", '{"permanent": true}')


@frozen
class Terminal:
    """A folder in which commands are run."""

    folder: Path
    runtime: Path | None = None
    """Where the socket is, if not there."""

    def run(self, *arguments: str) -> Ended:
        """Run one to its end."""
        return run_command(*arguments, cwd=self.folder, env=self.env)

    def json(self, *arguments: str) -> Any:
        """What one prints."""
        ended = self.run(*arguments, "--json")
        assert ended.code == 0, ended
        return json.loads(ended.out)

    def start(
        self, *arguments: str, target: str = "sample_worker:worker", until: str = " ready, "
    ) -> subprocess.Popen[str]:
        """Start a dev worker, and return when it says that it is ready, or something else."""
        process = start(["dev", target, *arguments], cwd=self.folder, env=self.env)
        assert process.stdout is not None
        too_late = threading.Timer(PATIENCE, process.kill)
        too_late.start()
        for line in process.stdout:
            if until in line:
                break
        too_late.cancel()
        return process

    @property
    def env(self) -> dict[str, str]:
        return environment(XDG_RUNTIME_DIR=str(self.runtime or self.folder), PYTHONPATH=str(HERE))


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    with tempfile.TemporaryDirectory(prefix="mt") as folder:
        yield Terminal(Path(folder))


def test_other_terminals_read_the_history_and_repeat_what_is_in_it(terminal: Terminal) -> None:
    """While it runs, by its socket; what only reads, when it has ended too."""
    with terminal.start() as dev:
        good = terminal.run("enqueue", GOOD[0], "--data", GOOD[1], "--wait", "--json")
        bad = terminal.run("enqueue", BAD[0], "--data", BAD[1], "--wait", "--json")
        first, failed = (json.loads(ended.out)["occurrence_id"] for ended in (good, bad))
        until(lambda: len(terminal.json("dlq", "list")["failures"]) == 1)

        again = terminal.json("retry", first)
        replayed = terminal.json("dlq", "replay", "--all")["replayed"]

        assert again["repeats"] == first
        assert [each["occurrence_id"] for each in replayed] == [failed]
        monitor = terminal.run(
            "monitor",
            "--set",
            "rabbitmq.host=127.0.0.1",
            "--set",
            "rabbitmq.port=1",
            "--set",
            "startup_connection_timeout=0.1",
        )
        assert monitor.code == 1  # and has made its own file, which is none of this worker
        groups = terminal.json("workers")
        assert "report-worker" in json.dumps(groups)
        dev.send_signal(signal.SIGTERM)
        ended = finish(dev)

    assert ended.code == 0
    told = terminal.json("history")["occurrences"]
    assert [row["status"] for row in told] == ["Failed", "Completed", "Failed", "Completed"]
    shown = terminal.json("occurrences", "show", first)
    assert shown["status"] == "Completed"
    assert terminal.json("dlq", "list")["failures"][-1]["replayed_as"] == replayed[0]["replayed_as"]


def test_what_is_to_be_repeated_needs_the_dev_worker_that_keeps_it(terminal: Terminal) -> None:
    """Another one may have another job of the same name."""
    with terminal.start() as dev:
        ended = terminal.run("enqueue", GOOD[0], "--data", GOOD[1], "--wait", "--json")
        dev.send_signal(signal.SIGTERM)
        finish(dev)

    retry = ("retry", json.loads(ended.out)["occurrence_id"])
    refused = terminal.run(*retry)

    assert refused.code == 1
    assert "No dev worker listens on" in refused.err

    elsewhere = Terminal(terminal.folder / "elsewhere", runtime=terminal.folder)
    elsewhere.folder.mkdir()
    with elsewhere.start() as other:
        [place] = (terminal.folder / "milvaion-trio").glob("dev-*.sock")
        stranger = terminal.run(*retry, "--socket", str(place), "--set", "monitor.store=.milvaion-dev/history.db")
        its_own = terminal.run(*retry, "--socket", str(place))
        other.send_signal(signal.SIGTERM)
        finish(other)

    assert (stranger.code, its_own.code) == (1, 1)
    assert f"{elsewhere.folder / '.milvaion-dev' / 'history.db'} knows no occurrence" in its_own.err
    assert f"keeps {elsewhere.folder / '.milvaion-dev' / 'history.db'}, and this occurrence is in" in stranger.err


def test_without_data_nothing_is_kept(terminal: Terminal) -> None:
    with terminal.start("--no-data") as dev:
        dev.send_signal(signal.SIGTERM)
        finish(dev)

    assert not (terminal.folder / ".milvaion-dev").exists()


def test_the_folder_is_for_one_dev_worker_of_this_user_alone_and_for_no_repository(terminal: Terminal) -> None:
    with terminal.start() as dev:
        second = terminal.run("dev", "sample_worker:worker", "--socket", "second")
        dev.send_signal(signal.SIGTERM)
        finish(dev)

    data = terminal.folder / ".milvaion-dev"
    assert data.stat().st_mode & 0o077 == 0
    assert (data / ".gitignore").read_text() == "*\n"
    assert second.code == 1
    assert second.err.startswith(
        f"error: The queues in {data / 'queues.db'} are not to be had: another process has it open. Stop that one, or "
        "give this one another folder"
    )


def test_a_place_that_is_no_folder_is_refused(terminal: Terminal) -> None:
    (terminal.folder / "file").touch()

    refused = terminal.run("dev", "sample_worker:worker", "--data", "file")

    told = f"error: {terminal.folder / 'file'} is no folder. Name another one with --data, or use --no-data.\n"
    assert (refused.code, refused.err) == (1, told)


def until(happened: Callable[[], bool]) -> None:
    """Ask until it is so."""
    for _ in range(40):
        if happened():
            return
    raise AssertionError("it did not happen")


WITH_A_LAST_WORD = """
import time
import trio
from milvaion_trio import JobContext, Worker

worker = Worker(worker_id="shop")

@worker.job("{name}")
async def rename_me() -> None:
    await trio.sleep_forever()

@worker.job("Slow")
async def slow(ctx: JobContext) -> None:
    try:
        ctx.log.info(f"begun at {{time.strftime('%H:%M:%S')}}")
        await trio.sleep_forever()
    finally:
        ctx.log.info("the last word")
"""


def test_a_message_for_a_job_that_is_gone_is_told_and_kept(terminal: Terminal) -> None:
    program = terminal.folder / "shop.py"
    program.write_text(WITH_A_LAST_WORD.format(name="Before"))
    with terminal.start(target="shop:worker") as dev:
        assert terminal.run("enqueue", "Before").code == 0
        assert dev.stdout is not None
        next(line for line in dev.stdout if "started" in line)
        dev.kill()
    program.write_text(WITH_A_LAST_WORD.format(name="After"))
    with terminal.start(target="shop:worker", until="1 message waits in ") as dev:
        assert dev.stdout is not None
        next(line for line in dev.stdout if " ready, " in line)
        dev.send_signal(signal.SIGTERM)
        ended = finish(dev)

    assert f"  1 message waits in {terminal.folder / '.milvaion-dev'} for the next start\n" in ended.out


def test_lines_of_a_job_stand_with_its_name_and_their_own_time(terminal: Terminal) -> None:
    (terminal.folder / "shop.py").write_text(WITH_A_LAST_WORD.format(name="Other"))
    with terminal.start(target="shop:worker") as dev:
        assert terminal.run("enqueue", "Slow").code == 0
        assert dev.stdout is not None
        begun = next(line for line in dev.stdout if "begun" in line)
        dev.send_signal(signal.SIGINT)
        next(line for line in dev.stdout if "may end" in line)
        dev.send_signal(signal.SIGINT)
        ended = finish(dev)

    assert re.fullmatch(r"(\d\d:\d\d:\d\d)  Slow +[0-9a-f]{8}  begun at \1\n", begun)
    assert re.search(r"  Slow +[0-9a-f]{8}  the last word$", ended.out, re.MULTILINE)
