"""What every keeper of leases, claims and schedules promises: the sentences of `ports.coordination`."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import trio
from attrs import evolve
from tests.support.coordinations import KEEPERS, Keeper, KeeperKind

from milvaion_trio.coordination import reading
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.schedule import (
    Cron,
    Entry,
    Every,
    Misfire,
    Once,
    OpenRun,
    Overlap,
    Progress,
    RunEnd,
    Schedule,
)
from milvaion_trio.policy.scheduling import is_disabled
from milvaion_trio.ports.coordination import LEADER, Coordination, Token

A = OccurrenceId("019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193")
B = OccurrenceId("019d4d92-04ab-72c1-9d3e-51f0a6b7c8d2")

NIGHTLY = Schedule(
    id="nightly", job="ReportJob", worker_id="report-worker", pattern="reports.*", when=Cron(expression="0 2 * * *")
)
ALL_SAID = Schedule(
    id="ünd 'anders' \" \\ \t ☃",
    job="j",
    worker_id="w",
    pattern="p",
    when=Every(0.5),
    data='{"a": "ü"}',
    overlap=Overlap.CANCEL_PREVIOUS,
    misfire=Misfire.ALL,
    misfire_limit=7,
    grace=1.5,
    jitter=2.5,
    start=3,
    end=4,
    max_runs=5,
    disable_after=0,
    failure_window=6.5,
    lost_after=7.5,
    origin="code",
)
FAR = Progress(
    decided=1_700_000_000_000,
    runs=3,
    open_runs=(OpenRun(1, 2), OpenRun(3, 4)),
    waiting=(5, 6),
    failures=2,
    last_failure=7,
    disabled=8,
    disabled_why="too many failures: ü\0",
    last_tick=9,
    last_status=OccurrenceStatus.FAILED,
    left_out=10,
)


def end(tick: int, at: int = 0, schedule_id: str = "nightly", **values: Any) -> RunEnd:
    return evolve(RunEnd(schedule_id=schedule_id, tick=tick, status=OccurrenceStatus.COMPLETED, at=at), **values)


@pytest.fixture(params=KEEPERS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> KeeperKind:
    chosen: KeeperKind = request.param
    return chosen


@pytest.fixture
async def keeper(kind: KeeperKind, tmp_path: Path) -> AsyncIterator[Keeper]:
    async with kind.open(tmp_path) as keeper:
        yield keeper


@pytest.fixture
async def one(keeper: Keeper) -> AsyncIterator[Coordination]:
    client = keeper.client()
    async with client.open():
        yield client


@pytest.fixture
async def other(keeper: Keeper) -> AsyncIterator[Coordination]:
    """Of the same keeper, as another process has it."""
    client = keeper.client()
    async with client.open():
        yield client


async def lead(coordination: Coordination, holder: str = "a") -> Token:
    token = await coordination.leases.acquire(LEADER, holder, 10)
    assert token is not None
    return token


async def only_entry(coordination: Coordination) -> Entry:
    (entry,) = (await coordination.book.read())[1]
    return entry


async def ends_of(coordination: Coordination, token: Token) -> Sequence[RunEnd]:
    beat = await coordination.book.beat(token, 10)
    assert beat is not None
    return beat.ends


async def revision_of(coordination: Coordination) -> int:
    return (await coordination.book.read())[0]


# --- leases -----------------------------------------------------------------------------------------------------------


async def test_a_name_has_one_holder_at_a_time(one: Coordination, other: Coordination) -> None:
    """Not even the same holder gets it twice; another name is another lease."""
    assert await one.leases.acquire("a", "me", 10) is not None

    assert await other.leases.acquire("a", "you", 10) is None
    assert await one.leases.acquire("a", "me", 10) is None
    assert await other.leases.acquire("b", "you", 10) is not None


async def test_a_lease_runs_out(keeper: Keeper, one: Coordination, other: Coordination) -> None:
    token = await one.leases.acquire("a", "me", 10)
    assert token is not None

    await keeper.elapse(9)
    assert await other.leases.acquire("a", "you", 10) is None
    await keeper.elapse(1.5)

    assert not await one.leases.renew("a", token, 10)
    assert not await one.leases.release("a", token)
    later = await other.leases.acquire("a", "you", 10)
    assert later is not None
    assert later > token


async def test_renewing_counts_from_now(keeper: Keeper, one: Coordination, other: Coordination) -> None:
    token = await one.leases.acquire("a", "me", 10)
    assert token is not None

    await keeper.elapse(6)
    assert await one.leases.renew("a", token, 10)
    await keeper.elapse(6)
    assert await other.leases.acquire("a", "you", 10) is None
    assert await one.leases.renew("a", token, 3)
    await keeper.elapse(4)

    assert await other.leases.acquire("a", "you", 10) is not None


async def test_a_lease_that_was_given_up_is_free(one: Coordination, other: Coordination) -> None:
    token = await one.leases.acquire("a", "me", 10)
    assert token is not None

    assert await other.leases.release("a", token)  # the token is the right, whoever has it

    assert not await one.leases.release("a", token)
    later = await other.leases.acquire("a", "you", 10)
    assert later is not None
    assert later > token


async def test_an_old_token_does_nothing_to_the_lease_of_another(
    keeper: Keeper, one: Coordination, other: Coordination
) -> None:
    old = await one.leases.acquire("a", "me", 10)
    assert old is not None
    await keeper.elapse(11)
    new = await other.leases.acquire("a", "you", 10)
    assert new is not None

    assert not await one.leases.renew("a", old, 100)
    assert not await one.leases.release("a", old)

    assert await other.leases.renew("a", new, 10)


async def test_a_token_is_of_its_name_alone(one: Coordination) -> None:
    token = await one.leases.acquire("a", "me", 10)
    assert token is not None
    await one.leases.acquire("b", "me", 10)

    assert not await one.leases.renew("b", token, 10)
    assert not await one.leases.release("b", token)


async def test_of_many_that_want_it_at_once_one_gets_it(keeper: Keeper) -> None:
    clients = [keeper.client() for _ in range(4)]
    held: list[Token] = []

    async def want(client: Coordination, name: str) -> None:
        async with client.open():
            if token := await client.leases.acquire(name, "me", 10):
                held.append(token)

    async with trio.open_nursery() as nursery:
        for client in clients:
            for number in range(5):
                nursery.start_soon(want, client, f"a{number}")

    assert len(held) == len(set(held)) == 5


# --- claims -----------------------------------------------------------------------------------------------------------


async def test_a_key_belongs_to_the_first_that_claims_it(one: Coordination, other: Coordination) -> None:
    assert await one.claims.claim("k", A, 10) == A

    assert await other.claims.claim("k", B, 10) == A
    assert await other.claims.claim("another", B, 10) == B


async def test_a_claim_runs_out(keeper: Keeper, one: Coordination, other: Coordination) -> None:
    await one.claims.claim("k", A, 10)

    await keeper.elapse(10.5)

    assert not await one.claims.give_up("k", A)
    assert await other.claims.claim("k", B, 10) == B


async def test_claiming_what_is_ones_own_prolongs_it(keeper: Keeper, one: Coordination, other: Coordination) -> None:
    await one.claims.claim("k", A, 10)
    await keeper.elapse(6)

    assert await other.claims.claim("k", A, 10) == A

    await keeper.elapse(6)
    assert await one.claims.claim("k", B, 10) == A


async def test_claiming_what_is_anothers_does_not_prolong_it(keeper: Keeper, one: Coordination) -> None:
    await one.claims.claim("k", A, 10)
    await keeper.elapse(6)
    await one.claims.claim("k", B, 10)
    await keeper.elapse(6)

    assert await one.claims.claim("k", B, 10) == B


async def test_a_key_that_was_given_up_is_free(one: Coordination, other: Coordination) -> None:
    await one.claims.claim("k", A, 10)

    assert not await other.claims.give_up("k", B)
    assert await one.claims.claim("k", B, 10) == A
    assert await other.claims.give_up("k", A)

    assert not await other.claims.give_up("k", A)
    assert await one.claims.claim("k", B, 10) == B


# --- the book ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", [NIGHTLY, ALL_SAID, evolve(NIGHTLY, when=Once(5))], ids=["cron", "every", "once"])
async def test_a_schedule_is_kept_as_it_is(one: Coordination, other: Coordination, schedule: Schedule) -> None:
    assert await one.book.put(schedule, 1000)

    assert await only_entry(other) == Entry(schedule=schedule, created=1000)


async def test_putting_the_same_schedule_changes_nothing(one: Coordination, other: Coordination) -> None:
    await one.book.put(NIGHTLY, 1000)
    before = await one.book.read()

    assert not await other.book.put(evolve(NIGHTLY), 2000)

    assert await one.book.read() == before


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        ({"job": "OtherJob"}, True),
        ({"data": "{}", "grace": 5.0}, True),
        ({"when": Cron(expression="0 3 * * *")}, False),
        ({"when": Cron(expression="0 2 * * *", timezone="Europe/Vienna")}, False),
        ({"when": Every(3.0)}, False),
    ],
    ids=["job", "data", "expression", "timezone", "kind"],
)
async def test_a_new_recurrence_starts_anew(one: Coordination, change: dict[str, Any], stays: bool) -> None:
    """Progress stays where the recurrence is the same; pausing stays always."""
    await one.book.put(NIGHTLY, 1000)
    await one.book.resume("nightly", 1500)
    await one.book.pause("nightly")
    await one.book.advance(await lead(one), {"nightly": FAR}, ())

    assert await one.book.put(evolve(NIGHTLY, **change), 2000)

    entry = await only_entry(one)
    assert entry.schedule == evolve(NIGHTLY, **change)
    assert (entry.created, entry.progress) == ((1000, FAR) if stays else (2000, Progress()))
    assert (entry.paused, entry.resumed) == (True, 1500)


async def test_what_is_removed_is_gone_with_its_progress(one: Coordination, other: Coordination) -> None:
    await one.book.put(NIGHTLY, 1000)
    await one.book.pause("nightly")
    await one.book.advance(await lead(one), {"nightly": FAR}, ())

    assert await other.book.remove("nightly")

    assert not await other.book.remove("nightly")
    assert (await one.book.read())[1] == []
    await one.book.put(NIGHTLY, 2000)
    assert await only_entry(one) == Entry(schedule=NIGHTLY, created=2000)


async def test_a_schedule_is_paused_and_resumed(one: Coordination, other: Coordination) -> None:
    await one.book.put(NIGHTLY, 1000)

    assert await other.book.pause("nightly")
    assert await only_entry(one) == Entry(schedule=NIGHTLY, created=1000, paused=True)

    assert await other.book.resume("nightly", 3000)
    assert await only_entry(one) == Entry(schedule=NIGHTLY, created=1000, resumed=3000)

    await one.book.pause("nightly")
    assert await other.book.resume("nightly", 4000)
    assert await only_entry(one) == Entry(schedule=NIGHTLY, created=1000, resumed=4000)

    assert await one.book.resume("nightly", 5000), "failures may have stopped it, though nobody has paused it"
    assert await only_entry(other) == Entry(schedule=NIGHTLY, created=1000, resumed=5000)

    await one.book.pause("nightly")
    revision, _ = await other.book.read()
    assert await one.book.resume("nightly", 2000), "the last one was by a clock that was ahead"
    assert await only_entry(other) == Entry(schedule=NIGHTLY, created=1000, resumed=2000)
    assert (await other.book.read())[0] > revision, "else no leader would look at it"


@pytest.mark.parametrize(("disabled", "resumed"), [(1_700_000_007_000, 1_700_000_007_001), (2999, 3000), (None, 3000)])
async def test_a_schedule_that_was_resumed_is_not_still_stopped(
    one: Coordination, other: Coordination, disabled: int | None, resumed: int
) -> None:
    """Also by a clock that is behind the one by which failures stopped it."""
    await one.book.put(NIGHTLY, 1000)
    await one.book.advance(await lead(one), {"nightly": evolve(FAR, disabled=disabled, disabled_why="")}, ())

    assert await other.book.resume("nightly", 3000)

    entry = await only_entry(one)
    assert (entry.resumed, is_disabled(entry)) == (resumed, False)


async def test_what_is_not_there_is_not_changed(one: Coordination) -> None:
    assert not await one.book.pause("nightly")
    assert not await one.book.resume("nightly", 1)
    assert not await one.book.remove("nightly")

    assert (await one.book.read())[1] == []


async def test_entries_are_read_by_name(one: Coordination) -> None:
    names = ["b", "a", "ü", "Z", "10", "9", "a b"]
    for name in names:
        await one.book.put(evolve(NIGHTLY, id=name), 1)

    assert [entry.schedule.id for entry in (await one.book.read())[1]] == sorted(names)


async def test_every_edit_gives_a_larger_revision(one: Coordination, other: Coordination) -> None:
    """And nothing else does: the leader reads the book again when it sees one."""
    revisions = [await revision_of(one)]
    await one.book.put(NIGHTLY, 1)
    revisions.append(await revision_of(other))
    await other.book.put(evolve(NIGHTLY, data="{}"), 2)
    revisions.append(await revision_of(one))
    await one.book.pause("nightly")
    revisions.append(await revision_of(one))
    await one.book.resume("nightly", 3)
    revisions.append(await revision_of(one))
    await one.book.remove("nightly")
    revisions.append(await revision_of(one))
    await one.book.put(NIGHTLY, 4)
    last = await revision_of(one)
    token = await lead(one)
    await one.book.ended(end(1))
    await one.book.advance(token, {"nightly": FAR}, [end(1)])
    beat = await one.book.beat(token, 10)

    assert revisions == sorted(set(revisions))
    assert beat is not None
    assert revisions[-1] < last == beat.revision == await revision_of(other)


# --- ends -------------------------------------------------------------------------------------------------------------


async def test_an_end_is_there_until_the_leader_takes_it(one: Coordination, other: Coordination) -> None:
    token = await lead(one)
    first, second = end(1, error="no: ü\0", status=OccurrenceStatus.FAILED), end(2, at=5, status=99)
    await other.book.ended(first)
    await other.book.ended(second)

    assert await ends_of(one, token) == (first, second)
    assert await ends_of(one, token) == (first, second)  # it may have died in between
    assert await one.book.advance(token, {}, [first])
    assert await ends_of(one, token) == (second,)


async def test_ends_come_oldest_first(one: Coordination) -> None:
    ends = [end(9, at=1), end(10, at=2), end(3, at=10), end(1, at=100, schedule_id="a"), end(2, at=1000)]
    for each in ends[1::2] + ends[::2]:
        await one.book.ended(each)

    assert await ends_of(one, await lead(one)) == tuple(ends)


async def test_an_end_that_is_told_twice_counts_once(one: Coordination, other: Coordination) -> None:
    """Also what others say about it, and also when the leader has taken it."""
    token = await lead(one)
    await one.book.ended(end(1))

    await other.book.ended(end(1))
    await other.book.ended(end(1, at=5, status=OccurrenceStatus.FAILED))
    assert await ends_of(one, token) == (end(1),)
    await one.book.advance(token, {}, [end(1)])
    await other.book.ended(end(1))

    assert await ends_of(one, token) == ()


async def test_a_run_that_was_taken_for_lost_has_not_ended(one: Coordination, other: Coordination) -> None:
    """The leader hears of it, and its message is run all the same if it comes; its true end counts once."""
    token = await lead(one)
    lost, true = end(1, status=OccurrenceStatus.UNKNOWN), end(1, at=5)
    for _ in range(2):
        await other.book.ended(lost)
    assert await ends_of(one, token) == (lost,)
    assert await one.book.advance(token, {}, [lost])
    assert not await other.book.has_ended("nightly", 1)

    await other.book.ended(true)
    await other.book.ended(lost)
    await other.book.ended(end(1, at=9))

    assert await ends_of(one, token) == (true,)
    assert await other.book.has_ended("nightly", 1)
    assert await one.book.advance(token, {}, [true])
    await other.book.ended(lost)
    assert await ends_of(one, token) == ()
    assert await other.book.has_ended("nightly", 1)


async def test_a_true_end_takes_the_place_of_one_that_nobody_has_taken(one: Coordination, other: Coordination) -> None:
    """Else a failure would not be counted, because somebody took the run for lost a moment before."""
    token = await lead(one)
    true = end(1, at=5, status=OccurrenceStatus.FAILED, error="no")
    await other.book.ended(end(1, status=OccurrenceStatus.UNKNOWN))
    await other.book.ended(true)

    assert await ends_of(one, token) == (true,)


async def test_ends_are_of_a_schedule_and_a_tick(one: Coordination) -> None:
    ends = [end(1), end(2), end(1, schedule_id="other"), end(11, schedule_id="1 nightly"), end(-1)]
    for each in ends:
        await one.book.ended(each)

    assert set(await ends_of(one, await lead(one))) == set(ends)
    assert await one.book.has_ended("other", 1)
    assert not await one.book.has_ended("other", 2)
    assert await one.book.has_ended("nightly", -1)


async def test_an_end_is_remembered_for_a_day(keeper: Keeper, one: Coordination, other: Coordination) -> None:
    """Whether the leader has taken it or not; and not for ever."""
    assert not await one.book.has_ended("nightly", 1)
    await one.book.ended(end(1))
    await one.book.ended(end(2))
    await one.book.advance(await lead(one), {}, [end(1)])
    assert await other.book.has_ended("nightly", 1)

    await keeper.elapse(24 * 3600)
    await one.book.ended(end(3))
    assert await other.book.has_ended("nightly", 1)
    assert await other.book.has_ended("nightly", 2)

    await keeper.elapse(2 * 3600)
    await one.book.ended(end(4))
    assert not await other.book.has_ended("nightly", 1)
    assert await ends_of(one, await lead(one)) == (end(2), end(3), end(4))


async def test_of_very_many_ends_a_beat_brings_the_first(one: Coordination, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("sqlite.store", "redis.adapter"):
        monkeypatch.setattr(f"milvaion_trio.coordination.{module}.ENDS_AT_A_TIME", 2)
    assert reading.ENDS_AT_A_TIME >= 10_000
    token = await lead(one)
    for number in range(5):
        await one.book.ended(end(number, at=number))

    taken: list[RunEnd] = []
    while ends := await ends_of(one, token):
        assert len(ends) <= 2
        await one.book.advance(token, {}, ends)
        taken += ends

    assert [each.tick for each in taken] == list(range(5))


# --- the leader -------------------------------------------------------------------------------------------------------


async def test_a_beat_renews_the_lease_of_the_leader(keeper: Keeper, one: Coordination, other: Coordination) -> None:
    token = await lead(one)

    await keeper.elapse(6)
    assert await one.book.beat(token, 10)
    await keeper.elapse(6)

    assert await other.leases.acquire(LEADER, "b", 10) is None


async def test_who_leads_no_more_learns_it_with_the_beat(
    keeper: Keeper, one: Coordination, other: Coordination
) -> None:
    """Whether somebody else leads or nobody does; and that beat renews nothing."""
    old = await lead(one)
    elsewhere = await other.leases.acquire("exclusive:a", "b", 10)
    assert elsewhere is not None
    assert await one.book.beat(elsewhere, 10) is None

    await keeper.elapse(11)
    assert await one.book.beat(old, 10) is None
    new = await lead(other, "b")
    await keeper.elapse(6)
    assert await one.book.beat(old, 10) is None
    await keeper.elapse(6)

    assert await other.book.beat(new, 10) is None


async def test_the_leader_writes_progress(one: Coordination, other: Coordination) -> None:
    """Of the schedules that are in the book; others are left out, and no entry comes of them."""
    for name in ("a", "b", "c"):
        await one.book.put(evolve(NIGHTLY, id=name), 1)
    await one.book.remove("c")
    later = evolve(FAR, runs=99, last_status=99)

    assert await one.book.advance(await lead(one), {"a": FAR, "b": later, "c": FAR, "never": FAR}, ())

    found = {entry.schedule.id: entry.progress for entry in (await other.book.read())[1]}
    assert found == {"a": FAR, "b": later}
    assert not await other.book.pause("never")


async def test_progress_is_replaced_as_a_whole(one: Coordination) -> None:
    await one.book.put(NIGHTLY, 1)
    token = await lead(one)
    await one.book.advance(token, {"nightly": FAR}, ())

    await one.book.advance(token, {"nightly": Progress(decided=5)}, ())

    assert (await only_entry(one)).progress == Progress(decided=5)


async def test_progress_of_the_schedule_before_is_none_of_the_one_in_its_place(
    one: Coordination, other: Coordination
) -> None:
    """A leader hears of an edit with its next beat, and may write before that."""
    await one.book.put(NIGHTLY, 1000)
    token = await lead(one)
    before = evolve(FAR, created=1000)
    assert await one.book.advance(token, {"nightly": before}, ())
    assert (await only_entry(one)).progress == before

    await other.book.put(evolve(NIGHTLY, when=Every(3.0)), 2000)
    assert await one.book.advance(token, {"nightly": before}, ())

    assert (await only_entry(one)).progress == Progress()


async def test_an_older_leader_writes_nothing(keeper: Keeper, one: Coordination, other: Coordination) -> None:
    """Neither progress nor the ends it took; also when the newer leader has left."""
    await one.book.put(NIGHTLY, 1)
    await one.book.ended(end(1))
    old = await lead(one)
    await keeper.elapse(11)
    new = await lead(other, "b")

    assert not await one.book.advance(old, {"nightly": FAR}, [end(1)])
    assert (await only_entry(one)).progress == Progress()
    assert await ends_of(other, new) == (end(1),)

    await other.leases.release(LEADER, new)
    assert not await one.book.advance(old, {"nightly": FAR}, [end(1)])
    assert (await only_entry(one)).progress == Progress()


async def test_a_leader_whose_lease_ran_out_may_write_until_there_is_a_newer_one(
    keeper: Keeper, one: Coordination, other: Coordination
) -> None:
    """What it dispatched in time is known then. A lease of another name makes nobody leader."""
    await one.book.put(NIGHTLY, 1)
    token = await lead(one)
    await keeper.elapse(11)
    assert await other.leases.acquire("exclusive:a", "b", 10) is not None

    assert await one.book.advance(token, {"nightly": FAR}, ())

    assert (await only_entry(one)).progress == FAR


# --- clients ----------------------------------------------------------------------------------------------------------


async def test_what_is_kept_outlives_its_clients(keeper: Keeper) -> None:
    client = keeper.client()
    async with client.open():
        token = await lead(client)
        await client.book.put(NIGHTLY, 1)
        await client.leases.release(LEADER, token)

    async with client.open():
        assert (await only_entry(client)).schedule == NIGHTLY
        assert await lead(client) > token


async def test_a_client_may_be_open_several_times(one: Coordination) -> None:
    async with one.open():
        await one.book.put(NIGHTLY, 1)
    async with one.open(), trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(one.book.put, evolve(NIGHTLY, id=str(number)), 1)

    assert len((await one.book.read())[1]) == 6


async def test_a_request_that_is_cancelled_leaves_the_next_ones_their_answers(one: Coordination) -> None:
    """Whether it had not begun, or its answer was on its way."""
    await one.book.put(NIGHTLY, 1)

    for _ in range(20):
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(one.book.has_ended, "nightly", 1)
            await trio.lowlevel.cancel_shielded_checkpoint()
            nursery.cancel_scope.cancel()
        with trio.move_on_after(0):
            await one.book.read()

    assert await one.claims.claim("k", A, 10) == A
    assert (await only_entry(one)).schedule == NIGHTLY


async def test_what_no_unicode_can_say_is_refused(one: Coordination) -> None:
    with pytest.raises(UnicodeEncodeError):
        await one.leases.acquire("\ud800", "me", 10)
    with pytest.raises(UnicodeEncodeError):
        await one.claims.claim("\ud800", A, 10)

    assert await one.leases.acquire("a", "me", 10) is not None


async def test_a_schedule_that_this_version_cannot_read_is_left_out(
    kind: KeeperKind, one: Coordination, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told, once, without the job's data; all others are there."""
    name = f"tidal-{kind.name}"
    await one.book.put(NIGHTLY, 1)
    odd = evolve(NIGHTLY, id=name, data='{"password":"hunter2"}')
    newer = '{"kind":"lunar","phase":"full"}'
    with monkeypatch.context() as patch:
        for module in ("sqlite.store", "redis.adapter"):
            patch.setattr(f"milvaion_trio.coordination.{module}.recurrence_text", lambda _: newer)
        await one.book.put(odd, 1)

    assert (await only_entry(one)).schedule == NIGHTLY
    assert (await only_entry(one)).schedule == NIGHTLY

    assert len(caplog.messages) == 1
    assert f"schedule '{name}'" in caplog.messages[0]
    assert "hunter2" not in caplog.messages[0]
