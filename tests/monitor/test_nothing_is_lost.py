"""Whatever happens to the store, the broker or the monitor: what was reported is in the history, once."""

import logging

import pytest
import trio
from attrs import evolve
from tests.support.monitored import FailingHistory, Wire, publish, watched
from tests.support.workers import JOB_ID, at
from trio.testing import MockClock

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.broker.embedded.queues import EmbeddedDelivery
from milvaion_trio.model import topology
from milvaion_trio.model.errors import StoreUnavailable
from milvaion_trio.model.ids import InstanceId, OccurrenceId, WorkerId
from milvaion_trio.model.messages import EMPTY_GUID, StatusUpdate
from milvaion_trio.model.occurrence import OccurrenceStatus as S
from milvaion_trio.model.wire import encode_status
from milvaion_trio.monitor.batches import PREFETCH
from milvaion_trio.monitor.queues import QUEUES
from milvaion_trio.ports.history import Rows


def lived(broker: EmbeddedBroker, number: int = 1) -> Wire:
    """An occurrence that was dispatched, ran for a second and ended, as it is on the wire."""
    wire = Wire(broker, number)
    wire.dispatched()
    wire.told(S.RUNNING, start=0)
    wire.logged("one", "two")
    wire.told(S.COMPLETED, start=0, end=1, duration_ms=1000, result="done")
    return wire


