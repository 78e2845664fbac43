"""The history in MongoDB: a collection per kind of row.

Fields that begin with `_` are what rows are found by: dates as numbers of 100 ns, as MongoDB's own have milliseconds.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Self, TypeVar

import attrs
from pymongo import ReplaceOne
from pymongo.errors import BulkWriteError

from milvaion_trio.history.documents import Document, document_of, job_key, value_of
from milvaion_trio.history.mongodb.database import NEWEST, NEWEST_FAILURES, HistoryDatabase
from milvaion_trio.model.history import FailedOccurrence, InstanceRecord, LogLine, OccurrenceRecord, WorkerRecord
from milvaion_trio.model.ids import InstanceId, OccurrenceId
from milvaion_trio.model.instant import Instant
from milvaion_trio.policy.tracking import unfinished_since
from milvaion_trio.ports.history import HistoryStore, OccurrenceQuery, Rows

__all__ = ["MongoDBHistory"]

T = TypeVar("T")

ROOM: Final = 15 * 1024 * 1024
"""Bytes of text in a document, of MongoDB's 16 MB."""
_BULKY: Final = ("data", "message", "job_data", "result", "exception")
"""What may be too large, in the order in which it is given up."""
_KEPT: Final = 1000
"""Characters that are left of a text without which there is no such row."""
_DUPLICATE: Final = 11000


