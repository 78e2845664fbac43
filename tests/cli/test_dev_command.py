"""`dev` runs a worker without a server; other terminals give it jobs, watch them and take them back."""

import json
import re
import shlex
import signal
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.commands import HERE, DevWorker, environment, run_command, serving_dev

from milvaion_trio.cli.control import Cancel, Done, Enqueue, Lines, encode_request, read_answer
from milvaion_trio.cli.sockets import connected, socket_place


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for a socket's name; pytest's may be too long."""
    with tempfile.TemporaryDirectory(prefix="mt") as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def dev(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevWorker]:
    with tempfile.TemporaryDirectory(prefix="mt") as folder:
        with serving_dev("sample_worker:worker", tmp_path_factory.mktemp("dev"), socket=Path(folder) / "s") as dev:
            dev.read_until("ready")
            yield dev


def test_waiting_shows_every_message_and_ends_with_0_when_completed(dev: DevWorker) -> None:
    ended = dev.ask("enqueue", "cleanupjob", "--wait")

    messages = [json.loads(line) for line in ended.lines]
    assert ended.code == 0
    assert [message["queue"] for message in messages] == ["job_status_updates_queue"] * 2
    assert [message["body"]["Status"] for message in messages] == [1, 2]
    assert ended.err == f'{messages[0]["body"]["OccurrenceId"]} ended Completed: "clean"\n'


def test_waiting_ends_with_1_when_it_did_not_complete(dev: DevWorker) -> None:
    """Data that does not fit fails the job for good; the dead letter is still shown."""
    ended = dev.ask("enqueue", "SendInvoiceJob", "--data", '{"amount": "nine"}', "--wait")

    messages = [json.loads(line) for line in ended.lines]
    assert ended.code == 1
    assert messages[-1]["exchange"] == "dlx_scheduled_jobs"
    assert "$.title" in messages[-1]["body"]["Exception"]
    assert ended.err.endswith(
        " ended Failed: InvalidJobData: The data of this SendInvoiceJob message does not fit the job: "
        '$.amount: found the text "nine", expected a whole number; $.title: is missing, expected a text\n'
    )


def test_a_running_job_can_be_cancelled_from_another_terminal(dev: DevWorker) -> None:
    occurrence_id = dev.ask("enqueue", "GenerateReportJob", "--data", '{"hang": true}').out.strip()
    dev.read_until(f"started  {occurrence_id}")

    cancelled = dev.ask("cancel", occurrence_id, "--reason", "wrong year")

    said = f"{occurrence_id}: cancelled the running job GenerateReportJob\n"
    assert (cancelled.code, cancelled.out, cancelled.err) == (0, said, "")
    dev.read_until("GenerateReportJob was cancelled: wrong year")
    dev.read_until("cancelled after")

    again = dev.ask("cancel", occurrence_id)

    refusal = f"error: {occurrence_id} has already ended as Cancelled; there is nothing to cancel.\n"
    assert (again.code, again.out, again.err) == (1, "", refusal)


async def test_a_request_that_nobody_would_send_is_refused(dev: DevWorker) -> None:
    assert dev.socket is not None
    async with connected(dev.socket) as stream:
        lines = Lines(stream)
        await lines.send('{"do": "enqueue", "job": "CleanupJob", "data": "NaN"}')
        refused = await lines.receive()
        enqueued = await asked(lines, Enqueue(job="CleanupJob"))

    assert refused is not None
    assert refused.startswith(b'{"error": "The data of the request cannot be read. ')
    assert enqueued.occurrence_id is not None


def test_an_error_is_told_with_its_type_and_its_place(dev: DevWorker) -> None:
    ended = dev.ask("enqueue", "GenerateReportJob", "--data", '{"permanent": true}', "--wait")

    told = r"PermanentFailure: Recipient list is empty \(sample_worker.py, line \d+, in generate_report\)"
    assert re.search(f" ended Failed: {told}$", ended.err.strip())
    assert re.search(told, dev.read_until("Recipient list"))


async def test_a_job_cancelled_before_its_time_never_starts(dev: DevWorker) -> None:
    """Both requests go over one connection: the time between two commands would be longer than a test may take."""
    assert dev.socket is not None
    async with connected(dev.socket) as stream:
        lines = Lines(stream)
        enqueued = await asked(lines, Enqueue(job="CleanupJob", delay=0.3))
        cancelled = await asked(lines, Cancel(occurrence_id=str(enqueued.occurrence_id)))

    assert cancelled.occurrence_id == enqueued.occurrence_id
    assert cancelled.note is not None
    assert cancelled.note.endswith("will be cancelled when it comes: it waits, or is not known here")
    assert "CleanupJob" in dev.read_until("cancelled after 0.00 s")


async def asked(lines: Lines, request: Enqueue | Cancel) -> Done:
    """The answer to a request that is done at once."""
    await lines.send(encode_request(request))
    line = await lines.receive()
    assert line is not None
    answer = read_answer(line)
    assert isinstance(answer, Done)
    return answer


def test_an_unknown_job_is_answered_with_the_nearest_name(dev: DevWorker) -> None:
    ended = dev.ask("enqueue", "GenerateReport")

    assert ended.code == 1
    assert ended.err == (
        "error: This worker knows no job called 'GenerateReport'. It knows: CleanupJob, GenerateReportJob, "
        "SendInvoiceJob. Did you mean GenerateReportJob?\n"
    )


def test_a_second_dev_worker_leaves_the_socket_to_the_first(dev: DevWorker) -> None:
    ended = dev.ask("dev", "sample_worker:worker", "--no-data")

    assert ended.code == 1
    assert ended.err == (
        f"error: Another dev worker listens on {dev.socket}. Stop it with Ctrl-C there, or give this one a place of "
        "its own with --socket PATH, and the commands for it the same.\n"
    )


def test_a_body_that_is_no_job_message_is_explained(dev: DevWorker, tmp_path: Path) -> None:
    (tmp_path / "junk").write_bytes(b"\xff\xfe")

    ended = dev.ask("enqueue", "--message", tmp_path / "junk")

    assert ended.code == 1
    assert ended.err.startswith(
        "error: The file is neither an object with exchange, routing_key, properties, body_raw nor the body of a job "
        "message: "
    )


def test_sigterm_drains_with_0_and_takes_the_socket_away(
    short_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default place is a directory of the user's own; what a dead worker left there is replaced."""
    (short_folder / "milvaion-trio").mkdir(mode=0o700)
    with monkeypatch.context() as patched:
        patched.chdir(HERE)
        patched.setenv("XDG_RUNTIME_DIR", str(short_folder))
        place = socket_place(None)
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(place))
    env = environment(XDG_RUNTIME_DIR=str(short_folder))
    with serving_dev("sample_worker:worker", tmp_path, env=env) as dev:
        dev.read_until("ready")
        mode = stat.S_IMODE(place.stat().st_mode)

        completed = dev.ask("enqueue", "CleanupJob", "--wait")
        ended = dev.stop(signal.SIGTERM)

    assert completed.code == 0
    assert mode == 0o600
    assert ended.code == 0
    assert "stopped" in ended.err.splitlines()[-1]
    assert not place.exists()


