"""What a leader dispatches: at the tick's time, as a Milvaion dispatcher would, once."""

import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from attrs import define
from tests.support.scheduling import LEASE, START, Ground, kept_link
from trio.testing import MockClock

from milvaion_trio.model import topology
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.messages import Cancellation
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.schedule import (
    Cron,
    Entry,
    Every,
    Millis,
    Misfire,
    Once,
    Overlap,
    job_id_of,
    occurrence_id_of,
)
from milvaion_trio.model.wire import decode_job
from milvaion_trio.policy import scheduling
from milvaion_trio.ports import Confirmation, Publisher
from milvaion_trio.scheduler import agenda
from milvaion_trio.signals.local import LocalSignals

VECTOR = json.loads((Path(__file__).parents[1] / "wire" / "vectors" / "job_dispatch.json").read_bytes())


async def test_ticks_are_dispatched_at_their_times(ground: Ground, autojump_clock: MockClock) -> None:
    await ground.put("every", Every(2.5))
    await ground.put("cron", Cron(expression="*/4 * * * * *"))
    await ground.put("once", Once(START + 3_700))
    async with ground.scheduling() as scheduler:
        await trio.sleep(9)

        assert [(sent.at, sent.schedule, sent.tick) for sent in ground.sent] == [
            (0, "cron", 0),
            (2.5, "every", 2.5),
            (3.7, "once", 3.7),
            (4, "cron", 4),
            (5, "every", 5),
            (7.5, "every", 7.5),
            (8, "cron", 8),
        ]
        assert scheduler.dispatched == 7
        assert (await ground.progress("every")).runs == 3


