"""The worker of these tests, for `milvaion-trio run`: the readme's job, and those that Milvaion's examples name.

Every job tells what it was given, then waits for a file `go` in the current folder, so that a test can look at it
while it runs.
"""

import trio
from attrs import field, frozen

from milvaion_trio import JobContext, Worker

worker = Worker()


@frozen
class Email:
    recipients: list[str] = field(factory=list)
    subject: str = "Hello"


@frozen
class ReportRequest:
    report_type: str
    recipients: list[str] = field(factory=list)
    year: int = 2025
    note: str = ""


@frozen
class Invoice:
    amount: int
    title: str


@worker.job("SendEmailJob")
async def send_email(ctx: JobContext, email: Email) -> str:
    await told_and_allowed(ctx, email)
    return f"sent <{email.subject}> to {len(email.recipients)}"


@worker.job("GenerateReportJob", routing_patterns=("report-worker.generatereport.*",))
async def generate_report(ctx: JobContext, request: ReportRequest) -> dict[str, object]:
    await told_and_allowed(ctx, request)
    return {"Type": request.report_type, "Year": request.year, "Note": request.note}


@worker.job("SendInvoiceJob", routing_patterns=("report-worker.sendinvoice.*",))
async def send_invoice(ctx: JobContext, invoice: Invoice) -> int:
    await told_and_allowed(ctx, invoice)
    return invoice.amount


async def told_and_allowed(ctx: JobContext, given: object) -> None:
    ctx.log.info("started", attempt=ctx.attempt, given=given)
    while not await trio.Path("go").exists():  # noqa: ASYNC110  # made by another process
        await trio.sleep(0.01)
    ctx.log.warning("seen <go> & ready, Üsküdar \U0001f600")
