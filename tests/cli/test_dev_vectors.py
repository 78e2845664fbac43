"""Real input: Milvaion's example messages go into a dev worker byte for byte, and what comes out has their form.

Compared are members, their types and their order; values are compared where the example fixes them.
"""

import json
import signal
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from tests.support.commands import DevWorker, Ended, serving_dev

VECTORS = Path(__file__).parents[1] / "wire" / "vectors"

DISPATCHES = {
    "job_dispatch": (0, "GenerateReportJob"),
    "job_retry_republish": (0, "GenerateReportJob"),
    "job_dispatch_empty_data": (0, "CleanupJob"),
    "job_dispatch_manual_trigger": (1, "GenerateReportJob"),
    "job_dispatch_workflow_step": (1, "SendInvoiceJob"),
    "job_dispatch_legacy_1_0": (2, "GenerateReportJob"),
}
"""Which worker gets it, and which job it is for. Several examples are the same attempt, which no worker runs twice."""

RESULTS = {
    "GenerateReportJob": '{"ReportId":"r-17","RowCount":4211,"Note":"done \\u2705"}',
    "CleanupJob": "clean",
    "SendInvoiceJob": "Widget: 99",
}


@define(eq=False)
class Devs:
    """Dev workers that are started when they are first needed, and what they answered to the examples."""

    folder: Callable[[str], Path]
    stack: ExitStack
    _started: dict[int, DevWorker] = field(factory=dict)
    _answers: dict[str, Ended] = field(factory=dict)

    def __getitem__(self, number: int) -> DevWorker:
        if number not in self._started:
            place = Path(self.stack.enter_context(tempfile.TemporaryDirectory(prefix="mt"))) / "s"
            serving = serving_dev("sample_worker:worker", self.folder(f"dev{number}"), socket=place)
            self._started[number] = self.stack.enter_context(serving)
            self._started[number].read_until("ready")
        return self._started[number]

    def answer(self, name: str) -> Ended:
        """What comes back when the example is sent as it is."""
        if name not in self._answers:
            dev = self[DISPATCHES[name][0]]
            self._answers[name] = dev.ask("enqueue", "--message", VECTORS / f"{name}.json", "--wait")
        return self._answers[name]


@pytest.fixture(scope="module")
def devs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devs]:
    with ExitStack() as stack:
        yield Devs(tmp_path_factory.mktemp, stack)