def test_what_still_waits_is_counted_when_leaving(short_folder: Path, tmp_path: Path) -> None:
    """And a runtime directory that is gone is no obstacle; the hint can be copied."""
    env = environment(XDG_RUNTIME_DIR="/nonexistent", TMPDIR=str(short_folder))
    with serving_dev("sample_worker:worker", tmp_path, env=env) as dev:
        dev.read_until("ready")
        hint = dev.read_until("In a second terminal: milvaion-trio ")
        copied = dev.ask(*shlex.split(hint.partition("milvaion-trio ")[2]))
        dev.ask("enqueue", "CleanupJob", "--delay", "600")
        ended = dev.stop(signal.SIGINT)

    assert copied.code == 0
    assert ended.code == 0
    assert "1 message still waits and ends with this process" in ended.err


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("file", "error: {place} is no socket, so it was left alone. Name another place: --socket PATH.\n"),
        ("open directory", "error: {folder} is not a directory that only you can enter, so others could send jobs to"),
        ("long path", "error: The path of a socket may have 100 bytes; this one is longer: "),
    ],
)
def test_a_place_that_cannot_be_used_is_explained(
    kind: str, text: str, short_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = short_folder / "milvaion-trio"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(short_folder))
    monkeypatch.chdir(HERE)
    place = socket_place(None)
    arguments = ["dev", "sample_worker:worker", "--no-data"]
    match kind:
        case "file":
            folder.mkdir(mode=0o700)
            place.write_text("precious")
        case "open directory":
            folder.mkdir(mode=0o777)
            folder.chmod(0o777)
        case _:
            arguments += ["--socket", str(short_folder / ("x" * 100))]

    ended = run_command(*arguments, env=environment(XDG_RUNTIME_DIR=str(short_folder)))

    assert ended.code == 1
    assert ended.err.startswith(text.replace("{place}", str(place)).replace("{folder}", str(folder)))
    assert not place.exists() or place.read_text() == "precious"
