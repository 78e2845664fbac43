"""Cancel signals inside the process: what Redis pub/sub is for several machines, without Redis.

`demo`, `dev` and the testing kit use it, and workers for which Redis is switched off.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import trio
from attrs import define, field

from milvaion_trio.model.errors import InvalidMessage, LinkLost
from milvaion_trio.model.messages import Cancellation
from milvaion_trio.model.wire import decode_cancellation
from milvaion_trio.signals.subscription import Subscription

__all__ = ["LocalSignals"]


@define(eq=False)
class LocalSignals:
    """Implements `ports.Signals`. Every open subscription gets every signal; what nobody hears is forgotten."""

    ignored: int = field(default=0, init=False)
    """How many published texts were no cancel signals."""
    _subscriptions: list[Subscription] = field(factory=list, init=False)
    _is_unreachable: bool = field(default=False, init=False)

    @asynccontextmanager
    async def cancellations(self) -> AsyncIterator[AsyncIterator[Cancellation]]:
        """Every signal sent while the context is open, in order. If an iteration is cancelled, no signal is lost."""
        await trio.lowlevel.checkpoint()
        if self._is_unreachable:
            raise LinkLost("the local signals are unreachable")
        subscription = Subscription()
        self._subscriptions.append(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.remove(subscription)
            subscription.end("the local signals were lost")

    async def send(self, cancellation: Cancellation) -> int:
        """Send a signal and say how many listen. If cancelled, it was not sent."""
        await trio.lowlevel.checkpoint()
        if self._is_unreachable:
            raise LinkLost("the local signals are unreachable")
        return self.cancel(cancellation)

    def cancel(self, cancellation: Cancellation) -> int:
        """Send a signal without waiting and say how many subscriptions got it, as Redis does."""
        for subscription in self._subscriptions:
            subscription.put(cancellation)
        return len(self._subscriptions)

    def publish(self, text: str) -> int:
        """Send a signal as its JSON text (WIRE.md 5.3); junk reaches nobody and is counted."""
        try:
            cancellation = decode_cancellation(text.encode("utf-8", "surrogatepass"))
        except InvalidMessage:
            self.ignored += 1
            return 0
        return self.cancel(cancellation)

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        """While inside, open subscriptions have ended with `LinkLost` and no new one can be had, for tests."""
        self._is_unreachable = True
        for subscription in self._subscriptions:
            subscription.end("the local signals were lost")
        try:
            yield
        finally:
            self._is_unreachable = False
