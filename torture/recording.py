"""What worker processes write down beside their jobs: which publishes had no answer when a link was lost.

Separate from sabotages and crash points because it is installed in every worker process and changes nothing.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torture.wrapping import around

if TYPE_CHECKING:
    from milvaion_trio.broker.rabbitmq.publisher import RabbitMQPublisher

__all__ = ["install", "install_deliveries"]


def install(note: Callable[..., None]) -> None:
    """Write a line `unconfirmed` with the message ids when a publishing connection is gone."""

    # Typed, so that a name of the library that is gone is found without a play.
    def lost(publisher: "RabbitMQPublisher", why: str) -> None:
        waiting = [one.publication.message.message_id for one in publisher._confirms._waiting.values()]
        note("unconfirmed", ids=waiting, why=why)

    around("milvaion_trio.broker.rabbitmq.publisher:RabbitMQPublisher.after_loss", before=lost)


def install_deliveries(note: Callable[..., None]) -> None:
    """Write a line `taken` for each delivery, and `settled` when none is in hand any more."""

    def settled(deliveries: Any, *_: object) -> None:
        if not deliveries.unsettled:
            note("settled", queue=deliveries.queue)

    deliveries = "milvaion_trio.broker.rabbitmq.deliveries:RabbitMQDeliveries"
    around(f"{deliveries}.take", before=lambda deliveries, event: note("taken", queue=deliveries.queue))
    around(f"{deliveries}.settle", after=settled)
