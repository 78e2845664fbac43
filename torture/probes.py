"""The jobs that hostile messages ask for, in a worker process that is told to have them.

Separate from the worker program, which other scenarios want without them: two more queues, and data of other types.
"""

from collections.abc import Callable

from tests.support.hostile import Picky

from milvaion_trio import JobContext, Worker

__all__ = ["add"]


def add(worker: Worker, note: Callable[..., None]) -> None:
    """Add both jobs; each run is a line `probe`."""

    @worker.job("Probe")
    async def probe(ctx: JobContext, data: object = None) -> str:
        note("probe", occurrence=ctx.occurrence_id)
        return "ran"

    @worker.job("PickyProbe")
    async def picky_probe(ctx: JobContext, data: Picky) -> str:
        note("probe", occurrence=ctx.occurrence_id)
        return f"ran with {data.number}"
