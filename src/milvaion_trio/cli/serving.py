"""Serving a worker beside something else that ends when the worker has left."""

import trio

from milvaion_trio.cli.collector import suit_the_collector
from milvaion_trio.worker import Worker

__all__ = ["serve_and_end"]


async def serve_and_end(
    worker: Worker, scope: trio.CancelScope, task_status: trio.TaskStatus[Worker] = trio.TASK_STATUS_IGNORED
) -> None:
    """Serve until the worker has left, then cancel the scope of everything that stands around it.

    Handles signals. If cancelled, the running jobs are cancelled and go back to their queues.
    """
    suit_the_collector()
    await worker.serve(handle_signals=True, task_status=task_status)
    scope.cancel()
