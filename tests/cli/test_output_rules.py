"""Rules for the output of every command: no escape sequence where nobody wants one, and JSON where it is asked for."""

import io
import json
import os
import pty
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TextIO

import pytest
from tests.support.commands import HERE, PATIENCE, call_command, environment, serving_dev

from milvaion_trio.cli.app import app, main

ESCAPE = "\x1b"
OCCURRENCE = "0f8fad5b-d9cb-469f-a165-70867728950e"
WORKER = "tests.cli.sample_worker:worker"

ONCE = """
from contextlib import asynccontextmanager

from milvaion_trio import Worker
from milvaion_trio.model import events

worker = Worker("once-worker")


@worker.job()
async def fail(ctx):
    ctx.log.warning("about to fail")
    raise ValueError("on purpose")


@worker.lifespan
@asynccontextmanager
async def begin(worker):
    await fail.enqueue()
    yield


worker.observe(lambda event: worker.drain() if isinstance(event, events.JobRetried) else None)
"""
"""A worker that leaves when its job has failed."""

EVERY_COMMAND: dict[str, list[list[str]]] = {
    "": [["--help"], ["--version"], ["no-such-command"]],
    "new": [["new", "report-worker"], ["new", "9"]],
    "demo": [["demo"]],
    "dev": [["dev", "once:worker", "--no-data", "--socket", "socket"]],
    "enqueue": [["enqueue", "AJob", "--socket", "nobody"]],
    "cancel": [["cancel", OCCURRENCE, "--socket", "nobody"]],
    "run": [["run", "once:worker"], ["run", "sample_worker:lonely"]],
    "scheduler": [["scheduler"]],
    "schedule": [
        ["schedule", "next", "0 9 * * MON"],
        ["schedule", "next", "0 25 * * *"],
        ["schedule", "list", "--socket", "nobody"],
    ],
    "list": [["list", "sample_worker:worker"], ["list", "sample_worker:twins"]],
    "check": [["check", "sample_worker:worker"], ["check", "sample_worker:twins"]],
    "schema": [["schema", "sample_worker:worker"], ["schema", "settings"]],
    "config": [["config", "show"], ["config", "check"]],
    "outbox": [["outbox", "list"], ["outbox", "flush"]],
    "topology": [["topology", "show"], ["topology", "drain"], ["topology", "drop"]],
    "monitor": [["monitor"]],
    "history": [["history"], ["history", "--status", "lots"]],
    "occurrences": [["occurrences", "show", OCCURRENCE]],
    "workers": [["workers"]],
    "retry": [["retry", OCCURRENCE]],
    "dlq": [["dlq", "list"], ["dlq", "show", OCCURRENCE], ["dlq", "replay", "--all"], ["dlq", "purge"]],
    "completion": [["completion", "fish"]],
}

ALL = [arguments for each in EVERY_COMMAND.values() for arguments in each]

ALL_IN_ONE = """
import os, signal, sys, threading

from milvaion_trio.cli.app import main

for arguments in {cases}:
    if arguments == ["demo"]:  # which would go on for ten seconds
        threading.Timer(1, os.kill, (os.getpid(), signal.SIGINT)).start()
    for each in arguments, [*arguments[:1], "--help"]:
        try:
            main(each)
        except SystemExit:
            print(flush=True)
"""
"""One process for all of them, as each takes a second to begin."""


def test_every_command_is_among_them() -> None:
    assert sorted(name for name in app if not name.startswith("-")) == sorted(set(EVERY_COMMAND) - {""})


def shown(folder: Path, cases: list[list[str]], *, terminal: bool, **changes: str) -> str:
    """All that commands print, on both streams."""
    (folder / "once.py").write_text(ONCE)
    code = ALL_IN_ONE.replace("{cases}", repr(cases))
    reads, writes = pty.openpty() if terminal else os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env=environment(TERM="xterm", PYTHONPATH=str(HERE), **changes),
        stdin=subprocess.DEVNULL,
        stdout=writes,
        stderr=writes,
    )
    os.close(writes)
    output = b""
    try:
        while chunk := os.read(reads, 65536):
            output += chunk
    except OSError:  # how a terminal ends on Linux
        pass
    finally:
        os.close(reads)
        process.wait(PATIENCE)
    text = output.decode()
    assert "Traceback" not in text
    return text


def test_colours_are_for_a_terminal(tmp_path: Path) -> None:
    """Else the tests below would be empty."""
    assert ESCAPE in shown(tmp_path, [["check", "sample_worker:worker"]], terminal=True)


def test_no_command_prints_an_escape_sequence_where_no_colour_is_wanted(tmp_path: Path) -> None:
    text = shown(tmp_path, ALL, terminal=True, NO_COLOR="1")

    assert ESCAPE not in text
    assert text.count("Usage: milvaion-trio ") >= len(ALL)


