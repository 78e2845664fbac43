"""What `check` finds where the outbox is: whether a worker could write there. It is looked at, not opened as its own.

Separate from the other checks, because it asks the machine and no server, and a worker may be running on it.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from milvaion_trio.cli.findings import Area, Finding, Verdict
from milvaion_trio.transports import outbox_place
from milvaion_trio.worker import Worker

__all__ = ["look_at_outbox"]

IN_MEMORY = (
    "in memory, as Worker:OfflineResilience:Enabled is false: what is over and not yet sent when the process dies is "
    "run again"
)


def look_at_outbox(worker: Worker) -> Iterator[Finding]:
    """Nothing for a worker without RabbitMQ, whose messages end with its process. Settings come first; it blocks."""
    if worker.settings.rabbitmq is None:
        return
    if not worker.settings.offline_resilience.enabled:
        yield Finding(Area.OUTBOX, Verdict.OK, IN_MEMORY)
        return
    place = outbox_place(worker.settings).absolute()
    if why := _why_not_written(place):
        text = f"{place} cannot be written: {why} (Worker:OfflineResilience:LocalStoragePath)"
        yield Finding(Area.OUTBOX, Verdict.FAILED, text)
    elif not place.exists():
        yield Finding(Area.OUTBOX, Verdict.OK, f"{place}: missing, and made when a worker starts")
    else:
        yield _contents(place)


def _why_not_written(place: Path) -> str | None:
    """What is missing is made, so the nearest folder that there is counts."""
    folder = next(parent for parent in place.parents if os.path.lexists(parent))
    if not folder.is_dir():
        return f"{folder} is no folder"
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"nothing can be made in {folder}"
    if place.is_dir():
        return "it is a folder"
    if place.exists() and not os.access(place, os.R_OK | os.W_OK):
        return "its permissions do not allow it"
    return None


def _contents(place: Path) -> Finding:
    from milvaion_trio.outbox.inspection import NewerOutbox, NoOutbox, look_into  # imports sqlite3

    try:
        contents = look_into(place, 0)
    except NewerOutbox as error:
        return Finding(Area.OUTBOX, Verdict.FAILED, f"{error} Start that version, or set the file aside.")
    except NoOutbox as error:
        text = f"{error} A worker that finds it damaged sets it aside and makes a new one."
        return Finding(Area.OUTBOX, Verdict.WARNING, text)
    count = 0 if contents is None else contents.count
    return Finding(Area.OUTBOX, Verdict.OK, f"{place} can be written; reports waiting: {count}")
