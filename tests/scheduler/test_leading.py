"""Who leads, and that whoever does not dispatches and writes nothing."""

import logging
from collections.abc import Sequence
from typing import NoReturn

import pytest
import trio
from attrs import define
from tests.support.scheduling import LEASE, Ground, Reach
from trio.testing import MockClock

from milvaion_trio.coordination.sqlite import SqliteCoordination
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.schedule import Entry, Every, Misfire, Overlap
from milvaion_trio.ports.coordination import LEADER
from milvaion_trio.scheduler.agenda import Agenda
from milvaion_trio.scheduler.leading import Leading, beat_interval
from milvaion_trio.scheduler.telling import UNHEARD, Written


async def test_one_of_all_leads(ground: Ground, autojump_clock: MockClock) -> None:
    await ground.put("s", Every(1))
    async with ground.scheduling("a") as first, ground.scheduling("b") as second:
        await trio.sleep(30.5)

        assert [first.is_leading, second.is_leading].count(True) == 1
    assert ground.ticks("s") == list(range(1, 31))


async def test_who_leaves_lets_another_one_lead_at_once(ground: Ground, autojump_clock: MockClock) -> None:
    """Within a second, not after the lease; and with everything written, so that nothing comes twice."""
    await ground.put("s", Every(1))
    async with trio.open_nursery() as nursery:
        first = await ground.start(nursery, "a")
        await trio.sleep(0.5)
        second = await ground.start(nursery, "b")
        await trio.sleep(20)
        await first.leave()
        await trio.sleep(20)

        assert second.scheduler.is_leading
        await second.leave()
    assert ground.ticks("s") == list(range(1, 41))
    assert max(sent.at - sent.tick for sent in ground.sent) <= 1


async def test_after_a_death_another_one_leads_when_the_lease_is_over(
    ground: Ground, autojump_clock: MockClock
) -> None:
    """It dispatches what was missed; of a tick that was published and not written a second message, just the same."""
    await ground.put("s", Every(1))
    async with trio.open_nursery() as nursery:
        first = await ground.start(nursery, "a")
        await trio.sleep(0.5)
        second = await ground.start(nursery, "b")
        await trio.sleep(9)
        first.reach.is_cut = True
        await trio.sleep(1)  # tick 10 is published
        await first.kill()
        await trio.sleep(20)
        await second.leave()

    again = [sent for sent in ground.sent if sent.tick == 10]
    assert sorted(ground.ticks("s")) == sorted([*range(1, 31), 10])
    assert again[0].message == again[1].message
    lateness = max(sent.at - sent.tick for sent in ground.sent)
    assert lateness <= LEASE + 2
    assert (await ground.progress("s")).runs == 30


async def test_who_was_stopped_meanwhile_dispatches_and_writes_nothing(
    ground: Ground, autojump_clock: MockClock
) -> None:
    """By SIGSTOP, say, or because the keeper does not answer: its time is over by its own clock."""
    await ground.put("s", Every(1))
    async with trio.open_nursery() as nursery:
        first = await ground.start(nursery, "a")
        await trio.sleep(0.5)
        second = await ground.start(nursery, "b")
        await trio.sleep(5)
        first.reach.hang()
        await trio.sleep(20)
        assert second.scheduler.is_leading
        before = len(ground.sent)
        first.reach.go_on()
        await trio.sleep(5)

        assert not first.scheduler.is_leading
        assert len(ground.sent) - before == 5
        assert (await ground.progress("s")).runs == 30
        await first.leave()
        await second.leave()
    ticks = ground.ticks("s")
    assert sorted(set(ticks)) == list(range(1, 31))
    assert [tick for tick in ticks if tick > 5.5 + LEASE] == list(range(16, 31))


