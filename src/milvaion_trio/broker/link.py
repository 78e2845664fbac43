"""The seam between RabbitMQ as the ports see it and the client that carries it: channels, questions, frames, an end.

Two clients carry it, `amqp` and `aiopika`; `rabbitmq` stands on either and knows neither. Whatever ends a channel in
use ends the link: there is one way to recover, and it is the supervisor's (reopen, declare, consume). Losing is decided
once, by the first reason.
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, Protocol, TypeAlias

import trio
from attrs import define, field, frozen
from pamqp.base import Frame

from milvaion_trio.broker.amqp.events import BlockedEvent, ConnectionClosedEvent, Event
from milvaion_trio.model.broker_address import BrokerAddress
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.headers import text
from milvaion_trio.model.settings import RabbitMQSettings

__all__ = [
    "CLOSE_TIMEOUT",
    "NORMAL_END",
    "Endpoint",
    "Link",
    "Listener",
    "Loss",
    "OpenLink",
    "Refused",
    "introduced",
    "new_channel",
]

NORMAL_END: Final = "this connection was closed"
CLOSE_TIMEOUT: Final = 3.0
"""Seconds for an orderly end. A black hole answers nothing; acks lost with it are only redeliveries."""

_logger = logging.getLogger("milvaion_trio.broker")


class Refused(Exception):
    """The broker refused a question and closed the channel it was asked on; the link lives on."""

    def __init__(self, code: int, text: str) -> None:
        self.is_missing: bool = code == 404
        self.is_forbidden: bool = code == 403
        self.is_different: bool = code == 406
        super().__init__(text)


@frozen(kw_only=True)
class Endpoint:
    """Where to connect, and as whom."""

    settings: RabbitMQSettings
    address: BrokerAddress
    """One of theirs."""
    heartbeat: int
    """Seconds."""
    connect_timeout: float
    """Seconds for TCP and handshake together."""
    client_name: str
    """What the broker's operators see."""

    @property
    def where(self) -> str:
        """Host and port, for people."""
        return str(self.address)


@define(eq=False)
class Loss:
    """Whether a link is gone, and why; what all parts of it share."""

    why: str = ""
    _gone: trio.Event = field(factory=trio.Event, init=False)
    _tell: list[Callable[[str], None]] = field(factory=list, init=False)

    @property
    def is_final(self) -> bool:
        """Whether nothing goes through the link any more."""
        return self._gone.is_set()

    async def wait(self) -> str:
        """Return when the link is gone, and why. If cancelled, nothing changes."""
        await self._gone.wait()
        return self.why

    def declare(self, why: str) -> None:
        """The link is gone; only the first reason counts."""
        if self.is_final:
            return
        self.why = why
        self._gone.set()
        for tell in self._tell:
            tell(why)

    def check(self) -> None:
        """Raise `LinkLost` when it is gone."""
        if self.is_final:
            raise LinkLost(self.why)

    def on_declared(self, tell: Callable[[str], None]) -> None:
        """Call `tell` with the reason, once; now, where it is gone. It must neither wait nor raise."""
        if self.is_final:
            tell(self.why)
        else:
            self._tell.append(tell)

    def hear(self, event: Event, client_name: str) -> None:
        """What concerns the connection as a whole."""
        match event:
            case ConnectionClosedEvent(why=why):
                self.declare(f"RabbitMQ closed the connection: {why}")
            case BlockedEvent(""):
                _logger.info("RabbitMQ reads publishes again: %s", client_name)
            case BlockedEvent(why):
                _logger.warning("RabbitMQ has stopped reading publishes (%s): %s", why, client_name)


class Listener(Protocol):
    """Who is told what comes; in Trio's thread, in the order of the stream. It must neither wait nor raise."""

    def hear(self, event: Event) -> None:
        """Something came from the broker."""


class Link(Protocol):
    """One open connection."""

    loss: Loss
    endpoint: Endpoint

    @property
    def frame_max(self) -> int:
        """Bytes of the largest frame, as negotiated."""

    @property
    def server(self) -> tuple[str, str]:
        """The product and its version, as the broker told them when it greeted."""

    def write(self, frames: bytes) -> None:
        """Send frames, behind all that was sent before; on a lost link this does nothing."""

    def write_later(self, frames: Callable[[], bytes]) -> None:
        """Send what this returns, asked when the link next sends something, behind all that was sent before."""

    async def open_channel(self) -> int:
        """The number of a new channel. Raises `LinkLost`. If cancelled, there is none."""

    async def ask(self, channel: int, method: Frame) -> Frame:
        """The broker's answer to a method. Raises `Refused`, which ends the channel, or `LinkLost`.

        If cancelled, the broker may have done it, and the channel is of no more use: end it.
        """

    def end_channel(self, channel: int) -> None:
        """Close a channel, unless it is closed already. Never waits; the broker does it after all that was sent."""


OpenLink: TypeAlias = Callable[[Endpoint, Listener], AbstractAsyncContextManager[Link]]
"""Connects; raises `LinkLost`, `LinkRefused` or `SettingsError`. Leaving closes in an orderly way, within seconds."""


def introduced(properties: Mapping[str, Any]) -> tuple[str, str]:
    """The product and its version, as a broker told them when it greeted."""
    return text(properties.get("product")) or "a broker", text(properties.get("version")) or "of unknown version"


@asynccontextmanager
async def new_channel(link: Link) -> AsyncIterator[int]:
    """A channel for as long as the context is open; a refusal inside ends it early. If cancelled, it is closed."""
    channel = await link.open_channel()
    try:
        yield channel
    finally:
        link.end_channel(channel)
