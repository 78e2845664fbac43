"""What worker processes write down about their links: made, lost, blocked; runs adopted; cancel signals not heard.

Separate from `recording`, which is about publishes: these lines are what faults of the network are judged by. They are
written at the very moment, since how long a dead link stays unnoticed is one of the things that are judged.
"""

from collections.abc import Callable
from typing import Any, Final

from attrs import evolve

from milvaion_trio import Worker
from milvaion_trio.broker.rabbitmq import RabbitMQBroker
from milvaion_trio.model.events import Event, LinkUp
from torture.wrapping import around

__all__ = ["install", "set_heartbeat"]

RUNTIME: Final = "milvaion_trio.runtime"
LINKS: Final = {"publishing": "publisher:RabbitMQPublisher", "consuming": "consumer:RabbitMQConsumer"}


def install(worker: Worker, note: Callable[..., None]) -> None:
    """Write lines `link-up`, `link-lost`, `blocked`, `adopted`, `deaf` and `hears` from now on."""
    connected: set[str] = set()

    def observe(event: Event) -> None:
        if isinstance(event, LinkUp):
            connected.add(event.link)
            note("link-up", link=event.link)

    def lost(link: str) -> Callable[..., None]:
        def tell(_: Any, why: str) -> None:
            if link in connected:  # else it was never made, or is lost already
                connected.discard(link)
                note("link-lost", link=link, why=why)

        return tell

    worker.observe(observe)
    for link, target in LINKS.items():
        around(f"milvaion_trio.broker.rabbitmq.{target}.after_loss", before=lost(link))
    around(f"{RUNTIME}.run:Run.adopt", before=lambda run, _: note("adopted", occurrence=run.occurrence_id))
    around(f"{RUNTIME}.cancellation:CancelListener._is_deaf", before=lambda _, why: note("deaf", why=str(why)))
    around(f"{RUNTIME}.cancellation:CancelListener._hears", before=lambda _: note("hears"))


def set_heartbeat(worker: Worker, seconds: int) -> None:
    """Give its AMQP connections this heartbeat."""
    if not isinstance(worker.broker, RabbitMQBroker):
        raise TypeError(f"{worker.broker!r} has no heartbeat")
    worker.broker = evolve(worker.broker, heartbeat=seconds)
