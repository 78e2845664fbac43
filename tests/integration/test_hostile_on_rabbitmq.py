"""What a worker on a real RabbitMQ makes of messages that nobody should send.

The API must get nothing that it would put back or throw away (WIRE.md 4.5), neighbours run, and no connection is lost:
what costs one comes back and costs the next (RELIABILITY.md 0.3).
"""

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final
from uuid import UUID, uuid5

import pytest
import trio
from attrs import evolve, field, frozen
from tests.support.amqp import Client, WireMessage, connect
from tests.support.amqp_codec import Field, Headers
from tests.support.api_model import ApiSettings, OccurrenceStatus
from tests.support.api_model.database import Job
from tests.support.cluster import Cluster, cluster, serving
from tests.support.hostile import CASES, JOB_ID, TYPED, Expected, HostileCase, Picky, publish_case
from tests.support.hostile_bodies import job
from tests.support.queues import left_in

from milvaion_trio import JobContext, Worker
from milvaion_trio.broker.ladder import rung_name
from milvaion_trio.model.events import DeliveryRefused, Event, LinkDown, LinkUp
from milvaion_trio.model.headers import DELAY_LEFT, DELAY_TARGET
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.topology import HOP_QUEUE, QUARANTINE_QUEUE
from milvaion_trio.policy import hops

PROBE: Final = "scheduled_jobs_queue.tests.probe.wildcard"
PICKY: Final = "scheduled_jobs_queue.tests.pickyprobe.wildcard"
OTHER_JOBS: Final = {"body: id in capitals": "abcdef00-0000-0000-0000-000000000001"}
"""Cases that are not about `JOB_ID`."""
EVERY: Final = 10
"""A good job stands behind so many hostile messages."""
LINE: Final = 1000
"""Characters that a log line may have of what is wrong, however large the message was."""
QUICK: Final = ApiSettings(status_interval=0.02, log_interval=0.1)
RUNNING, COMPLETED = OccurrenceStatus.RUNNING, OccurrenceStatus.COMPLETED


@frozen
class Stage:
    """A worker with two probes, and who looks at it."""

    cluster: Cluster
    client: Client
    runs: dict[str, list[int]] = field(factory=dict)
    """By occurrence the attempts that ran."""
    links: list[str] = field(factory=list)
    """What was told about connections."""
    refusals: list[str] = field(factory=list)
    """What was told about messages that cannot run."""
    left: dict[str, tuple[int, int]] = field(factory=dict)
    """What may be in queues when the worker has left: messages and consumers."""

    def hear(self, event: Event) -> None:
        if isinstance(event, LinkUp | LinkDown):
            self.links.append(f"{event.link} {type(event).__name__}")
        if isinstance(event, DeliveryRefused):
            self.refusals.append(event.why)

    def ran(self, ctx: JobContext) -> None:
        self.runs.setdefault(ctx.occurrence_id, []).append(ctx.attempt)

    def know(self, cases: Sequence[HostileCase]) -> Job:
        """Make the occurrences known to the API, but for those that cannot say which they are; and a good job."""
        model, now = self.cluster.api.model, self.cluster.api.now()
        good = model.register_job(JOB_ID, "Probe", routing_pattern="tests.probe.*", worker_id="tests")
        for job_id in OTHER_JOBS.values():
            model.register_job(job_id, "Probe")
        for case in cases:
            if case.expected != "quarantined":
                model.queued(case.occurrence_id, OTHER_JOBS.get(case.name, JOB_ID), now)
        return good

    async def set_aside(self, count: int) -> list[WireMessage]:
        """So many messages of the quarantine, and it must not hold more."""
        async with self.client.channel() as channel:
            messages = await channel.consume(QUARANTINE_QUEUE)
            found = [await messages.receive() for _ in range(count)]
            await channel.ack(0, multiple=True)  # all of them; another one would go back
            return found

    def end(self, case: HostileCase) -> Expected | str:
        """How it ended, or everything that happened if that is no end."""
        api = self.cluster.api
        told: list[int] = []
        if case.expected != "quarantined":  # of what is, the API knows no occurrence, and complains of every status
            messages = api.occurrence(case.occurrence_id).messages
            told = [arrival.status.status for arrival in messages if not arrival.status.is_heartbeat]
        letters = sum(row.occurrence_id == case.occurrence_id for row in api.failed_occurrences)
        match self.runs.get(case.occurrence_id, []), told, letters:
            case [_], [1, 2], 0:
                return "runs"
            case [], [3] | [1, 3], 1:  # the latter: its data does not fit the job, which is seen when it starts
                return "refused"
            case [], [], 0:
                return "quarantined"
            case happened:
                return str(happened)


