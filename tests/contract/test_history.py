"""Every sentence of `ports.history`, held by every store."""

from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support import histories
from tests.support.histories import NOW, failure, instance, instants, line, numbered, occurrence, worker
from tests.support.mongodb import new_address

from milvaion_trio.history.mongodb import MongoDBHistory
from milvaion_trio.history.sqlite import SQLiteHistory
from milvaion_trio.model.history import OccurrenceRecord
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.ports.history import HistoryStore, OccurrenceQuery, Rows

S = OccurrenceStatus
QUERIES = settings(max_examples=30)
"""A page of a server is fifty times slower than a virtual clock's."""

Place = Callable[[], HistoryStore]
"""Makes stores of one and the same place, each as another process would."""


@pytest.fixture(params=["sqlite", "mongodb"], scope="module")
def new_place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Place]:
    """Makes new, empty places."""
    if request.param == "mongodb":

        def database() -> Place:
            address = new_address()
            return lambda: MongoDBHistory(address)

        return database
    folder, numbers = tmp_path_factory.mktemp("histories"), count()

    def file() -> Place:
        path = Path(folder) / f"{next(numbers)}" / "history.db"
        return lambda: SQLiteHistory(path)

    return file


@pytest.fixture
def place(new_place: Callable[[], Place]) -> Place:
    return new_place()


@pytest.fixture
def store(place: Place) -> Iterator[HistoryStore]:
    with place() as store:
        yield store


@pytest.fixture(scope="module")
def emptied(new_place: Callable[[], Place]) -> Iterator[Callable[[], AbstractContextManager[HistoryStore]]]:
    """One store for all examples of a property, emptied after each."""
    with new_place()() as store:

        @contextmanager
        def lend() -> Iterator[HistoryStore]:
            try:
                yield store
            finally:
                ended = [evolve(row, status=S.SKIPPED) for row in store.find(OccurrenceQuery(limit=1000))]
                store.save(Rows(occurrences=ended))
                store.delete_before(NOW.plus(1e6), 1000)
                store.purge_failures(None)

        yield lend


def numbers(rows: Collection[OccurrenceRecord]) -> list[int]:
    return [int(row.id[-12:], 16) for row in rows]


# --- open and close ---------------------------------------------------------------------------------------------------


def test_a_new_store_is_empty(store: HistoryStore) -> None:
    assert store.find(OccurrenceQuery()) == []
    assert store.counts() == {}
    assert store.load([numbered(1)]) == {}
    assert store.unfinished(NOW, 10) == []
    assert store.lines(numbered(1)) == []
    assert store.failures() == []
    assert store.failure(numbered(1)) is None
    assert store.workers() == []
    assert store.instances() == []
    assert store.purge_failures(None) == 0
    assert store.delete_before(NOW, 10) == 0
    store.save(Rows())
    store.forget_instances([])


def test_what_was_saved_is_there_for_the_next_one_and_for_others_meanwhile(place: Place) -> None:
    with place() as store:
        store.save(Rows(occurrences=[occurrence(1)]))
        with place() as other:
            assert other.load([numbered(1)]) == {numbered(1): occurrence(1)}
            other.purge_failures(None)
        store.save(Rows(occurrences=[occurrence(2)]))
    with place() as next_one:
        assert numbers(next_one.find(OccurrenceQuery())) == [2, 1]


# --- save and load ----------------------------------------------------------------------------------------------------


@QUERIES
@given(rows=st.lists(histories.occurrences, min_size=1, max_size=5, unique_by=lambda row: row.id))
def test_occurrences_come_back_as_they_were_saved(
    rows: list[OccurrenceRecord], emptied: Callable[[], AbstractContextManager[HistoryStore]]
) -> None:
    with emptied() as store:
        store.save(Rows(occurrences=rows))

        assert store.load([row.id for row in rows] + [numbered(999)]) == {row.id: row for row in rows}


