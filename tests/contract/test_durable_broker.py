"""What an embedded broker with a folder promises beyond the port: what it holds survives its process."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import trio
from tests.support.disks import HeldWriter, in_place
from trio.testing import MockClock, wait_all_tasks_blocked

from milvaion_trio.broker.embedded.durable import QUEUES_FILE, DurableBroker
from milvaion_trio.broker.embedded.store import Store
from milvaion_trio.disk.writer import OpenWriter
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.errors import LinkLost, SettingsError, StoreUnavailable
from milvaion_trio.model.exception_groups import sole
from milvaion_trio.model.topology import HOP_QUEUE
from milvaion_trio.ports import Binding, Confirmation, Consumer, Deliveries, Exchange, Queue, Topology

CONFIRMED, REFUSED = Confirmation.CONFIRMED, Confirmation.REFUSED
TOPOLOGY = Topology(
    exchanges=[Exchange("dead", "topic")],
    queues=[Queue("jobs", {"x-dead-letter-exchange": "dead"}), Queue("graves"), Queue("other"), Queue(HOP_QUEUE)],
    bindings=[Binding("dead", "graves", "#"), Binding("dead", "other", "other")],
)


@asynccontextmanager
async def opened(
    folder: Path,
    *,
    writer: OpenWriter = in_place,
    clock: Callable[[], float] = trio.current_time,
    keep: int = 100,
) -> AsyncIterator[DurableBroker]:
    """The broker of a new process, with what is declared at every start."""
    async with DurableBroker(folder, open_writer=writer, clock=clock, keep=keep).open() as broker:
        broker.declare_nowait(TOPOLOGY)
        yield broker


def killed(folder: Path) -> Path:
    """What a process that is killed now would leave: a copy, so that the one that lives does not matter any more."""
    copy = folder.with_name(f"{folder.name}-killed-{len(list(folder.parent.iterdir()))}")
    return Path(shutil.copytree(folder, copy))


def job(number: int, *, key: str = "jobs", exchange: str = "", delay: float = 0.0) -> Publication:
    return Publication(Message(body=b"%d" % number, message_id=f"id-{number}"), key, exchange, delay)


async def publish(broker: DurableBroker, *publications: Publication) -> list[Confirmation]:
    async with broker.publishing() as publisher:
        return list(await publisher.publish(publications))


async def rest(broker: DurableBroker, queue: str = "jobs") -> list[tuple[int, bool]]:
    """Empty a queue: numbers, each with whether it was redelivered."""
    found = []
    async with consuming(broker, queue) as deliveries:
        with trio.move_on_after(0.2):
            while True:
                delivery = await deliveries.receive()
                delivery.ack()
                found.append((int(delivery.message.body), delivery.redelivered))
    return found


@asynccontextmanager
async def consuming(broker: DurableBroker, queue: str = "jobs", prefetch: int = 100) -> AsyncIterator[Deliveries]:
    consumer: Consumer
    async with broker.consuming() as consumer, consumer.consume(queue, prefetch=prefetch) as deliveries:
        yield deliveries


# --- a restart ------------------------------------------------------------------------------------------------------


async def test_all_that_waits_is_there_after_a_restart_as_it_was_published(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    message = Message(
        body=b"\x00\xff",
        headers={"text": "a", "bytes": b"b", "number": 3, "yes": True, "table": {"list": [1.5, None]}},
        message_id="id",
        correlation_id="correlation",
        content_type="application/json",
        timestamp=1_700_000_000,
    )
    async with opened(tmp_path / "data") as broker:
        await publish(broker, Publication(message, "jobs"), *(job(number) for number in range(3)))

    async with opened(tmp_path / "data") as broker:
        assert broker.queue("jobs").ready == (message, *(job(number).message for number in range(3)))


async def test_queues_and_bindings_are_there_before_anybody_declares_them(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with opened(tmp_path / "data") as broker:
        before = broker.queues

    async with DurableBroker(tmp_path / "data", open_writer=in_place).open() as broker:
        assert broker.queues == before
        assert await publish(broker, job(1, key="other", exchange="dead")) == [CONFIRMED]
        assert (len(broker.queue("graves").ready), len(broker.queue("other").ready)) == (1, 1)
        with pytest.raises(SettingsError, match="exists with arguments"):
            broker.declare_nowait(Topology(queues=[Queue("jobs", {"x-max-length": 1})]))


@pytest.mark.parametrize("is_cancelled", [False, True], ids=["left", "cancelled"])
async def test_what_was_acked_just_before_leaving_is_gone_for_good(
    tmp_path: Path, autojump_clock: MockClock, is_cancelled: bool
) -> None:
    """One ack is being written and one still gathers when the broker is left: leaving waits for a slow disk."""
    disk = HeldWriter()
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            async with opened(tmp_path / "data", writer=disk.open) as broker:
                await publish(broker, job(1), job(2))
                async with consuming(broker) as deliveries:
                    taken = [await deliveries.receive() for _ in range(2)]
                    disk.is_held = True
                    for delivery in taken:
                        delivery.ack()
                        await wait_all_tasks_blocked()
                    nursery.start_soon(_let_go_later, disk)
                    if is_cancelled:
                        scope.cancel()

    async with opened(tmp_path / "data") as broker:
        assert broker.queue("jobs").depth == 0


async def _let_go_later(disk: HeldWriter) -> None:
    await trio.sleep(0.5)
    disk.let_go()


@pytest.mark.parametrize("dies", [False, True], ids=["left", "killed"])
async def test_order_is_kept_and_what_was_handed_out_comes_first_marked_as_redelivered(
    tmp_path: Path, autojump_clock: MockClock, dies: bool
) -> None:
    """With a full prefetch it is known exactly what was handed out, also when the process could not write that."""
    folder = tmp_path / "data"
    async with opened(folder) as broker:
        await publish(broker, *(job(number) for number in range(6)))
        async with consuming(broker, prefetch=3) as deliveries:
            taken = [await deliveries.receive() for _ in range(3)]
            taken[1].ack()  # so that 3 is handed out
            taken[2].requeue()
            await wait_all_tasks_blocked()
            left = killed(folder) if dies else folder

    async with opened(left) as broker:
        assert await rest(broker) == [(0, True), (2, True), (3, True), (4, False), (5, False)]


async def test_what_was_not_handed_out_is_not_marked_after_a_worker_has_left(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """It is known exactly when the process could write it, however much its consumers could have held."""
    async with opened(tmp_path / "data") as broker:
        await publish(broker, job(0))
        async with consuming(broker, prefetch=100) as deliveries:
            await deliveries.receive()
        await publish(broker, job(1))

    async with opened(tmp_path / "data") as broker:
        assert await rest(broker) == [(0, True), (1, False)]


async def test_who_comes_after_a_kill_knows_what_was_handed_out_before_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    folder = tmp_path / "data"
    async with opened(folder) as broker:
        await publish(broker, *(job(number) for number in range(4)))
        async with consuming(broker, prefetch=2):
            first = killed(folder)
    async with opened(first):
        second = killed(first)  # before it consumed anything

    async with opened(second) as broker:
        assert await rest(broker) == [(0, True), (1, True), (2, False), (3, False)]


async def test_consumers_that_share_a_queue_reach_as_far_as_all_of_them(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    folder = tmp_path / "data"
    async with opened(folder) as broker:
        await publish(broker, *(job(number) for number in range(6)))
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(_consume_for_ever, broker)
            await wait_all_tasks_blocked()
            left = killed(folder)
            nursery.cancel_scope.cancel()

    async with opened(left) as broker:
        assert [redelivered for _, redelivered in await rest(broker)] == [True] * 4 + [False] * 2


async def test_who_consumes_later_reaches_beyond_what_others_hold_and_have_room_for(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    folder = tmp_path / "data"
    async with opened(folder) as broker:
        await publish(broker, job(0))
        async with consuming(broker, prefetch=3), consuming(broker, prefetch=1):
            await publish(broker, *(job(number) for number in range(1, 6)))
            assert broker.queue("jobs").unacked == 4
            left = killed(folder)

    async with opened(left) as broker:
        assert [redelivered for _, redelivered in await rest(broker)] == [True] * 4 + [False] * 2


async def _consume_for_ever(broker: DurableBroker) -> None:
    async with consuming(broker, prefetch=2):
        await trio.sleep_forever()


async def test_numbers_of_an_empty_queue_are_not_used_again(tmp_path: Path, autojump_clock: MockClock) -> None:
    """What comes new after a restart was never handed out."""
    async with opened(tmp_path / "data") as broker:
        await publish(broker, *(job(number) for number in range(5)))
        await rest(broker)
    async with opened(tmp_path / "data") as broker:
        await publish(broker, job(7))
    async with opened(tmp_path / "data") as broker:
        assert await rest(broker) == [(7, False)]


async def test_an_acked_message_is_gone_for_good(tmp_path: Path, autojump_clock: MockClock) -> None:
    folder = tmp_path / "data"
    async with opened(folder) as broker:
        await publish(broker, job(1))
        assert await rest(broker) == [(1, False)]
        await wait_all_tasks_blocked()
        left = killed(folder)

    async with opened(left) as broker:
        assert await rest(broker) == []


async def test_a_purged_message_is_gone_for_good(tmp_path: Path, autojump_clock: MockClock) -> None:
    """One that a consumer has given back, too."""
    async with opened(tmp_path / "data") as broker:
        await publish(broker, job(1), job(2))
        async with consuming(broker, prefetch=1) as deliveries:
            await deliveries.receive()
        assert broker.purge("jobs") == 2

    async with opened(tmp_path / "data") as broker:
        assert broker.queue("jobs").depth == 0


async def test_what_a_bounded_queue_drops_is_gone_for_good(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with opened(tmp_path / "data", keep=2) as broker:
        await publish(broker, *(job(number, key="graves") for number in range(4)))

    async with opened(tmp_path / "data") as broker:
        assert await rest(broker, "graves") == [(2, False), (3, False)]


async def test_a_rejected_message_is_always_in_one_of_both_queues(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Whenever the process is killed: it leaves one and comes into the other at once."""
    folder, states = tmp_path / "data", set()

    @asynccontextmanager
    async def watched() -> AsyncIterator[object]:
        async with in_place() as writer:

            class Watched:
                def submit(
                    self, work: Callable[[], object], done: Callable[..., None], *, is_large: bool = False
                ) -> None:
                    writer.submit(work, done)
                    if (folder / QUEUES_FILE).exists():
                        states.add(tuple(sorted(_stored_in(killed(folder)))))

            yield Watched()

    async with opened(folder, writer=watched) as broker:  # type: ignore[arg-type]  # a context manager of a writer
        await publish(broker, job(1))
        async with consuming(broker) as deliveries:
            (await deliveries.receive()).reject()
            await wait_all_tasks_blocked()
            dead = broker.queue("graves").ready

    assert states == {(), ("jobs",), ("graves",)}
    async with opened(folder) as broker:
        assert broker.queue("graves").ready == dead
        assert "x-death" in dead[0].headers


