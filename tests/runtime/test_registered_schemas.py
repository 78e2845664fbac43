"""A worker registers what its jobs take and return, for forms and workflows in the dashboard (WIRE.md 3.6, 8)."""

import enum
import json
import logging
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest
import trio
from attrs import Factory, define, field, frozen
from trio.testing import MockClock

from milvaion_trio import Job, JobContext, JobResult, Worker, WorkerSettings
from milvaion_trio.model import topology
from milvaion_trio.model.wire import Dialect
from milvaion_trio.testing import under_test

if TYPE_CHECKING:
    from decimal import Decimal as Missing

VECTOR = Path(__file__).parents[1] / "wire" / "vectors" / "worker_registration.json"


class Format(enum.Enum):
    Pdf = 1
    Excel = 2


@frozen
class ReportJobData:
    """The data of the job in the vector, in Python."""

    report_type: Annotated[str, "Kind of report"] = field(metadata={"required": True})
    recipients: list[str] = Factory(list)
    year: int = 2026
    format: Format | None = None
    since: datetime | None = None


@frozen
class ReportResult:
    reportId: str = ""  # noqa: N815 - results are written as they are named
    rowCount: int = 0  # noqa: N815


async def registered(worker: Worker) -> Any:
    """The body of the worker's registration."""
    async with under_test(worker) as kit:
        bodies = [sent.message.body for sent in kit.published if sent.target == topology.REGISTRATION_QUEUE]
    return json.loads(bodies[0])


async def test_schemas_go_into_the_registration_as_in_the_vector(worker: Worker, autojump_clock: MockClock) -> None:
    """The same classes give the same texts, under the jobs' names; a job without types has none."""

    @worker.job("GenerateReportJob")
    async def generate(ctx: JobContext, data: ReportJobData) -> ReportResult:
        return ReportResult()

    @worker.job("CleanupJob")
    async def cleanup() -> None: ...

    @worker.job("CountJob")
    async def count(numbers: list[int]) -> int:
        return sum(numbers)

    wanted = json.loads(VECTOR.read_text(encoding="utf-8"))["body"]
    body = await registered(worker)

    assert body["JobDataDefinitions"] == wanted["JobDataDefinitions"]
    assert body["JobResultDefinitions"] == wanted["JobResultDefinitions"]
    assert body["JobTypes"] == ["GenerateReportJob", "CleanupJob", "CountJob"]


async def test_every_kind_of_job_has_its_schemas(worker: Worker, autojump_clock: MockClock) -> None:
    """Threads, classes, and those that may answer with a `JobResult`."""

    @worker.job("Thread")
    def block(data: ReportJobData | None = None) -> "ReportResult | JobResult | None":
        return None

    @worker.job("Class")
    class Send(Job):
        async def execute(self, ctx: JobContext, data: ReportJobData) -> str:
            return ""

    body = await registered(worker)

    titles = {name: json.loads(text)["title"] for name, text in body["JobResultDefinitions"].items()}
    assert titles == {"Thread": "ReportResult", "Class": "String"}
    assert {json.loads(text)["title"] for text in body["JobDataDefinitions"].values()} == {"ReportJobData"}
    assert list(body["JobDataDefinitions"]) == ["Thread", "Class"]


async def test_the_older_dialect_knows_no_results(autojump_clock: MockClock) -> None:
    worker = Worker(settings=WorkerSettings(worker_id="tests", wire=Dialect.V1_0), observers=())

    @worker.job("GenerateReportJob")
    async def generate(data: ReportJobData) -> ReportResult:
        return ReportResult()

    body = await registered(worker)

    assert "JobResultDefinitions" not in body
    assert list(body["JobDataDefinitions"]) == ["GenerateReportJob"]


async def test_a_result_whose_type_cannot_be_resolved_stops_nothing(worker: Worker, autojump_clock: MockClock) -> None:
    @worker.job("Careless")
    async def careless() -> "Missing":
        raise NotImplementedError

    assert (await registered(worker))["JobResultDefinitions"] == {}


@define
class Node:
    value: int
    next: "Node | None" = None
    children: "list[Node]" = Factory(list)


async def test_a_recursive_type_is_cut_off_with_a_warning(
    worker: Worker, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Once at start, with the job, the place and the type; the worker serves, and reads such data as deep as it is."""

    @worker.job("Walk")
    async def walk(node: Node) -> int:
        inner = [*node.children, *([node.next] if node.next else [])]
        return node.value + sum([await walk(each) for each in inner])

    with caplog.at_level(logging.WARNING, logger="milvaion_trio"):
        async with under_test(worker) as kit:
            occurrence = kit.enqueue("Walk", {"value": 1, "next": {"value": 2, "children": [{"value": 4}]}})
            await kit.run_until_idle()
            await trio.sleep(300)  # two more registrations
            registration = kit.registrations[-1]
            result = kit.occurrence(occurrence).result

    assert result == "7"
    assert json.loads(registration.job_data_definitions["Walk"])["properties"] == {
        "value": {"type": "integer"},
        "next": {"type": "object", "properties": {}},
        "children": {"type": "array", "items": {"type": "object", "properties": {}}},
    }
    assert [record.getMessage() for record in caplog.records] == [
        "Walk: the schema of its data ends at $.next (a Node inside a Node), "
        "$.children (a list of Node inside a Node). The dashboard shows no form for what is inside; "
        "the data itself may go on, 64 levels deep."
    ]