@QUERIES
@given(
    rows=st.builds(
        Rows,
        lines=st.lists(histories.lines, max_size=3, unique_by=lambda row: row.key),
        failures=st.lists(histories.failures, max_size=2, unique_by=lambda row: row.occurrence_id),
        workers=st.lists(histories.workers, max_size=2, unique_by=lambda row: row.worker_id),
        instances=st.lists(histories.instances, max_size=2, unique_by=lambda row: row.instance_id),
    )
)
def test_all_other_rows_come_back_too_and_saved_twice_are_there_once(
    rows: Rows, emptied: Callable[[], AbstractContextManager[HistoryStore]]
) -> None:
    with emptied() as store:
        store.save(Rows(occurrences=[occurrence(0)]))
        store.save(rows)
        store.save(rows)

        assert store.lines(numbered(0)) == sorted(rows.lines, key=lambda one: (one.at.utc_ticks, one.key))
        assert sorted(store.failures(), key=lambda one: one.occurrence_id) == sorted(
            rows.failures, key=lambda one: one.occurrence_id
        )
        assert {one.worker_id: one for one in rows.workers}.items() <= {
            one.worker_id: one for one in store.workers()
        }.items()
        assert {one.instance_id: one for one in rows.instances}.items() <= {
            one.instance_id: one for one in store.instances()
        }.items()


def test_rows_are_replaced_whole_and_lines_that_are_there_are_left_alone(store: HistoryStore) -> None:
    before = Rows(
        occurrences=[occurrence(1, result="r", schedule_id="daily")],
        lines=[line(1, 0)],
        failures=[failure(1, job_data="{}")],
        workers=[worker("reports", version="1", job_types=("a",))],
        instances=[instance("reports", "reports-1", lost_at=NOW)],
    )
    after = Rows(
        occurrences=[occurrence(1, status=S.RUNNING)],
        lines=[line(1, 0, message="another")],
        failures=[failure(1, 5)],
        workers=[worker("reports")],
        instances=[instance("reports", "reports-1", current_jobs=2)],
    )

    store.save(before)
    store.save(after)

    assert store.find(OccurrenceQuery()) == list(after.occurrences)
    assert store.find(OccurrenceQuery(schedule_id="daily")) == []
    assert store.counts() == {S.RUNNING: 1}
    assert store.lines(numbered(1)) == list(before.lines)
    assert store.failures() == list(after.failures)
    assert store.workers() == list(after.workers)
    assert store.instances() == list(after.instances)


def test_lines_may_come_before_their_occurrence_and_with_lines_that_are_there(store: HistoryStore) -> None:
    store.save(Rows(lines=[line(1, 1)]))
    store.save(Rows(occurrences=[occurrence(1)], lines=[line(1, 0), line(1, 1), line(1, 2)]))

    assert store.lines(numbered(1)) == [line(1, 0), line(1, 1), line(1, 2)]


def test_large_texts_are_kept(store: HistoryStore) -> None:
    text = "ü" * 1_000_000
    row, letter = occurrence(1, result=text, exception=text, job_data=text), failure(1, message=bytes(2_000_000))

    store.save(Rows(occurrences=[row], lines=[line(1, 0, message=text)], failures=[letter]))

    assert store.load([row.id]) == {row.id: row}
    assert store.lines(row.id) == [line(1, 0, message=text)]
    assert store.failure(row.id) == letter


# --- find -------------------------------------------------------------------------------------------------------------


def matching(rows: Collection[OccurrenceRecord], query: OccurrenceQuery) -> list[OccurrenceRecord]:
    """The model: all that the query means, without pages."""
    found = [
        row
        for row in rows
        if (query.job_name is None or (row.job_name or "").lower() == query.job_name.lower())
        and (query.worker_id in {None, row.worker_id})
        and (query.schedule_id in {None, row.schedule_id})
        and (not query.statuses or row.status in query.statuses)
        and (query.since is None or row.created_at.utc_ticks >= query.since.utc_ticks)
        and (query.until is None or row.created_at.utc_ticks < query.until.utc_ticks)
    ]
    return sorted(found, key=lambda row: (row.created_at.utc_ticks, row.id), reverse=True)


queries = st.builds(
    OccurrenceQuery,
    job_name=st.none() | st.sampled_from(["reportjob", "Other", "ÜNÏCODE"]),
    worker_id=st.none() | st.just("reports"),
    schedule_id=st.none() | st.just("daily"),
    statuses=st.frozensets(st.sampled_from([S.QUEUED, S.RUNNING, S.COMPLETED, S.FAILED, 42]), max_size=3),
    since=st.none() | instants,
    until=st.none() | instants,
    limit=st.integers(1, 4),
)


