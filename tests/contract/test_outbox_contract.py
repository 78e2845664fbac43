"""What every outbox promises: the sentences of `ports.Outbox`, one test each.

Only ports are used here; the rows go to the embedded broker, which the broker contract holds to its own promises.
"""

from collections.abc import AsyncIterator, Callable
from typing import TypeAlias

import pytest
import trio
import trio.testing
from tests.support.disks import disk_outbox, in_place
from tests.support.reports import FINAL, HEARTBEAT, LOG, RUNNING, A, B, Reception, attempt, report
from trio.testing import MockClock, wait_all_tasks_blocked

from milvaion_trio.model.errors import LinkLost
from milvaion_trio.outbox.memory import MemoryOutbox
from milvaion_trio.ports import Outbox, ReportKind

OutboxFactory: TypeAlias = Callable[[], Outbox]
SOON = 10.0


def _memory() -> Outbox:
    return MemoryOutbox()


def _disk() -> Outbox:
    return disk_outbox(writer=in_place)


@pytest.fixture(params=[_memory, _disk], ids=["memory", "disk"])
async def outbox(request: pytest.FixtureRequest) -> AsyncIterator[Outbox]:
    make: OutboxFactory = request.param
    outbox = make()
    async with outbox.open():
        yield outbox


@pytest.fixture
def reception() -> Reception:
    return Reception()


async def send_all(outbox: Outbox, reception: Reception) -> list[str]:
    """Deliver until no row is left, and say what arrived since the last time."""
    before = len(reception.publications)
    with trio.fail_after(100):
        async with reception.delivering(outbox):
            await outbox.drained()
    return reception.names[before:]


# --- rows -----------------------------------------------------------------------------------------------------------


