"""Which of the hosts of a cluster a connection goes to: the one that let somebody in last, then the others.

Separate from the broker, which knows how to reach one of them: here is what they share, one time and one answer.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence

import trio
from attrs import define, field

from milvaion_trio.broker.connecting import EntryRefused
from milvaion_trio.broker.link import Link
from milvaion_trio.model.broker_address import BrokerAddress
from milvaion_trio.model.errors import LinkLost, LinkRefused

__all__ = ["Failover"]

_logger = logging.getLogger("milvaion_trio.broker")


@define(eq=False)
class Failover:
    """The order in which hosts are tried. It outlives connections."""

    _last: BrokerAddress | None = field(default=None, init=False)

    async def first(
        self,
        addresses: Sequence[BrokerAddress],
        seconds: float,
        open_link: Callable[[BrokerAddress, float], Awaitable[Link]],
    ) -> Link:
        """The first that can be opened; `open_link` is told how long it may take, so that all have their turn.

        Raises what was wrong with the hosts: `LinkRefused` where all of them refuse, else `LinkLost`; `EntryRefused`
        at once. If cancelled, none is open.
        """
        failures: list[LinkLost] = []
        order = sorted(addresses, key=lambda address: address != self._last)
        for number, address in enumerate(order):
            share = seconds / (len(order) - number)
            began = trio.current_time()
            try:
                link = await open_link(address, share)
            except EntryRefused:
                raise
            except LinkLost as lost:
                failures.append(lost)
            else:
                if len(order) > 1:
                    _tell(link, failures)
                self._last = address
                return link
            seconds -= min(trio.current_time() - began, share)  # closing takes its time too, and from nobody's share
        if len(failures) == 1:
            raise failures[0]
        raise _summary(failures) from failures[0]


def _tell(link: Link, failures: Sequence[LinkLost]) -> None:
    """Say where the connection goes. A host that refuses stays so until somebody hears of it."""
    level = logging.WARNING if any(isinstance(failure, LinkRefused) for failure in failures) else logging.INFO
    others = f", as others do not: {_words(failures)}" if failures else ""
    _logger.log(level, "RabbitMQ at %s carries %s%s", link.endpoint.where, link.endpoint.client_name, others)


def _summary(failures: Sequence[LinkLost]) -> LinkLost:
    is_final = all(isinstance(failure, LinkRefused) for failure in failures)
    text = f"none of {len(failures)} hosts can be used: {_words(failures)}"
    return LinkRefused(text) if is_final else LinkLost(text)


def _words(failures: Sequence[LinkLost]) -> str:
    """Each once: what is wrong on our side, a missing file, say, is the same for all hosts."""
    return "; ".join(dict.fromkeys(map(str, failures)))