async def test_what_cannot_be_written_is_not_acknowledged_until_it_can_be(
    broker: EmbeddedBroker,
    store: FailingHistory,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is tried again by itself, and said once; so is that it goes on."""
    caplog.set_level(logging.INFO)
    async with watched(broker, store) as history:
        store.trouble = "the disk is full"
        wire = lived(broker)
        await trio.sleep(120)
        kept_back = sum(broker.queue(queue).depth for queue in QUEUES)
        store.trouble = ""
        await trio.sleep(10)
        row, lines = store.load([wire.id])[wire.id], store.lines(wire.id)
        left = sum(broker.queue(queue).depth for queue in QUEUES)
        kept = history.monitor.kept

    assert kept_back == 4
    assert (row.status, row.runs, [line.message for line in lines]) == (S.COMPLETED, 1, ["one", "two"])
    assert (left, kept) == (0, 4)
    said = [record.getMessage() for record in caplog.records if "milvaion_trio.monitor" in record.name]
    assert [text for text in said if "the disk is full" in text] == [
        "nothing is kept, and nothing acknowledged, until it can be: the disk is full"
    ]
    assert len([text for text in said if "no more trouble" in text]) == 1


async def test_while_the_store_is_away_no_more_is_taken_than_the_prefetch(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    async with watched(broker, store):
        store.trouble = "away"
        for _ in range(3 * PREFETCH):
            publish(broker, topology.HEARTBEAT_QUEUE, b"{}")
        await trio.sleep(60)
        unacked = broker.queue(topology.HEARTBEAT_QUEUE).unacked
        store.trouble = ""

    assert unacked == PREFETCH


async def test_a_lost_connection_loses_and_doubles_nothing(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """What was taken and not written comes again; the monitor consumes again by itself."""
    async with watched(broker, store) as history:
        for number in range(1, 101):
            lived(broker, number)
            if number % 10 == 0:
                await trio.sleep(0.03)
                broker.drop_connection()
        await trio.sleep(10)
        await history.settled()
        rows = store.load([Wire(broker, number).id for number in range(1, 101)])
        lines = [len(store.lines(row)) for row in rows]

    assert [(row.status, row.runs, len(row.changes)) for row in rows.values()] == [(S.COMPLETED, 1, 2)] * 100
    assert lines == [2] * 100


async def test_a_batch_written_and_not_acknowledged_changes_nothing_when_it_comes_again(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """The connection dies between the write and the acks."""
    drops = iter([True, True])

    def dropping(rows: Rows) -> None:
        if len(rows.occurrences) and next(drops, False):
            store.history.save(rows)
            broker.drop_connection()

    store.refuses = dropping
    wire = lived(broker)
    wire.dead()
    async with watched(broker, store):
        await trio.sleep(30)
        row, lines, letters = store.load([wire.id])[wire.id], store.lines(wire.id), store.failures()

    assert next(drops, None) is None
    assert (row.status, row.runs, len(row.changes), row.result) == (S.COMPLETED, 1, 2, "done")
    assert (len(lines), len(letters)) == (2, 1)
    assert all(not broker.queue(queue).depth for queue in QUEUES)


async def test_a_dead_letter_that_comes_again_stays_replayed(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """A person replayed it between the write and the ack."""
    wire = Wire(broker)
    async with watched(broker, store) as history:
        wire.dead()
        await history.settled()
        letter = evolve(store.failures()[0], replayed_as=Wire(broker, 2).id)
        store.save(Rows(failures=[letter]))
        wire.dead()
        await history.settled()
        [kept] = store.failures()

    assert kept == letter


async def test_leaving_writes_what_was_taken(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """It was not worth a transaction yet."""
    async with watched(broker, store, batch_interval=1000):
        wire = lived(broker)
        await trio.sleep(1)
        before = store.load([wire.id])
        began = trio.current_time()

    assert before == {}
    assert trio.current_time() - began < 1
    with store:
        assert store.load([wire.id])[wire.id].status is S.COMPLETED
        assert len(store.lines(wire.id)) == 2
    assert all(not broker.queue(queue).depth for queue in QUEUES)


async def test_nothing_is_acknowledged_twice_when_an_acknowledgement_fails_on_leaving(
    broker: EmbeddedBroker, store: FailingHistory, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    """Between the write and the acks somebody is impatient, or the broker fails: that is the error, no other one."""
    ack, faults = EmbeddedDelivery.ack, iter([RuntimeError("a fault")])

    def failing(delivery: EmbeddedDelivery) -> None:
        ack(delivery)
        for fault in faults:
            raise fault

    monkeypatch.setattr(EmbeddedDelivery, "ack", failing)
    with pytest.RaisesGroup(pytest.RaisesExc(RuntimeError, match="a fault"), flatten_subgroups=True):
        async with watched(broker, store) as history:
            store.refuses = lambda _: history.monitor._working.cancel()
            wire = lived(broker)
            await history.settled()

    with store:
        assert store.load([wire.id])[wire.id].status is S.COMPLETED


async def test_leaving_while_the_store_is_away_takes_seconds_and_gives_everything_back(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    async with watched(broker, store):
        store.trouble = "away"
        lived(broker)
        await trio.sleep(60)
        began = trio.current_time()

    assert trio.current_time() - began < 6
    assert [len(broker.queue(queue).ready) for queue in QUEUES] == [1, 0, 0, 0, 0, 2, 1, 0]


async def test_the_next_monitor_goes_on_where_the_last_one_was_killed(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """A kill is a lost connection and nothing else: here the store stays away for the first one's last moments."""
    async with watched(broker, store):
        first = lived(broker, 1)
        await trio.sleep(1)
        store.trouble = "killed"
        second = lived(broker, 2)
        await trio.sleep(1)
    store.trouble = ""
    async with watched(broker, store) as history:
        await history.settled()
        rows = store.load([first.id, second.id])

    assert [(rows[each.id].status, rows[each.id].runs) for each in (first, second)] == [(S.COMPLETED, 1)] * 2


async def test_a_store_that_cannot_be_opened_stops_the_start(
    broker: EmbeddedBroker, store: FailingHistory, monkeypatch: pytest.MonkeyPatch, autojump_clock: MockClock
) -> None:
    def refused(_: FailingHistory) -> FailingHistory:
        raise StoreUnavailable("no such folder")

    monkeypatch.setattr(FailingHistory, "__enter__", refused)

    with pytest.RaisesGroup(pytest.RaisesExc(StoreUnavailable, match="no such folder"), flatten_subgroups=True):
        async with watched(broker, store):
            raise AssertionError("it started")


# --- messages that nobody can use -----------------------------------------------------------------------------------

OF_NOBODY = encode_status(
    StatusUpdate(
        occurrence_id=OccurrenceId(EMPTY_GUID),
        job_id=JOB_ID,
        worker_id=WorkerId("w"),
        instance_id=InstanceId("w-1"),
        status=S.RUNNING,
        message_timestamp=at(0),
    )
)
NONSENSE = [
    pytest.param(topology.STATUS_QUEUE, b"no json", id="status-no-json"),
    pytest.param(topology.STATUS_QUEUE, b'{"OccurrenceId":"00000000-0000-0000-0000-000000000000"}', id="status-no-id"),
    pytest.param(topology.LOGS_QUEUE, b'{"Logs":[{"OccurrenceId":"x","Log":{}}]}', id="logs"),
    pytest.param(topology.FAILED_QUEUE, b'{"Id":"no guid"}', id="dead-letter"),
    pytest.param(topology.REGISTRATION_QUEUE, b"{}", id="registration"),
    pytest.param(topology.STATUS_QUEUE, OF_NOBODY, id="empty id"),
    pytest.param(topology.HEARTBEAT_QUEUE, b"[]", id="heartbeat"),
    pytest.param(topology.EXTERNAL_OCCURRENCE_QUEUE, b"null", id="external-run"),
    pytest.param(topology.EXTERNAL_REGISTRATION_QUEUE, b"\xff", id="external-job"),
]


@pytest.mark.parametrize(("queue", "body"), NONSENSE)
async def test_an_unreadable_message_is_set_aside_and_stops_nothing(
    queue: str, body: bytes, broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """With what is wrong, and where it came from; the messages around it are kept."""
    first = lived(broker, 1)
    publish(broker, queue, body, message_id="odd")
    second = lived(broker, 2)
    async with watched(broker, store) as history:
        await history.settled()
        rows = store.load([first.id, second.id])
        [kept] = broker.queue(topology.QUARANTINE_QUEUE).ready

    assert [row.status for row in rows.values()] == [S.COMPLETED] * 2
    assert (kept.body, kept.message_id, kept.headers["x-mtrio-queue"]) == (body, "odd", queue)
    assert kept.headers["x-mtrio-problem"]
    assert all(not broker.queue(each).depth for each in QUEUES)


async def test_much_nonsense_is_told_in_few_lines(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with watched(broker, store) as history:
        for count, wait in ((3, 1), (3, 60), (1, 1)):
            for _ in range(count):
                publish(broker, topology.STATUS_QUEUE, b"{")
            await trio.sleep(wait)
        await history.settled()

    first, second = (line for line in caplog.messages if "cannot be used" in line)
    assert "more before it" not in first
    assert ", and 5 more before it: " in second


async def test_an_unreadable_copy_of_a_dispatch_is_dropped(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """The message itself goes to a worker, which sets it aside."""
    publish(broker, topology.DISPATCHES_QUEUE, b"no json")
    async with watched(broker, store) as history:
        await history.settled()

    assert broker.queue(topology.QUARANTINE_QUEUE).depth == broker.queue(topology.DISPATCHES_QUEUE).depth == 0


async def test_a_message_that_the_store_refuses_is_set_aside_and_all_others_are_kept(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """A defect of ours or of the database in one row must not stop the history."""
    wires = [lived(broker, number) for number in range(1, 31)]
    poison = wires[17].id
    store.refuses = lambda rows: OverflowError("too large") if any(r.id == poison for r in rows.occurrences) else None
    async with watched(broker, store) as history:
        await history.settled()
        counts = store.counts()

    assert counts == {S.COMPLETED: 29}
    assert broker.queue(topology.QUARANTINE_QUEUE).depth == 3
    assert all(not broker.queue(each).depth for each in QUEUES)


async def test_what_waits_to_be_set_aside_comes_again_with_its_connection(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """And is set aside once."""
    async with watched(broker, store) as history:
        with broker.blocking():
            publish(broker, topology.STATUS_QUEUE, b"no json")
            await history.settled()
            broker.drop_connection("consuming")
            await trio.sleep(10)
        await history.settled()

    assert broker.queue(topology.QUARANTINE_QUEUE).depth == 1
    assert broker.queue(topology.STATUS_QUEUE).depth == 0


async def test_leaving_sets_aside_what_was_taken_and_cannot_be_read(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """It was not looked at yet; in its queue the next monitor would find it again."""
    async with watched(broker, store, batch_interval=1000):
        publish(broker, topology.STATUS_QUEUE, b"no json")
        await trio.sleep(1)
        before = broker.queue(topology.QUARANTINE_QUEUE).depth

    assert (before, broker.queue(topology.QUARANTINE_QUEUE).depth) == (0, 1)
    assert broker.queue(topology.STATUS_QUEUE).depth == 0


async def test_while_nothing_can_be_set_aside_the_rest_is_kept(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """An alarm keeps the broker from reading what is published; what could not be set aside goes back at the end."""
    async with watched(broker, store) as history:
        with broker.blocking():
            publish(broker, topology.STATUS_QUEUE, b"no json")
            await history.settled()
            wire = lived(broker)
            await history.settled()
            row = store.load([wire.id])[wire.id]
            waiting = broker.queue(topology.STATUS_QUEUE).unacked
        await history.settled()

    assert (row.status, waiting) == (S.COMPLETED, 1)
    assert broker.queue(topology.QUARANTINE_QUEUE).depth == 1


async def test_what_comes_while_others_are_being_set_aside_is_set_aside_too(
    broker: EmbeddedBroker, store: FailingHistory, autojump_clock: MockClock
) -> None:
    """Never acknowledged, they would take the places of messages that can be read, until the connection is lost."""
    async with watched(broker, store) as history:
        with broker.hold_confirms():
            publish(broker, topology.STATUS_QUEUE, b"no json")
            await trio.sleep(5)
            assert broker.queue(topology.QUARANTINE_QUEUE).depth == 1
            publish(broker, topology.STATUS_QUEUE, b"no json either")
            await trio.sleep(5)
        await history.settled()

        assert broker.queue(topology.STATUS_QUEUE).unacked == 0
    assert {each.body for each in broker.queue(topology.QUARANTINE_QUEUE).ready} == {b"no json", b"no json either"}