@asynccontextmanager
async def staged(*, failing_attempts: int = 0) -> AsyncIterator[Stage]:
    """A worker of two probes in a cluster; on leaving, one connection of each kind must have served it all.

    Nothing may be left in any queue then, or come as a second copy.
    """
    with trio.fail_after(60):
        async with cluster(api_settings=QUICK) as c, connect(c.rabbitmq.port, c.vhost) as client:
            stage = Stage(c, client)
            worker = c.worker("tests")
            worker.observers = (stage.hear,)  # not the log, which would be long
            add_probes(worker, stage, failing_attempts)
            async with serving(worker):
                yield stage
            assert sorted(stage.links) == ["consuming LinkUp", "publishing LinkUp"]
            await c.api.until_idle()
            assert not c.api.model.notes
            assert await left_in(client, [PROBE, PICKY]) == stage.left


def add_probes(worker: Worker, stage: Stage, failing_attempts: int) -> None:
    @worker.job("Probe", base_retry_delay=1)
    async def probe(ctx: JobContext, data: object = None) -> str:
        stage.ran(ctx)
        if ctx.attempt <= failing_attempts:
            raise OSError("not yet")
        return "ran"

    @worker.job("PickyProbe", base_retry_delay=1)
    async def picky_probe(ctx: JobContext, data: Picky) -> int:
        return len(await probe(ctx)) + data.number


@pytest.mark.parametrize("way", ["straight", "hop"])
async def test_every_hostile_message_ends_as_it_should(way: str) -> None:
    """Each runs once, is refused with one dead letter, or is set aside, whether it comes straight or from a delay.

    The jobs between and behind them run.
    """
    async with staged() as stage:
        api, client = stage.cluster.api, stage.client
        good = stage.know(CASES)

        others = []
        for number, case in enumerate(CASES):
            if way == "hop":
                marks: Headers = {DELAY_LEFT: ("I", 0), DELAY_TARGET: ("S", PROBE)}
                assert await publish_case(client, evolve(case, headers={**case.headers, **marks}), HOP_QUEUE)
            else:
                assert await publish_case(client, case, "tests.probe.job", "jobs.topic")
            if number % EVERY == EVERY - 1:
                others.append(await api.dispatch(good))
        others.append(await api.dispatch(good))
        await api.until_ended()
        expected = Counter(case.body for case in CASES if case.expected == "quarantined")
        aside = await stage.set_aside(expected.total())

        assert {case.name: stage.end(case) for case in CASES} == {case.name: case.expected for case in CASES}
        assert Counter(message.body for message in aside) == expected
        for message in aside:
            assert message.headers["x-mtrio-queue"] == ("S", PROBE)
            assert message.headers["x-mtrio-problem"][1]
        assert len(api.failed_occurrences) == sum(case.expected == "refused" for case in CASES)
        assert max(map(len, stage.refusals)) < LINE
        for occurrence_id in others:
            assert api.occurrence(occurrence_id).status == COMPLETED
            assert stage.runs[occurrence_id] == [1]


async def test_a_retry_copies_any_message() -> None:
    """What fails comes back once, with whatever its headers were, and no copy costs the connection (G5)."""
    cases = [case for case in CASES if case.expected == "runs"]
    async with staged(failing_attempts=1) as stage:
        api = stage.cluster.api
        stage.know(cases)

        for case in cases:
            assert await publish_case(stage.client, case, PROBE)
        await api.until_ended()

        attempts = {case.name: stage.runs[case.occurrence_id] for case in cases}
        assert {name: found for name, found in attempts.items() if found[0] == 1 and found != [1, 2]} == {}
        later = {name for name, found in attempts.items() if found[0] != 1}
        assert all(name.startswith("x-retry-count: ") for name in later)
        for case in cases:
            occurrence = api.occurrence(case.occurrence_id)
            expected = [RUNNING, COMPLETED] if case.name in later else [RUNNING, RUNNING, COMPLETED]
            assert [status.status for status in occurrence.wire] == expected, case.name


async def test_no_copy_goes_to_more_queues() -> None:
    """By CC a publisher names more queues; a copy that kept it would go there again, and through ours without end."""
    more: Field = ("A", [("S", name) for name in ("more", PICKY, HOP_QUEUE)])
    case = delayed("CC")
    case = evolve(case, headers={**case.headers, "CC": more})
    async with staged(failing_attempts=1) as stage:
        api, client = stage.cluster.api, stage.client
        await client.declare_queue("more")
        stage.know([case])

        assert await publish_case(client, case, PROBE)
        await api.until_ended()
        (aside,) = await stage.set_aside(1)  # the publisher's own copy for the hop queue, which does not say where to

        assert stage.runs[case.occurrence_id] == [1, 2]
        assert "CC" not in aside.headers
        assert await client.declare_queue("more", passive=True) == (1, 0)


