"""What is concluded survives the process: rows, marks, order and bytes."""

from pathlib import Path

import trio
from tests.support.disks import outbox_file
from tests.support.reports import FINAL, HEARTBEAT, LOG, RUNNING, A, B, Reception, attempt, report
from tests.support.stored import all_sent, conclude, left_by_a_kill, opened, written
from trio.testing import wait_all_tasks_blocked

from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.ports import Report


async def test_rows_and_marks_outlive_a_kill_in_their_order(path: Path) -> None:
    async with opened(path) as outbox:
        outbox.add(report(LOG, "log of A"))
        outbox.add(report(LOG, "log of several", None))
        outbox.add(report(LOG, "log of B", B))
        await conclude(outbox, "retry copy", "dead letter")
        outbox.add(report(LOG, "late log of B", B))
        await written(outbox)
        left = left_by_a_kill(path)

    async with opened(left) as outbox:
        assert outbox.is_concluded(attempt())
        assert not outbox.is_concluded(attempt(B))
        assert not outbox.is_concluded(attempt(retry_count=1))
        assert outbox.statistics().pending == 6
        assert outbox.statistics().pending_logs == 4
        assert await all_sent(outbox) == [
            "log of A",
            "log of several",
            "log of B",
            "retry copy",
            "dead letter",
            "late log of B",
        ]


async def test_leaving_writes_what_was_accepted(path: Path) -> None:
    async with opened(path) as outbox:
        await conclude(outbox, "final")
        outbox.add(report(LOG, "log", None))

    async with opened(path) as outbox:
        assert await all_sent(outbox) == ["final", "log"]


async def test_a_confirmed_row_is_not_sent_again_after_a_kill(path: Path) -> None:
    async with opened(path) as outbox:
        await conclude(outbox, "final")
        assert await all_sent(outbox) == ["final"]
        await written(outbox)
        left = left_by_a_kill(path)

    async with opened(left) as outbox:
        assert outbox.is_concluded(attempt())
        assert outbox.statistics().pending == 0
        assert await all_sent(outbox) == []


async def test_a_row_without_a_confirm_is_sent_again_after_a_kill_with_the_same_bytes(path: Path) -> None:
    reception = Reception()
    async with opened(path) as outbox:
        with reception.broker.hold_confirms():
            async with reception.delivering(outbox):
                await conclude(outbox, "final")
                await written(outbox)
                await wait_all_tasks_blocked()
                assert reception.names == ["final"]
        await written(outbox)
        left = left_by_a_kill(path)
    first = list(reception.publications)

    async with opened(left) as outbox:
        assert await all_sent(outbox, reception) == ["final"]
    assert reception.publications[1:] == first


async def test_everything_of_a_publication_outlives_the_process(path: Path) -> None:
    headers = {
        "text": "ü\0",
        "nothing": None,
        "int": -(2**63),
        "yes": True,
        "nested": {"list": [1, {"bytes": b"\xff"}]},
    }
    message = Message(
        body=bytes(range(256)),
        headers=headers,
        message_id="id",
        correlation_id="correlation",
        content_type="application/json",
        timestamp=2**64 - 1,
        persistent=False,
    )
    whole = Report(FINAL, Publication(message, "reports", "", 2.5), A)
    bare = Report(LOG, Publication(Message(body=b""), "key", "exchange"), None)
    async with opened(path) as outbox:
        outbox.add(whole)
        outbox.add(bare)

    file = outbox_file(path)
    file.open()
    try:
        assert file.store is not None
        assert [stored.report for stored in file.store.read(0, 10)] == [whole, bare]
    finally:
        file.close()


async def test_statuses_of_the_moment_are_not_written(path: Path) -> None:
    """Whoever meets the message again says anew that it runs."""
    reception = Reception()
    async with opened(path) as outbox:
        with reception.broker.hold_confirms():
            async with reception.delivering(outbox):
                assert outbox.add(report(RUNNING, "running"))
                assert outbox.add(report(HEARTBEAT, "alive"))
                await written(outbox)

    async with opened(path) as outbox:
        assert await all_sent(outbox) == []


async def test_rows_of_an_earlier_process_go_before_those_of_this_one(path: Path) -> None:
    async with opened(path) as outbox:
        await conclude(outbox, "retry copy")

    async with opened(path) as outbox:
        outbox.add(report(RUNNING, "running again"))
        await conclude(outbox, "final", retry_count=1)
        assert await all_sent(outbox) in (
            ["retry copy", "final"],
            ["retry copy", "running again", "final"],
        )


async def test_settled_waits_for_rows_of_an_earlier_process(path: Path) -> None:
    async with opened(path) as outbox:
        await conclude(outbox, "final")

    async with opened(path) as outbox, trio.open_nursery() as nursery:
        has_settled = trio.Event()

        async def settle() -> None:
            await outbox.settled(attempt())
            has_settled.set()

        nursery.start_soon(settle)
        await wait_all_tasks_blocked()
        assert not has_settled.is_set()
        await all_sent(outbox)
        with trio.fail_after(10):
            await has_settled.wait()
