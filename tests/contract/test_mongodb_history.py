"""What only a history in MongoDB has to answer for: its address, its server, its limits."""

import threading

import pytest
from attrs import evolve
from bson.errors import InvalidDocument
from tests.support.histories import failure, line, numbered, occurrence
from tests.support.mongodb import new_address, own_server

from milvaion_trio.history.mongodb import MongoDBHistory
from milvaion_trio.history.mongodb.database import VERSION, HistoryDatabase
from milvaion_trio.model.errors import SettingsError, StoreUnavailable
from milvaion_trio.ports.history import Rows

QUICK = "serverSelectionTimeoutMS=200&socketTimeoutMS=2000"


# --- the address ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("mongodb://localhost/history", "mongodb://localhost/history"),
        ("mongodb://me:s3cret@one:1,two:2/history?w=1", "mongodb://one:1,two:2/history"),
        ("mongodb+srv://me:s3cret@cluster.example/history", "mongodb+srv://cluster.example/history"),
    ],
)
def test_its_name_has_no_secrets(address: str, name: str) -> None:
    assert MongoDBHistory(address).name == name


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("redis://me:s3cret@localhost/0", "is no address of a MongoDB; it looks like mongodb://localhost"),
        ("localhost:27017", "is no address of a MongoDB"),
        ("mongodb://me:s3cret@localhost:27017", "names no database, mongodb://localhost:27017/"),
        ("mongodb://me:s3cret@localhost/?w=1", "names no database"),
        ("mongodb://me:s3cret@localhost:port/history", "is no address that can be used: "),
        ("mongodb://me:s3/cret@localhost/history", "is no address that can be used: "),
        ("mongodb:///history", "is no address that can be used: "),
    ],
)
def test_an_address_that_cannot_be_used_is_refused_before_anything_starts(address: str, problem: str) -> None:
    with pytest.raises(SettingsError) as raised:
        MongoDBHistory(address)

    assert problem in str(raised.value)
    assert "Worker:Monitor:Mongodb" in str(raised.value)
    assert "s3" not in str(raised.value)


# --- the server -------------------------------------------------------------------------------------------------------


def test_nobody_there_is_told_soon_and_without_secrets() -> None:
    store = MongoDBHistory(f"mongodb://me:s3cret@127.0.0.1:1/history?{QUICK}")

    with pytest.raises(StoreUnavailable, match=r"Does it run where Worker:Monitor:Mongodb says\?") as raised:
        store.__enter__()

    assert "mongodb://127.0.0.1:1/history" in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_what_is_not_open_says_so() -> None:
    with pytest.raises(StoreUnavailable, match="is not open"):
        MongoDBHistory("mongodb://localhost/history").save(Rows(occurrences=[occurrence(1)]))


@pytest.mark.long
def test_a_server_that_was_away_is_found_again_with_all_that_was_saved() -> None:
    with own_server() as server:
        with MongoDBHistory(f"{new_address(server)}?{QUICK}") as store:
            store.save(Rows(occurrences=[occurrence(1)]))
            server.kill()

            with pytest.raises(StoreUnavailable):
                store.save(Rows(occurrences=[occurrence(2)]))
            with pytest.raises(StoreUnavailable):
                store.counts()

            server.start()
            store.save(Rows(occurrences=[occurrence(2)]))
            assert store.counts() == {0: 2}
        server.kill()  # an orderly end takes it two seconds


def test_documents_of_a_newer_version_are_left_alone() -> None:
    address = new_address()
    database = HistoryDatabase(address)
    database.open()
    database["about"].update_one({"_id": "history"}, {"$set": {"version": VERSION + 1}})
    database.close()

    with pytest.raises(StoreUnavailable, match=rf"its documents have version {VERSION + 1}, this one knows {VERSION}"):
        MongoDBHistory(address).__enter__()


def test_what_no_document_can_hold_is_kept_without_its_largest_texts() -> None:
    """One message of 20 MB must not stop all others."""
    text = "x" * 20_000_000
    with MongoDBHistory(new_address()) as store:
        store.save(
            Rows(
                occurrences=[occurrence(1, job_data=text, result="kept")],
                lines=[line(1, 0, message="kept", data={"text": text}), line(1, 1, message=text)],
                failures=[failure(1, message=text.encode(), job_data="kept")],
            )
        )

        assert store.load([numbered(1)]) == {numbered(1): occurrence(1, result="kept")}
        assert store.lines(numbered(1)) == [line(1, 0, message="kept"), line(1, 1, message="x" * 1000)]
        assert store.failure(numbered(1)) == failure(1, job_data="kept")


def test_what_no_server_would_ever_take_is_not_tried_for_ever() -> None:
    """Whoever waits for a server that is away must see the difference; and the row is not in the error."""
    with MongoDBHistory(new_address()) as store, pytest.raises(InvalidDocument) as raised:
        store.save(Rows(occurrences=[evolve(occurrence(1), job_name="x" * 17_000_000)]))

    assert "larger" in str(raised.value)
    assert "xxx" not in str(raised.value)


def test_it_can_be_used_by_several_threads() -> None:
    """The monitor's thread for the next call may be another one."""
    with MongoDBHistory(new_address()) as store:
        threads = [
            threading.Thread(target=store.save, args=(Rows(occurrences=[occurrence(number)]),)) for number in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

        assert store.counts() == {0: 4}
