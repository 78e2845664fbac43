"""T30: a backlog that was written while there was no broker, by a process that is dead; then the broker is there."""

import signal
from typing import Final

from tests.support.servers import HOST

from torture.play import Play
from torture.programs import in_own_process
from torture.scenario import Scenario, Size

__all__ = ["SCENARIO"]

RATE: Final = 1_000
"""Rows per second at least, on a machine that runs the broker too."""
MEGABYTES: Final = 200
"""Resident, of a process that does nothing else; most of it are Python and the client of RabbitMQ."""
ROWS: Final = 4_000
"""In memory: what `HEAD_ROWS` and a page make, and a batch."""
PROGRAM: Final = "torture.outbox_backlog"


async def play(play: Play) -> None:
    """Write, be killed, send; `faults` is the number of rows. If cancelled, it stops."""
    rows = play.size.faults
    folder = play.workers.folder / "backlog"
    folder.mkdir()
    defects = play.workers.told.sabotages
    wrote = await in_own_process(PROGRAM, "write", folder, rows, *defects, code=-signal.SIGKILL)
    where = HOST, play.here.rabbitmq.port, play.here.vhost
    sent = await in_own_process(PROGRAM, "send", folder, rows, *where, *defects)
    play.facts["write"], play.facts["send"] = wrote, sent
    for name in ("waiting", "confirmed", "in_the_queue"):
        if sent[name] != rows:
            play.complain("lost", f"{sent[name]} of {rows} rows are {name.replace('_', ' ')}")
    for about in sent["disorder"]:
        play.complain("order", about)
    if sent["rows_per_second"] < RATE:
        play.complain("rate", f"{sent['rows_per_second']} rows per second")
    for what, found in (("writes", wrote), ("sends", sent)):
        if found["megabytes"] > MEGABYTES or found["rows_in_memory"] > ROWS:
            play.complain(
                "memory", f"who {what} holds {found['rows_in_memory']} rows and {found['megabytes']} MB in memory"
            )


SCENARIO: Final = Scenario(
    id="T30",
    title="a backlog from before, longer than memory should hold",
    full=Size(jobs=0, faults=200_000, limit=600),
    short=Size(jobs=0, faults=6_000),
    play=play,
    sabotages={"no-paging": frozenset({"memory"}), "newest-first": frozenset({"order"})},
)
