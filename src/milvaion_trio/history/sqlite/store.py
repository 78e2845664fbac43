"""The history in SQLite: a table per kind of row, each row a document beside the columns it is found by."""

import json
from collections.abc import Collection, Mapping, Sequence
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Final, Self, TypeVar

from milvaion_trio.history.documents import document_of, job_key, value_of
from milvaion_trio.history.sqlite.file import HistoryFile
from milvaion_trio.model.history import FailedOccurrence, InstanceRecord, LogLine, OccurrenceRecord, WorkerRecord
from milvaion_trio.model.ids import InstanceId, OccurrenceId
from milvaion_trio.model.instant import Instant
from milvaion_trio.policy.tracking import unfinished_since
from milvaion_trio.ports.history import HistoryStore, OccurrenceQuery, Rows

__all__ = ["SQLiteHistory"]

T = TypeVar("T")

SAVE_OCCURRENCE: Final = """
INSERT INTO occurrences VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET created = excluded.created,
    status = excluded.status, job = excluded.job, worker = excluded.worker, schedule = excluded.schedule,
    heard = excluded.heard, document = excluded.document"""
"""Not `OR REPLACE`, which takes a row from its place and puts it at the end: an occurrence is saved several times."""

_ENCODED: Final = json.JSONEncoder(check_circular=False, separators=(",", ":")).encode
"""Half as long as `json.dumps` takes: documents are trees."""


