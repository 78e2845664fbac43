"""Which queues take a message: exchanges and bindings of the embedded broker.

Separate because it is a pure question about names, with AMQP's own rules for `topic`, `direct` and `fanout`.
"""

from collections.abc import Sequence

from attrs import define, field

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.ports import Binding, Exchange

__all__ = ["Routing", "topic_matches"]

DEFAULT_EXCHANGE = ""
"""AMQP's nameless exchange: every queue is bound to it with its own name, and nothing else can be."""

KINDS = ("topic", "direct", "fanout")


@define(eq=False)
class Routing:
    """Exchanges and bindings. The default exchange is not here: it needs no bindings."""

    _kinds: dict[str, str] = field(factory=dict, init=False)
    _bindings: dict[str, list[Binding]] = field(factory=dict, init=False)

    def problems(self, exchanges: Sequence[Exchange], bindings: Sequence[Binding]) -> list[str]:
        """What forbids declaring these, one line each; existing and equal is no problem."""
        found = []
        known = dict(self._kinds)
        for exchange in exchanges:
            if exchange.kind not in KINDS:
                found.append(f"Exchange {exchange.name!r} has kind {exchange.kind!r}; known kinds: {', '.join(KINDS)}.")
            elif exchange.name == DEFAULT_EXCHANGE:
                found.append("The default exchange exists by itself and cannot be declared.")
            elif known.setdefault(exchange.name, exchange.kind) != exchange.kind:
                found.append(
                    f"Exchange {exchange.name!r} exists with kind {known[exchange.name]!r}, not {exchange.kind!r}."
                )
        found += [
            f"Binding of queue {binding.queue!r} names exchange {binding.exchange!r}, which does not exist."
            for binding in bindings
            if binding.exchange not in known
        ]
        return found

    def declare(self, exchanges: Sequence[Exchange], bindings: Sequence[Binding]) -> None:
        """Add what is not there yet."""
        if problems := self.problems(exchanges, bindings):
            raise SettingsError(problems)
        for exchange in exchanges:
            self._kinds[exchange.name] = exchange.kind
            self._bindings.setdefault(exchange.name, [])
        for binding in bindings:
            bound = self._bindings[binding.exchange]
            if binding not in bound:
                bound.append(binding)

    def queues(self, exchange: str, key: str) -> list[str]:
        """The names of the queues that take it, each once, in the order they were bound."""
        kind = self._kinds.get(exchange)
        taken = [
            binding.queue
            for binding in self._bindings.get(exchange, ())
            if kind == "fanout" or binding.key == key or (kind == "topic" and topic_matches(binding.key, key))
        ]
        return list(dict.fromkeys(taken))


def topic_matches(pattern: str, key: str) -> bool:
    """Whether a topic binding takes the key: `*` is exactly one word, `#` any number, words are divided by dots."""
    # All places in the pattern that the words read so far can have led to. Backtracking instead would take
    # exponential time on a pattern with many `#`.
    parts = _words(pattern)
    places = _past_hashes(parts, {0})
    for word in _words(key):
        stay = {place for place in places if place < len(parts) and parts[place] == "#"}
        go_on = {place + 1 for place in places if place < len(parts) and parts[place] in ("*", word)}
        places = _past_hashes(parts, stay | go_on)
    return len(parts) in places


def _words(text: str) -> list[str]:
    # RabbitMQ counts an empty key as no word at all, so that `*` does not match it.
    return text.split(".") if text else []


def _past_hashes(parts: Sequence[str], places: set[int]) -> set[int]:
    """The same places, and those behind each `#`, since it may stand for no word."""
    reached = set(places)
    for place in sorted(places):
        following = place
        while following < len(parts) and parts[following] == "#":
            following += 1
            reached.add(following)
    return reached
