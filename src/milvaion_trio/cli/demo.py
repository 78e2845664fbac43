"""`milvaion-trio demo`: sample jobs of every ending, watched live, with a check that each ended as promised."""

from contextlib import nullcontext

import trio
from rich.console import Console
from rich.text import Text

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.cli.demo_jobs import worker
from milvaion_trio.cli.demo_record import Ending, Record
from milvaion_trio.cli.demo_story import CANCELLED, STORY, broken_promises
from milvaion_trio.cli.demo_view import closing_table, is_live, remark_line, shown_live
from milvaion_trio.cli.failures import CommandFailed, ExitCode
from milvaion_trio.cli.narration import Remark
from milvaion_trio.cli.serving import serve_and_end
from milvaion_trio.cli.terminal import GOOD, WAITING, output_console
from milvaion_trio.logs import log_event

__all__ = ["demo"]

PACE = 0.4
"""Seconds between two jobs, so that a person can follow."""

CANCEL_AFTER = 1.0
"""Seconds after the last job was enqueued until the signal cancels one of them."""


def demo() -> int:
    """Watch sample jobs of every ending: success, retries, dead letters, timeout, cancel, shutdown.

    Needs nothing but this package: the broker is embedded. Takes about 10 seconds, checks that every job ended as it
    should, and leaves with 0 if all did. Ctrl-C ends it early, also with 0: the running jobs may end, a second Ctrl-C
    cancels them. The jobs are an ordinary worker, to be copied from: milvaion_trio/cli/demo_jobs.py.

        milvaion-trio demo
    """
    console = output_console()
    record = trio.run(_play, console)
    console.print()
    console.print(closing_table(record))
    console.print()
    if not record.is_complete:
        console.print(Text("Stopped early, so not every job ended as it would have.", style=WAITING))
        return ExitCode.DONE
    fates = {fate.job_name: fate for fate in record.fates.values()}
    broken = [line for scene in STORY for line in broken_promises(scene, fates[scene.job.name])]
    if broken:
        raise CommandFailed("Not everything ended as promised:" + "".join(f"\n  - {line}" for line in broken))
    console.print(Text(f"All {len(STORY)} jobs ended as promised.", style=GOOD))
    return ExitCode.DONE


async def _play(console: Console) -> Record:
    """Serve the worker, enqueue the story, and return what became of it."""
    began = trio.current_time()
    live = is_live(console)

    def clock() -> float:
        return trio.current_time() - began

    def tell(remark: Remark) -> None:
        if not live:
            console.print(remark_line(remark, clock()))

    record = Record(clock, tell)
    worker.broker = broker = EmbeddedBroker()
    worker.observers = (*(told for told in worker.observers if told is not log_event), record.happened)
    broker.on_publish.append(record.published)
    shows = {scene.job.name: scene.shows for scene in STORY}
    async with shown_live(console, record, shows) if live else nullcontext():
        async with trio.open_nursery() as nursery:
            await nursery.start(serve_and_end, worker, nursery.cancel_scope)
            await _tell_story(record)
    return record


async def _tell_story(record: Record) -> None:
    """Enqueue every scene, cancel one, and let the worker leave while the last one still runs. May be cancelled."""
    stays = next(scene.job.name for scene in STORY if scene.ending is Ending.RETURNED)
    async with worker.client() as client:
        occurrences = {}
        for scene in STORY:
            occurrences[scene.job.name] = await client.enqueue(scene.job, scene.data)
            await trio.sleep(PACE)
        await trio.sleep(CANCEL_AFTER)
        await client.cancel(occurrences[CANCELLED], "nobody wants it any more")
        await record.until_all_ended_but(stays)
        await trio.sleep(PACE)
    record.is_complete = not record.is_leaving
    worker.drain()
    await trio.sleep_forever()  # until the worker has left
