"""The three jobs of the .NET SDK's readme, as the migration page ports them, with that readme's settings files.

The page shows them as classes and as functions; both are taken from the page, so that it cannot say something else.
"""

import importlib
import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import httpx2
import pytest
import trio
from tests.docs.markdown import ROOT, blocks
from tests.support.api_model import OccurrenceStatus
from tests.support.cluster import cluster, running, serving
from tests.support.readmes import SDK_README
from trio.testing import MockClock

from milvaion_trio import Worker
from milvaion_trio.testing import under_test

PAGE: Final = ROOT / "docs" / "how-to" / "migrate-from-the-dotnet-sdk.md"
API_JOB_ENTRY: Final = {"ConsumerId": "api-consumer", "MaxRetries": 5, "BaseRetryDelaySeconds": 30}
"""The readme's second settings file, for `UnreliableApiJob`."""

S = OccurrenceStatus
FORMS: Final = ("classes", "functions")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder, with the page's modules in it, and with no settings file."""
    for block in blocks(PAGE):
        name = block.marks.get("file", "")
        if name.removesuffix(".py") in FORMS:
            (tmp_path / name).write_text(block.code, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for form in FORMS:
        sys.modules.pop(form, None)


def worker_of(form: str) -> Worker:
    worker = importlib.import_module(form).worker
    assert isinstance(worker, Worker)
    return worker


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("overlay", "delay"), [(None, 60), (API_JOB_ENTRY, 30)], ids=["one file", "both files"])
async def test_with_the_settings_files_of_the_readme(
    form: str, overlay: object, delay: int, folder: Path, autojump_clock: MockClock
) -> None:
    """Unchanged: its first file alone, in which two of the jobs have no entry, and its second one laid over it."""
    (folder / "appsettings.json").write_text(SDK_README)
    if overlay is not None:
        text = json.dumps({"JobConsumers": {"UnreliableApiJob": overlay}})
        (folder / "appsettings.Production.json").write_text(text)
    answers = iter([503, 500, 200])
    transport = httpx2.MockTransport(lambda request: httpx2.Response(next(answers)))
    async with (
        httpx2.AsyncClient(transport=transport) as http,
        under_test(worker_of(form), provided={httpx2.AsyncClient: http}) as kit,
    ):
        sent = kit.enqueue("SendEmailJob", {"email": "ada@example.org"})
        called = kit.enqueue("UnreliableApiJob", {"url": "https://example.org/"})
        stopped, ended = kit.enqueue("LongRunningJob"), kit.enqueue("LongRunningJob")
        await trio.sleep(20)
        kit.cancel(stopped)
        await kit.run_until_idle()
        queue = kit.queue("SendEmailJob").name

    assert queue == "scheduled_jobs_queue.sendemail.wildcard"
    statuses = [kit.occurrence(one).status for one in (sent, called, stopped, ended)]
    assert statuses == [S.COMPLETED, S.COMPLETED, S.CANCELLED, S.COMPLETED]
    assert kit.occurrence(sent).result == "Email sent successfully"
    (record,) = kit.occurrence(sent).logs
    assert (record.log.message, record.log.data) == ("sending", {"to": "ada@example.org"})
    assert [retry.delay for retry in kit.occurrence(called).retries] == [delay, 2 * delay]


@asynccontextmanager
async def unreliable_api(*statuses: int) -> AsyncIterator[str]:
    """The address of an HTTP server that gives these answers, one after the other."""
    left = iter(statuses)

    async def answer(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b"HTTP/1.1 %d x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % next(left))
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, answer, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}/"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("form", FORMS)
async def test_in_a_cluster(form: str, folder: Path) -> None:
    """`milvaion-trio run` with that file: one sent, one tried again, one cancelled; and the API is content."""
    environ = {"JobConsumers__UnreliableApiJob__BaseRetryDelaySeconds": "1"}
    with trio.fail_after(60):
        async with cluster() as c, unreliable_api(503, 200) as url:
            async with running(f"{form}:worker", c.write_appsettings(folder), cwd=folder, env=environ) as run:
                await c.api.until(lambda: c.api.model.workers)
                long = await c.api.dispatch("LongRunningJob")
                sent = await c.api.dispatch("SendEmailJob", {"email": "ada@example.org"})
                called = await c.api.dispatch("UnreliableApiJob", {"url": url})
                running_long = c.api.occurrence(long)
                await c.api.until(lambda: running_long.status == S.RUNNING)
                await c.cancel(long)
                await c.api.until_ended(long, sent, called)
                assert await run.stop() == 0, run.told

            assert c.api.occurrence(sent).status == S.COMPLETED
            assert c.api.occurrence(sent).result == "Email sent successfully"
            assert [row.message for row in c.api.occurrence(sent).logs] == ["sending"]
            assert c.api.occurrence(called).history == [S.QUEUED, S.RUNNING, S.COMPLETED]
            assert c.api.occurrence(long).wire[-1].status == S.CANCELLED


async def test_one_job_at_a_time_moves_by_its_routing_pattern(folder: Path) -> None:
    """A worker with another id and the pattern of the .NET worker's job takes the messages meant for that one."""
    with trio.fail_after(60):
        async with cluster() as c:
            old = c.worker("email-worker")
            moved = c.worker("email-worker-python")

            async def send_email() -> str:
                return "by the new worker"

            old.job("SendEmailJob", routing_patterns=("sendemail.*",))(send_email)
            moved.job("SendEmailJob", routing_patterns=("sendemail.*",))(send_email)
            async with serving(old):
                await c.api.until(lambda: "email-worker" in c.api.model.workers)
                c.api.create_job("SendEmailJob")
            async with serving(moved):
                await c.api.until(lambda: "email-worker-python" in c.api.model.workers)
                occurrence = await c.api.dispatch("SendEmailJob")
                await c.api.until_ended(occurrence)

            assert c.api.occurrence(occurrence).result == "by the new worker"