def vector(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((VECTORS / f"{name}.json").read_text("utf-8"))
    return content


def body_of(name: str) -> dict[str, Any]:
    """The body of the example, from the text that travels."""
    body: dict[str, Any] = json.loads(vector(name)["body_raw"])
    return body


def form(value: object) -> object:
    """Members in order and the types of values, without the values."""
    if isinstance(value, dict):
        return [(name, form(member)) for name, member in value.items()]
    if isinstance(value, list):
        return [form(item) for item in value]
    return type(value)


def with_correlation_id(status: dict[str, Any]) -> dict[str, Any]:
    """The status as we write it: for readers of both generations, `CorrelationId` follows `OccurrenceId`."""
    (first, occurrence_id), *others = status.items()
    assert first == "OccurrenceId"
    return {first: occurrence_id, "CorrelationId": occurrence_id, **dict(others)}


def messages_to(queue: str, ended: Ended) -> list[dict[str, Any]]:
    messages = [json.loads(line) for line in ended.lines]
    return [message["body"] for message in messages if message.get("queue") == queue]


@pytest.mark.parametrize("name", DISPATCHES)
def test_the_job_of_an_example_runs_and_what_is_reported_has_the_examples_form(name: str, devs: Devs) -> None:
    ended, (_, job_name) = devs.answer(name), DISPATCHES[name]
    occurrence_id = vector(name)["properties"]["correlation_id"]

    running, completed = messages_to("job_status_updates_queue", ended)

    assert ended.code == 0, ended
    assert ended.err.startswith(f"{occurrence_id} ended Completed: ")
    assert form(running) == form(with_correlation_id(body_of("status_running")))
    assert form(completed) == form(with_correlation_id(body_of("status_completed")))
    for status in (running, completed):
        assert status["OccurrenceId"] == status["CorrelationId"] == occurrence_id
        assert status["JobId"] == "019d4a10-3b5c-7e21-8f04-6a1d2c9be077"
        assert status["WorkerId"] == "report-worker"
        assert status["InstanceId"].startswith("report-worker-")
    assert (running["Status"], completed["Status"]) == (1, 2)
    assert completed["StartTime"] == running["StartTime"]
    assert completed["Result"] == RESULTS[job_name]
    if job_name == "GenerateReportJob":
        check_logs(ended, occurrence_id)


def check_logs(ended: Ended, occurrence_id: str) -> None:
    """The job logs the first two entries of the example; their texts are compared as bytes."""
    (batch,) = messages_to("worker_logs_queue", ended)
    expected = body_of("log_batch")
    escaped = '"Message":"Fetching \\u003Csales\\u003E for \\u00DCsk\\u00FCdar \\u0026 co"'

    assert form(batch) == form({**expected, "Logs": expected["Logs"][:2]})
    assert batch["Count"] == 2
    for ours, theirs in zip(batch["Logs"], expected["Logs"], strict=False):
        assert ours["OccurrenceId"] == occurrence_id
        assert ours["WorkerId"].startswith("report-worker-")
        assert ours["Log"] == {**theirs["Log"], "Timestamp": ours["Log"]["Timestamp"]}
    assert escaped in vector("log_batch")["body_raw"]
    assert escaped in ended.out


def failing(kind: str, folder: Path) -> tuple[Path, str]:
    """The example dispatch with another occurrence, and data that makes the job fail; nothing else is changed."""
    example = vector("job_dispatch")
    occurrence_id = str(uuid.uuid4())
    text = json.dumps(example).replace(example["properties"]["correlation_id"], occurrence_id)
    changed = json.loads(text)
    member = f"{{\\u0022{kind}\\u0022:true,\\u0022"
    changed["body_raw"] = changed["body_raw"].replace("{\\u0022", member)
    path = folder / f"{kind}.json"
    path.write_text(json.dumps(changed), "utf-8")
    return path, occurrence_id


@pytest.mark.parametrize(
    ("kind", "example", "retries", "max_retries", "beginning"),
    [
        ("fail", "dlq_max_retries", 2, 2, "Max retries (2) exceeded. Original exception: Type: ConnectionError\n"),
        ("permanent", "dlq_permanent", 0, 0, "[PERMANENT FAILURE] Type: "),
    ],
)
def test_a_dead_letter_has_the_form_of_the_example(
    kind: str,
    example: str,
    retries: int,
    max_retries: int,
    beginning: str,
    devs: Devs,
    tmp_path: Path,
) -> None:
    path, occurrence_id = failing(kind, tmp_path)

    ended = devs[0].ask("enqueue", "--message", path, "--wait")

    letter = json.loads(ended.lines[-1])
    assert ended.code == 1
    assert (letter["exchange"], letter["routing_key"]) == ("dlx_scheduled_jobs", "failed_jobs")
    assert form(letter["body"]) == form(body_of(example))
    assert letter["body"]["Status"] == 3
    assert letter["body"]["Exception"].startswith(beginning)
    expected = {name: type(header["value"]) for name, header in vector(example)["properties"]["headers"].items()}
    headers = letter["headers"]
    assert {name: type(headers[name]) for name in expected} == expected
    assert headers["CorrelationId"] == occurrence_id
    assert (headers["x-retry-count"], headers["MaxRetries"]) == (retries, max_retries)


def test_a_retry_copy_carries_the_dispatched_bytes_and_int_headers(devs: Devs, tmp_path: Path) -> None:
    """This also shows that the file's body went in byte for byte."""
    path, _ = failing("fail", tmp_path)
    body = json.loads(path.read_text("utf-8"))["body_raw"]

    ended = devs[0].ask("enqueue", "--message", path, "--wait")

    copies = [line for line in ended.lines if '"x-retry-count"' in line and '"queue"' in line]
    assert len(copies) == 2
    for number, copy in enumerate(copies, start=1):
        message = json.loads(copy)
        expected = vector("job_retry_republish")
        assert copy.endswith(f', "body": {body}}}')
        assert (message["queue"], message["routing_key"]) == (expected["queue"], expected["routing_key"])
        for name, header in expected["properties"]["headers"].items():
            assert type(message["headers"][name]) is type(header["value"])
        assert (message["headers"]["x-retry-count"], message["headers"]["MaxRetries"]) == (number, 2)
        assert message["delay"] == pytest.approx(0.05 * 2 ** (number - 1))


def test_the_same_attempt_is_not_run_twice_and_that_is_said(devs: Devs) -> None:
    assert devs.answer("job_dispatch").code == 0

    ended = devs[0].ask("enqueue", "--message", VECTORS / "job_dispatch.json", "--wait")

    assert ended.code == 1
    assert ended.out == ""
    assert "concluded this attempt of 019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193 before" in ended.err


def test_the_worker_s_own_messages_have_the_examples_form(devs: Devs) -> None:
    """Registration first, with a heartbeat after it; the last word is the heartbeat that says good-bye."""
    ended = devs[3].stop(signal.SIGTERM)

    messages = [json.loads(line) for line in ended.lines]
    registration, heartbeat, *_, last = messages
    expected = body_of("worker_registration")
    assert ended.code == 0
    assert registration["queue"] == "worker_registration_queue"
    assert list(registration["body"]) == list(expected)
    assert [type(value) for value in registration["body"].values()] == [type(value) for value in expected.values()]
    metadata, expected_metadata = (json.loads(body["Metadata"]) for body in (registration["body"], expected))
    assert list(metadata) == list(expected_metadata)
    assert form(metadata["JobConfigs"][0]) == form(expected_metadata["JobConfigs"][0])
    assert registration["body"]["JobTypes"] == ["GenerateReportJob", "CleanupJob", "SendInvoiceJob"]
    assert registration["body"]["RoutingPatterns"].items() >= expected["RoutingPatterns"].items()
    assert heartbeat["queue"] == last["queue"] == "worker_heartbeat_queue"
    assert form(heartbeat["body"]) == form(body_of("worker_heartbeat"))
    assert form(last["body"]) == form(body_of("worker_heartbeat_stopping"))
    assert (heartbeat["body"]["IsStopping"], last["body"]["IsStopping"]) == (False, True)
    assert last["body"]["CurrentJobs"] == 0
