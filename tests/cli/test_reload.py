"""`--reload` runs what stands in the files: a change drains the worker and starts it again; nothing is left behind."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import trio
from attrs import define
from tests.support.commands import PATIENCE, Ended, call_command, command, environment, run_command

from milvaion_trio.cli.watching import is_relevant, watch

WORKER = """
import signal
import time
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from milvaion_trio import Worker

worker = Worker("reloaded-worker")
WORDS = "first"


@worker.job()
async def work():
    print("working", flush=True)
    while not Path("go").exists():
        {waits}
        if Path("speak").exists():
            print("still working", flush=True)
    print("worked", WORDS, flush=True)


@worker.lifespan
@asynccontextmanager
async def begin(worker):
    await work.enqueue()
    yield
    print("left", flush=True)
"""


@define(eq=False)
class Supervised:
    """A command with `--reload`, what it says, and the file that lets its job end."""

    process: subprocess.Popen[str]
    code: Path
    lets_end: Path

    def until(self, text: str) -> list[str]:
        """Read up to the first line with this text; returns all lines. Without one, up to its end."""
        assert self.process.stdout is not None
        lines: list[str] = []
        too_late = threading.Timer(PATIENCE, self.process.kill)  # which ends the lines
        too_late.start()
        try:
            for line in self.process.stdout:
                lines.append(line.rstrip())
                if text and text in line:
                    return lines
        finally:
            too_late.cancel()
        assert not text, f"it ended without telling {text!r}:\n" + "\n".join(lines)
        return lines

    def write(self, old: str, new: str) -> None:
        """Change the code as an editor does: written beside it, then put in its place."""
        beside = self.code.with_name(".code.swp")
        beside.write_text(self.code.read_text().replace(old, new))
        beside.rename(self.code)

    def end(self) -> Ended:
        """Read to its end, which is also that of every process that writes to the same place."""
        lines = self.until("")
        return Ended(self.process.wait(PATIENCE), "\n".join(lines), "")

    @property
    def children(self) -> list[int]:
        threads = Path(f"/proc/{self.process.pid}/task").iterdir()
        return [int(each) for thread in threads for each in (thread / "children").read_text().split()]


@contextmanager
def supervised(
    folder: Path,
    *arguments: str,
    waits: str = "await trio.sleep(0.02)",
    stdin: int | None = None,
    program: Sequence[str] | None = None,
) -> Iterator[Supervised]:
    """`run --reload` in a folder with a worker that has a job at once."""
    code, lets_end = folder / "reloaded.py", folder / "go"
    code.write_text(WORKER.replace("{waits}", waits))
    process = subprocess.Popen(
        program or command("run", "reloaded:worker", "--reload", *arguments),
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL if stdin is None else stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        start_new_session=stdin is not None,
    )
    with process:
        try:
            yield Supervised(process, code, lets_end)
        finally:
            process.kill()


def gone(pid: int) -> bool:
    """Whether a process ends soon."""
    for _ in range(PATIENCE * 50):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_a_change_lets_running_jobs_end_and_starts_the_new_code(tmp_path: Path) -> None:
    """However often, also after code that cannot start; it leaves by one signal, with the child's exit code."""
    with supervised(tmp_path) as worker:
        worker.until("working")

        worker.write('"first"', '"second"')
        worker.until("reloaded.py changed: the worker drains and starts again.")
        worker.until("1 running job may end")
        worker.write('"second"', '"later"')
        time.sleep(0.5)  # while it drains already nothing is to happen, so there is nothing to wait for
        worker.lets_end.touch()
        assert "worked first" in worker.until("left")
        assert "worked later" in worker.until("worked")

        worker.write("WORDS =", "WORDS +=+")
        worker.until("error: The module reloaded cannot be imported: ")
        worker.until("The worker ended with exit code 1. It starts again when the code changes.")
        for number in range(20):
            (tmp_path / f"another_{number}.py").touch()
        worker.write("WORDS +=+", "WORDS =")
        told = worker.until("worked later")
        child = worker.children[0]
        worker.process.send_signal(signal.SIGINT)
        ended = worker.end()

    assert len([line for line in told if "changed: the worker starts again" in line]) == 1
    assert "changed" not in ended.out
    assert ended.code == 0
    assert "left" in ended.lines
    assert gone(child)