async def test_without_the_keeper_nothing_is_dispatched_beyond_the_lease(
    ground: Ground, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Within it all goes on, is written later, and comes no second time."""
    await ground.put("s", Every(1), grace=5, misfire=Misfire.SKIP)
    with caplog.at_level(logging.WARNING):
        async with trio.open_nursery() as nursery:
            only = await ground.start(nursery, "a")
            await trio.sleep(20.5)
            only.reach.is_cut = True
            await trio.sleep(5)
            only.reach.is_cut = False
            await trio.sleep(5)
            assert ground.ticks("s") == list(range(1, 31))
            assert (await ground.progress("s")).runs == 30

            only.reach.is_cut = True
            await trio.sleep(30)
            last = ground.sent[-1].at
            assert 38 <= last <= 30.5 + LEASE
            only.reach.is_cut = False
            await trio.sleep(5)
            await only.leave()

    ticks = ground.ticks("s")
    assert ticks[: int(last)] == list(range(1, int(last) + 1))
    assert ticks[int(last) :] == list(range(int(ticks[int(last)]), 66))
    assert ticks[int(last)] in (55, 56, 57)  # on time when it was reached again
    away = [message for message in caplog.messages if "cannot be reached" in message]
    assert len(away) == 2


async def test_an_outage_of_the_broker_lets_one_lead_that_has_a_connection(
    ground: Ground, autojump_clock: MockClock
) -> None:
    await ground.put("s", Every(1))
    other = Ground()  # its broker is the one that can be reached
    other.coordination = ground.coordination
    async with trio.open_nursery() as nursery:
        first = await ground.start(nursery, "a")
        await trio.sleep(0.5)
        second = await other.start(nursery, "b")
        await trio.sleep(5)
        with ground.broker.unreachable():
            await trio.sleep(LEASE + 2)
            assert (first.scheduler.is_leading, second.scheduler.is_leading) == (False, True)
        await trio.sleep(5)
        await first.leave()
        await second.leave()

    assert [*ground.ticks("s"), *other.ticks("s")] == list(range(1, 23))


async def test_a_refused_write_ends_the_term_at_once(ground: Ground, autojump_clock: MockClock) -> None:
    """The book is fenced, whatever a leader believes; it does not go on until its next beat."""
    await ground.put("s", Every(0.1))
    async with trio.open_nursery() as nursery:
        first = await ground.start(nursery, "a")
        await trio.sleep(2.05)
        # Somebody takes the lease away, as a server that lost its memory would.
        token = first.scheduler.token
        assert token is not None
        await ground.coordination.release(LEADER, token)
        theirs = await ground.coordination.acquire(LEADER, "another", 60)
        await trio.sleep(2)

        assert theirs is not None
        assert theirs > token
        assert first.reach.advances[-1] is False
        assert ground.ticks("s")[-1] == 2.1
        assert (await ground.progress("s")).runs == 20
        assert not first.scheduler.is_leading
        await first.leave()


async def test_a_defect_ends_a_term_and_not_the_worker(
    ground: Ground, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    await ground.put("s", Every(1))
    real = SqliteCoordination.beat
    beats = 0

    async def odd(*args: object) -> object:
        nonlocal beats
        beats += 1
        if beats == 3:
            raise RuntimeError("a defect")
        return await real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(SqliteCoordination, "beat", odd)
    async with ground.scheduling():
        await trio.sleep(10.5)

    assert ground.ticks("s") == list(range(1, 11))
    assert sum("the scheduler failed" in message for message in caplog.messages) == 1


async def test_a_term_counts_from_before_its_request(ground: Ground, autojump_clock: MockClock) -> None:
    """The keeper counts from when it grants, which may be long before its answer arrives."""
    reach = Reach(ground.coordination, answers_after=3)
    leading = Leading(reach, "a", LEASE, lambda: ground.now, UNHEARD)
    asked_at = trio.current_time()
    term = await leading.won()
    assert term is not None
    assert term.scope.deadline == asked_at + LEASE

    asked_at = trio.current_time()
    assert await leading.learn(term, Agenda())
    assert term.scope.deadline == asked_at + LEASE


async def test_a_lease_that_is_gone_ends_the_term_with_the_next_beat(ground: Ground, autojump_clock: MockClock) -> None:
    """Also of one who has nothing to write, and so meets no fence."""
    await ground.put("s", Every(3600))
    async with ground.scheduling() as scheduler:
        await trio.sleep(5.5)
        assert scheduler.is_leading
        assert scheduler.token is not None
        await ground.coordination.release(LEADER, scheduler.token)
        assert await ground.coordination.acquire(LEADER, "another", 60) is not None
        await trio.sleep(beat_interval(LEASE) + 0.1)

        assert not scheduler.is_leading


async def test_nobody_without_a_link_holds_the_lease(ground: Ground, autojump_clock: MockClock) -> None:
    """One lease after the link was lost it lets others lead, and does not come back before it can publish."""
    await ground.put("s", Every(1))
    async with ground.scheduling() as scheduler:
        await trio.sleep(5.5)
        with ground.broker.unreachable():
            await trio.sleep(LEASE + 2)
            until = trio.current_time() + 2 * LEASE
            while trio.current_time() < until:
                token = await ground.coordination.acquire(LEADER, "another", 1)
                assert token is not None
                await ground.coordination.release(LEADER, token)
                await trio.sleep(0.1)
        await trio.sleep(10)

        assert scheduler.is_leading
    assert ground.ticks("s")[:5] == [1, 2, 3, 4, 5]
    assert ground.ticks("s")[-1] == 47


async def test_who_leads_no_more_reports_no_more(ground: Ground, autojump_clock: MockClock) -> None:
    """Whether another one leads or it leaves: two that report the same runs would contradict each other."""
    told: list[str] = []

    @define(eq=False)
    class Listener:
        def has(self, entries: Sequence[Entry]) -> None:
            told.append("has")

        def wrote(self, written: Written) -> None: ...

        def follows(self) -> None:
            told.append("follows")

    await ground.put("s", Every(3600))
    async with ground.scheduling(telling=Listener()) as scheduler:
        await trio.sleep(1.5)
        assert told == ["has"]
        await ground.coordination.end_leases()
        theirs = await ground.coordination.acquire(LEADER, "another", 5)
        assert theirs is not None
        await trio.sleep(2)
        assert not scheduler.is_leading
        assert told == ["has", "follows"]
        await trio.sleep(10)
        assert told == ["has", "follows", "has"]
    assert told == ["has", "follows", "has", "follows"]


async def test_a_keeper_that_answers_nobody_holds_up_no_leaving(ground: Ground, autojump_clock: MockClock) -> None:
    """Jobs wait for it meanwhile. What is not written, whoever leads next finds out."""
    await ground.put("s", Every(1))
    async with trio.open_nursery() as nursery:
        first = await ground.start(nursery, "a")
        await trio.sleep(2.5)
        first.reach.hang()
        await trio.sleep(1)
        began = trio.current_time()
        with trio.move_on_after(5) as limit:
            await first.leave()
        took = trio.current_time() - began
        first.reach.go_on()

        assert took <= 1
        assert not limit.cancelled_caught
        nursery.cancel_scope.cancel()


async def test_a_keeper_that_answers_nobody_makes_no_tick_late(ground: Ground, autojump_clock: MockClock) -> None:
    """Whether a run has ended is asked right before a tick that it is in the way of, which must not wait for it."""
    await ground.put("blocked", Every(1), overlap=Overlap.SKIP)
    await ground.put("s", Every(1))
    async with trio.open_nursery() as nursery:
        first = await ground.start(nursery, "a")
        await trio.sleep(2.5)
        first.reach.hang()
        await trio.sleep(LEASE / 2)
        first.reach.go_on()
        await first.leave()

    assert ground.ticks("blocked") == [1]
    assert ground.ticks("s") == [1, 2, 3, 4, 5, 6, 7]
    assert max(sent.at - sent.tick for sent in ground.sent) <= 0.2


async def test_who_leaves_with_something_unwritten_keeps_its_lease(
    ground: Ground, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever leads at once would not find it; until the lease is over, the keeper may tell what was written."""
    await ground.put("s", Every(1))

    async def cut(*_: object) -> NoReturn:
        raise LinkLost("the answer was lost")

    async with trio.open_nursery() as nursery:
        first = await ground.start(nursery, "a")
        await trio.sleep(2.5)
        monkeypatch.setattr(Reach, "advance", cut)
        await trio.sleep(1)
        assert ground.ticks("s") == [1, 2, 3]
        await first.leave()

    assert await ground.coordination.acquire(LEADER, "another", 1) is None
    await trio.sleep(LEASE)
    assert await ground.coordination.acquire(LEADER, "another", 1) is not None