def test_no_command_prints_an_escape_sequence_into_a_file(tmp_path: Path) -> None:
    text = shown(tmp_path, ALL, terminal=False)

    assert ESCAPE not in text
    assert text.count("Usage: milvaion-trio ") >= len(ALL)


READ: dict[str, tuple[list[str], int]] = {
    "list": (["list", WORKER], 0),
    "list, no module": (["list", "no_such_module:worker"], 2),
    "list, jobs that contradict each other": (["list", "tests.cli.sample_worker:twins"], 2),
    "list, unknown option": (["list", WORKER, "--al"], 2),
    "list, no worker named": (["list"], 2),
    "check": (["check", WORKER], 0),
    "check, jobs that contradict each other": (["check", "tests.cli.sample_worker:twins"], 2),
    "check, no attribute": (["check", "tests.cli.sample_worker:wroker"], 2),
    "schema": (["schema", WORKER], 0),
    "schema of the settings": (["schema", "settings"], 0),
    "schema, no such job": (["schema", WORKER, "NoSuchJob"], 2),
    "config show": (["config", "show", WORKER], 0),
    "config show, no file": (["config", "show", "--config", "/no/such/file.toml"], 2),
    "config check": (["config", "check"], 0),
    "config check, no file": (["config", "check", "--config", "/no/such/file.toml"], 2),
    "topology show, no RabbitMQ": (["topology", "show", WORKER], 2),
    "topology show, no answer": (
        ["topology", "show", "--set", "rabbitmq.host=localhost", "--set", "rabbitmq.port=1"],
        1,
    ),
    "enqueue, nobody listens": (["enqueue", "AJob", "--socket", "/no/such/socket"], 1),
    "enqueue, no JSON": (["enqueue", "AJob", "--data", "{"], 2),
    "cancel, nobody listens": (["cancel", OCCURRENCE, "--socket", "/no/such/socket"], 1),
    "cancel, no id": (["cancel", "1"], 2),
}


@pytest.mark.parametrize("name", READ)
async def test_with_json_there_is_one_document_on_stdout_whatever_happens(name: str) -> None:
    """What went wrong also stands on stderr, for people; the exit code says it, too."""
    arguments, code = READ[name]

    ended = await call_command(*arguments, "--json")

    document = json.loads(ended.out)
    assert ended.code == code
    if isinstance(document, dict) and "error" in document:
        assert document["exit_code"] == code
        assert ended.err == f"error: {document['error']}\n"
    else:
        assert ended.err == ""
        assert (code == 0) or document["verdict"] == "failed"


def test_enqueue_tells_in_one_document_what_it_would_tell_in_lines(tmp_path: Path) -> None:
    """What the worker reported about the occurrence, and how it ended."""
    with serving_dev("sample_worker:worker", tmp_path, socket=tmp_path / "s") as worker:
        worker.read_until("ready")
        ended = worker.ask("enqueue", "GenerateReportJob", "--data", '{"permanent": true}', "--wait", "--json")
        told = json.loads(ended.out)
        late = worker.ask("cancel", told["occurrence_id"], "--json")

    assert (ended.code, ended.err) == (1, "")
    assert told["ended"] == "Failed"
    assert "Recipient list is empty" in told["text"]
    statuses = [each for each in told["messages"] if each["routing_key"] == "job_status_updates_queue"]
    assert len(statuses) >= 2
    assert late.code == 1
    assert "has already ended as Failed" in json.loads(late.out)["error"]


def printed_to(stdout: TextIO, *arguments: str) -> tuple[object, str]:
    """The exit code and stderr of a command whose stdout is this."""
    stderr = io.StringIO()
    with redirect_stdout(stdout), redirect_stderr(stderr), pytest.raises(SystemExit) as left:
        main(arguments)
    return left.value.code, stderr.getvalue()


def test_a_full_disk_is_a_message() -> None:
    with open("/dev/full", "w") as full:
        code, err = printed_to(full, "list", WORKER, "--json")

    assert code == 1
    assert err == "error: The output could not be written: No space left on device.\n"


def test_characters_that_the_output_has_no_code_for_are_escaped(tmp_path: Path) -> None:
    """As JSON escapes them."""
    (tmp_path / "milvaion.toml").write_text('worker_id = "w"\n[rabbitmq]\nhost = "caf\u00e9.example.org"\n')
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")

    code, err = printed_to(narrow, "config", "show", "--json", "--config", str(tmp_path / "milvaion.toml"))

    narrow.seek(0)
    settings = json.loads(narrow.read())["settings"]
    assert (code, err) == (0, "")
    assert "caf\u00e9.example.org" in [each["value"] for each in settings]