def test_a_change_of_the_settings_file_that_was_named_starts_again(tmp_path: Path) -> None:
    """Although it is in none of the folders that are watched."""
    watched, elsewhere = tmp_path / "app", tmp_path / "elsewhere"
    watched.mkdir()
    elsewhere.mkdir()
    settings = elsewhere / "own.toml"
    settings.write_text("max_parallel_jobs = 2\n")
    with supervised(watched, "--reload-dir", str(watched), "--config", str(settings)) as worker:
        worker.lets_end.touch()
        worker.until("working")

        settings.write_text("max_parallel_jobs = 3\n")

        worker.until("own.toml changed: the worker drains and starts again.")
        worker.until("working")
        worker.process.send_signal(signal.SIGINT)
        assert worker.end().code == 0


def test_ctrl_c_in_a_terminal_is_one_signal_for_the_worker(tmp_path: Path) -> None:
    """Although the terminal tells every process of its foreground group: the first drains, the second cancels."""
    terminal, stdin = pty.openpty()
    try:
        with supervised(tmp_path, stdin=stdin) as worker:
            worker.until("working")
            os.killpg(worker.process.pid, signal.SIGINT)
            worker.until("1 running job may end")
            (tmp_path / "speak").touch()
            worker.until("still working")

            os.killpg(worker.process.pid, signal.SIGINT)

            worker.until("left")
            assert worker.end().code == 0
    finally:
        os.close(terminal)
        os.close(stdin)


def test_what_jobs_start_ends_with_ctrl_c(tmp_path: Path) -> None:
    """As without `--reload`: that the worker itself does not count SIGINT is not inherited."""
    runs = 'print("ended by", (await trio.run_process(["sh", "-c", "kill -INT $$; exit 7"], check=False)).returncode)'
    with supervised(tmp_path, waits=f"{runs}; await trio.sleep_forever()") as worker:
        assert worker.until("ended by")[-1] == f"ended by {-signal.SIGINT}"


def test_the_child_is_given_what_the_program_was_given(tmp_path: Path) -> None:
    """The arguments of `main`, not those of the program around it, and the interpreter's own."""
    shows = 'print("flags", sys.warnoptions, "faulthandler" in sys._xoptions); await trio.sleep_forever()'
    call = "from milvaion_trio.cli.app import main; main(['run', 'reloaded:worker', '--reload', '--burst'])"
    flags = ("-X", "faulthandler", "-W", "error::BytesWarning")
    with supervised(
        tmp_path, waits=f"import sys; {shows}", program=[sys.executable, *flags, "-c", call, "dev", "none:worker"]
    ) as worker:
        assert worker.until("flags")[-1] == "flags ['error::BytesWarning'] True"


@pytest.mark.parametrize(
    ("waits", "code"),
    [
        ("time.sleep(3600)", 130),
        ("signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); time.sleep(3600)", 128 + signal.SIGKILL),
    ],
    ids=["blocked", "deaf"],
)
def test_the_third_signal_ends_both_at_once(tmp_path: Path, waits: str, code: int) -> None:
    """Also a worker whose event loop is blocked, or that is stuck outside of Python and hears no signals."""
    with supervised(tmp_path, waits=waits) as worker:
        worker.until("working")
        child = worker.children[0]
        for _ in range(PATIENCE * 5):  # equal signals that follow closely are one
            worker.process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                worker.process.wait(0.2)
                break

        assert worker.end().code == code
        assert gone(child)