# --- messages on a delay --------------------------------------------------------------------------------------------

WAITING: Final = ("byte", "31 bits", "63 bits", "date after 9999")
"""Numbers above 0, and dates that Python has no form for; whatever else is said about the time left, none is."""
NOWHERE: Final = ("text", "digits", "few bytes", "long")
"""Texts, so that they name queues, which may be declared later."""


async def test_whatever_says_how_long_to_wait() -> None:
    """What is no number, or below 1, is 0: the job runs at once. Any number is waited for, in legs."""
    target: Field = ("S", PROBE)
    cases = {kind: delayed(f"left: {kind}", left=value, target=target) for kind, value in TYPED.items()}
    cases["absent"] = delayed("left: absent", target=target)
    running = [case for kind, case in cases.items() if kind not in WAITING]
    async with staged() as stage:
        api = stage.cluster.api
        stage.know(list(cases.values()))

        for case in cases.values():
            assert await publish_case(stage.client, case, HOP_QUEUE), case.name
        await api.until_ended(*(case.occurrence_id for case in running))
        await api.until(lambda: all(api.occurrence(case.occurrence_id).messages for case in cases.values()))

        assert {case.name: stage.end(case) for case in running} == {case.name: "runs" for case in running}
        waiting = [await stage.client.get("mtrio.delay.v1.120s", no_ack=True) for _ in WAITING]
        assert [(message.routing_key, message.headers[DELAY_LEFT]) for message in waiting if message is not None] == [
            (HOP_QUEUE, ("I", 255 - 120)),
            (HOP_QUEUE, ("I", 2**31 - 1 - 120)),
            (HOP_QUEUE, ("I", 2**31 - 1)),
            (HOP_QUEUE, ("I", 2**31 - 1)),
        ]


async def test_whatever_says_where_to_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """What names no queue is set aside; what names none that exists waits for it, and holds up nobody."""
    monkeypatch.setattr(hops, "REFUSED_DELAY", 1.0)
    cases = {kind: delayed(f"target: {kind}", left=("I", 0), target=value) for kind, value in TYPED.items()}
    cases["absent"] = delayed("target: absent", left=("I", 0))
    cases["itself"] = delayed("target: itself", target=("S", HOP_QUEUE))
    cases["long"] = delayed("target: long", target=("S", "q" * 1000))
    good = delayed("good", left=("I", 1), target=("S", PROBE))
    async with staged() as stage:
        api, client = stage.cluster.api, stage.client
        stage.know([*(cases[kind] for kind in (*NOWHERE, "itself")), good])

        for case in [*cases.values(), good]:
            assert await publish_case(client, case, HOP_QUEUE)
        await api.until_ended(good.occurrence_id)
        aside = await stage.set_aside(len(cases) - len(NOWHERE))

        assert stage.end(good) == "runs"
        assert {message.properties["correlation_id"] for message in aside} == {
            case.occurrence_id for kind, case in cases.items() if kind not in NOWHERE
        }
        await client.declare_queue("2")  # the one of "digits"
        late = await (await client.consume("2", no_ack=True)).receive()
        assert late.properties["correlation_id"] == cases["digits"].occurrence_id
        assert not late.headers.keys() & {DELAY_LEFT, DELAY_TARGET}
        monkeypatch.setattr(hops, "REFUSED_DELAY", 60.0)
        rung = rung_name(60)
        while (await client.declare_queue(rung, passive=True))[0] < len(NOWHERE) - 1:  # noqa: ASYNC110  # it tells nobody
            await trio.sleep(0.1)
        stage.left[rung] = (len(NOWHERE) - 1, 0)


def delayed(name: str, *, left: Field | None = None, target: Field | None = None) -> HostileCase:
    """An ordinary message for the probe, with what it says on the hop queue."""
    occurrence = OccurrenceId(str(uuid5(UUID(JOB_ID), name)))
    marks = {DELAY_LEFT: left, DELAY_TARGET: target}
    return HostileCase(
        name=name,
        expected="runs",
        body=job(),
        headers={"OccurrenceId": ("S", occurrence), **{key: value for key, value in marks.items() if value}},
        properties={"correlation_id": occurrence, "delivery_mode": 2, "timestamp": 1775121301},
        occurrence_id=occurrence,
    )
