"""The real command line as its user runs it: processes, their output and their exit codes."""

import atexit
import io
import json
import logging
import os
import shlex
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path

import pytest
import trio
from attrs import define, frozen

from milvaion_trio.cli.app import main

__all__ = [
    "HERE",
    "PATIENCE",
    "DevWorker",
    "Ended",
    "call_command",
    "command",
    "environment",
    "finish",
    "forked_command",
    "forked_program",
    "run_command",
    "serving_dev",
    "start",
]

HERE = Path(__file__).parents[1] / "cli"
"""Where `sample_worker` can be imported from."""

PATIENCE = 60
"""Seconds after which a command counts as hanging."""


@frozen
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """The lines of stdout."""
        return self.out.splitlines()


def command(*arguments: str | os.PathLike[str]) -> list[str]:
    """The command line, for the interpreter that runs the tests."""
    return [sys.executable, "-m", "milvaion_trio", *(os.fspath(argument) for argument in arguments)]


def forked_command(*arguments: str | os.PathLike[str]) -> list[str]:
    """The same for a tenth of the CPU: forked from a process that has most of it imported (`fork_server`)."""
    client = Path(__file__).with_name("fork_client.py")
    return [sys.executable, "-I", "-S", str(client), _fork_server(), *(os.fspath(argument) for argument in arguments)]


def forked_program(folder: Path) -> Path:
    """A program `milvaion-trio` in this folder, for those who type its name, that runs `forked_command`."""
    program = folder / "milvaion-trio"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(forked_command())} "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    return program


@cache
def _fork_server() -> str:
    """Start the one of this process, which ends with it, and return where it listens."""
    path = f"{tempfile.mkdtemp(prefix='mtrio-fork-')}/socket"
    server = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("fork_server.py")), path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        process_group=0,  # Ctrl-C in the terminal is for the tests
    )
    atexit.register(server.communicate)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"
    return path


def environment(**changes: str) -> dict[str, str]:
    """The environment without what changes how output looks, and with the changes."""
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")
    }
    return {**inherited, "PYTHONIOENCODING": "utf-8", **changes}


def start(
    arguments: Sequence[str | os.PathLike[str]], *, cwd: Path = HERE, env: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """Start a command whose output is read later."""
    return subprocess.Popen(
        forked_command(*arguments),
        cwd=cwd,
        env=environment() if env is None else env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def finish(process: subprocess.Popen[str]) -> Ended:
    """Wait for the end of a command."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    return Ended(process.returncode, out, err)


def run_command(*arguments: str | os.PathLike[str], cwd: Path = HERE, env: Mapping[str, str] | None = None) -> Ended:
    """Run one command to its end."""
    return finish(start(arguments, cwd=cwd, env=env))


async def call_command(*arguments: str | os.PathLike[str]) -> Ended:
    """Run one command to its end in this process, which saves a second; for those that import no user's module.

    It cannot be cancelled.
    """

    def call() -> Ended:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err), _logging_kept(), pytest.raises(SystemExit) as left:
            main([os.fspath(argument) for argument in arguments])
        assert isinstance(left.value.code, int)
        return Ended(left.value.code, out.getvalue(), err.getvalue())

    return await trio.to_thread.run_sync(call)


@contextmanager
def _logging_kept() -> Iterator[None]:
    """Take back how a command has set up logging, which is its own process's affair: later tests look at theirs."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@define(eq=False)
class DevWorker:
    """A running `dev --messages`."""

    process: subprocess.Popen[str]
    socket: Path | None
    env: Mapping[str, str]
    _messages: Path

    def ask(self, *arguments: str | os.PathLike[str]) -> Ended:
        """Run `enqueue` or `cancel` against this worker."""
        place = () if self.socket is None else ("--socket", self.socket)
        return run_command(*arguments, *place, env=self.env)

    def read_until(self, text: str) -> str:
        """Read what it tells up to the first line with this text, and return that line."""
        assert self.process.stderr is not None
        told = ""
        too_late = threading.Timer(PATIENCE, self.process.kill)  # which ends the lines
        too_late.start()
        try:
            for line in self.process.stderr:
                told += line
                if text in line:
                    return line
        finally:
            too_late.cancel()
        raise AssertionError(f"dev ended without telling {text!r}:\n{told}")

    def stop(self, signal: int) -> Ended:
        """Send the signal and wait for the end."""
        self.process.send_signal(signal)
        ended = finish(self.process)
        return Ended(ended.code, self._messages.read_text("utf-8"), ended.err)

    @property
    def messages(self) -> list[dict[str, object]]:
        """What it has published so far."""
        return [json.loads(line) for line in self._messages.read_text("utf-8").splitlines()]


@contextmanager
def serving_dev(
    target: str,
    folder: Path,
    *,
    socket: Path | None = None,
    data: Path | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path = HERE,
) -> Iterator[DevWorker]:
    """A dev worker that is killed on leaving, if it still runs; call `read_until("ready")` before asking it.

    Without a folder for data it keeps nothing.
    """
    env = environment() if env is None else env
    place = () if socket is None else ("--socket", socket)
    keeping = ("--no-data",) if data is None else ("--data", data)
    messages = folder / "messages.jsonl"
    with messages.open("w", encoding="utf-8") as stdout:
        process = subprocess.Popen(
            forked_command("dev", target, "--messages", *place, *keeping),
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )
    with process:
        try:
            yield DevWorker(process, socket, env, messages)
        finally:
            if process.poll() is None:
                process.kill()
