"""A broker that answers and says no: told as it is, soon at the start, and never a reason to leave later."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
from attrs import define, field
from trio.testing import MockClock

from milvaion_trio import BrokerUnreachable, Worker, WorkerSettings
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.broker.embedded.links import EmbeddedPublisher
from milvaion_trio.model.errors import LinkLost, LinkRefused
from milvaion_trio.model.events import Event, LinkDown, LinkUp
from milvaion_trio.runtime import supervisor

WHY = "the broker refused the login of user 'guest'"


@define(eq=False)
class RefusingBroker(EmbeddedBroker):
    """Is not there, refuses, or lets everybody in, from one time to the next."""

    absent_until: float = field(default=0.0, kw_only=True)
    refuses_until: float = field(default=0.0, kw_only=True)
    refused: int = field(default=0, init=False)
    """How often it has refused."""

    @asynccontextmanager
    async def publishing(self) -> AsyncIterator[EmbeddedPublisher]:
        await trio.lowlevel.checkpoint()
        if trio.current_time() < self.absent_until:
            raise LinkLost("nothing can be reached")
        if trio.current_time() < self.refuses_until:
            self.refused += 1
            raise LinkRefused(WHY)
        async with EmbeddedBroker.publishing(self) as publisher:
            yield publisher


def serving(broker: RefusingBroker, timeout: float = 30) -> tuple[Worker, list[Event]]:
    """A worker on this broker, and what it will tell."""
    told: list[Event] = []
    settings = WorkerSettings(worker_id="tests", startup_connection_timeout=timeout)
    return Worker(settings=settings, broker=broker, observers=(told.append,)), told


@pytest.mark.parametrize(("timeout", "ends"), [(30, 5), (2, 2)])
async def test_a_refusal_ends_the_start_after_five_seconds(
    autojump_clock: MockClock, timeout: float, ends: float
) -> None:
    """Or when the start-up timeout is over, if that is sooner; with the broker's word for it, and nothing else told."""
    worker, told = serving(RefusingBroker(refuses_until=1e9), timeout)

    with pytest.raises(BrokerUnreachable) as refused:
        await worker.serve()

    assert str(refused.value) == f"{WHY}."
    assert refused.value.is_refusal
    assert trio.current_time() == ends
    assert [event for event in told if isinstance(event, LinkDown)] == []


async def test_a_broker_that_lets_in_after_a_moment_is_waited_for(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scripts make users right after the broker has come up: the five seconds count from the first refusal."""
    monkeypatch.setattr(supervisor, "_draws", lambda: itertools.repeat(0.0))  # tried as often as it can be
    broker = RefusingBroker(absent_until=20, refuses_until=24)
    worker, told = serving(broker)

    async with trio.open_nursery() as nursery:
        await nursery.start(worker.serve)
        worker.drain()

    downs = [(event.why, event.was_up) for event in told if isinstance(event, LinkDown)]
    assert downs == [("nothing can be reached", False)]
    assert broker.refused >= 1


async def test_without_a_limit_refusals_are_told_and_tried_for_ever(autojump_clock: MockClock) -> None:
    """Who says 0 knows that things come up in any order."""
    worker, told = serving(RefusingBroker(refuses_until=3600), 0)

    async with trio.open_nursery() as nursery:
        await nursery.start(worker.serve)
        worker.drain()

    assert trio.current_time() >= 3600
    assert [event.why for event in told if isinstance(event, LinkDown)] == [WHY]


async def test_a_worker_that_serves_is_not_ended_by_a_refusal(autojump_clock: MockClock) -> None:
    """A password that somebody changed: told, and tried until it is put right."""
    broker = RefusingBroker()
    worker, told = serving(broker)

    async with trio.open_nursery() as nursery:
        await nursery.start(worker.serve)
        await trio.sleep(1)
        broker.refuses_until = 3600
        broker.drop_connection("publishing")
        await trio.sleep(4000)
        worker.drain()

    events = [event for event in told if isinstance(event, LinkDown | LinkUp) and event.link == "publishing"]
    assert [(type(event), getattr(event, "was_up", None)) for event in events] == [
        (LinkUp, None),
        (LinkDown, True),
        (LinkDown, False),
        (LinkUp, None),
    ]
    assert isinstance(events[2], LinkDown)
    assert events[2].why == WHY
