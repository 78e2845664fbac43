"""The lives of a connection and of a channel. Which method leads where stands in the tables beside what it does.

Separate because an error names a state, whoever raises it.
"""

from enum import Enum

__all__ = ["ChannelState", "State"]


class State(Enum):
    """The life of a connection."""

    NEW = "not begun"
    STARTING = "waiting for the broker's greeting"
    TUNING = "waiting for the login to be taken"
    OPENING = "waiting for the virtual host"
    OPEN = "open"
    CLOSING = "being closed by us"
    CLOSED = "closed"
    BROKEN = "broken"
    """The broker sent what AMQP does not allow."""


class ChannelState(Enum):
    """The life of a channel; a free number has none."""

    OPENING = "opening"
    OPEN = "open"
    CLOSING = "being closed by us"
