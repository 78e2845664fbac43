"""Messages for tests of the model: the vectors, and bodies that differ from them in what a test is about."""

from collections.abc import Mapping
from typing import Final

from tests.support.amqp import WireMessage
from tests.support.amqp_vectors import vector, vector_headers
from tests.support.api_model.database import Occurrence
from tests.support.api_model.model import ApiModel
from tests.support.api_model.net_json import write
from tests.support.api_model.settings import ApiSettings
from tests.support.api_model.topology import API_QUEUES

__all__ = ["JOB", "OCCURRENCE", "OTHER", "START", "api_with_a_job", "dead_letter", "log", "message", "status", "stored"]

JOB: Final = "019d4a10-3b5c-7e21-8f04-6a1d2c9be077"
OCCURRENCE: Final = "019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193"
OTHER: Final = "019d4d92-04ab-72c1-9d3e-51f0a6b7c8d2"
START: Final = 1775121301.0
"""Unix seconds of the vectors' dispatch."""
DATE: Final = "2026-04-02T09:15:30Z"


def api_with_a_job(settings: ApiSettings | None = None, *, queued: bool = True) -> ApiModel:
    """An API that knows the job of the vectors, and both occurrences."""
    api = ApiModel(settings)
    api.register_job(
        JOB,
        "GenerateReportJob",
        display_name="Daily sales report",
        worker_id="report-worker",
        routing_pattern="report-worker.generatereport.*",
    )
    if queued:
        api.queued(OCCURRENCE, JOB, START)
        api.queued(OTHER, JOB, START)
    return api


def message(name: str, **properties: object) -> tuple[str, WireMessage]:
    """The queue and the message of a vector; `properties` are changed ones, None takes one away."""
    found = vector(name)
    body = str(found["body_raw"]).encode()
    kept = found["properties"]
    assert isinstance(kept, Mapping)
    headers = vector_headers(kept.get("headers", {}))
    changed = {key: value for key, value in {**kept, "headers": None, **properties}.items() if value is not None}
    queue = str(found["queue"])
    return queue, WireMessage(str(found["exchange"]), str(found["routing_key"]), False, changed, headers, body, 1)


def status(number: int, *, message_id: str | None = None, **members: object) -> WireMessage:
    """A status with what its kind must have, and with other members where a test says so."""
    ran = {"StartTime": DATE, "EndTime": DATE, "DurationMs": 5}
    of_kind: dict[int, dict[str, object]] = {
        2: {**ran, "Result": "{}"},
        3: {**ran, "Exception": "Type: E\nMessage: no\n"},
        4: {**ran, "Result": "cancelled"},
        5: {**ran, "Exception": "too long"},
    }
    body = {
        "OccurrenceId": OCCURRENCE,
        "JobId": JOB,
        "WorkerId": "report-worker",
        "InstanceId": "report-worker-5f0c2a9b",
        "Status": number,
        **of_kind.get(number, {}),
        "MessageTimestamp": DATE,
        **members,
    }
    return sent("job_status_updates_queue", write(body), message_id=message_id)


def log(*entries: Mapping[str, object] | str, message_id: str | None = None, **record: object) -> WireMessage:
    """A batch; a text is an entry's message, a mapping has members of its `Log`, `record` those around it."""
    logs = []
    for entry in entries:
        members = {"Message": entry} if isinstance(entry, str) else entry
        inner = {"Timestamp": DATE, "Level": "Information", "Message": "m", "Data": None, "Category": "UserCode"}
        around = {"OccurrenceId": OCCURRENCE, "WorkerId": "report-worker-5f0c2a9b", "MessageTimestamp": DATE, **record}
        logs.append({**around, "Log": {**inner, **members}})
    return sent("worker_logs_queue", write({"Logs": logs, "BatchTimestamp": DATE}), message_id=message_id)


def dead_letter(
    *, headers: Mapping[str, tuple[str, object] | None] | None = None, message_id: str | None = None, **members: object
) -> WireMessage:
    """A dead letter of ours; a header that is None is left out."""
    body = {
        "Id": JOB,
        "DisplayName": "Daily sales report",
        "JobNameInWorker": "GenerateReportJob",
        "JobData": None,
        "ExecuteAt": DATE,
        "Status": 3,
        "Exception": "Type: E\nMessage: no\n",
        **members,
    }
    kept: dict[str, tuple[str, object] | None] = {
        "OccurrenceId": ("S", OCCURRENCE),
        "CorrelationId": ("S", OCCURRENCE),
        "x-retry-count": ("I", 3),
        "MaxRetries": ("I", 3),
        **(headers or {}),
    }
    present = {name: field for name, field in kept.items() if field is not None}
    made = sent("failed_jobs_queue", write(body), message_id=message_id)
    properties = {**made.properties, "correlation_id": OCCURRENCE}
    return WireMessage(made.exchange, made.routing_key, False, properties, present, made.body, 1)


def sent(queue: str, body: str | bytes, message_id: str | None = None) -> WireMessage:
    """A body as a worker publishes it for this queue."""
    route = API_QUEUES[queue]
    properties: dict[str, object] = {"delivery_mode": 2}
    if message_id is not None:
        properties["message_id"] = message_id
    data = body.encode() if isinstance(body, str) else body
    return WireMessage(route.exchange, route.key, False, properties, {}, data, 1)


def stored(api: ApiModel, *messages: WireMessage, now: float = START) -> Occurrence:
    """Give the API messages, each to the queue that it was sent to, let it store them, and look at the occurrence."""
    queues = {(queue.exchange, queue.key): queue.name for queue in API_QUEUES.values()}
    for one in messages:
        api.take(queues[one.exchange, one.routing_key], one, now)
    for tick in range(20):
        api.tick(now + tick / 10)
    return api.occurrence(OCCURRENCE)
