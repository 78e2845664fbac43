"""A look into an outbox file, while a worker has it or none does: nothing is locked, made or changed.

Separate from the store, which belongs to one process.
"""

import sqlite3
from contextlib import closing
from pathlib import Path

from attrs import frozen

from milvaion_trio.disk.sqlite_file import head_of
from milvaion_trio.model.errors import MilvaionError
from milvaion_trio.outbox.store import APPLICATION_ID, SCHEMA_VERSION, StoredReport, read_reports

__all__ = ["Contents", "NewerOutbox", "NoOutbox", "look_into"]


class NoOutbox(MilvaionError):
    """What is there cannot be read as an outbox of this version."""


class NewerOutbox(NoOutbox):
    """It is one of a newer version, with which a worker of this one does not start."""


@frozen
class Contents:
    """What still has to reach the broker."""

    count: int
    first: tuple[StoredReport, ...]
    """The next to be sent, in order."""


def look_into(path: Path, limit: int) -> Contents | None:
    """The file's rows, at most `limit` of them in full; `None` where there is no file. Raises `NoOutbox`. It blocks."""
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5.0)) as db:
            head = head_of(db)
            if head.application == APPLICATION_ID and head.version > SCHEMA_VERSION:
                raise NewerOutbox(f"{path} was written by a newer version of milvaion-trio.")
            if head.application != APPLICATION_ID or head.version != SCHEMA_VERSION:
                raise NoOutbox(f"{path} is no outbox of this version of milvaion-trio.")
            (count,) = db.execute("SELECT count(*) FROM report").fetchone()
            return Contents(count, tuple(read_reports(db, 0, limit)))
    except sqlite3.Error as error:
        raise NoOutbox(f"{path} cannot be read: {error}.") from error
