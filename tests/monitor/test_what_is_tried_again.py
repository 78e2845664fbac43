"""What a monitor could not pass on is tried again: ends for the book of schedules, messages for quarantine."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import trio
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.schedule import RunEnd
from milvaion_trio.monitor import ends as module
from milvaion_trio.monitor.ends import Ends
from milvaion_trio.monitor.set_aside import SetAside
from milvaion_trio.ports import Confirmation


def end(status: OccurrenceStatus) -> RunEnd:
    return RunEnd(schedule_id="nightly", tick=1, status=status, at=2)


@define
class SlowBook:
    """Away at first; then it takes each end when it is let go."""

    name: str = "a book"
    is_away: bool = True
    told: list[RunEnd] = field(factory=list)
    goes_on: trio.Event = field(factory=trio.Event)

    @property
    def book(self) -> "SlowBook":
        return self

    async def ended(self, end: RunEnd) -> None:
        if self.is_away:
            raise LinkLost("it is away")
        await self.goes_on.wait()
        self.told.append(end)


async def test_an_end_that_comes_while_an_earlier_one_of_the_run_is_told_is_told_too(autojump_clock: MockClock) -> None:
    """It was taken for lost, and then its worker said how it ended."""
    book = SlowBook()
    ends = Ends(cast("Any", book))
    await ends.tell([end(OccurrenceStatus.UNKNOWN)])
    book.is_away = False
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ends.tell_again)
        await trio.sleep(module.PAUSE)
        await wait_all_tasks_blocked()
        await ends.tell([end(OccurrenceStatus.FAILED)])
        book.goes_on.set()
        await trio.sleep(2 * module.PAUSE)
        nursery.cancel_scope.cancel()

    assert [each.status for each in book.told] == [OccurrenceStatus.UNKNOWN, OccurrenceStatus.FAILED]


@define
class FullQueue:
    """Refuses so many publishes, then takes all."""

    refusals: int
    taken: list[Publication] = field(factory=list)

    async def use(self, do: Callable[["FullQueue"], Awaitable[Any]]) -> Any:
        return await do(self)

    async def publish(self, publications: Sequence[Publication]) -> Sequence[Confirmation]:
        self.refusals -= 1
        if self.refusals >= 0:
            return [Confirmation.REFUSED] * len(publications)
        self.taken += publications
        return [Confirmation.CONFIRMED] * len(publications)


@define
class Unreadable:
    """A delivery that nobody can use."""

    message: Message = field(factory=lambda: Message(body=b"{"))
    queue: str = "job_status_updates_queue"
    acks: int = 0

    def ack(self) -> None:
        self.acks += 1


async def test_what_quarantine_refuses_for_a_while_is_not_dropped(autojump_clock: MockClock) -> None:
    """Its queue is full, or the broker's disk fails; the message is acked when its copy is confirmed."""
    queue, delivery = FullQueue(refusals=3), Unreadable()
    aside = SetAside(cast("Any", queue))
    aside.take(cast("Any", delivery), "it is no JSON")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(aside.run)
        await wait_all_tasks_blocked()
        during = delivery.acks
        await trio.sleep(10)
        nursery.cancel_scope.cancel()

    assert during == 0
    assert (delivery.acks, len(queue.taken), aside.set_aside, aside.dropped) == (1, 1, 1, 0)