class SQLiteHistory(HistoryStore):
    """A history in one file."""

    def __init__(self, path: Path) -> None:
        self._file = HistoryFile(path.absolute())

    @property
    def name(self) -> str:
        """The file."""
        return str(self._file.path)

    def __enter__(self) -> Self:
        """Open the file, and make what is missing."""
        self._file.open()
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self._file.close()

    # --- the monitor --------------------------------------------------------------------------------------------------

    def save(self, rows: Rows) -> None:
        """Write all of it in one transaction."""
        with self._file.writing() as connection:
            connection.executemany(
                SAVE_OCCURRENCE,
                [
                    (
                        row.id,
                        row.created_at.utc_ticks,
                        int(row.status),
                        job_key(row.job_name),
                        row.worker_id,
                        row.schedule_id,
                        unfinished_since(row),
                        _text(row),
                    )
                    for row in rows.occurrences
                ],
            )
            connection.executemany(
                "INSERT OR IGNORE INTO lines VALUES (?, ?, ?, ?)",
                [(line.occurrence_id, line.at.utc_ticks, line.key, _text(line)) for line in rows.lines],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO failures VALUES (?, ?, ?, ?)",
                [
                    (row.occurrence_id, row.failed_at.utc_ticks, job_key(row.job_name), _text(row))
                    for row in rows.failures
                ],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO workers VALUES (?, ?)", [(row.worker_id, _text(row)) for row in rows.workers]
            )
            connection.executemany(
                "INSERT OR REPLACE INTO instances VALUES (?, ?, ?)",
                [(row.instance_id, row.worker_id, _text(row)) for row in rows.instances],
            )

    def load(self, ids: Collection[OccurrenceId]) -> Mapping[OccurrenceId, OccurrenceRecord]:
        """One look for each: quicker than any statement for many, of which each number would be another one."""
        found: dict[OccurrenceId, OccurrenceRecord] = {}
        with self._file.reading() as connection:
            for one in ids:
                for (text,) in connection.execute("SELECT document FROM occurrences WHERE id = ?", (one,)):
                    found[one] = _row(OccurrenceRecord, text)
        return found

    def unfinished(self, silent_since: Instant, limit: int) -> Sequence[OccurrenceRecord]:
        """By the column that only they have."""
        return self._rows(
            OccurrenceRecord,
            "SELECT document FROM occurrences WHERE heard < ? ORDER BY heard, id LIMIT ?",
            silent_since.utc_ticks,
            max(limit, 0),
        )

    def delete_before(self, moment: Instant, limit: int) -> int:
        """Delete the oldest of them, in one transaction."""
        with self._file.writing() as connection:
            gone = connection.execute(
                "SELECT id FROM occurrences WHERE created < ? AND heard IS NULL ORDER BY created, id LIMIT ?",
                (moment.utc_ticks, max(limit, 0)),
            ).fetchall()
            connection.executemany("DELETE FROM lines WHERE occurrence = ?", gone)
            connection.executemany("DELETE FROM failures WHERE occurrence = ?", gone)
            connection.executemany("DELETE FROM occurrences WHERE id = ?", gone)
        return len(gone)

    # --- anybody ------------------------------------------------------------------------------------------------------

    def find(self, query: OccurrenceQuery) -> Sequence[OccurrenceRecord]:
        """A page. Each status is searched by itself: with several, SQLite would sort all that have one of them."""
        conditions, values = ["TRUE"], list[object]()

        def only(condition: str, *given: object) -> None:
            conditions.append(condition)
            values.extend(given)

        if query.job_name is not None:
            only("job = ?", job_key(query.job_name))
        if query.worker_id is not None:
            only("worker = ?", query.worker_id)
        if query.schedule_id is not None:
            only("schedule = ?", query.schedule_id)
        if query.since is not None:
            only("created >= ?", query.since.utc_ticks)
        if query.until is not None:
            only("created < ?", query.until.utc_ticks)
        limit = max(query.limit, 0)
        with self._file.reading() as connection:
            if query.after is not None:
                last = connection.execute("SELECT created FROM occurrences WHERE id = ?", (query.after,)).fetchone()
                if last is None:
                    return ()
                only("(created, id) < (?, ?)", last[0], query.after)
            statuses = [int(status) for status in query.statuses]
            pages = [
                connection.execute(
                    f"SELECT created, id, document FROM occurrences WHERE {' AND '.join(conditions)} "
                    f"AND {'status = ?' if statuses else '?'} ORDER BY created DESC, id DESC LIMIT ?",
                    (*values, status, limit),
                ).fetchall()
                for status in statuses or [True]
            ]
        return [_row(OccurrenceRecord, text) for _, _, text in islice(merge(*pages, reverse=True), limit)]

    def counts(self) -> Mapping[int, int]:
        """By a look through the index."""
        with self._file.reading() as connection:
            return dict(connection.execute("SELECT status, count(*) FROM occurrences GROUP BY status").fetchall())

    def lines(self, occurrence_id: OccurrenceId, limit: int = 1000) -> Sequence[LogLine]:
        """Its last lines."""
        last = self._rows(
            LogLine,
            "SELECT document FROM lines WHERE occurrence = ? ORDER BY at DESC, key DESC LIMIT ?",
            occurrence_id,
            max(limit, 0),
        )
        return last[::-1]

    def failures(self, *, job_name: str | None = None, limit: int = 50) -> Sequence[FailedOccurrence]:
        """The newest dead letters."""
        condition, values = ("TRUE", ()) if job_name is None else ("job = ?", (job_key(job_name),))
        return self._rows(
            FailedOccurrence,
            f"SELECT document FROM failures WHERE {condition} ORDER BY failed DESC, occurrence DESC LIMIT ?",
            *values,
            max(limit, 0),
        )

    def failure(self, occurrence_id: OccurrenceId) -> FailedOccurrence | None:
        """The dead letter of this occurrence."""
        found = self._rows(FailedOccurrence, "SELECT document FROM failures WHERE occurrence = ?", occurrence_id)
        return found[0] if found else None

    def purge_failures(self, ids: Collection[OccurrenceId] | None) -> int:
        """Delete them in one transaction."""
        with self._file.writing() as connection:
            if ids is None:
                return connection.execute("DELETE FROM failures WHERE TRUE").rowcount
            return connection.executemany(
                "DELETE FROM failures WHERE occurrence = ?", [(one,) for one in set(ids)]
            ).rowcount

    def workers(self) -> Sequence[WorkerRecord]:
        """Every group."""
        return self._rows(WorkerRecord, "SELECT document FROM workers ORDER BY id")

    def instances(self) -> Sequence[InstanceRecord]:
        """Every process."""
        return self._rows(InstanceRecord, "SELECT document FROM instances ORDER BY worker, id")

    def forget_instances(self, ids: Collection[InstanceId]) -> None:
        """Delete them in one transaction."""
        with self._file.writing() as connection:
            connection.executemany("DELETE FROM instances WHERE id = ?", [(one,) for one in ids])

    def _rows(self, kind: type[T], statement: str, *values: object) -> Sequence[T]:
        with self._file.reading() as connection:
            found = connection.execute(statement, values).fetchall()
        return [_row(kind, text) for (text,) in found]


def _text(row: object) -> str:
    return _ENCODED(document_of(row))


def _row(kind: type[T], text: str) -> T:
    return value_of(kind, json.loads(text))