async def test_statuses_and_logs_of_an_occurrence_leave_in_the_order_they_came(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    for number in range(600):
        outbox.add(report(RUNNING, f"{number} A running"))
        outbox.add(report(LOG, f"{number} B", B))
        outbox.add(report(LOG, f"{number} A log"))
        outbox.add(report(LOG, f"{number} none", None))

    left = await send_all(outbox, reception)

    assert [name for name in left if "A running" in name] == [f"{number} A running" for number in range(600)]
    assert [name for name in left if "A log" in name] == [f"{number} A log" for number in range(600)]
    assert [name for name in left if name.endswith("B")] == [f"{number} B" for number in range(600)]
    assert [name for name in left if name.endswith("none")] == [f"{number} none" for number in range(600)]


async def test_rows_are_forgotten_when_confirmed(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    outbox.add(report(RUNNING, "running"))

    assert await send_all(outbox, reception) == ["running"]
    assert await send_all(outbox, reception) == []


async def test_rows_added_while_delivering_leave_too(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    async with reception.delivering(outbox):
        for number in range(3):
            outbox.add(report(RUNNING, f"{number}"))
            await trio.sleep(1)

            assert reception.names[-1] == f"{number}"


async def test_what_gathers_while_a_batch_waits_for_its_confirms_leaves_together(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    async with reception.delivering(outbox):
        with reception.broker.hold_confirms():
            outbox.add(report(RUNNING, "first"))
            await wait_all_tasks_blocked()
            outbox.add(report(LOG, "second"))
            outbox.add(report(LOG, "third"))
            await wait_all_tasks_blocked()
            assert reception.names == ["first"]

        await outbox.drained()
    assert reception.names == ["first", "second", "third"]


async def test_add_takes_a_row_without_waiting(outbox: Outbox) -> None:
    with trio.testing.assert_no_checkpoints():
        assert [outbox.add(report(kind, "row")) for kind in (RUNNING, LOG, FINAL)] == [True, True, True]


async def test_a_heartbeat_is_taken_while_there_is_a_link(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    async with reception.delivering(outbox):
        assert outbox.add(report(HEARTBEAT, "alive"))
        await outbox.drained()

    assert reception.names == ["alive"]


async def test_a_heartbeat_is_dropped_when_there_is_no_link(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    assert not outbox.add(report(HEARTBEAT, "before any link"))
    assert await send_all(outbox, reception) == []

    assert not outbox.add(report(HEARTBEAT, "after the link"))
    assert await send_all(outbox, reception) == []


async def test_a_heartbeat_whose_link_was_lost_is_not_sent_again(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    with reception.broker.hold_confirms():
        async with reception.delivering(outbox):
            outbox.add(report(HEARTBEAT, "of the occurrence"))
            outbox.add(report(HEARTBEAT, "of the worker", None))
            await wait_all_tasks_blocked()
            reception.broker.drop_connection()
            await wait_all_tasks_blocked()

    assert await send_all(outbox, reception) == []
    await outbox.drained()


async def test_drained_returns_when_the_last_rows_are_dropped(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    with reception.broker.hold_confirms():
        async with reception.delivering(outbox):
            outbox.add(report(HEARTBEAT, "alive"))

    async with trio.open_nursery() as nursery:
        with trio.fail_after(SOON):
            nursery.start_soon(outbox.drained)
            await wait_all_tasks_blocked()
            async with reception.delivering(outbox):
                await trio.sleep(1)
        for task in nursery.child_tasks:
            raise AssertionError(f"{task.name} still waits")


async def test_a_running_that_could_not_leave_is_superseded_by_the_final(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    outbox.add(report(RUNNING, "running A"))
    outbox.add(report(RUNNING, "running B", B))
    outbox.add(report(LOG, "log A"))
    outbox.add(report(FINAL, "final A"))

    assert await send_all(outbox, reception) == ["running B", "log A", "final A"]


async def test_a_heartbeat_behind_the_final_is_dropped(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    """A Running behind a final status in one batch would erase it (RELIABILITY 0.6)."""
    async with reception.delivering(outbox):
        with reception.broker.hold_confirms():
            outbox.add(report(FINAL, "final"))
            assert not outbox.add(report(HEARTBEAT, "late"))
            assert outbox.add(report(HEARTBEAT, "of another", B))
            await wait_all_tasks_blocked()
            assert not outbox.add(report(HEARTBEAT, "late, with the final on its way"))
        await outbox.drained()

    assert sorted(reception.names) == ["final", "of another"]


# --- conclusions ----------------------------------------------------------------------------------------------------


async def test_conclude_returns_when_its_rows_and_all_earlier_ones_are_confirmed(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    concluded = trio.Event()

    async def conclude() -> None:
        await outbox.conclude(attempt(), [report(LOG, "last log"), report(FINAL, "final")])
        concluded.set()

    outbox.add(report(LOG, "log"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(conclude)
        await wait_all_tasks_blocked()
        with reception.broker.hold_confirms():
            async with reception.delivering(outbox):
                await trio.sleep(100)
                assert reception.names == ["log", "last log", "final"]
                assert not concluded.is_set()
        async with reception.delivering(outbox):
            with trio.fail_after(SOON):
                await concluded.wait()


async def test_conclude_waits_for_an_earlier_row_that_the_broker_refuses(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    outbox.add(report(LOG, "log", to="later"))
    async with reception.delivering(outbox):
        await trio.sleep(1)
        with trio.move_on_after(100) as scope:
            await outbox.conclude(attempt(), [report(FINAL, "final")])
        assert scope.cancelled_caught

        reception.declare("later")
        with trio.fail_after(100):
            await outbox.conclude(attempt(), [])


async def test_conclude_waits_for_its_rows_of_no_occurrence_too(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    """All of it: whatever the rows say that they are about."""
    async with reception.delivering(outbox):
        with trio.move_on_after(100) as scope:
            await outbox.conclude(attempt(), [report(LOG, "logs of several", None, to="later"), report(FINAL, "final")])

    assert scope.cancelled_caught


async def test_conclude_does_not_wait_for_other_occurrences(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    outbox.add(report(FINAL, "stuck", B, to="nowhere"))

    async with reception.delivering(outbox):
        with trio.fail_after(SOON):
            await outbox.conclude(attempt(), [report(FINAL, "final")])


async def test_an_attempt_is_concluded_as_soon_as_its_rows_are_taken(outbox: Outbox) -> None:
    """As one: whoever sees the mark can rely on the rows."""
    assert not outbox.is_concluded(attempt())

    with trio.move_on_after(0):
        await outbox.conclude(attempt(), [report(FINAL, "final")])

    assert outbox.is_concluded(attempt())
    assert not outbox.is_concluded(attempt(retry_count=1))
    assert not outbox.is_concluded(attempt(B))


async def test_if_conclude_is_cancelled_the_rows_stay_and_are_sent(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    with trio.move_on_after(1) as scope:
        await outbox.conclude(attempt(), [report(LOG, "last log"), report(FINAL, "final")])

    assert scope.cancelled_caught
    assert await send_all(outbox, reception) == ["last log", "final"]


async def test_conclude_with_nothing_to_send_returns_without_a_pass_of_the_scheduler(outbox: Outbox) -> None:
    """A sixth of what a job costs that nobody is told of; its task ends right behind."""
    with trio.testing.assert_no_checkpoints():
        await outbox.conclude(attempt(), [])

    assert outbox.is_concluded(attempt())


async def test_the_start_of_the_next_attempt_is_not_lost_while_the_last_conclusion_waits_for_its_confirm(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    """The broker may deliver the retry copy to this very process before the confirm of the copy is processed."""
    concluded = trio.Event()

    async def conclude() -> None:
        await outbox.conclude(attempt(), [report(FINAL, "retry copy")])
        concluded.set()

    async with trio.open_nursery() as nursery:
        async with reception.delivering(outbox):
            with reception.broker.hold_confirms():
                nursery.start_soon(conclude)
                await wait_all_tasks_blocked()
                assert outbox.add(report(RUNNING, "running again"))
                await wait_all_tasks_blocked()
                assert reception.names == ["retry copy"]
            with trio.fail_after(SOON):
                await concluded.wait()
                await outbox.drained()

    assert reception.names == ["retry copy", "running again"]


async def test_the_start_of_the_next_attempt_outlives_a_lost_link(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    """Only a final of its own attempt supersedes it, not one that stands before it."""
    outbox.add(report(RUNNING, "running"))
    outbox.add(report(FINAL, "retry copy"))
    outbox.add(report(RUNNING, "running again"))

    assert await send_all(outbox, reception) == ["retry copy", "running again"]


async def test_the_start_of_the_next_attempt_never_overtakes_a_refused_conclusion(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    outbox.add(report(FINAL, "final"))
    outbox.add(report(RUNNING, "running again"))
    reception.broker.refuse_next(1)

    assert await send_all(outbox, reception) == ["final", "running again"]


async def test_the_conclusion_of_the_next_attempt_never_overtakes_a_refused_one(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    """Not even when the start between them was superseded."""
    outbox.add(report(FINAL, "final"))
    outbox.add(report(RUNNING, "running again"))
    outbox.add(report(FINAL, "final again"))
    reception.broker.refuse_next(1)

    left = await send_all(outbox, reception)

    assert left in (["final", "final again"], ["final", "running again", "final again"])


async def test_conclude_does_not_wait_for_the_next_attempt(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    concluded = trio.Event()

    async def conclude() -> None:
        await outbox.conclude(attempt(), [report(FINAL, "retry copy")])
        concluded.set()

    async with trio.open_nursery() as nursery, reception.delivering(outbox):
        with reception.broker.hold_confirms():
            nursery.start_soon(conclude)
            await wait_all_tasks_blocked()
            outbox.add(report(RUNNING, "running again", to="nowhere"))
        with trio.fail_after(SOON):
            await concluded.wait()


async def test_conclude_of_the_next_attempt_waits_for_the_last_one(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    outbox.add(report(FINAL, "retry copy", to="later"))
    outbox.add(report(RUNNING, "running again"))

    async with reception.delivering(outbox):
        with trio.move_on_after(100) as scope:
            await outbox.conclude(attempt(retry_count=1), [report(FINAL, "final")])
        assert scope.cancelled_caught

        reception.declare("later")
        with trio.fail_after(100):
            await outbox.settled(attempt())
    assert reception.names == ["retry copy", "running again", "final"]


async def test_settled_returns_when_no_row_of_the_occurrence_waits_for_its_confirm(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    outbox.add(report(FINAL, "stuck", B, to="nowhere"))
    with trio.testing.assert_checkpoints():
        await outbox.settled(attempt())
    outbox.add(report(FINAL, "final"))

    with trio.move_on_after(100) as scope:
        await outbox.settled(attempt())
    assert scope.cancelled_caught

    async with reception.delivering(outbox):
        with trio.fail_after(SOON):
            await outbox.settled(attempt())
    assert reception.names == ["final"]


async def test_drained_returns_when_no_row_is_left(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    with trio.testing.assert_checkpoints():
        await outbox.drained()
    outbox.add(report(LOG, "log", None))

    for _ in range(2):
        with trio.move_on_after(100) as scope:
            await outbox.drained()
        assert scope.cancelled_caught

    async with reception.delivering(outbox):
        with trio.fail_after(SOON):
            await outbox.drained()
        outbox.add(report(LOG, "log", None, to="nowhere"))
        with trio.move_on_after(100) as scope:
            await outbox.drained()
    assert scope.cancelled_caught


# --- links ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_sending", [True, False], ids=["sending", "idle"])
async def test_deliver_raises_link_lost_when_the_link_dies(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock, is_sending: bool
) -> None:
    async def lose() -> None:
        await trio.sleep(1)
        reception.broker.drop_connection()

    if is_sending:
        outbox.add(report(RUNNING, "running"))
    async with reception.broker.publishing() as publisher, trio.open_nursery() as nursery:
        with reception.broker.hold_confirms(), trio.fail_after(SOON):
            nursery.start_soon(lose)
            with pytest.raises(LinkLost):
                await outbox.deliver(publisher)


async def test_rows_without_a_confirm_are_sent_again_with_the_same_bytes_after_a_lost_link(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    with reception.broker.hold_confirms():
        async with reception.delivering(outbox):
            outbox.add(report(LOG, "log"))
            outbox.add(report(FINAL, "final"))
            await wait_all_tasks_blocked()
            outbox.add(report(FINAL, "dead letter"))
            reception.broker.drop_connection()
            await wait_all_tasks_blocked()
    first = list(reception.publications)
    assert first

    await send_all(outbox, reception)

    again = reception.publications[len(first) :]
    assert [publication.message.body for publication in again] == [b"log", b"final", b"dead letter"]
    assert again[: len(first)] == first


async def test_rows_without_a_confirm_are_sent_again_after_deliver_was_cancelled(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    with reception.broker.hold_confirms():
        async with reception.delivering(outbox):
            outbox.add(report(LOG, "log"))
            outbox.add(report(FINAL, "final"))
            await wait_all_tasks_blocked()

    assert await send_all(outbox, reception) == ["log", "final"]


async def test_a_cancelled_deliver_ends_with_the_cancellation(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    async with reception.broker.publishing() as publisher:
        with trio.move_on_after(1) as scope:
            await outbox.deliver(publisher)

    assert scope.cancelled_caught


@pytest.mark.parametrize("kind", [RUNNING, LOG, FINAL])
async def test_a_refused_row_is_tried_again_until_it_is_taken(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock, kind: ReportKind
) -> None:
    outbox.add(report(kind, "stubborn"))
    reception.broker.refuse_next(4)

    assert await send_all(outbox, reception) == ["stubborn"]


async def test_an_unroutable_row_is_tried_again_until_a_queue_takes_it(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    outbox.add(report(FINAL, "final", to="later"))

    async with reception.delivering(outbox):
        await trio.sleep(1000)
        reception.declare("later")
        with trio.fail_after(100):
            await outbox.drained()

    assert reception.names == ["final"]


async def test_a_refused_row_does_not_stop_other_occurrences(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    outbox.add(report(FINAL, "stuck", A, to="nowhere"))
    outbox.add(report(LOG, "stuck logs of several", None, to="nowhere"))
    async with reception.delivering(outbox):
        await wait_all_tasks_blocked()
        outbox.add(report(RUNNING, "running", B))
        outbox.add(report(HEARTBEAT, "the worker lives", None))
        await outbox.settled(attempt(B))
        assert trio.current_time() < 1

    assert reception.names == ["running", "the worker lives"]


async def test_rows_behind_a_refused_one_of_their_occurrence_keep_their_order(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    async with reception.delivering(outbox):
        reception.broker.refuse_next(3)
        outbox.add(report(LOG, "first"))
        await wait_all_tasks_blocked()
        outbox.add(report(LOG, "second"))
        await trio.sleep(2)
        outbox.add(report(FINAL, "third"))
        with trio.fail_after(100):
            await outbox.drained()

    assert reception.names == ["first", "second", "third"]


async def test_a_refused_running_does_not_come_behind_its_final(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    """They may have been on their way together."""
    reception.broker.refuse_next(1)
    async with reception.delivering(outbox):
        outbox.add(report(RUNNING, "running"))
        outbox.add(report(FINAL, "final"))
        await outbox.drained()

    assert reception.names == ["final"]


async def test_a_fresh_link_tries_refused_rows_at_once(
    outbox: Outbox, reception: Reception, autojump_clock: MockClock
) -> None:
    outbox.add(report(LOG, "first", to="later"))
    async with reception.delivering(outbox):
        await trio.sleep(1000)
        outbox.add(report(LOG, "second"))
        await wait_all_tasks_blocked()
    reception.declare("later")

    start = trio.current_time()
    assert await send_all(outbox, reception) == ["first", "second"]
    assert trio.current_time() == start
