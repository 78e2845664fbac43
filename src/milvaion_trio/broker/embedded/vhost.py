"""Exchanges and queues, and the way of a message through them: what RabbitMQ calls a virtual host.

Separate from the broker because nothing here waits, connects or knows the time.
"""

import time
from collections.abc import Iterator, Mapping

from attrs import define, evolve, field

from milvaion_trio.broker.embedded.queues import EmbeddedDelivery, EmbeddedQueue
from milvaion_trio.broker.embedded.routing import Routing
from milvaion_trio.model.envelope import HeaderValue, Publication
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.topology import HOP_QUEUE
from milvaion_trio.ports import Queue, Topology

__all__ = ["VirtualHost"]

DEAD_LETTER_EXCHANGE = "x-dead-letter-exchange"
DEAD_LETTER_ROUTING_KEY = "x-dead-letter-routing-key"

ROUTES_REMEMBERED = 4096
"""Routing keys come from settings, so there are few; the bound only guards against a new key with every message."""


@define(eq=False)
class VirtualHost:
    """Takes messages in, hands them to queues, dead-letters what is rejected."""

    _keep: int
    """How many messages a queue without dead-letter arguments keeps while nobody consumes it."""
    queues: dict[str, EmbeddedQueue] = field(factory=dict, init=False)
    _routing: Routing = field(factory=Routing, init=False)
    _routes: dict[tuple[str, str], tuple[EmbeddedQueue, ...]] = field(factory=dict, init=False)

    def declare(self, topology: Topology) -> None:
        """Make all of it exist, or nothing and raise `SettingsError`."""
        problems = [*self._queue_problems(topology), *self._routing.problems(topology.exchanges, topology.bindings)]
        if problems:
            raise SettingsError(problems)
        for queue in topology.queues:
            if queue.name not in self.queues:
                is_work = DEAD_LETTER_EXCHANGE in queue.arguments or queue.name == HOP_QUEUE
                keep = None if is_work else self._keep
                self.queues[queue.name] = self._new_queue(queue.name, dict(queue.arguments), keep)
        self._routing.declare(topology.exchanges, topology.bindings)
        self._routes.clear()

    def put(self, publication: Publication) -> bool:
        """Put the message into every queue that takes it; `False` when none does."""
        queues = self._routes.get((publication.exchange, publication.routing_key))
        if queues is None:
            queues = self._find_route(publication.exchange, publication.routing_key)
        for queue in queues:
            queue.put(publication)
        return bool(queues)

    def route(self, exchange: str, key: str) -> tuple[EmbeddedQueue, ...]:
        """The queues that take what is published there with that key."""
        queues = self._routes.get((exchange, key))
        return self._find_route(exchange, key) if queues is None else queues

    def queue(self, name: str) -> EmbeddedQueue:
        """The queue of this name; raises `LookupError` that names those there are."""
        try:
            return self.queues[name]
        except KeyError:
            raise LookupError(f"there is no queue {name!r}; there are: {', '.join(self.queues) or 'none'}") from None

    def _new_queue(self, name: str, arguments: Mapping[str, str | int], keep: int | None) -> EmbeddedQueue:
        return EmbeddedQueue(name, arguments, keep, self._bury)

    def _find_route(self, exchange: str, key: str) -> tuple[EmbeddedQueue, ...]:
        # The default exchange routes by queue name (AMQP 0-9-1, 3.1.3.1).
        names = self._routing.queues(exchange, key) if exchange else [key]
        queues = tuple(self.queues[name] for name in names if name in self.queues)
        if len(self._routes) >= ROUTES_REMEMBERED:
            self._routes.clear()
        self._routes[exchange, key] = queues
        return queues

    def _bury(self, delivery: EmbeddedDelivery) -> None:
        if (dead_letter := self._dead_letter(delivery)) is not None:
            self.put(dead_letter)

    def _dead_letter(self, delivery: EmbeddedDelivery) -> Publication | None:
        """What becomes of a rejected message; where no queue takes that, it is gone, as in RabbitMQ."""
        arguments = self.queues[delivery.queue].arguments
        exchange = arguments.get(DEAD_LETTER_EXCHANGE)
        if exchange is None:
            return None
        key = arguments.get(DEAD_LETTER_ROUTING_KEY, delivery.publication.routing_key)
        message = evolve(delivery.message, headers=_with_death(delivery))
        return Publication(message, str(key), str(exchange))

    def _queue_problems(self, topology: Topology) -> Iterator[str]:
        known: dict[str, Mapping[str, str | int]] = {name: queue.arguments for name, queue in self.queues.items()}
        for queue in topology.queues:
            existing = known.setdefault(queue.name, queue.arguments)
            if dict(existing) != dict(queue.arguments):
                yield _other_arguments(queue, existing)
        for binding in topology.bindings:
            if binding.queue not in known:
                yield f"Binding to exchange {binding.exchange!r} names queue {binding.queue!r}, which does not exist."


def _other_arguments(queue: Queue, existing: Mapping[str, str | int]) -> str:
    return (
        f"Queue {queue.name!r} exists with arguments {dict(existing)!r}, not {dict(queue.arguments)!r}; "
        "a queue cannot change them: delete it or use another name."
    )


def _with_death(delivery: EmbeddedDelivery) -> dict[str, HeaderValue]:
    """The headers with the record that RabbitMQ adds to a rejected message (vector dlq_broker_dead_letter)."""
    headers = dict(delivery.message.headers)
    deaths = headers.get("x-death")
    earlier = [death for death in deaths if isinstance(death, Mapping)] if isinstance(deaths, list | tuple) else []
    same = [death for death in earlier if death.get("queue") == delivery.queue and death.get("reason") == "rejected"]
    others = [death for death in earlier if death not in same]
    record: dict[str, HeaderValue] = {
        "count": 1 + sum(count for death in same if isinstance(count := death.get("count"), int)),
        "reason": "rejected",
        "queue": delivery.queue,
        "time": int(time.time()),
        "exchange": delivery.publication.exchange,
        "routing-keys": [delivery.publication.routing_key],
    }
    headers["x-death"] = [record, *others]
    headers.setdefault("x-first-death-exchange", delivery.publication.exchange)
    headers.setdefault("x-first-death-queue", delivery.queue)
    headers.setdefault("x-first-death-reason", "rejected")
    return headers
