"""Several hosts of one cluster: in which order they are tried, for how long each, and what is said of them."""

import logging
from collections.abc import Mapping

import pytest
import trio
from attrs import define, evolve
from tests.support.amqp_script import ENDPOINT
from trio.testing import MockClock

from milvaion_trio.broker.connecting import EntryRefused
from milvaion_trio.broker.link import Endpoint, Link
from milvaion_trio.broker.rabbitmq.failover import Failover
from milvaion_trio.model.broker_address import BrokerAddress
from milvaion_trio.model.errors import LinkLost, LinkRefused

HOSTS = [BrokerAddress(f"rabbit{number}", 5672) for number in (1, 2, 3)]
LOST, REFUSED, ENTRY_REFUSED = LinkLost("it is dead"), LinkRefused("out of date"), EntryRefused("wrong password")


@define
class FakeLink:
    endpoint: Endpoint


@define
class Cluster:
    """Hosts with what each of them does: let in, raise something, or be silent for as long as one waits."""

    does: Mapping[str, LinkLost | None]
    tried: list[tuple[str, float]]
    """With the time that it was given."""

    async def open_link(self, address: BrokerAddress, seconds: float) -> Link:
        self.tried.append((address.host, seconds))
        await trio.lowlevel.checkpoint()
        if address.host not in self.does:
            await trio.sleep(seconds)
            raise LinkLost(f"{address} is silent")
        failure = self.does[address.host]
        if failure is not None:
            raise failure
        return FakeLink(evolve(ENDPOINT, address=address))  # type: ignore[return-value] # nothing else is asked of it


async def first(failover: Failover, does: Mapping[str, LinkLost | None]) -> tuple[str, list[tuple[str, float]]]:
    """Where the connection goes, and what was tried."""
    cluster = Cluster(does, [])
    link = await failover.first(HOSTS, 12.0, cluster.open_link)
    return link.endpoint.address.host, cluster.tried


async def why_not(does: Mapping[str, LinkLost | None]) -> tuple[LinkLost, list[str]]:
    """What is raised, and who was tried."""
    cluster = Cluster(does, [])
    with pytest.raises(LinkLost) as caught:
        await Failover().first(HOSTS, 12.0, cluster.open_link)
    return caught.value, [host for host, _ in cluster.tried]


@pytest.mark.parametrize("failure", [LOST, REFUSED], ids=["dead", "refuses"])
async def test_one_bad_host_does_not_stop_the_others(failure: LinkLost) -> None:
    """Also one that answers: with a certificate of the past, say."""
    host, _ = await first(Failover(), {"rabbit1": failure, "rabbit2": None})

    assert host == "rabbit2"


async def test_a_refused_login_is_the_answer_of_all() -> None:
    """Nobody is locked out for having tried a wrong password at every host."""
    error, tried = await why_not({"rabbit1": LOST, "rabbit2": ENTRY_REFUSED, "rabbit3": None})

    assert error is ENTRY_REFUSED
    assert tried == ["rabbit1", "rabbit2"]


@pytest.mark.parametrize(
    ("third", "is_final", "says"),
    [
        (LinkRefused("no TLS"), True, "none of 3 hosts can be used: out of date; no TLS"),
        (LOST, False, "none of 3 hosts can be used: out of date; it is dead"),
    ],
    ids=["refuses", "dead"],
)
async def test_it_is_final_where_all_refuse(third: LinkLost, is_final: bool, says: str) -> None:
    """A host that is dead may come back. What is wrong with all of them is said once."""
    error, tried = await why_not({"rabbit1": REFUSED, "rabbit2": REFUSED, "rabbit3": third})

    assert len(tried) == 3
    assert isinstance(error, LinkRefused) is is_final
    assert str(error) == says


async def test_a_single_host_speaks_for_itself() -> None:
    cluster = Cluster({"rabbit1": REFUSED}, [])

    with pytest.raises(LinkRefused) as caught:
        await Failover().first(HOSTS[:1], 12.0, cluster.open_link)

    assert caught.value is REFUSED


async def test_the_host_that_let_in_last_is_tried_first() -> None:
    """Whoever reconnects does not wait once more for those that were silent before; the others keep their order."""
    failover = Failover()
    await first(failover, {"rabbit1": LOST, "rabbit2": LOST, "rabbit3": None})

    _, again = await first(failover, {"rabbit3": None})
    host, others = await first(failover, {"rabbit3": LOST, "rabbit1": LOST, "rabbit2": None})
    _, then = await first(failover, {"rabbit2": None})

    assert [name for name, _ in again] == ["rabbit3"]
    assert ([name for name, _ in others], host) == (["rabbit3", "rabbit1", "rabbit2"], "rabbit2")
    assert [name for name, _ in then] == ["rabbit2"]


async def test_the_time_is_for_all_hosts_together(autojump_clock: MockClock) -> None:
    """So the last one has its turn before the patience of whoever waits is over."""
    began = trio.current_time()

    host, tried = await first(Failover(), {"rabbit3": None})

    assert host == "rabbit3"
    assert tried == [("rabbit1", 4.0), ("rabbit2", 4.0), ("rabbit3", 4.0)]
    assert trio.current_time() - began == pytest.approx(8.0)


async def test_what_a_quick_host_leaves_is_for_the_others(autojump_clock: MockClock) -> None:
    _, tried = await first(Failover(), {"rabbit1": LOST, "rabbit3": None})

    assert tried == [("rabbit1", 4.0), ("rabbit2", 6.0), ("rabbit3", 6.0)]


@pytest.mark.parametrize(
    ("does", "level", "says"),
    [
        ({"rabbit1": None}, logging.INFO, "RabbitMQ at rabbit1:5672 carries tests"),
        ({"rabbit1": LOST, "rabbit2": None}, logging.INFO, ":5672 carries tests, as others do not: it is dead"),
        ({"rabbit1": REFUSED, "rabbit2": None}, logging.WARNING, ":5672 carries tests, as others do not: out of date"),
    ],
    ids=["first", "dead", "refuses"],
)
async def test_which_host_was_taken_is_told(
    does: Mapping[str, LinkLost | None], level: int, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    """And is a warning where a host needs somebody, who would hear of it only when the others are gone too."""
    caplog.set_level(logging.INFO, "milvaion_trio.broker")

    await first(Failover(), does)

    (record,) = caplog.records
    assert record.levelno == level
    assert record.getMessage().endswith(says)


async def test_nothing_is_told_of_the_only_host(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "milvaion_trio.broker")

    await Failover().first(HOSTS[:1], 12.0, Cluster({"rabbit1": None}, []).open_link)

    assert not caplog.records
