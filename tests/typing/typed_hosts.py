"""What a type checker says about hosts of workers and clients on asyncio. Checked as `typed_jobs.py` is, never run."""

import asyncio
from typing import assert_type

import anyio

from milvaion_trio import AsyncioClient, Worker
from milvaion_trio.embed import serving
from milvaion_trio.model.ids import OccurrenceId


class Mailer(Worker):
    """A worker of somebody's own keeps its type."""


@Worker("email-worker").job()
async def send_email(to: str) -> str:
    return to


async def on_asyncio(worker: Worker) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(worker.serve())
    async with AsyncioClient.from_file("appsettings.json") as client:
        assert_type(client, AsyncioClient)
        occurrence_id = await client.enqueue(send_email, {"to": "a"}, delay=5)
        assert_type(occurrence_id, OccurrenceId)
        assert_type(await client.enqueue("SendEmailJob"), OccurrenceId)
        assert_type(await client.cancel(occurrence_id, "by mistake"), int)
        await client.enqueue(5)  # type: ignore[arg-type] # refused
        await client.cancel("not an id of an occurrence")  # type: ignore[arg-type] # refused
    assert_type(AsyncioClient.of(worker), AsyncioClient)
    AsyncioClient.of("email-worker")  # type: ignore[arg-type] # refused
    with AsyncioClient.of(worker):  # type: ignore[attr-defined] # refused
        pass


async def on_anyio(worker: Worker) -> None:
    async with anyio.create_task_group() as group:
        await group.start(worker.serve)
        group.start_soon(worker.serve)


async def as_a_context(mailer: Mailer) -> None:
    async with serving(mailer, handle_signals=False) as served:
        assert_type(served, Mailer)
    async with serving(Mailer):  # type: ignore[type-var] # refused
        pass
    with serving(mailer):  # type: ignore[attr-defined] # refused
        pass
