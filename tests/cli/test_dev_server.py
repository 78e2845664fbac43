"""The part of a dev worker that answers other terminals, without a process around it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import trio

from milvaion_trio import Worker
from milvaion_trio.cli.control import Done, Lines, Problem, Publish, Where, encode_request, read_answer
from milvaion_trio.cli.dev_server import DevServer


@asynccontextmanager
async def with_a_defect() -> AsyncIterator[object]:
    async def publish(*_: object) -> None:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("nobody thought of this")

    yield SimpleNamespace(publish=publish)


async def test_no_request_can_end_the_worker() -> None:
    """Whatever goes wrong with one, the jobs and the other terminals go on; whoever asked is told."""
    broker: Any = SimpleNamespace(publishing=with_a_defect)
    server = DevServer(Worker(worker_id="tests"), broker)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.serve, listener)
            async with await trio.open_tcp_stream(*listener.socket.getsockname()) as stream:
                lines = Lines(stream)
                answers = []
                for request in (Publish(body_raw="{}", exchange="anywhere"), Where()):
                    await lines.send(encode_request(request))
                    answers.append(read_answer(await lines.receive() or b""))
            nursery.cancel_scope.cancel()

    assert answers == [
        Problem("The dev worker could not do this: RuntimeError: nobody thought of this"),
        Done(note=server.folder),
    ]
