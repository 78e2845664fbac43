"""Which attempts ran in a process that died: what is written before job code runs, and counted by the next one."""

from pathlib import Path

import pytest
import trio
from attrs import evolve
from tests.support.disks import HeldWriter, disk_outbox, outbox_file
from tests.support.reports import B, Reception, attempt
from tests.support.stored import conclude, left_by_a_kill, opened, rows_of, written
from trio.testing import wait_all_tasks_blocked

from milvaion_trio.outbox.batch import Batch
from milvaion_trio.outbox.disk import DiskOutbox
from milvaion_trio.outbox.journal import SOON
from milvaion_trio.outbox.store import CONCLUDED, Mark, Store
from milvaion_trio.outbox.store import RUNNING as RUNS


async def test_a_start_that_did_not_end_is_a_death_for_the_next_process(path: Path) -> None:
    async with opened(path) as outbox:
        await outbox.started(attempt())
        assert outbox.deaths(attempt()) == 0
        left = left_by_a_kill(path)

    async with opened(left) as outbox:
        assert outbox.deaths(attempt()) == 1
        assert outbox.deaths(attempt(B)) == 0
        assert outbox.deaths(attempt(retry_count=1)) == 0


async def test_deaths_are_counted_over_the_keys_of_a_message_that_was_sent_away(path: Path) -> None:
    """Each time it comes again under another key; others send it away, so that these keys are concluded nowhere here.

    An earlier attempt, or an earlier snooze of its own, is another one.
    """
    for snoozes in (1, 3, 4, 8):
        async with opened(path) as outbox:
            await outbox.started(evolve(attempt(), snoozes=snoozes))
            path = left_by_a_kill(path)

    async with opened(path) as outbox:
        at_seven = evolve(attempt(), snoozes=7)
        assert outbox.deaths(at_seven) == 0
        assert outbox.deaths(at_seven, 5) == 2
        assert outbox.deaths(at_seven, 6) == outbox.deaths(at_seven, 2**31) == 3
        assert outbox.deaths(evolve(at_seven, retry_count=1), 6) == 0
        await outbox.conclude(evolve(attempt(), snoozes=4), [])
        assert outbox.deaths(at_seven, 6) == 2


async def test_a_start_that_nobody_waits_for_is_counted_a_moment_later(path: Path) -> None:
    """`SOON`, without anything else to write. Sabotage: never hand it over."""
    async with opened(path) as outbox:
        outbox.begun(attempt())
        await trio.sleep(3 * SOON)
        left = left_by_a_kill(path)

    async with opened(left) as outbox:
        assert outbox.deaths(attempt()) == 1


async def test_of_what_ends_at_once_only_the_end_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One mark instead of two. Sabotage: hand each over by itself."""
    told: list[list[tuple[object, Mark]]] = []
    write = Batch.write_to

    def watched(batch: Batch, store: Store) -> None:
        told.append(list(batch.marks.items()))
        write(batch, store)

    monkeypatch.setattr(Batch, "write_to", watched)
    async with opened(path) as outbox:
        outbox.begun(attempt())
        await outbox.conclude(attempt(), [])

    assert [marks for marks in told if marks] == [[(attempt(), CONCLUDED)]]


async def test_deaths_add_up_until_the_conclusion(path: Path) -> None:
    for deaths in range(3):
        async with opened(path) as outbox:
            assert outbox.deaths(attempt()) == deaths
            await outbox.started(attempt())
            path = left_by_a_kill(path)

    async with opened(path) as outbox:  # of a process that does not meet it
        assert outbox.deaths(attempt()) == 3
    async with opened(path) as outbox:
        assert outbox.deaths(attempt()) == 3
        await conclude(outbox, "dead letter")
        assert outbox.deaths(attempt()) == 0
    async with opened(path) as outbox:
        assert outbox.deaths(attempt()) == 0
        assert outbox.is_concluded(attempt())


@pytest.mark.parametrize("end", ["returned", "concluded"])
async def test_an_attempt_that_ended_did_not_die_with_its_process(path: Path, end: str) -> None:
    async with opened(path) as outbox:
        await outbox.started(attempt())
        await written(outbox)
        if end == "returned":
            outbox.returned(attempt())
        else:
            await conclude(outbox)
        await written(outbox)
        left = left_by_a_kill(path)

    async with opened(left) as outbox:
        assert outbox.deaths(attempt()) == 0


async def test_an_attempt_that_was_returned_once_and_died_later_died_once(path: Path) -> None:
    async with opened(path) as outbox:
        await outbox.started(attempt())
        outbox.returned(attempt())
        await outbox.started(attempt())
        left = left_by_a_kill(path)

    async with opened(left) as outbox:
        assert outbox.deaths(attempt()) == 1


async def test_a_start_of_this_process_is_no_death(path: Path) -> None:
    """It opens the file again, say because an embedded worker is served again."""
    file = outbox_file(path)
    outbox = DiskOutbox(file)
    async with outbox.open():
        await outbox.started(attempt())

    again = outbox_file(path)
    again.boot = file.boot
    left = again.open()
    again.close()

    assert left.deaths == {}


async def test_a_message_that_goes_back_after_its_conclusion_stays_concluded(path: Path) -> None:
    """Only the ack is missing; its rows are on their way."""
    async with opened(path) as outbox:
        await conclude(outbox, "final")
        outbox.returned(attempt())

    async with opened(path) as outbox:
        assert outbox.is_concluded(attempt())


async def test_started_returns_when_it_is_written(path: Path) -> None:
    writer = HeldWriter()
    outbox = disk_outbox(path, writer=writer.open)
    has_started = trio.Event()

    async def start() -> None:
        await outbox.started(attempt())
        has_started.set()

    async with outbox.open(), trio.open_nursery() as nursery:
        writer.is_held = True
        nursery.start_soon(start)
        await wait_all_tasks_blocked()
        assert not has_started.is_set()
        assert rows_of(path, "state", "mark") == []

        writer.let_go(1)
        with trio.fail_after(10):
            await has_started.wait()
        assert rows_of(path, "state", "mark") == [(RUNS,)]
        writer.let_go()


async def test_rows_are_sent_when_they_are_written_and_not_before(path: Path) -> None:
    """Or the next process meets a message whose end was told already, and knows nothing of it."""
    writer, reception = HeldWriter(), Reception()
    outbox = disk_outbox(path, writer=writer.open)
    async with outbox.open(), reception.delivering(outbox):
        writer.is_held = True
        await conclude(outbox, "final")
        await wait_all_tasks_blocked()
        assert reception.names == []

        writer.let_go()
        await wait_all_tasks_blocked()
        assert reception.names == ["final"]