def _stored_in(folder: Path) -> Iterator[str]:
    with closing(sqlite3.connect(folder / QUEUES_FILE)) as db:
        if db.execute("SELECT 1 FROM sqlite_master").fetchone():
            yield from (queue for (queue,) in db.execute("SELECT queue FROM message"))


# --- delays ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dies", [False, True], ids=["left", "killed"])
async def test_a_delayed_message_comes_at_its_time_whatever_happened_meanwhile(
    tmp_path: Path, autojump_clock: MockClock, dies: bool
) -> None:
    folder, started = tmp_path / "data", trio.current_time()
    async with opened(folder) as broker:
        await publish(broker, job(1, delay=60), job(2, delay=20))
        left = killed(folder) if dies else folder
    await trio.sleep(30)

    async with opened(left) as broker, consuming(broker) as deliveries:
        assert (await deliveries.receive()).message.body == b"2"
        assert trio.current_time() - started == pytest.approx(30)
        assert (await deliveries.receive()).message.body == b"1"
        assert trio.current_time() - started == pytest.approx(60)


async def test_a_long_delay_still_knows_its_destination(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with opened(tmp_path / "data") as broker:
        await publish(broker, job(1, delay=1000))

    async with opened(tmp_path / "data") as broker, broker.consuming() as consumer:
        assert await consumer.depth("jobs", may_wait=True) == 1
        assert (broker.delayed, broker.next_due) == (1, trio.current_time() + 1000 - 8 * 120)


async def test_a_message_whose_time_has_come_is_delivered_once(tmp_path: Path, autojump_clock: MockClock) -> None:
    """It stands in its queue, and no longer among those that wait."""
    folder = tmp_path / "data"
    async with opened(folder) as broker, consuming(broker) as deliveries:
        await publish(broker, job(1, delay=1))
        await deliveries.receive()
        left = killed(folder)

    async with opened(left) as broker:
        assert broker.delayed == 0
        assert await rest(broker) == [(1, True)]


# --- a confirm comes from the disk ----------------------------------------------------------------------------------


async def test_nothing_is_confirmed_or_delivered_before_it_is_in_the_file(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    disk = HeldWriter()
    async with opened(tmp_path / "data", writer=disk.open) as broker, consuming(broker) as deliveries:
        await wait_all_tasks_blocked()
        disk.is_held = True
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish, broker, job(1))
            await wait_all_tasks_blocked()

            assert deliveries.receive_nowait() is None
            assert nursery.child_tasks

            disk.is_held = False
            disk.let_go()
        assert (await deliveries.receive()).message.body == b"1"


def full(store: Store, *_: object) -> None:
    """A `Store.write` for which there is no room."""
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    with store.explained():
        raise error


async def test_while_the_disk_is_full_publishes_are_refused_and_acks_are_kept(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, told, write = tmp_path / "data", list[str](), Store.write
    async with opened(folder) as broker, consuming(broker) as deliveries, broker.publishing() as publisher:
        publisher.on_blocked(told.append)
        await publisher.publish([job(1), job(2)])
        monkeypatch.setattr(Store, "write", full)
        (await deliveries.receive()).ack()
        assert await publisher.publish([job(3)]) == [REFUSED]
        monkeypatch.setattr(Store, "write", write)
        await trio.sleep(5)

        assert await publisher.publish([job(4)]) == [CONFIRMED]
        await wait_all_tasks_blocked()
        assert [(await deliveries.receive()).message.body for _ in range(2)] == [b"2", b"4"]
        assert deliveries.receive_nowait() is None
        left = killed(folder)

    assert [bool(text) for text in told] == [True, False]
    assert "Make room there" in told[0]
    async with opened(left) as broker:
        assert await rest(broker) == [(2, True), (4, True)]


async def test_what_could_not_be_written_is_tried_again_though_nobody_publishes(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, told = tmp_path / "data", list[str]()
    async with opened(folder) as broker, consuming(broker) as deliveries, broker.publishing() as publisher:
        publisher.on_blocked(told.append)
        await publisher.publish([job(1)])
        with monkeypatch.context() as broken:
            broken.setattr(Store, "write", full)
            (await deliveries.receive()).ack()
            await wait_all_tasks_blocked()
        await trio.sleep(5)
        left = killed(folder)

    assert [bool(text) for text in told] == [True, False]
    async with opened(left) as broker:
        assert broker.queue("jobs").depth == 0


async def test_a_message_rejected_while_the_disk_is_full_is_a_dead_letter_afterwards(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    async with opened(folder) as broker, consuming(broker) as deliveries:
        await publish(broker, job(1))
        with monkeypatch.context() as broken:
            broken.setattr(Store, "write", full)
            (await deliveries.receive()).reject()
            await wait_all_tasks_blocked()
            assert broker.queue("graves").ready == ()
        await trio.sleep(5)
        dead = broker.queue("graves").ready
        left = killed(folder)

    assert [message.body for message in dead] == [b"1"]
    async with opened(left) as broker:
        assert broker.queue("jobs").depth == 0
        assert broker.queue("graves").ready == dead


async def test_a_delay_that_ends_while_the_disk_is_full_ends_once(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes when it can be written, at its new place; its ack finds it there."""
    folder = tmp_path / "data"
    async with opened(folder) as broker, consuming(broker) as deliveries:
        await publish(broker, job(1, delay=10))
        with monkeypatch.context() as broken:
            broken.setattr(Store, "write", full)
            await trio.sleep(15)
            assert deliveries.receive_nowait() is None
        with trio.fail_after(5):
            delivery = await deliveries.receive()
        taken = killed(folder)
        delivery.ack()
        await wait_all_tasks_blocked()
        acked = killed(folder)

    async with opened(taken) as broker:
        assert broker.delayed == 0
        assert await rest(broker) == [(1, True)]
    async with opened(acked) as broker:
        assert (broker.delayed, broker.queue("jobs").depth) == (0, 0)


async def test_what_is_declared_while_the_disk_is_full_is_there_afterwards(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    async with opened(folder) as broker:
        await wait_all_tasks_blocked()
        with monkeypatch.context() as broken:
            broken.setattr(Store, "write", full)
            broker.declare_nowait(Topology(queues=[Queue("late")]))
            await wait_all_tasks_blocked()
        await trio.sleep(5)
        assert await publish(broker, job(1, key="late")) == [CONFIRMED]
        left = killed(folder)

    async with opened(left) as broker:
        assert await rest(broker, "late") == [(1, False)]


async def test_nobody_gets_messages_while_it_cannot_be_written_how_many_are_out(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A consumer is refused then; the one that comes when there is room again is known after a kill."""
    folder = tmp_path / "data"
    async with opened(folder) as broker:
        await publish(broker, *(job(number) for number in range(3)))
        with monkeypatch.context() as broken:
            broken.setattr(Store, "write", full)
            with pytest.raises(LinkLost, match="cannot write its file"):
                async with consuming(broker, prefetch=2):
                    raise AssertionError("it consumes")
        async with consuming(broker, prefetch=2):
            assert broker.queue("jobs").unacked == 2
            left = killed(folder)

    async with opened(left) as broker:
        assert await rest(broker) == [(0, True), (1, True), (2, False)]


async def test_a_file_that_is_removed_takes_nothing_any_more(tmp_path: Path, autojump_clock: MockClock) -> None:
    folder = tmp_path / "data"
    async with opened(folder) as broker:
        assert await publish(broker, job(1)) == [CONFIRMED]
        (folder / QUEUES_FILE).unlink()

        assert await publish(broker, job(2)) == [REFUSED]


# --- who may have it ------------------------------------------------------------------------------------------------


async def test_a_folder_belongs_to_one_broker_at_a_time(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with opened(tmp_path / "data"):
        assert "another process has it open. Stop that one, or give this one" in await refusal(tmp_path / "data")


async def refusal(folder: Path) -> str:
    """Why it cannot be opened."""
    try:
        async with opened(folder):
            raise AssertionError("it was opened")
    except BaseExceptionGroup as group:  # of the writer without a thread
        error = sole(group)
        assert isinstance(error, StoreUnavailable)
        return str(error)


def _garbled_row(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE message SET body = x'00'")


def _garbled_page(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 4096)


def _no_database(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to look like one" * 100)


def _newer(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA user_version = 99")


def _somebody_elses(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("PRAGMA application_id = 1")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_garbled_row, "it is damaged (message 1 is not as it was written). Nothing in it was changed."),
        (_garbled_page, "it is damaged"),
        (_no_database, "Move it away, with its -wal, to start with empty queues"),
        (_newer, "newer milvaion-trio (its tables have version 99, this one knows 1). Use the newer one"),
        (_somebody_elses, "it is a database of another program. Give this one another folder"),
    ],
)
async def test_a_file_that_is_not_good_is_left_as_it_is_and_what_to_do_is_said(
    tmp_path: Path, autojump_clock: MockClock, spoil: Callable[[Path], None], told: str
) -> None:
    folder = tmp_path / "data"
    async with opened(folder) as broker:
        await publish(broker, job(1))
    spoil(folder / QUEUES_FILE)
    before = (folder / QUEUES_FILE).read_bytes()

    why = await refusal(folder)

    assert told in why
    assert str(folder / QUEUES_FILE) in why
    assert (folder / QUEUES_FILE).read_bytes() == before


async def test_a_broker_that_is_not_open_says_so(tmp_path: Path, autojump_clock: MockClock) -> None:
    broker = DurableBroker(tmp_path / "data")

    with pytest.raises(RuntimeError, match=r"async with broker\.open\(\)"):
        broker.declare_nowait(TOPOLOGY)
    with pytest.raises(RuntimeError, match="publish over a connection"):
        broker.publish_nowait(job(1))
    assert not (tmp_path / "data").exists()


async def test_what_the_body_raises_comes_out_as_it_is(tmp_path: Path, autojump_clock: MockClock) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with opened(tmp_path / "data"):
            raise KeyError("mine")


# --- killed in earnest ----------------------------------------------------------------------------------------------

PUBLISHES = """
import sys, trio
from milvaion_trio.broker.embedded.durable import DurableBroker
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.ports import Queue, Topology

async def main():
    async with DurableBroker(sys.argv[1]).open() as broker, broker.publishing() as publisher:
        broker.declare_nowait(Topology(queues=[Queue("jobs", {"x-dead-letter-exchange": "dead"})]))
        number = 0
        while True:
            batch = [Publication(Message(body=b"%d" % (number + i)), "jobs") for i in range(3)]
            answers = await publisher.publish(batch)
            number += 3
            print(number, {answer.name for answer in answers}, flush=True)

trio.run(main)
"""


def test_all_that_was_confirmed_is_there_after_kill_9(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", PUBLISHES, tmp_path / "data"], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line.split()[0]) >= 300:
                break
        os.kill(process.pid, signal.SIGKILL)
        told = [line, *process.stdout]
    confirmed = int(told[-1].split()[0])

    async def left() -> list[int]:
        async with DurableBroker(tmp_path / "data").open() as broker:
            return [int(message.body) for message in broker.queue("jobs").ready]

    numbers = trio.run(left)

    assert numbers[:confirmed] == list(range(confirmed))
    assert numbers == list(range(len(numbers)))
    assert len(numbers) <= confirmed + 3
