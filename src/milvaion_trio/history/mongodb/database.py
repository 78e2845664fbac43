"""The database of a history: its address, how it is opened, its indexes, and what its errors mean to a person.

Separate from the store, which says what is written and read in it.
"""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeAlias

import pymongo
from attrs import define, field
from bson.errors import BSONError, InvalidDocument
from pymongo import IndexModel, uri_parser
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, ConfigurationError, OperationFailure, PyMongoError
from pymongo.write_concern import WriteConcern

from milvaion_trio.model.errors import SettingsError, StoreUnavailable

__all__ = ["HistoryDatabase", "Rows"]

Rows: TypeAlias = Collection[dict[str, Any]]

VERSION: Final = 1
"""Of the documents. A newer one may hold what this program would lose by writing rows back."""
SETTING: Final = "Worker:Monitor:Mongodb"
PATIENCE: Final = {"serverSelectionTimeoutMS": 5_000, "connectTimeoutMS": 5_000, "socketTimeoutMS": 30_000}
"""PyMongo waits 30 s for a server and for ever for its answer; the address may say otherwise."""
DURABLE: Final = WriteConcern(w="majority", j=True, wtimeout=30_000)
"""What was written is in the journals of most servers, as `save` promises."""
SCHEMES: Final = ("mongodb", "mongodb+srv")

NEWEST: Final = [("_created", pymongo.DESCENDING), ("_id", pymongo.DESCENDING)]
NEWEST_FAILURES: Final = [("_failed", pymongo.DESCENDING), ("_id", pymongo.DESCENDING)]
_IN_TIME: Final = [("_created", pymongo.ASCENDING), ("_id", pymongo.ASCENDING)]
_FAILURES_IN_TIME: Final = [("_failed", pymongo.ASCENDING), ("_id", pymongo.ASCENDING)]
# Read backwards for the newest first. In one that descends, the server of the tests finds nothing between two times.
INDEXES: Final[Mapping[str, list[IndexModel]]] = {
    "occurrences": [
        IndexModel(_IN_TIME),
        IndexModel([("status", 1), *_IN_TIME]),
        IndexModel([("_job", 1), *_IN_TIME, ("status", 1)]),
        IndexModel([("worker_id", 1), *_IN_TIME, ("status", 1)]),
        IndexModel([("schedule_id", 1), *_IN_TIME], partialFilterExpression={"schedule_id": {"$exists": True}}),
        IndexModel([("_heard", 1), ("_id", 1)], partialFilterExpression={"_heard": {"$exists": True}}),
    ],
    "lines": [IndexModel([("occurrence_id", 1), ("_at", 1), ("_id", 1)])],
    "failures": [IndexModel(_FAILURES_IN_TIME), IndexModel([("_job", 1), *_FAILURES_IN_TIME])],
}
_UNAUTHORIZED, _AUTHENTICATION_FAILED = 13, 18
_TOO_LARGE: Final = frozenset((10334, 17280, 17419, 17420))


@define(eq=False, init=False)
class HistoryDatabase:
    """A database and the client's connections to it, for any thread."""

    name: str
    """The servers and the database, without user and password."""
    _address: str = field(repr=False)
    _database_name: str
    _client: pymongo.MongoClient[dict[str, Any]] | None

    def __init__(self, address: str) -> None:
        """Connects to nothing. Raises `SettingsError` for an address that is none, or without a database."""
        scheme, _, rest = address.partition("://")
        hosts, _, path = rest.rpartition("@")[2].partition("/")
        self._address = address
        self._database_name = path.partition("?")[0]
        self._client = None
        self.name = f"{scheme if scheme in SCHEMES else 'mongodb'}://{hosts}/{self._database_name}"
        example = "mongodb://localhost:27017/milvaion"
        if scheme not in SCHEMES:
            raise SettingsError([f"{SETTING} is no address of a MongoDB; it looks like {example}."])
        if not self._database_name:
            raise SettingsError(
                [f"{SETTING} names no database, {self.name}; it stands after the servers, as in {example}."]
            )
        try:
            if scheme == "mongodb":  # to check the other one, names would have to be looked up
                uri_parser.parse_uri(address)
        except (PyMongoError, ValueError) as error:
            raise SettingsError([f"{SETTING} is no address that can be used: {self._without_secrets(error)}"]) from None

    def open(self) -> None:
        """Connect, and make what is missing; raises `StoreUnavailable`."""
        with self.errors():
            told = self._address.lower()
            patience: dict[str, Any] = {
                name: limit for name, limit in PATIENCE.items() if f"{name.lower()}=" not in told
            }
            self._client = pymongo.MongoClient(self._address, appname="milvaion-trio", **patience)
            try:
                self._prepare()
            except BaseException:
                self.close()
                raise

    def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            client, self._client = self._client, None
            client.close()

    def __getitem__(self, name: str) -> Rows:
        """A collection, whose writes are durable when they return."""
        return self._database()[name]

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn the client's errors into `StoreUnavailable`, but for a document that no server would ever take."""
        try:
            yield
        except InvalidDocument:
            raise
        except (PyMongoError, BSONError) as error:
            if isinstance(error, BulkWriteError) and _TOO_LARGE & {each["code"] for each in _refusals(error)}:
                raise InvalidDocument(f"A row is larger than a document may be: {_text(error)}") from None
            why = self._without_secrets(error)
            if isinstance(error, OperationFailure) and error.code in (_UNAUTHORIZED, _AUTHENTICATION_FAILED):
                advice = f"Look at the user, the password and their rights ({SETTING})"
            elif isinstance(error, ConfigurationError):
                advice = f"Look at the address ({SETTING})"
            else:
                advice = f"Does it run where {SETTING} says?"
            raise StoreUnavailable(f"The history {self.name} is not to be had: {why.rstrip('.')}. {advice}") from error

    def _database(self) -> Database[dict[str, Any]]:
        if self._client is None:
            raise StoreUnavailable(f"The history {self.name} is not open. Use it as `with store:`.")
        return self._client.get_database(self._database_name, write_concern=DURABLE)

    def _prepare(self) -> None:
        about = self["about"]
        found = about.find_one({"_id": "history"})
        if found is not None and found["version"] > VERSION:
            raise StoreUnavailable(
                f"The history {self.name} was written by a newer milvaion-trio: its documents have "
                f"version {found['version']}, this one knows {VERSION}. Use the newer one, or name another database "
                f"({SETTING})."
            )
        for name, indexes in INDEXES.items():
            self[name].create_indexes(indexes)
        about.update_one({"_id": "history"}, {"$set": {"version": VERSION}}, upsert=True)

    def _without_secrets(self, error: Exception) -> str:
        login = self._address.partition("://")[2].rpartition("@")[0]
        text = _text(error).split(", Timeout:")[0]  # then comes what the client knows of each server, on a long line
        for secret in filter(None, (login, login.partition(":")[2])):
            text = text.replace(secret, "...")
        return text


def _text(error: Exception) -> str:
    """What it says, without the rows that it is about: they are whole in the text of such an error."""
    if not isinstance(error, BulkWriteError):
        return str(error)
    refusals = [*_refusals(error), *(error.details or {}).get("writeConcernErrors", ())]
    return str(refusals[0].get("errmsg", "")) if refusals else "a write was refused"


def _refusals(error: BulkWriteError) -> list[dict[str, Any]]:
    return list((error.details or {}).get("writeErrors", ()))
