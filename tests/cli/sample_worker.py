"""A worker as a user writes one, for the commands to load: the report worker of Milvaion's example messages."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from attrs import field, frozen

from milvaion_trio import JobContext, PermanentFailure, Worker, WorkerSettings
from milvaion_trio.broker.embedded import EmbeddedBroker

worker = Worker("report-worker")


@frozen
class ReportRequest:
    report_type: str = "sales"
    recipients: list[str] = field(factory=list)
    year: int = 2026
    note: str = ""
    fail: bool = False
    permanent: bool = False
    hang: bool = False


@frozen
class Invoice:
    amount: int
    title: str


@worker.job("GenerateReportJob", max_retries=2, base_retry_delay=0.05, timeout=60, max_parallel=4)
async def generate_report(ctx: JobContext, request: ReportRequest) -> dict[str, object]:
    ctx.log.info(f"Fetching <{request.report_type}> for Üsküdar & co")
    ctx.log.warning(
        "Slow response",
        elapsedMs=1834,
        url="https://api.example.org/v1?x=1&y=2",
        ratio=0.25,
        cached=False,
        at="2026-04-02T09:15:02Z",
        nothing=None,
    )
    if request.permanent:
        raise PermanentFailure("Recipient list is empty")
    if request.fail:
        raise ConnectionError("Upstream answered 503")
    if request.hang:
        await trio.sleep(3600)
    return {"ReportId": "r-17", "RowCount": 4211, "Note": "done \u2705"}


@worker.job("CleanupJob", max_retries=0, max_parallel=1)
def clean_up(ctx: JobContext) -> str:
    return "clean"


@worker.job("SendInvoiceJob", timeout=0)
async def send_invoice(invoice: Invoice) -> str:
    return f"{invoice.title}: {invoice.amount}"


# --- the same with a few jobs to do by itself, for `run --burst` ----------------------------------------------------

busy = Worker("busy-worker")


@busy.job()
async def count_to(number: int) -> int:
    return number


@busy.lifespan
@asynccontextmanager
async def enqueue_some(worker: Worker) -> AsyncIterator[None]:
    for number in range(3):
        await count_to.enqueue(number)
    yield


# --- workers that cannot start --------------------------------------------------------------------------------------

twins = Worker("twin-worker")


@twins.job("SendEmail")
async def send_email() -> None: ...


@twins.job("SendEmailJob")
async def send_email_job() -> None: ...


lonely_broker = EmbeddedBroker()
lonely_broker.refuse_connections = True
lonely = Worker("lonely-worker", settings=WorkerSettings(startup_connection_timeout=0.1), broker=lonely_broker)


# --- and one that cannot be stopped politely ------------------------------------------------------------------------

stuck = Worker("stuck-worker")


@stuck.job()
async def block_the_loop() -> None:
    print("blocking", flush=True)
    time.sleep(3600)  # noqa: ASYNC251 # a mistake that users make, and that the third signal must end


@stuck.lifespan
@asynccontextmanager
async def enqueue_it(worker: Worker) -> AsyncIterator[None]:
    await block_the_loop.enqueue()
    yield


not_a_worker = {"worker": worker}
