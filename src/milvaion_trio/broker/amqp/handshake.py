"""Who we are, and what both sides agree on before a connection is open.

Separate from the states: here are decisions about values, there is the order in which they are taken.
"""

from collections.abc import Mapping
from typing import Final

from attrs import field, frozen
from attrs.validators import ge, in_, le
from pamqp.commands import Connection

from milvaion_trio.broker.amqp.events import ProtocolError
from milvaion_trio.model.envelope import HeaderValue

__all__ = ["CAPABILITIES", "FRAME_MAX", "FRAME_MIN", "Login", "Tuning", "opening", "start_ok", "tuned"]

FRAME_MAX: Final = 131_072
"""RabbitMQ's default; nothing larger is taken before both sides agreed on a size."""
FRAME_MIN: Final = 4096
"""Of AMQP 0-9-1: any peer takes frames up to it."""
CHANNEL_MAX: Final = 65_535
"""What a channel's number has room for."""
CAPABILITIES: Final = {
    "publisher_confirms": True,
    "consumer_cancel_notify": True,
    "basic.nack": True,
    "connection.blocked": True,
    # Otherwise a wrong password is a closed socket without a word.
    "authentication_failure_close": True,
}


@frozen(kw_only=True)
class Login:
    """How we introduce ourselves, and what we would like."""

    mechanism: str = field(validator=in_(("PLAIN", "EXTERNAL")))
    response: bytes = field(repr=False)
    """`b"\\0user\\0password"` for PLAIN, nothing for EXTERNAL."""
    virtual_host: str
    heartbeat: int = field(validator=(ge(0), le(65_535)))
    """Seconds; 0 leaves it to the broker."""
    client_properties: Mapping[str, HeaderValue]
    """What the broker's operators see; our capabilities are added."""
    frame_max: int = field(default=FRAME_MAX, validator=ge(FRAME_MIN))
    channel_max: int = field(default=2047, validator=(ge(1), le(CHANNEL_MAX)))


@frozen(kw_only=True)
class Tuning:
    """What both sides can do."""

    channel_max: int
    frame_max: int
    heartbeat: int
    """Seconds; 0 is none."""


def start_ok(login: Login, start: Connection.Start) -> Connection.StartOk:
    """The answer to the broker's greeting; raises `ProtocolError` where it speaks or takes something else."""
    if (start.version_major, start.version_minor) != (0, 9):
        raise ProtocolError(
            f"the broker speaks AMQP {start.version_major}-{start.version_minor}; 0-9 with revision 1 is spoken here"
        )
    mechanisms = start.mechanisms.split()
    if login.mechanism not in mechanisms:
        raise ProtocolError(
            f"the broker takes no login with {login.mechanism}, only with {', '.join(mechanisms) or 'nothing'}"
        )
    answer = Connection.StartOk(mechanism=login.mechanism)
    # pamqp wants text here, and ours are bytes as the server compares them; `methods` writes both.
    answer.response = login.response  # type: ignore[assignment]
    answer.client_properties = {**login.client_properties, "capabilities": CAPABILITIES}  # type: ignore[dict-item]
    return answer


def tuned(login: Login, tune: Connection.Tune) -> Tuning:
    """The smaller of both wishes, where 0 is none; raises `ProtocolError` for frames smaller than AMQP allows."""
    if 0 < tune.frame_max < FRAME_MIN:
        raise ProtocolError(f"the broker takes frames of {tune.frame_max} bytes; AMQP allows no less than {FRAME_MIN}")
    return Tuning(
        channel_max=_smaller(login.channel_max, tune.channel_max),
        frame_max=_smaller(login.frame_max, tune.frame_max),
        heartbeat=_smaller(login.heartbeat, tune.heartbeat),
    )


def opening(login: Login) -> Connection.Open:
    """The last question before the connection is open."""
    method = Connection.Open()
    method.virtual_host = login.virtual_host  # not by the constructor, where pamqp allows some letters only
    return method


def _smaller(ours: int, theirs: int) -> int:
    return min(ours, theirs) if ours and theirs else ours or theirs
