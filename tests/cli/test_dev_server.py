"""The part of a dev worker that answers other terminals, without a process around it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from milvaion_trio import Worker
from milvaion_trio.cli.control import (
    Answer,
    Cancel,
    Done,
    Enqueue,
    Lines,
    Problem,
    Publish,
    Request,
    Where,
    encode_request,
    read_answer,
)
from milvaion_trio.cli.dev_server import DevServer
from milvaion_trio.model import events
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.signals.local import LocalSignals

OCCURRENCE = OccurrenceId("0f8fad5b-d9cb-469f-a165-70867728950e")


@asynccontextmanager
async def with_a_defect() -> AsyncIterator[object]:
    async def publish(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("nobody thought of this")

    yield SimpleNamespace(publish=publish)


@pytest.fixture
def server() -> DevServer:
    worker = Worker(worker_id="tests")
    worker.signals = LocalSignals()
    broker: Any = SimpleNamespace(publishing=with_a_defect, folder=None)
    return DevServer(worker, broker)


async def answers(server: DevServer, *requests: Request) -> list[Answer]:
    """What another terminal is told."""
    told = []
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, listener)
            async with await trio.open_tcp_stream(*listener.socket.getsockname()) as stream:
                lines = Lines(stream)
                for request in requests:
                    await lines.send(encode_request(request))
                    told.append(read_answer(await lines.receive() or b""))
            nursery.cancel_scope.cancel()
    return told


async def test_no_request_can_end_the_worker(server: DevServer) -> None:
    """Whatever goes wrong with one, the jobs and the other terminals go on; whoever asked is told."""
    assert await answers(server, Publish(body_raw="{}", exchange="anywhere"), Where()) == [
        Problem("The dev worker could not do this: RuntimeError: nobody thought of this"),
        Done(note=server.folder),
    ]


async def test_a_worker_that_leaves_takes_no_more_jobs(server: DevServer) -> None:
    """They would only wait in it; it still says where it is."""
    server.happened(events.ShutdownBegan(hard=False, running=1))

    assert await answers(server, Enqueue(job="CleanupJob"), Where()) == [
        Problem("The dev worker is leaving and takes no more jobs. Start it again."),
        Done(note=server.folder),
    ]


async def test_one_that_ended_and_runs_once_more_can_be_cancelled(server: DevServer) -> None:
    """The same occurrence, dispatched again."""
    ended = events.JobConcluded("CleanupJob", OCCURRENCE, 1, OccurrenceStatus.COMPLETED, 0.1, None)
    for event in (ended, events.JobStarted("CleanupJob", OCCURRENCE, 1, 1)):
        server.happened(event)

    assert await answers(server, Cancel(occurrence_id=OCCURRENCE)) == [
        Done(occurrence_id=OCCURRENCE, note=f"{OCCURRENCE}: cancelled the running job CleanupJob")
    ]