class MongoDBHistory(HistoryStore):
    """A history in the database that an address names. What a document cannot hold is kept without its data."""

    def __init__(self, address: str) -> None:
        """Connects to nothing; raises `SettingsError` for an address that cannot be used."""
        self._database = HistoryDatabase(address)

    @property
    def name(self) -> str:
        """The address without user and password."""
        return self._database.name

    def __enter__(self) -> Self:
        """Connect, and make what is missing."""
        self._database.open()
        return self

    def __exit__(self, *_: object) -> None:
        """Disconnect."""
        self._database.close()

    # --- the monitor --------------------------------------------------------------------------------------------------

    def save(self, rows: Rows) -> None:
        """Write one collection after the other, the occurrences last: what belongs to one is there before it is."""
        with self._database.errors():
            self._insert("lines", [_line(line) for line in rows.lines])
            self._replace("failures", [_failure(row) for row in rows.failures])
            self._replace("workers", [_document(row, row.worker_id) for row in rows.workers])
            self._replace("instances", [_document(row, row.instance_id) for row in rows.instances])
            self._replace("occurrences", [_occurrence(row) for row in rows.occurrences])

    def load(self, ids: Collection[OccurrenceId]) -> Mapping[OccurrenceId, OccurrenceRecord]:
        """Those of them that there are."""
        found = self._rows(OccurrenceRecord, "occurrences", {"_id": {"$in": list(ids)}}) if ids else ()
        return {row.id: row for row in found}

    def unfinished(self, silent_since: Instant, limit: int) -> Sequence[OccurrenceRecord]:
        """By the field that only they have."""
        condition = {"_heard": {"$exists": True, "$lt": silent_since.utc_ticks}}
        return self._rows(OccurrenceRecord, "occurrences", condition, [("_heard", 1), ("_id", 1)], limit)

    def delete_before(self, moment: Instant, limit: int) -> int:
        """Delete the oldest of them, each after what belongs to it: whatever happens, a next call finds the rest."""
        if limit <= 0:
            return 0
        with self._database.errors():
            gone = [
                row["_id"]
                for row in self._database["occurrences"]
                .find({"_created": {"$lt": moment.utc_ticks}, "_heard": {"$exists": False}}, {"_id": 1})
                .sort([("_created", 1), ("_id", 1)])
                .limit(limit)
            ]
            if not gone:
                return 0
            self._database["lines"].delete_many({"occurrence_id": {"$in": gone}})
            self._database["failures"].delete_many({"_id": {"$in": gone}})
            return self._database["occurrences"].delete_many({"_id": {"$in": gone}}).deleted_count

    # --- anybody ------------------------------------------------------------------------------------------------------

    def find(self, query: OccurrenceQuery) -> Sequence[OccurrenceRecord]:
        """A page."""
        condition: dict[str, Any] = {}
        if query.job_name is not None:
            condition["_job"] = job_key(query.job_name)
        if query.worker_id is not None:
            condition["worker_id"] = query.worker_id
        if query.schedule_id is not None:
            condition["schedule_id"] = query.schedule_id
        if query.statuses:
            condition["status"] = {"$in": [int(status) for status in query.statuses]}
        limits = {"$gte": query.since, "$lt": query.until}
        if created := {name: moment.utc_ticks for name, moment in limits.items() if moment is not None}:
            condition["_created"] = created
        if query.after is not None:
            with self._database.errors():
                last = self._database["occurrences"].find_one({"_id": query.after}, {"_created": 1})
            if last is None:
                return ()
            at = last["_created"]
            condition["$or"] = [{"_created": {"$lt": at}}, {"_created": at, "_id": {"$lt": query.after}}]
        return self._rows(OccurrenceRecord, "occurrences", condition, NEWEST, query.limit)

    def counts(self) -> Mapping[int, int]:
        """By a look through the index."""
        with self._database.errors():
            groups = self._database["occurrences"].aggregate([{"$group": {"_id": "$status", "count": {"$sum": 1}}}])
            return {group["_id"]: group["count"] for group in groups}

    def lines(self, occurrence_id: OccurrenceId, limit: int = 1000) -> Sequence[LogLine]:
        """Its last lines."""
        newest = [("_at", -1), ("_id", -1)]
        return self._rows(LogLine, "lines", {"occurrence_id": occurrence_id}, newest, limit)[::-1]

    def failures(self, *, job_name: str | None = None, limit: int = 50) -> Sequence[FailedOccurrence]:
        """The newest dead letters."""
        condition = {} if job_name is None else {"_job": job_key(job_name)}
        return self._rows(FailedOccurrence, "failures", condition, NEWEST_FAILURES, limit)

    def failure(self, occurrence_id: OccurrenceId) -> FailedOccurrence | None:
        """The dead letter of this occurrence."""
        found = self._rows(FailedOccurrence, "failures", {"_id": occurrence_id})
        return found[0] if found else None

    def purge_failures(self, ids: Collection[OccurrenceId] | None) -> int:
        """Delete them."""
        with self._database.errors():
            condition = {} if ids is None else {"_id": {"$in": list(ids)}}
            return self._database["failures"].delete_many(condition).deleted_count

    def workers(self) -> Sequence[WorkerRecord]:
        """Every group."""
        return self._rows(WorkerRecord, "workers", {}, [("_id", 1)])

    def instances(self) -> Sequence[InstanceRecord]:
        """Every process."""
        return self._rows(InstanceRecord, "instances", {}, [("worker_id", 1), ("_id", 1)])

    def forget_instances(self, ids: Collection[InstanceId]) -> None:
        """Delete them."""
        with self._database.errors():
            self._database["instances"].delete_many({"_id": {"$in": list(ids)}})

    def _replace(self, name: str, documents: Sequence[Document]) -> None:
        if documents:
            self._database[name].bulk_write(
                [ReplaceOne({"_id": document["_id"]}, document, upsert=True) for document in documents], ordered=False
            )

    def _insert(self, name: str, documents: Sequence[Document]) -> None:
        if not documents:
            return
        try:
            self._database[name].insert_many(documents, ordered=False)
        except BulkWriteError as error:
            others = [one for one in error.details["writeErrors"] if one["code"] != _DUPLICATE]
            if others or error.details["writeConcernErrors"]:
                raise

    def _rows(
        self,
        kind: type[T],
        name: str,
        condition: Mapping[str, Any],
        order: Sequence[tuple[str, int]] = (),
        limit: int | None = None,
    ) -> Sequence[T]:
        if limit is not None and limit <= 0:  # which MongoDB takes for "all"
            return ()
        with self._database.errors():
            found = self._database[name].find(condition, sort=list(order) or None, limit=limit or 0)
            return [value_of(kind, document) for document in found]


def _occurrence(row: OccurrenceRecord) -> Document:
    heard = unfinished_since(row)
    document = _document(row, row.id) | {"status": int(row.status)}
    document |= {"_created": row.created_at.utc_ticks, "_job": job_key(row.job_name)}
    return document if heard is None else document | {"_heard": heard}


def _line(line: LogLine) -> Document:
    return _document(line, line.key) | {"_at": line.at.utc_ticks}


def _failure(row: FailedOccurrence) -> Document:
    return _document(row, row.occurrence_id) | {"_failed": row.failed_at.utc_ticks, "_job": job_key(row.job_name)}


def _document(row: attrs.AttrsInstance, identity: str) -> Document:
    document = document_of(row) | {"_id": identity}
    texts = [text for text in document.values() if isinstance(text, str)]
    if sum(map(len, texts)) * 4 > ROOM:  # no character takes more than four bytes
        size = sum(len(text.encode()) for text in texts)
        for name in _BULKY:
            if size > ROOM and name in document:
                text = document.pop(name)
                size -= len(text.encode())
                if attrs.fields_dict(type(row))[name].default is attrs.NOTHING:
                    document[name] = text[:_KEPT]
    return document
