"""What the layers above need from the world, as Protocols; each method carries its guarantee.

`messaging`: broker, signals, outbox. `coordination`: leases, claims, the book of schedules. `history`: what happened.
"""

from milvaion_trio.ports.messaging import (
    Binding,
    Broker,
    Confirmation,
    Consumer,
    Deliveries,
    Delivery,
    Exchange,
    Link,
    Outbox,
    Publisher,
    Queue,
    QueueState,
    Report,
    ReportKind,
    Signals,
    Topology,
)

__all__ = [
    "Binding",
    "Broker",
    "Confirmation",
    "Consumer",
    "Deliveries",
    "Delivery",
    "Exchange",
    "Link",
    "Outbox",
    "Publisher",
    "Queue",
    "QueueState",
    "Report",
    "ReportKind",
    "Signals",
    "Topology",
]
