"""The worker of `milvaion-trio demo`: an ordinary worker, with one job for every way a job can end.

Copy from here. Nothing in this file knows that it is a demonstration.
"""

import time

import trio
from attrs import frozen

from milvaion_trio import JobContext, PermanentFailure, Snooze, Worker, WorkerSettings
from milvaion_trio.model.settings import ReportingSettings, ShutdownSettings

__all__ = ["worker"]

worker: Worker = Worker(
    "shop-worker",
    settings=WorkerSettings(
        max_parallel_jobs=20,
        shutdown=ShutdownSettings(drain_timeout=1.5, cleanup_timeout=1.0),
        # Its jobs are enqueued by its own client, and shall be reported like those of a Milvaion server.
        reporting=ReportingSettings(local_occurrences=True),
    ),
)


@frozen
class Email:
    """What SendEmail is given."""

    to: str
    subject: str = "Hello"


@frozen
class Picture:
    """What ResizeImage is given."""

    path: str
    width: int
    height: int


@frozen
class Invoice:
    """What SendInvoice is given."""

    number: int
    amount: float


# --- jobs that succeed ----------------------------------------------------------------------------------------------


@worker.job("SendEmail")
async def send_email(ctx: JobContext, email: Email) -> str:
    """Logs what it does and how far it is."""
    ctx.log.info("connecting", server="mail.example.org")
    for step in range(1, 5):
        await trio.sleep(0.5)
        ctx.progress(step / 4)
    ctx.log.info("accepted", to=email.to, subject=email.subject)
    return f"sent to {email.to}"


@worker.job("ResizeImage")
async def resize_image(picture: Picture) -> Picture:
    """Takes typed data and returns some: both are JSON on the wire."""
    await trio.sleep(1)
    return Picture(picture.path.replace(".png", "-small.png"), picture.width // 2, picture.height // 2)


@worker.job("CountWords")
def count_words(ctx: JobContext, text: str) -> dict[str, int]:
    """A plain function runs in a thread, so it may block."""
    counts: dict[str, int] = {}
    for word in text.split():
        time.sleep(0.3)
        counts[word] = counts.get(word, 0) + 1
    ctx.log.info("counted", words=len(counts))
    return counts


# --- jobs that fail -------------------------------------------------------------------------------------------------


@worker.job("SyncStock", max_retries=3, base_retry_delay=0.8)
async def sync_stock(ctx: JobContext) -> str:
    """Fails twice, then works: the second retry waits twice as long as the first."""
    await trio.sleep(0.4)
    if ctx.attempt < 3:
        raise ConnectionError("the warehouse answered 503")
    return "1204 articles"


@worker.job("PrintLabel", max_retries=2, base_retry_delay=0.6)
async def print_label() -> None:
    """Never works: when its retries are used up, the message goes to the dead letter queue."""
    await trio.sleep(0.3)
    raise OSError("the printer is out of paper")


@worker.job("ChargeCard")
async def charge_card() -> None:
    """Fails in a way that no retry can help."""
    await trio.sleep(0.6)
    raise PermanentFailure("the card was reported stolen")


@worker.job("SendInvoice")
async def send_invoice(invoice: Invoice) -> str:
    """Is never started with data that does not fit; every mistake in it is reported."""
    return f"invoice {invoice.number} over {invoice.amount:.2f}"


# --- jobs that are stopped, or stop themselves for a while ----------------------------------------------------------


@worker.job("CrawlSite", timeout=2)
async def crawl_site(ctx: JobContext) -> None:
    """Takes longer than it may."""
    try:
        await trio.sleep(60)
    finally:
        ctx.log.info("closing the browser")


@worker.job("ExportVideo")
async def export_video(ctx: JobContext) -> None:
    """Runs until somebody cancels it, and cleans up then."""
    ctx.log.info("encoding")
    try:
        await trio.sleep(60)
    finally:
        async with ctx.cleanup():  # noqa: ASYNC102  # it is a shielded scope with a deadline
            await trio.sleep(0.3)  # noqa: ASYNC102  # as above
            ctx.log.info("removed the half-written file")


@worker.job("AwaitPayment")
async def await_payment(ctx: JobContext) -> str:
    """Asks to be run again later, as often as it takes, without using up its retries."""
    await trio.sleep(0.2)
    if time.time() - ctx.job.execute_at.to_datetime().timestamp() < 3:
        raise Snooze(1.5)
    return "paid"


@worker.job("BuildIndex")
async def build_index(ctx: JobContext) -> None:
    """Still runs when the worker is told to leave: its message goes back to the queue, for another worker."""
    ctx.log.info("reading 40 million rows")
    await trio.sleep(3600)
