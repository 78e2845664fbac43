"""Delays become rungs, and messages on the hop queue say where they go."""

from collections.abc import Mapping

import pytest

from milvaion_trio.broker.ladder import LADDER, first_rung, rungs
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.headers import DELAY_LEFT, DELAY_TARGET
from milvaion_trio.model.topology import HOP_QUEUE

DEATH = {"x-death": [{"queue": "jobs", "reason": "expired"}], "x-first-death-queue": "jobs", "x-last-death-reason": "x"}


def delayed(delay: float, headers: Mapping[str, object] | None = None) -> Publication:
    return Publication(Message(body=b"job", message_id="id", headers=headers or {}), "jobs", delay=delay)


@pytest.mark.parametrize(
    ("delay", "expected"),
    [
        (1, (1,)),
        (0.001, (1,)),
        (2.0, (2,)),
        (2.01, (2, 1)),
        (3, (2, 1)),
        (4, (2, 2)),
        (5, (5,)),
        (10, (10,)),
        (20, (20,)),
        (40, (20, 20)),
        (60, (60,)),
        (119, (60, 20, 20, 10, 5, 2, 2)),
        (120, (120,)),
        (3600, (120,) * 30),
        (0, ()),
        (-1, ()),
    ],
)
def test_a_delay_is_split_greedily_and_rounded_up(delay: float, expected: tuple[int, ...]) -> None:
    assert rungs(delay) == expected


def test_the_queues_lose_nothing_when_the_broker_dies() -> None:
    """RELIABILITY.md 3.2: quorum, dead-lettered at least once to the message's own key, and no expiry of the queue."""
    by_name = {queue.name: queue.arguments for queue in LADDER.queues}

    assert by_name["mtrio.delay.v1.005s"] == {
        "x-queue-type": "quorum",
        "x-message-ttl": 5000,
        "x-dead-letter-exchange": "",
        "x-dead-letter-strategy": "at-least-once",
        "x-overflow": "reject-publish",
    }
    assert by_name[HOP_QUEUE] == {"x-queue-type": "quorum"}
    assert sorted(by_name) == sorted([*(f"mtrio.delay.v1.{n:03}s" for n in (1, 2, 5, 10, 20, 60, 120)), HOP_QUEUE])
    assert [(b.exchange, b.queue) for b in LADDER.bindings] == [(e.name, e.name) for e in LADDER.exchanges]
    assert {exchange.kind for exchange in LADDER.exchanges} == {"fanout"}


def test_a_single_rung_leads_to_the_target() -> None:
    published = first_rung(delayed(4.5, {"OccurrenceId": "a"}))

    assert (published.exchange, published.routing_key, published.delay) == ("mtrio.delay.v1.005s", "jobs", 0)
    assert published.message == Message(body=b"job", message_id="id", headers={"OccurrenceId": "a"})


def test_more_rungs_lead_over_the_hop_queue() -> None:
    published = first_rung(delayed(3599.2, {"OccurrenceId": "a"}))

    assert (published.exchange, published.routing_key) == ("mtrio.delay.v1.120s", HOP_QUEUE)
    assert published.message.headers == {"OccurrenceId": "a", DELAY_LEFT: 3480, DELAY_TARGET: "jobs"}


def test_without_a_delay_nothing_changes() -> None:
    publication = delayed(0, DEATH)

    assert first_rung(publication) is publication


def test_death_records_and_the_last_journey_are_left_behind() -> None:
    """A message whose records name the target was silently dropped by the broker (RELIABILITY.md 0.12)."""
    published = first_rung(delayed(5, {"OccurrenceId": "a", **DEATH, DELAY_LEFT: 7, DELAY_TARGET: "elsewhere"}))

    assert published.message.headers == {"OccurrenceId": "a"}


def test_what_is_left_fits_its_header() -> None:
    """An int32; a delay of 100 years is a mistake, not a crash."""
    assert first_rung(delayed(100 * 366 * 86_400)).message.headers[DELAY_LEFT] == 2**31 - 1