@QUERIES
@given(
    rows=st.lists(histories.occurrences, max_size=12, unique_by=lambda row: row.id),
    asked=st.lists(queries, min_size=1, max_size=4),
)
def test_pages_hold_all_that_is_asked_for_newest_first(
    rows: list[OccurrenceRecord],
    asked: list[OccurrenceQuery],
    emptied: Callable[[], AbstractContextManager[HistoryStore]],
) -> None:
    with emptied() as store:
        store.save(Rows(occurrences=rows))

        for query in asked:
            pages: list[OccurrenceRecord] = []
            while page := store.find(evolve(query, after=pages[-1].id if pages else None)):
                assert len(page) <= query.limit
                pages += page
                assert len(pages) <= len(rows), "the same page again"
            assert pages == matching(rows, query)
        counts = {status: [row.status for row in rows].count(status) for status in {row.status for row in rows}}
        assert store.counts() == counts


def test_new_ones_do_not_move_the_pages_that_follow(store: HistoryStore) -> None:
    store.save(Rows(occurrences=[occurrence(number, number) for number in range(4)]))
    page = store.find(OccurrenceQuery(limit=2))
    store.save(Rows(occurrences=[occurrence(9, 9)]))

    assert numbers(page) == [3, 2]
    assert numbers(store.find(OccurrenceQuery(limit=2, after=page[-1].id))) == [1, 0]


def test_after_one_that_is_gone_comes_nothing(store: HistoryStore) -> None:
    store.save(Rows(occurrences=[occurrence(1)]))

    assert list(store.find(OccurrenceQuery(after=numbered(2)))) == []


def test_no_more_than_the_limit_and_none_for_zero(store: HistoryStore) -> None:
    store.save(
        Rows(
            occurrences=[occurrence(number, number) for number in range(60)],
            failures=[failure(number, number) for number in range(60)],
            lines=[line(1, position) for position in range(5)],
        )
    )

    assert len(store.find(OccurrenceQuery())) == len(store.failures()) == 50
    assert not store.find(OccurrenceQuery(limit=0))
    assert not store.failures(limit=0)
    assert not store.lines(numbered(1), limit=0)
    assert not store.unfinished(NOW.plus(100), 0)
    assert store.delete_before(NOW.plus(100), 0) == 0


# --- unfinished and old ones ------------------------------------------------------------------------------------------


def test_the_unfinished_are_those_that_were_not_heard_of_since(store: HistoryStore) -> None:
    rows = [
        occurrence(1, 3),
        occurrence(2, 10),
        occurrence(3, 2, last_heard=NOW.plus(50)),
        occurrence(4, 0, status=S.RUNNING, last_heard=NOW.plus(4)),
        occurrence(5, 0, status=S.RUNNING, last_heard=NOW.plus(10)),
        occurrence(6, 1, status=S.RUNNING),
        *(occurrence(10 + status, 0, status=status) for status in [2, 3, 4, 5, 6, 7, 42]),
    ]
    store.save(Rows(occurrences=rows))

    assert numbers(store.unfinished(NOW.plus(10), 99)) == [6, 3, 1, 4]
    assert numbers(store.unfinished(NOW.plus(10), 2)) == [6, 3]

    store.save(Rows(occurrences=[evolve(rows[0], status=S.COMPLETED), evolve(rows[5], last_heard=NOW.plus(60))]))
    assert numbers(store.unfinished(NOW.plus(10), 99)) == [3, 4]


def test_those_that_wait_rightly_do_not_stand_before_the_lost(store: HistoryStore) -> None:
    """However many they are, and however small the portion: with a date in the future, or a long time of their own."""
    rows = [
        occurrence(1, 0, execute_at=NOW.plus(86_400)),
        occurrence(2, 0, execute_at=NOW.plus(7)),
        occurrence(3, 0, zombie_timeout=86_400.0),
        occurrence(4, 0, zombie_timeout=65.0),
        occurrence(5, 0, zombie_timeout=60.0),
        occurrence(6, 0, status=S.RUNNING, last_heard=NOW.plus(1), zombie_timeout=86_400.0),
        occurrence(7, 0, zombie_timeout=1e300),
        occurrence(8, 9),
    ]
    store.save(Rows(occurrences=rows))

    assert numbers(store.unfinished(NOW.plus(10), 99)) == [5, 4, 2, 8]
    assert numbers(store.unfinished(NOW.plus(86_400), 99)) == [5, 4, 2, 8, 3, 6]


