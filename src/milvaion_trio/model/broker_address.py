"""Where one RabbitMQ of a cluster listens: a host with a port, as settings name it and as people are told.

Separate from the settings, because what connects and what tells of it needs one place, and not all that was said.
"""

import re
from typing import Final

from attrs import frozen

__all__ = ["ADDRESS", "ADDRESS_WORDS", "BrokerAddress", "parse_broker_address"]

_PORT: Final = "0*(?:[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5])"
ADDRESS: Final = rf"(?:[^\s/@:,\[\]]+|\[[^\s/@,\[\]]*:[^\s/@,\[\]]*\])(?::{_PORT})?"
"""A name or an IPv4 address, or an IPv6 address in brackets, and then perhaps a port."""
ADDRESS_WORDS: Final = "a host with or without a port, like rabbit2, rabbit2:5672 or [::1]:5672"

_PARTS: Final = re.compile(r"(?:\[(?P<six>.*)\]|(?P<name>[^:]*))(?::(?P<port>[0-9]+))?")


@frozen
class BrokerAddress:
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        """`rabbit:5672`, and `[::1]:5672`."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_broker_address(text: str, port: int) -> BrokerAddress:
    """What a text of the form `ADDRESS` names, on this port where it names none."""
    parts = _PARTS.fullmatch(text)
    if parts is None:
        raise ValueError(f"{text!r} is no address")
    return BrokerAddress(parts["six"] or parts["name"], int(parts["port"] or port))
