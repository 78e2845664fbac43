"""`RedisSignals`: the port, in front of threads."""

import importlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
from attrs import define, field

from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.messages import Cancellation
from milvaion_trio.model.redis_address import CONNECTION_STRING, RedisAddress, parse_redis_address
from milvaion_trio.model.settings import RedisSettings
from milvaion_trio.model.wire import encode_cancellation

__all__ = ["RedisSignals"]

_PATIENCE = 0.5
"""Seconds that a thread gets beyond the time after which it should have been done."""
_LONGEST_ENTRY = 15.0
"""Seconds that a subscription may hold up the start of a worker, whatever the connection string allows."""
_COMMANDS_AT_A_TIME = 4
"""Threads that send signals. Who is abandoned in name resolution, which nothing interrupts, holds one for long."""

_log = logging.getLogger("milvaion_trio.signals")


@define(eq=False)
class RedisSignals:
    """Implements `ports.Signals`. Raises `SettingsError` for a connection string that says nothing usable."""

    settings: RedisSettings
    ignored: int = field(default=0, init=False)
    """How many messages heard on the channel were no cancel signals."""
    _address: RedisAddress = field(init=False)
    _notes: tuple[str, ...] = field(init=False)
    _channel: bytes = field(init=False)
    _commands: trio.CapacityLimiter = field(factory=lambda: trio.CapacityLimiter(_COMMANDS_AT_A_TIME), init=False)

    def __attrs_post_init__(self) -> None:
        """Read the connection string."""
        self._address = parse_redis_address(self.settings.connection_string, self.settings.password)
        self._notes = self._address.notes
        self._channel = f"{self._address.channel_prefix}{self.settings.cancellation_channel}".encode()

    def take_notes(self) -> tuple[str, ...]:
        """What of the connection string has no effect, for whoever asks first; it is logged if nobody does."""
        notes, self._notes = self._notes, ()
        return notes

    @property
    def name(self) -> str:
        """For messages to people, without secrets, e.g. `Redis at localhost:6379`."""
        return f"Redis at {self._address}"

    @asynccontextmanager
    async def cancellations(self) -> AsyncIterator[AsyncIterator[Cancellation]]:
        """Every signal sent while the context is open, in order; it is entered once Redis has confirmed that.

        Entering raises `LinkLost` after the connect timeout at the latest, however many servers there are. A
        connection on which nothing comes for 6 s, not even the answer to a PING, counts as lost.
        Leaving waits for the end of the thread, a quarter of a second at most. If entering is cancelled, or takes too
        long, the thread is left to end by itself. If an iteration is cancelled, no signal is lost.
        """
        for note in self.take_notes():
            _log.warning("%s", note)
        await _load_library()
        from milvaion_trio.signals.redis.listener import POLL, Listener

        listener = Listener(self._address, self._channel, self._heard_junk)
        # A thread owned by this context, and no task: that would need a nursery, which would wrap what is raised here.
        trio.lowlevel.start_thread_soon(
            listener.run, lambda outcome: outcome.unwrap(), "milvaion-trio Redis subscription"
        )
        try:
            with trio.move_on_after(min(self._address.connect_timeout + _PATIENCE, _LONGEST_ENTRY)):
                await listener.opened.wait()
            if listener.refusal or not listener.opened.is_set():
                raise LinkLost(listener.refusal or self._no_answer())
            yield listener.subscription
        finally:
            listener.is_wanted = False
            listener.subscription.end(f"the subscription to {self.name} was left")
            if listener.opened.is_set():
                with trio.move_on_after(POLL + _PATIENCE, shield=True):
                    await listener.ended.wait()

    async def send(self, cancellation: Cancellation) -> int:
        """Send a signal and say how many listen; raises `LinkLost` when no server takes it.

        If cancelled, it may have been sent.
        """
        for note in self.take_notes():
            _log.warning("%s", note)
        await _load_library()
        publish = partial(_publish, self._address, self._channel, encode_cancellation(cancellation))
        with trio.move_on_after(self._address.connect_timeout + _PATIENCE):
            return await trio.to_thread.run_sync(publish, abandon_on_cancel=True, limiter=self._commands)
        raise LinkLost(self._no_answer())

    def _no_answer(self) -> str:
        return f"{self.name}: no answer within {self._address.connect_timeout:g} s; see the setting {CONNECTION_STRING}"

    def _heard_junk(self) -> None:
        self.ignored += 1


async def _load_library() -> None:
    """In a thread, as the first time takes long, and outside every time limit, as those are meant for the server."""
    library = partial(importlib.import_module, "milvaion_trio.redis_connection")
    await trio.to_thread.run_sync(library, limiter=trio.CapacityLimiter(1))


def _publish(address: RedisAddress, channel: bytes, payload: bytes) -> int:
    from milvaion_trio.redis_connection import Connection

    with Connection.to(address, "PUBLISH", channel, payload, answer=int) as connection:
        return int(connection.answer)
