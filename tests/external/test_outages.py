"""A broker or a server that is away: what is tracked runs as ever, and is told when somebody is there, in order."""

import itertools
import logging
import threading

import pytest
import trio
from tests.support.api_model.database import OccurrenceStatus as S
from tests.support.external import played_api
from trio.testing import MockClock

from milvaion_trio import ExternalScheduler, SettingsError, WorkerSettings
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.external import unsent
from milvaion_trio.external.letters import Letters
from milvaion_trio.model import topology
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.occurrence import OccurrenceStatus
from milvaion_trio.model.settings import HeartbeatSettings
from milvaion_trio.model.wire import decode_external_occurrence
from milvaion_trio.testing.clock import clock_ns

DONE = [S.RUNNING, S.COMPLETED]


def said(caplog: pytest.LogCaptureFixture) -> str:
    return "\n".join(record.getMessage() for record in caplog.records if "external" in record.name)


async def test_without_a_broker_everything_runs_and_is_told_later(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    """Entering and tracking take no time, by the clock."""
    broker.refuse_connections = True
    async with played_api(broker, is_there=False) as api, milvaion:
        with milvaion.track("etl") as run:
            run.log("info", "one")
        assert trio.current_time() == 0
        await trio.sleep(300)
        broker.refuse_connections = False
        api.arrive()
        await api.settled()
        with milvaion.track("etl"):
            await trio.sleep(1)
        await api.settled()

    first, second = api.runs("etl")
    assert (first.history, first.duration_ms, [line.message for line in first.logs]) == (DONE, 0, ["one"])
    assert second.history == DONE


async def test_connections_that_are_lost_again_and_again_lose_nothing(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    """A message may be told twice, with the same bytes, and never an end before its start."""
    ids = []
    async with played_api(broker) as api, milvaion:
        for number in range(40):
            with milvaion.track(f"job-{number % 3}") as run:
                ids.append(run.occurrence_id)
                run.log("info", f"run {number}")
                await trio.sleep(0.7)
            if number % 4 == 0:
                broker.drop_connection()
            elif number % 4 == 2:
                with broker.hold_confirms():
                    await trio.sleep(0.5)
                    broker.drop_connection("publishing")
        await api.settled()

    kept = [api.model.occurrence(occurrence_id) for occurrence_id in ids]
    assert [run.status for run in kept] == [S.COMPLETED] * 40
    assert [{line.message for line in run.logs} for run in kept] == [{f"run {number}"} for number in range(40)]


async def test_what_the_broker_refuses_is_tried_again_in_its_place(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    async with played_api(broker) as api, milvaion:
        milvaion.register("etl")
        await api.settled()
        broker.refuse_next(7)
        with milvaion.track("etl"):
            await trio.sleep(0.1)
        await trio.sleep(20)

    assert [run.history for run in api.runs("etl")] == [DONE]


async def test_queues_that_are_deleted_are_made_again(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    """And nothing has to be there at first: a program may be started before any server ever was."""
    assert broker.queues == ()
    async with milvaion:
        milvaion.register("etl")
        await trio.sleep(10)

    assert topology.EXTERNAL_OCCURRENCE_QUEUE in broker.queues
    assert broker.queue(topology.REGISTRATION_QUEUE).depth == 1


async def test_into_a_queue_that_was_deleted_meanwhile_everything_is_told(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    """The queue is made again, and what found none is sent again, in its place."""
    async with milvaion:
        async with played_api(broker) as api:
            milvaion.register("etl")
            await api.settled()
        delete(broker, topology.EXTERNAL_OCCURRENCE_QUEUE)
        with milvaion.track("etl"):
            await trio.sleep(1)
        await trio.sleep(10)
        told = broker.queue(topology.EXTERNAL_OCCURRENCE_QUEUE).ready

    statuses = [decode_external_occurrence(message.body).status for message in told]
    assert statuses == [OccurrenceStatus.RUNNING, OccurrenceStatus.COMPLETED]


def delete(broker: EmbeddedBroker, queue: str) -> None:
    """As a person does on the broker; to the embedded one nobody else does it."""
    del broker._vhost.queues[queue]
    broker._vhost._routes.clear()


async def test_a_connection_that_is_lost_is_noticed_while_there_is_nothing_to_tell(
    broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    """A broker that comes back may be an empty one: what is known is told again, and not when the next run begins."""
    settings = WorkerSettings(worker_id="nightly", heartbeat=HeartbeatSettings(enabled=False, job_interval=0))
    told: list[str] = []
    broker.on_publish.append(lambda publication: told.append(publication.routing_key))
    async with played_api(broker) as api, ExternalScheduler(broker, settings=settings, clock_ns=clock_ns) as milvaion:
        milvaion.register("etl")
        await api.settled()
        before = told.count(topology.REGISTRATION_QUEUE)
        broker.drop_connection("publishing")
        await api.settled()

    assert (before, told.count(topology.REGISTRATION_QUEUE)) == (1, 2)


async def test_of_a_new_job_nothing_is_told_before_a_server_reads(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    """Read together with its registration, its first runs would be lost."""
    async with played_api(broker, is_there=False) as api, milvaion:
        with milvaion.track("etl"):
            await trio.sleep(400)
        told = broker.queue(topology.EXTERNAL_OCCURRENCE_QUEUE).depth
        api.arrive()
        await api.settled()

    assert told == 0
    assert [(run.history, run.duration_ms) for run in api.runs("etl")] == [(DONE, 400_000)]


async def test_leaving_without_a_broker_takes_the_flush_timeout_and_says_what_is_lost(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    broker.refuse_connections = True
    async with milvaion:
        with milvaion.track("etl") as run:
            run.log("info", "one")
        await trio.sleep(10)

    assert trio.current_time() == pytest.approx(13)
    assert "2 starts and ends of external runs, 0 whole runs, 1 log lines" in said(caplog)


async def test_a_short_program_leaves_its_run_in_the_queue_of_a_server_that_is_away(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """There is no time to be patient: a server that knows the job takes it when it comes back."""
    async with milvaion:
        with milvaion.track("etl"):
            pass

    assert trio.current_time() <= 3
    assert broker.queue(topology.EXTERNAL_OCCURRENCE_QUEUE).depth == 2
    assert "not told" not in said(caplog)


async def test_leaving_waits_until_lines_can_be_told(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """They wait until the server has stored the start of their run, and its end waits for them."""
    async with played_api(broker) as api:
        async with milvaion:
            milvaion.register("etl")
            await api.settled()
            with milvaion.track("etl") as run:
                run.log("info", "one")
        await api.settled()

    [kept] = api.runs("etl")
    assert (kept.history, [line.message for line in kept.logs]) == (DONE, ["one"])
    assert "not told" not in said(caplog)


async def test_leaving_by_an_error_tells_what_is_left_and_raises_it(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    async with played_api(broker) as api:
        with pytest.raises(LookupError, match="itself"):
            await _fail_within(milvaion)
        await api.settled()

    assert [run.status for run in api.runs("etl")] == [S.FAILED]


async def _fail_within(milvaion: ExternalScheduler) -> None:
    async with milvaion:
        with milvaion.track("etl"):
            raise LookupError("itself")


async def test_leaving_by_a_cancellation_tells_what_is_left(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    async with played_api(broker) as api:
        with trio.move_on_after(5):
            async with milvaion:
                with milvaion.track("etl"):
                    await trio.sleep_forever()
        await api.settled()

    assert [run.history for run in api.runs("etl")] == [[S.RUNNING, S.CANCELLED]]


async def test_beyond_the_bound_runs_are_told_whole_or_not_at_all(
    milvaion: ExternalScheduler,
    broker: EmbeddedBroker,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A run whose end is lost would stay open on the server."""
    monkeypatch.setattr(unsent, "MOST_EVENTS", 10)
    broker.refuse_connections = True
    async with played_api(broker, is_there=False) as api, milvaion:
        for _ in range(20):
            with milvaion.track("etl") as run:
                run.log("info", "one")
        broker.refuse_connections = False
        api.arrive()
        await api.settled()

    assert [run.history for run in api.runs("etl")] == [DONE] * 5
    assert "10 events of external runs wait" in said(caplog)
    assert "0 starts and ends of external runs, 15 whole runs, 15 log lines" in said(caplog)


async def test_beyond_the_bound_the_oldest_lines_go_first(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unsent, "MOST_LINES", 3)
    broker.refuse_connections = True
    async with played_api(broker, is_there=False) as api, milvaion:
        with milvaion.track("etl") as run:
            for number in range(5):
                run.log("info", str(number))
        broker.refuse_connections = False
        api.arrive()
        await api.settled()

    [kept] = api.runs("etl")
    assert (kept.history, [line.message for line in kept.logs]) == (DONE, ["2", "3", "4"])


def test_ten_thousand_events_wait_before_any_is_dropped(broker: EmbeddedBroker) -> None:
    """From many threads at once, and before the program is entered."""
    milvaion = ExternalScheduler(broker)

    def work() -> None:
        for _ in range(500):
            with milvaion.track("etl"):
                pass

    threads = [threading.Thread(target=work) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert milvaion._unsent.waiting == (10_000, 0)
    assert milvaion._unsent.lost_runs == 0


async def test_a_defect_of_ours_is_not_the_programs(
    milvaion: ExternalScheduler,
    broker: EmbeddedBroker,
    autojump_clock: MockClock,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(Letters, "registration", lambda *_: 1 / 0)
    async with milvaion:
        with milvaion.track("etl") as run:
            run.result(7)
        await trio.sleep(5)

    assert "a defect in the reports" in said(caplog)


async def test_what_cannot_be_written_keeps_nothing_else_back(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    async with played_api(broker) as api, milvaion:
        for due in ("yesterday", None, None):
            with milvaion.track("etl", scheduled_for=due):  # type: ignore[arg-type]
                pass
        await api.settled()

    assert [run.history for run in api.runs("etl")] == [DONE, DONE]
    assert "cannot be written" in said(caplog)


@pytest.mark.parametrize("about", [{"name": 7}, {"description": b"x"}, {"cron": 5}])
def test_what_is_no_text_is_refused_where_it_is_said(milvaion: ExternalScheduler, about: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="is a text, not"):
        milvaion.register("etl", **about)  # type: ignore[arg-type]


@pytest.mark.parametrize("cron", ["", "0 3 * * *", "0 0 25 * * *", "@nightly", "0 0 0 30 2 *"])
def test_a_cron_text_that_the_server_cannot_read_is_refused(milvaion: ExternalScheduler, cron: str) -> None:
    """It would not keep the job."""
    with pytest.raises(ValueError, match="would be lost"):
        milvaion.register("etl", cron=cron)


@pytest.mark.parametrize("name", ["", "x" * 501])
def test_an_id_that_the_server_cannot_keep_is_refused(milvaion: ExternalScheduler, name: str) -> None:
    with pytest.raises(ValueError, match="1 to 500"):
        milvaion.track(name)


async def test_it_is_open_once_at_a_time(milvaion: ExternalScheduler) -> None:
    async with milvaion:
        with pytest.raises(SettingsError, match="open already"):
            milvaion.__enter__()


async def test_it_can_be_entered_again(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    """What happens in between is told then."""
    async with played_api(broker) as api:
        async with milvaion:
            with milvaion.track("etl"):
                pass
        with milvaion.track("etl"):
            pass
        async with milvaion:
            await api.settled()

    assert [run.history for run in api.runs("etl")] == [DONE, DONE]


async def test_starts_that_may_have_arrived_are_told_again_one_by_one(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    """A server refuses one that it has, and everything that it collected in the same second or so."""
    times: list[tuple[float, str | None]] = []

    def note(publication: Publication) -> None:
        if publication.routing_key == topology.EXTERNAL_OCCURRENCE_QUEUE:
            times.append((trio.current_time(), publication.message.message_id))

    broker.on_publish.append(note)
    async with played_api(broker) as api, milvaion:
        milvaion.register("etl")
        await api.settled()
        with broker.hold_confirms():
            with milvaion.track("etl"), milvaion.track("etl"), milvaion.track("etl"):
                await trio.sleep(0.1)
            broker.drop_connection("publishing")
        await api.settled()

    ids = [message_id for _, message_id in times]
    copies = [at for index, (at, message_id) in enumerate(times) if message_id in ids[:index]]
    afterwards = times[-3][0]  # the first of the ends
    gaps = [later - earlier for earlier, later in itertools.pairwise([*copies, afterwards])]
    assert len(copies) >= 1
    assert all(gap >= 1.1 for gap in gaps)
    assert [run.status for run in api.runs("etl")] == [S.COMPLETED] * 3


async def test_connections_that_are_lost_while_starts_are_told_again_lose_none(
    milvaion: ExternalScheduler, broker: EmbeddedBroker, autojump_clock: MockClock
) -> None:
    """The broker reads nothing of what is told again, and dies."""
    registered = trio.Event()

    def note(publication: Publication) -> None:
        if publication.routing_key == topology.EXTERNAL_REGISTRATION_QUEUE:
            registered.set()

    broker.on_publish.append(note)
    async with played_api(broker) as api, milvaion:
        milvaion.register("etl")
        await api.settled()
        broker.refuse_next(1000)
        with broker.hold_confirms():
            with milvaion.track("etl"), milvaion.track("etl"), milvaion.track("etl"):
                await trio.sleep(0.1)
            broker.drop_connection("publishing")
        broker.refuse_next(0)
        for _ in range(3):
            registered = trio.Event()
            await registered.wait()  # of the next connection; starts follow
            with broker.blocking():
                await trio.sleep(3)
                broker.drop_connection("publishing")
                await trio.sleep(0.1)
        await api.settled()

    assert [run.status for run in api.runs("etl")] == [S.COMPLETED] * 3