def test_old_ones_go_in_portions_with_all_that_is_theirs(store: HistoryStore) -> None:
    rows = [occurrence(number, number, status=status) for number, status in enumerate([2, 0, 6, 1, 3, 42, 7])]
    store.save(
        Rows(
            occurrences=[*rows, occurrence(8, 20, status=S.COMPLETED)],
            lines=[line(number, position) for number in range(7) for position in range(3)],
            failures=[failure(number) for number in range(7)],
        )
    )

    assert store.delete_before(NOW.plus(20), 2) == 2
    assert numbers(store.find(OccurrenceQuery())) == [8, 6, 5, 4, 3, 1]
    assert [store.delete_before(NOW.plus(20), 2) for _ in range(3)] == [2, 1, 0]

    assert numbers(store.find(OccurrenceQuery())) == [8, 3, 1]
    assert [bool(store.lines(numbered(number))) for number in range(7)] == [number in (1, 3) for number in range(7)]
    assert [bool(store.failure(numbered(number))) for number in range(7)] == [number in (1, 3) for number in range(7)]


# --- lines, dead letters, workers -------------------------------------------------------------------------------------


def test_a_log_is_in_order_and_of_a_long_one_the_end_is_shown(store: HistoryStore) -> None:
    written = [line(1, 3, 1), line(1, 2, 0), line(1, 1, 0), line(1, 0, 2)]
    store.save(Rows(lines=[*written, line(2, 0)]))

    assert store.lines(numbered(1)) == [line(1, 1, 0), line(1, 2, 0), line(1, 3, 1), line(1, 0, 2)]
    assert store.lines(numbered(1), limit=2) == [line(1, 3, 1), line(1, 0, 2)]


def test_dead_letters_are_listed_newest_first_and_by_job(store: HistoryStore) -> None:
    old, new = failure(1, 1), failure(2, 2, job_name="OTHER", replayed_as=numbered(7))
    store.save(Rows(failures=[new, old, failure(3, 0)]))

    assert store.failures() == [new, old, failure(3, 0)]
    assert store.failures(limit=1) == [new]
    assert store.failures(job_name="reportJOB") == [old, failure(3, 0)]
    assert store.failures(job_name="other") == [new]
    assert store.failure(old.occurrence_id) == old


@pytest.mark.parametrize(("ids", "purged"), [([1, 2, 9], 2), ([], 0), ([1, 1], 1), (None, 3)])
def test_dead_letters_are_purged_and_their_occurrences_stay(
    store: HistoryStore, ids: list[int] | None, purged: int
) -> None:
    store.save(
        Rows(
            occurrences=[occurrence(number) for number in (1, 2, 3)],
            failures=[failure(number) for number in (1, 2, 3)],
        )
    )
    assert store.purge_failures(None if ids is None else [numbered(number) for number in ids]) == purged

    assert len(store.failures()) == 3 - purged
    assert len(store.find(OccurrenceQuery())) == 3


def test_workers_and_processes_are_in_order_and_processes_are_forgotten(store: HistoryStore) -> None:
    groups = [worker("a"), worker("b", routing_patterns={"a.$b": "b.*", "": "c"})]
    processes = [instance("a", "a-2"), instance("a", "a-9", stopped_at=NOW), instance("b", "a-1", lost_at=NOW)]
    store.save(Rows(workers=groups[::-1], instances=processes[::-1]))

    assert store.workers() == groups
    assert store.instances() == processes

    store.forget_instances([processes[0].instance_id, processes[2].instance_id])
    assert store.instances() == [processes[1]]


def test_what_is_put_in_order_by_its_time_is_so_whatever_its_offset(store: HistoryStore) -> None:
    """The earlier one has the greater text and the greater local time."""
    rows = [
        OccurrenceRecord(id=numbered(1), created_at=Instant.parse("2026-04-02T12:00:00+03:00")),
        OccurrenceRecord(id=numbered(2), created_at=Instant.parse("2026-04-02T09:00:00.0000001Z")),
        OccurrenceRecord(id=numbered(3), created_at=Instant.parse("2026-04-02T08:59:59.9999999")),
    ]
    store.save(Rows(occurrences=rows))

    assert numbers(store.find(OccurrenceQuery())) == [2, 1, 3]
