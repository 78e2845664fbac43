"""What the thread of one subscription does: subscribe, hand over what it hears, notice when nothing can be heard.

Separate because it lives on the other side: it blocks, and touches Trio's side only through `run_sync_soon`.
"""

import logging
import time
from collections.abc import Callable

import trio
from attrs import define, field

from milvaion_trio.model.errors import InvalidMessage, LinkLost
from milvaion_trio.model.redis_address import CONNECTION_STRING, RedisAddress
from milvaion_trio.model.wire import decode_cancellation
from milvaion_trio.redis_connection import Connection
from milvaion_trio.signals.subscription import Subscription

__all__ = ["ANSWER_TIME", "MAX_PAYLOAD", "PING_INTERVAL", "POLL", "Listener"]

PING_INTERVAL = 2.0
"""Seconds of silence after which the server is asked whether it is still there (RELIABILITY.md F12)."""
ANSWER_TIME = 3.0
"""Seconds it has for an answer. With two polls, the longest time for which a black hole is not noticed: within 6 s a
gap has to be told (RELIABILITY.md 6, T14)."""
POLL = 0.25
"""Seconds for which the thread waits for the server before it looks whether it is still wanted."""
MAX_PAYLOAD = 4096
"""Bytes of a signal (RELIABILITY.md 5.1)."""

_log = logging.getLogger("milvaion_trio.signals")


@define(eq=False)
class Listener:
    """The thread's function and what it shares with Trio's thread, which alone writes all of it."""

    address: RedisAddress
    channel: bytes
    on_junk: Callable[[], None]
    subscription: Subscription = field(factory=Subscription, init=False)
    is_wanted: bool = field(default=True, init=False)
    refusal: str = field(default="", init=False)
    """Why it could not be opened."""
    opened: trio.Event = field(factory=trio.Event, init=False)
    """It hears, or could not be opened."""
    ended: trio.Event = field(factory=trio.Event, init=False)
    """The connection is closed."""
    _token: trio.lowlevel.TrioToken = field(factory=trio.lowlevel.current_trio_token, init=False)

    def run(self) -> None:
        """Listen until not wanted any more, or nothing can be heard any more."""
        try:
            try:
                self._listen()
            finally:
                self._token.run_sync_soon(self.ended.set)
        except trio.RunFinishedError:
            pass  # the program has left; there is nobody to tell

    def _listen(self) -> None:
        try:
            connection = Connection.to(self.address, "SUBSCRIBE", self.channel, answer=list)
        except LinkLost as lost:
            self._token.run_sync_soon(self._refuse, str(lost))
            return
        with connection:
            self._token.run_sync_soon(self.opened.set)
            self._hear(connection)

    def _refuse(self, why: str) -> None:
        self.refusal = why
        self.opened.set()

    def _hear(self, connection: Connection) -> None:
        heard = time.monotonic()
        asked: float | None = None
        try:
            while self.is_wanted:
                answer = connection.receive(POLL)
                # Judged after reading: when this process was asleep, the answer is there.
                now = time.monotonic()
                if answer is not None:
                    heard, asked = now, None
                    self._take(answer)
                elif asked is not None and now - asked > ANSWER_TIME:
                    self._lost(connection, f"no answer to a PING within {ANSWER_TIME:g} s", heard)
                    return
                elif asked is None and now - heard > PING_INTERVAL:
                    connection.send("PING")
                    asked = now
        except trio.RunFinishedError:
            raise
        except Exception as error:  # as in `Connection.to`
            self._lost(connection, connection.reason(error), heard)

    def _lost(self, connection: Connection, why: str, heard: float) -> None:
        text = f"{connection.name}: {why}; see the setting {CONNECTION_STRING}"
        self._token.run_sync_soon(self.subscription.end, text, time.monotonic() - heard)

    def _take(self, answer: object) -> None:
        match answer:
            case [b"message", _, bytes(payload)] if len(payload) > MAX_PAYLOAD:
                _log.debug("a message of %d bytes on the channel of cancel signals was ignored", len(payload))
            case [b"message", _, bytes(payload)]:
                try:
                    self._token.run_sync_soon(self.subscription.put, decode_cancellation(payload))
                    return
                except InvalidMessage as error:
                    _log.debug("ignored on the channel of cancel signals: %r (%s)", payload[:100], error)
            case _:
                return  # the answer to a PING
        self._token.run_sync_soon(self.on_junk)