async def test_a_tick_is_dispatched_as_milvaions_dispatcher_does(ground: Ground, autojump_clock: MockClock) -> None:
    """WIRE.md 2: so that any worker runs it, and a monitor's copy queue gets it."""
    await ground.put("report", Cron(expression="30 */5 * * * *"), data='{"year":2026}', overlap=Overlap.QUEUE)
    await ground.put("alarm", Once(START + 1_250))
    async with ground.scheduling():
        await trio.sleep(31)

    alarm, report = ground.sent
    message, vector = report.message, VECTOR["properties"]
    occurrence_id = occurrence_id_of("report", START + 30_000)
    theirs = {
        "JobType": "Work",
        "ExecuteAt": "2030-01-01T00:00:30.0000000Z",
        "IsRecurring": True,
        "OccurrenceId": occurrence_id,
        "RoutingKey": "tests.work.job",
        "WorkerId": "tests",
    }
    assert {name: type(value) for name, value in theirs.items()} == {
        name: {"S": str, "t": bool}[header["type"]] for name, header in vector["headers"].items()
    }
    tick = str(START + 30_000)
    assert message.headers == theirs | {
        "x-mtrio-dispatch": tick,
        "x-mtrio-schedule": "report",
        "x-mtrio-tick": tick,
        "x-mtrio-origin": "scheduler",
    }
    assert (message.message_id, message.correlation_id) == (job_id_of("report"), occurrence_id)
    assert (message.content_type, message.timestamp) == ("application/json", START // 1000 + 30)
    assert message.persistent
    body = json.loads(message.body)
    assert body.keys() <= VECTOR["body"].keys()
    job = decode_job(message.body)
    assert (job.id, job.job_name_in_worker, job.job_data) == (job_id_of("report"), "Work", '{"year":2026}')
    assert (job.cron_expression, job.execute_at.text) == ("30 */5 * * * *", "2030-01-01T00:00:30Z")
    assert (job.concurrent_execution_policy, job.is_active) == (1, True)
    assert alarm.message.headers["IsRecurring"] is False
    assert alarm.message.timestamp == START // 1000 + 1


async def test_a_tick_that_the_broker_refuses_comes_again(ground: Ground, autojump_clock: MockClock) -> None:
    await ground.put("s", Once(START + 1000))
    async with ground.scheduling():
        ground.broker.refuse_next(2)
        await trio.sleep(5)

    assert [(sent.at, sent.tick) for sent in ground.sent] == [(3, 1)]
    assert (await ground.progress("s")).runs == 1


async def test_when_the_broker_refuses_one_of_several_ticks_none_is_lost(
    ground: Ground, autojump_clock: MockClock
) -> None:
    """Those that were decided together come again together, each with the id that it has."""
    await ground.put("s", Every(1))
    async with ground.scheduling():
        await trio.sleep(0.5)
        with ground.broker.unreachable():
            await trio.sleep(4)
            ground.broker.refuse_next(1)
        await trio.sleep(20)

    assert sorted(set(ground.ticks("s"))) == list(range(1, 25))
    assert len({sent.occurrence_id for sent in ground.sent}) == 24


async def test_a_lost_link_makes_a_second_message_with_the_same_id(ground: Ground, autojump_clock: MockClock) -> None:
    """Nobody knows what arrived; workers recognise it (DESIGN.md 9, decision 11)."""
    await ground.put("s", Every(60))
    async with ground.scheduling():
        with ground.broker.hold_confirms():
            await trio.sleep(60.5)
            ground.broker.drop_connection("publishing")
            await trio.sleep(1)
        await trio.sleep(60)

    first, second, next_one = ground.sent
    assert first.tick == second.tick == 60
    assert next_one.tick == 120
    assert first.message == second.message
    assert (await ground.progress("s")).runs == 2


async def test_a_run_that_has_just_ended_is_in_no_ticks_way(ground: Ground, autojump_clock: MockClock) -> None:
    """News come with each beat, once a second; a job that returns at once must not miss every second tick of two."""
    await ground.put("s", Every(0.5), overlap=Overlap.SKIP)
    async with ground.scheduling():
        await trio.sleep(0.1)
        for tick in range(1, 10):
            await trio.sleep(0.5)
            await ground.ended("s", tick / 2)

    assert ground.ticks("s") == [tick / 2 for tick in range(1, 10)]


async def test_without_a_link_ticks_wait_for_it(ground: Ground, autojump_clock: MockClock) -> None:
    await ground.put("s", Every(1))
    async with ground.scheduling():
        await trio.sleep(0.5)
        with ground.broker.unreachable():
            await trio.sleep(4)
        await trio.sleep(6)

    assert ground.ticks("s") == [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]


async def test_ticks_without_a_queue_hold_up_nobody(
    ground: Ground, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A worker that is deployed a minute after its schedules must not find them stopped; it is told once."""
    await ground.put("nobodys", Every(1), job="Unknown", pattern="tests.unknown.*", overlap=Overlap.SKIP)
    await ground.put("s", Every(1))
    with caplog.at_level(logging.INFO):
        async with ground.scheduling():
            await trio.sleep(8.5)

    assert ground.ticks("s") == [1, 2, 3, 4, 5, 6, 7, 8]
    assert ground.ticks("nobodys") == []
    progress = await ground.progress("nobodys")
    assert (progress.runs, progress.failures, progress.disabled) == (0, 0, None)
    (missing,) = [message for message in caplog.messages if "nobodys" in message]
    assert missing.startswith("schedule nobodys: there is no queue scheduled_jobs_queue.tests.unknown.wildcard")
    assert missing.endswith("start that worker, or remove the schedule if its job is gone")


async def test_a_queue_that_comes_in_time_gets_every_tick(ground: Ground, autojump_clock: MockClock) -> None:
    await ground.put("s", Every(1), pattern="tests.later.*")
    async with ground.scheduling():
        await trio.sleep(2.5)
        ground.declare("tests.later.*")
        await trio.sleep(2)

    assert ground.ticks("s") == [1, 2, 3, 4]


async def test_a_queue_that_comes_too_late_gets_what_the_misfire_rule_says(
    ground: Ground, autojump_clock: MockClock
) -> None:
    await ground.put("once", Every(1), pattern="tests.later.*", grace=2.0)
    await ground.put("skip", Every(1), pattern="tests.later.*", grace=2.0, misfire=Misfire.SKIP)
    async with ground.scheduling():
        await trio.sleep(9.25)
        ground.declare("tests.later.*")
        await trio.sleep(2)

    # When it is tried at second 10.
    assert ground.ticks("once") == [7, 8, 9, 10, 11]
    assert ground.ticks("skip") == [8, 9, 10, 11]


@define(eq=False)
class HalfStuck:
    """A publishing connection on which one queue never answers."""

    publisher: Publisher
    key: str

    async def publish(self, publications: Sequence[Publication]) -> Sequence[Confirmation]:
        if any(publication.routing_key == self.key for publication in publications):
            await trio.sleep_forever()
        return await self.publisher.publish(publications)

    async def lost(self) -> str:
        return await self.publisher.lost()

    def on_blocked(self, tell: object) -> None: ...


@define(eq=False)
class Heard:
    """A publishing connection that notes what it was asked for, also if that is cancelled before it goes out."""

    publisher: Publisher
    asked: list[Sequence[Publication]]

    async def publish(self, publications: Sequence[Publication]) -> Sequence[Confirmation]:
        self.asked.append(publications)
        return await self.publisher.publish(publications)

    async def lost(self) -> str:
        return await self.publisher.lost()

    def on_blocked(self, tell: object) -> None: ...


async def test_a_queue_that_takes_nothing_holds_up_its_own_schedules_alone(
    ground: Ground, autojump_clock: MockClock
) -> None:
    """A quorum queue without its majority, say: no confirm comes, and no error."""
    ground.declare("tests.stuck.*")
    await ground.put("stuck", Every(1), pattern="tests.stuck.*")
    await ground.put("s", Every(1))

    @asynccontextmanager
    async def connect() -> AsyncIterator[Publisher]:
        async with ground.broker.publishing() as publisher:
            yield HalfStuck(publisher, topology.routing_key("tests.stuck.*"))

    async with kept_link(ground.broker, connect) as link, ground.scheduling(link=link) as scheduler:
        await trio.sleep(30.5)

        assert ground.ticks("s") == list(range(1, 31))
        assert (await ground.progress("stuck")).runs == 0
        assert scheduler.is_leading


async def test_the_wall_clock_set_forward_is_noticed_within_a_second(ground: Ground, autojump_clock: MockClock) -> None:
    """What was jumped over is late: by more than its grace it is a misfire."""
    await ground.put("s", Every(60), misfire=Misfire.ONCE, grace=5)
    async with ground.scheduling():
        await trio.sleep(10.5)
        ground.ahead = 3600
        await trio.sleep(50)

    assert [(sent.at, sent.tick) for sent in ground.sent] == [(11, 3600), (60, 3660)]


async def test_the_wall_clock_set_back_repeats_nothing(ground: Ground, autojump_clock: MockClock) -> None:
    await ground.put("s", Every(60))
    async with ground.scheduling():
        await trio.sleep(125)
        ground.ahead = -90
        await trio.sleep(150)

    assert [(sent.at, sent.tick) for sent in ground.sent] == [(60, 60), (120, 120), (270, 180)]


async def test_a_paused_schedule_does_not_run_until_it_is_resumed(ground: Ground, autojump_clock: MockClock) -> None:
    """An edit counts within a beat."""
    await ground.put("s", Every(2))
    async with ground.scheduling():
        await trio.sleep(2.5)
        await ground.coordination.pause("s")
        await trio.sleep(6)
        await ground.coordination.resume("s", ground.now)
        await trio.sleep(4)

    assert ground.ticks("s") == [2, 10, 12]


async def test_an_edited_or_removed_schedule_is_followed_within_a_beat(
    ground: Ground, autojump_clock: MockClock
) -> None:
    await ground.put("s", Every(2))
    await ground.put("gone", Every(2))
    async with ground.scheduling():
        await trio.sleep(2.5)
        await ground.put("s", Every(5))
        await ground.coordination.remove("gone")
        await ground.put("new", Every(3))
        await trio.sleep(8)

    assert ground.ticks("gone") == [2]
    assert ground.ticks("s") == [2, 7.5]
    assert ground.ticks("new") == [5.5, 8.5]


async def test_the_run_before_is_told_to_stop(ground: Ground, autojump_clock: MockClock) -> None:
    await ground.put("s", Every(2), overlap=Overlap.CANCEL_PREVIOUS)
    async with ground.scheduling(), trio.open_nursery() as nursery:
        await nursery.start(ground.hear_cancels)
        await trio.sleep(4.5)
        await ground.ended("s", 2, OccurrenceStatus.CANCELLED)
        await trio.sleep(2)
        nursery.cancel_scope.cancel()

    told = [(cancellation.occurrence_id, cancellation.job_id) for cancellation in ground.cancelled]
    assert told == [(occurrence_id_of("s", START + tick), job_id_of("s")) for tick in (2000, 4000)]
    assert ground.ticks("s") == [2, 4, 6]


async def test_a_run_is_not_stopped_for_a_tick_that_does_not_run(ground: Ground, autojump_clock: MockClock) -> None:
    """The broker refuses it: then neither would go on."""
    await ground.put("s", Every(10), overlap=Overlap.CANCEL_PREVIOUS)
    async with ground.scheduling(), trio.open_nursery() as nursery:
        await nursery.start(ground.hear_cancels)
        await trio.sleep(15)
        ground.broker.refuse_next(3)
        await trio.sleep(7)
        assert ground.cancelled == []
        await trio.sleep(2)
        nursery.cancel_scope.cancel()

    assert [cancellation.occurrence_id for cancellation in ground.cancelled] == [occurrence_id_of("s", START + 10_000)]
    assert ground.ticks("s") == [10, 20]


async def test_signals_that_nobody_takes_hold_up_no_other_schedule(
    ground: Ground, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are advisory. What was published together waits for all of them once, not for each."""
    for number in range(20):
        await ground.put(f"s{number}", Every(10), overlap=Overlap.CANCEL_PREVIOUS)
    await ground.put("t", Every(10))

    async def never(_: LocalSignals, cancellation: Cancellation) -> int:
        await trio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(LocalSignals, "send", never)
    async with ground.scheduling():
        await trio.sleep(25)

        assert {(await ground.progress(f"s{number}")).runs for number in range(20)} == {2}
        assert (await ground.progress("t")).runs == 2


@pytest.mark.parametrize("way", ["raises", "hangs"])
async def test_signals_that_fail_change_nothing_else(
    ground: Ground, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    """What was published with them is noted within seconds, and the term goes on."""
    await ground.put("s", Every(10), overlap=Overlap.CANCEL_PREVIOUS)
    tried: list[str] = []

    async def send(_: LocalSignals, cancellation: Cancellation) -> int:
        tried.append(cancellation.occurrence_id)
        if way == "hangs":
            await trio.sleep_forever()
        raise LinkLost("nobody listens")

    monkeypatch.setattr(LocalSignals, "send", send)
    async with ground.scheduling() as scheduler:
        await trio.sleep(15)
        token = scheduler.token
        await trio.sleep(8)

        assert tried == [occurrence_id_of("s", START + 10_000)]
        assert (await ground.progress("s")).runs == 2
        await trio.sleep(10)
        assert (scheduler.is_leading, scheduler.token) == (True, token)
        assert (await ground.progress("s")).runs == 3
    assert ground.ticks("s") == [10, 20, 30]


async def test_a_process_that_is_stopped_while_it_decides_publishes_nothing(
    ground: Ground, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For longer than its lease: another one leads when it goes on, and has done it."""
    await ground.put("s", Once(START + 5_000))
    asked: list[Sequence[Publication]] = []

    def plan(self: agenda.Agenda, now: Millis, limit: int) -> Sequence[agenda.Planned]:
        plans = decided(self, now, limit)
        if plans:
            monkeypatch.undo()
            autojump_clock.jump(2 * LEASE)
            stopped_at.append(trio.current_time())
        return plans

    @asynccontextmanager
    async def connect() -> AsyncIterator[Publisher]:
        async with ground.broker.publishing() as publisher:
            yield Heard(publisher, asked)

    decided, stopped_at = agenda.Agenda.plan, list[float]()
    monkeypatch.setattr(agenda.Agenda, "plan", plan)
    async with kept_link(ground.broker, connect) as link, ground.scheduling(link=link) as scheduler:
        await trio.sleep_until(5 + 2 * LEASE + 0.5)

        assert stopped_at == [5 + 2 * LEASE]
        assert asked == []
        assert not scheduler.is_leading
        await trio.sleep(5)
        assert ground.ticks("s") == [5]  # by its next term


async def test_a_schedule_in_the_place_of_another_begins_anew(ground: Ground, autojump_clock: MockClock) -> None:
    """Also where the leader, who hears of it with its next beat, writes in between how far the one before has come."""
    await ground.put("s", Every(0.1), max_runs=1000)
    async with ground.scheduling():
        await trio.sleep(20.05)
        await ground.put("s", Every(1), max_runs=5)
        await trio.sleep(10)

        assert (await ground.progress("s")).runs == 5
    assert ground.ticks("s")[-5:] == [21.05, 22.05, 23.05, 24.05, 25.05]


async def test_a_tick_that_waits_runs_when_the_one_before_has_ended(ground: Ground, autojump_clock: MockClock) -> None:
    await ground.put("s", Every(10), overlap=Overlap.QUEUE)
    async with ground.scheduling():
        await trio.sleep(25.5)
        assert ground.ticks("s") == [10]

        await ground.ended("s", 10)
        await trio.sleep(1)

        assert ground.ticks("s") == [10, 20]
        assert (await ground.progress("s")).last_status == OccurrenceStatus.COMPLETED
        assert (await ground.coordination.read())[1][0].progress.waiting == ()


async def test_an_entry_that_nobody_understands_stops_no_other(
    ground: Ground, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """One that a newer version put into the book, say."""
    await ground.put("odd", Cron(expression="no such thing"))
    await ground.put("s", Every(1))
    async with ground.scheduling():
        await trio.sleep(2.5)

    assert ground.ticks("s") == [1, 2]
    assert sum("schedule odd" in message for message in caplog.messages) == 1


async def test_schedules_that_are_not_due_are_not_looked_at(
    ground: Ground, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """10,000 of them cost nearly nothing."""
    for number in range(50):
        await ground.put(f"idle-{number}", Every(3600))
    await ground.put("s", Every(10))
    asked: list[str] = []

    def due_at(entry: Entry, now: Millis) -> Millis | None:
        asked.append(entry.schedule.id)
        return scheduling.due_at(entry, now)

    monkeypatch.setattr(agenda, "due_at", due_at)
    async with ground.scheduling():
        await trio.sleep(1)
        asked.clear()
        await trio.sleep(30)

    assert asked == ["s", "s", "s"]