def test_a_worker_does_not_outlive_its_supervisor(tmp_path: Path) -> None:
    """Nobody could stop it any more; its jobs are cancelled and go back."""
    with supervised(tmp_path) as worker:
        worker.until("working")
        child = worker.children[0]

        worker.process.kill()

        assert gone(child)
        assert "left" in worker.end().lines


def test_a_worker_that_could_not_start_lends_its_exit_code(tmp_path: Path) -> None:
    """To the program, where nobody changes anything any more."""
    with supervised(tmp_path, waits="this is no Python") as worker:
        worker.until("The worker ended with exit code 2.")

        worker.process.send_signal(signal.SIGTERM)

        assert worker.end().code == 2


async def test_what_is_missing_is_said_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "watchfiles.py").write_text("raise ImportError('not here')")

    missing = run_command("run", "reloaded:worker", "--reload", env=environment(PYTHONPATH=str(tmp_path)))
    nowhere = await call_command("run", "reloaded:worker", "--reload", "--reload-dir", tmp_path / "none")
    alone = await call_command("run", "reloaded:worker", "--reload-dir", tmp_path)

    install = "--reload needs the package watchfiles, which is not installed: pip install 'milvaion-trio[reload]'"
    assert missing == Ended(2, "", f"error: {install}\n")
    assert nowhere == Ended(2, "", f"error: --reload-dir {tmp_path / 'none'}: there is no such folder.\n")
    assert alone == Ended(2, "", "error: --reload-dir says where --reload looks for changes: give --reload as well.\n")


@pytest.mark.parametrize(
    ("path", "counts"),
    [
        ("jobs.py", True),
        ("app/deep/jobs.py", True),
        ("milvaion.toml", True),
        ("appsettings.Production.json", True),
        ("conf/own.toml", True),
        ("conf/other.toml", False),
        ("reports/result.json", False),
        ("notes.txt", False),
        ("jobs.pyc", False),
        (".jobs.py.swp", False),
        (".#jobs.py", False),
        (".git/hooks/x.py", False),
        ("env/lib/python3.13/site-packages/trio/_run.py", False),
        (".venv/bin/x.py", False),
        ("worker_data/x.py", False),
        ("app/__pycache__/x.py", False),
    ],
)
def test_code_and_settings_count_and_nothing_that_jobs_or_tools_write(path: str, counts: bool) -> None:
    """Wherever the project itself lies."""
    project = Path("/home/ada/.venv/project")

    assert is_relevant(project / path, [project], project / "conf/own.toml") is counts


@pytest.mark.parametrize(
    ("settings", "edited", "counts"),
    [
        (None, "milvaion.toml", True),
        (None, "main.py", False),
        (None, "conf/milvaion.toml", False),
        ("conf/own.toml", "conf/own.toml", True),
        ("conf/appsettings.json", "conf/appsettings.Production.json", True),
        ("conf/own.toml", "conf/other.toml", False),
        ("none/own.toml", "milvaion.toml", True),
        ("app/venv/own.toml", "app/venv/own.toml", True),
    ],
)
async def test_settings_count_wherever_the_code_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: str | None, edited: str, counts: bool
) -> None:
    """With `--reload-dir app` the worker still reads them from the current folder, or from where `--config` says."""
    project = tmp_path
    for name in ("app/venv", "conf"):
        (project / name).mkdir(parents=True)
    monkeypatch.chdir(project)
    changes, seen = trio.open_memory_channel[list[Path]](10)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            chosen = None if settings is None else project / settings
            await nursery.start(watch, [project / "app"], chosen, changes.send_nowait)
            (project / edited).touch()
            if not counts:
                await trio.sleep(0.5)  # nothing is to be told of it, so there is nothing to wait for
                (project / "app/last.py").touch()
            first = await seen.receive()
            nursery.cancel_scope.cancel()

    assert first == [project / (edited if counts else "app/last.py")]
