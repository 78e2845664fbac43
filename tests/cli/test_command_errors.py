"""Every mistake that can be expected is one message on stderr, no traceback, and the exit code of DESIGN.md 2."""

from pathlib import Path

import pytest
from tests.support.commands import HERE, Ended, environment, run_command

from milvaion_trio.cli.sockets import socket_place

QUEUE = "scheduled_jobs_queue.twin-worker.sendemail.wildcard"

MISTAKES: dict[str, tuple[list[str], int, str]] = {
    "module missing": (
        ["run", "no_such_module:worker"],
        2,
        f"error: There is no module 'no_such_module' here ({HERE}) or among the installed packages.",
    ),
    "no attribute named": (
        ["run", "sample_worker"],
        2,
        "error: 'sample_worker' names no worker. Write MODULE:WORKER, e.g. app.jobs:worker.",
    ),
    "attribute missing": (
        ["dev", "sample_worker:wroker"],
        2,
        "error: The module sample_worker has no 'wroker'. Did you mean sample_worker:worker?",
    ),
    "no worker": (
        ["list", "sample_worker:not_a_worker"],
        2,
        "error: sample_worker:not_a_worker is no Worker but a dict. Name the variable that holds your Worker(…).",
    ),
    "shared queue": (
        ["list", "sample_worker:twins"],
        2,
        f"error: 'SendEmail' and 'SendEmailJob' share the queue {QUEUE}, so each gets messages of the other. "
        "Rename one (a trailing `Job` does not count) or give it routing_patterns of its own.",
    ),
    "unknown option": (
        ["run", "sample_worker:worker", "--brust"],
        2,
        "error: Unknown option: --brust. Did you mean --burst? See milvaion-trio run --help.",
    ),
    "unknown command": (
        ["lits"],
        2,
        'error: Unknown command "lits". Did you mean "list"? See milvaion-trio --help.',
    ),
    "argument missing": (
        ["run"],
        2,
        'error: Command "run" parameter MODULE:WORKER requires an argument. See milvaion-trio run --help.',
    ),
    "negative budget": (
        ["run", "sample_worker:worker", "--drain-timeout", "-1"],
        2,
        'error: command line: --drain-timeout is "-1.0"; it must be a number, 0 or more.',
    ),
    "module raises": (
        ["run", "raising:worker"],
        1,
        "error: The module raising cannot be imported: ZeroDivisionError: division by zero\n"
        "It was raised in {folder}/raising.py, line 3.",
    ),
    "module imports what is not there": (
        ["run", "importing:worker"],
        2,
        "error: The module importing imports no_such_library, which is not installed.\n"
        "It was raised in {folder}/importing.py, line 1.",
    ),
    "worker made with bad settings": (
        ["list", "misnamed:worker"],
        2,
        "error: worker_id is 'a b'; it must be 1 to 100 of the characters A-Z a-z 0-9 . _ -.",
    ),
    "broker unreachable": (
        ["run", "sample_worker:lonely", "--log-level", "error"],
        1,
        "This worker runs on the embedded broker: its queues are in this process and end with it.\n"
        "error: Could not reach the embedded broker within 0.1 s; the last attempt ended with: the embedded broker "
        "refuses connections. Does it run where Worker:RabbitMQ:Host and Worker:RabbitMQ:Port say? "
        "Worker:StartupConnectionTimeoutSeconds allows more time (0: for ever).",
    ),
    "no job to enqueue": (
        ["enqueue"],
        2,
        "error: Name a job or a message file: milvaion-trio enqueue JOB, or enqueue --message FILE.",
    ),
    "job and message": (
        ["enqueue", "CleanupJob", "--message", "x.json"],
        2,
        "error: A message file says itself which job and data it is: leave JOB, --data and --delay out.",
    ),
    "message file missing": (
        ["enqueue", "--message", "/no/such/file"],
        2,
        "error: The message file /no/such/file cannot be read: No such file or directory.",
    ),
    "data is no JSON": (
        ["enqueue", "CleanupJob", "--data", "{to: 1}"],
        2,
        "error: --data cannot be read. This is not JSON as Milvaion reads it: Expecting property name enclosed in "
        "double quotes: line 1 column 2 (char 1). Quote it for the shell, e.g. --data '{\"to\": 1}'.",
    ),
    "negative delay": (
        ["enqueue", "CleanupJob", "--delay=-1"],
        2,
        "error: --delay is -1; it must be a number of seconds from 0 to 2592000 (30 days).",
    ),
    "delay of three years": (
        ["enqueue", "CleanupJob", "--delay", "99999999"],
        2,
        "error: --delay is 99999999; it must be a number of seconds from 0 to 2592000 (30 days).",
    ),
    "delay of ages": (
        ["enqueue", "CleanupJob", "--delay", "1e300"],
        2,
        "error: --delay is 1e+300; it must be a number of seconds from 0 to 2592000 (30 days).",
    ),
    "delay that is no number": (
        ["enqueue", "CleanupJob", "--delay", "nan"],
        2,
        "error: --delay is nan; it must be a number of seconds from 0 to 2592000 (30 days).",
    ),
    "NaN in the data": (
        ["enqueue", "CleanupJob", "--data", '{"a": [NaN]}'],
        2,
        "error: --data cannot be read. This is not JSON as Milvaion reads it: NaN is no JSON. "
        "Quote it for the shell, e.g. --data '{\"to\": 1}'.",
    ),
    "a file instead of a module": (
        ["dev", "./own.py"],
        2,
        "error: './own.py' names a file, not a module: write own:worker.",
    ),
    "too many arguments": (
        ["enqueue", "CleanupJob", "extra"],
        2,
        "error: Nothing takes 'extra': there are too many arguments. See milvaion-trio enqueue --help.",
    ),
    "message without its members": (
        ["enqueue", "--message", "{folder}/message.json"],
        2,
        "error: The message file {folder}/message.json has no properties, no body_raw. A message has exchange, "
        "routing_key, properties, body_raw; the bare body of a job message has at least id and jobNameInWorker.",
    ),
    "lifespan raises": (
        ["dev", "falling:worker", "--no-data", "--socket", "{folder}/s"],
        1,
        "error: Your code raised this outside of a job:\n"
        "Traceback (most recent call last):\n"
        '  File "{folder}/falling.py", line 10, in falls\n'
        '    raise KeyError("url")\n'
        "KeyError: 'url'",
    ),
    "no occurrence id": (
        ["cancel", "123"],
        2,
        "error: '123' is no occurrence id; that is the 36 characters which enqueue prints.",
    ),
    "dev worker and cluster": (
        ["enqueue", "CleanupJob", "--socket", "/tmp/s", "--config", "appsettings.json"],
        2,
        "error: --socket leads to a dev worker; --config, --set and --worker-id to a cluster: choose one.",
    ),
    "neither dev worker nor cluster": (
        ["cancel", "0f8fad5b-d9cb-469f-a165-70867728950e"],
        1,
        "error: No dev worker listens on {socket}. Start one in another terminal: "
        "milvaion-trio dev MODULE:WORKER\nOr say where a cluster is: --config appsettings.json",
    ),
    "group without cluster": (
        ["enqueue", "CleanupJob", "--worker-id", "report-worker"],
        2,
        "error: No settings here name RabbitMQ, so there is no cluster to go to: say which with --config FILE.",
    ),
    "settings file missing": (
        ["run", "sample_worker:worker", "--config", "{folder}/none.json"],
        2,
        "error: {folder}/none.json: there is no such file.",
    ),
    "topology of a worker without RabbitMQ": (
        ["topology", "show", "sample_worker:worker"],
        2,
        "error: The settings of sample_worker:worker name no RabbitMQ: say which with --config FILE.",
    ),
    "unknown command of a group": (
        ["topology", "dorp"],
        2,
        'error: Unknown command "dorp". Did you mean "drop"? See milvaion-trio topology --help.',
    ),
    "no dev worker": (
        ["enqueue", "CleanupJob", "--socket", "/tmp/no-such-milvaion.sock"],
        1,
        "error: No dev worker listens on /tmp/no-such-milvaion.sock. Start one in another terminal: "
        "milvaion-trio dev MODULE:WORKER",
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Modules that fail while they are imported."""
    folder = tmp_path_factory.mktemp("m")
    (folder / "message.json").write_text('{"exchange": "", "routing_key": "x"}')
    (folder / "falling.py").write_text(
        "from contextlib import asynccontextmanager\n\nfrom milvaion_trio import Worker\n\nworker = Worker('w')\n\n"
        '@worker.lifespan\n@asynccontextmanager\nasync def falls(worker):\n    raise KeyError("url")\n    yield\n'
    )
    (folder / "raising.py").write_text("from milvaion_trio import Worker\n\nnumber = 1 / 0\nworker = Worker()\n")
    (folder / "importing.py").write_text("import no_such_library\n")
    (folder / "misnamed.py").write_text("from milvaion_trio import Worker\n\nworker = Worker('a b')\n")
    return folder


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_message_and_an_exit_code(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments, code, text = MISTAKES[name]

    arguments = [argument.replace("{folder}", str(folder)) for argument in arguments]
    ended = run_command(*arguments, env=environment(PYTHONPATH=str(folder), XDG_RUNTIME_DIR=str(folder)))

    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.chdir(HERE)
    text = text.replace("{folder}", str(folder)).replace("{socket}", str(socket_place(None)))
    assert ended == Ended(code, "", text + "\n")
