"""What is special about RabbitMQ, with either driver: how it fails, what it says then, and what passes through it.

The promises that every transport makes are in `test_broker_contract`.
"""

import logging
import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio
from attrs import evolve
from tests.support import servers
from tests.support.amqp import connect
from tests.support.amqp_faults import PublisherFaults
from tests.support.proxy import Passage, Proxy
from tests.support.reports import FINAL, report

from milvaion_trio.broker.rabbitmq import RabbitMQBroker
from milvaion_trio.model.envelope import Message, Publication
from milvaion_trio.model.errors import LinkLost, LinkRefused, SettingsError
from milvaion_trio.model.settings import RabbitMQSettings
from milvaion_trio.model.topology import HOP_QUEUE
from milvaion_trio.outbox.memory import MemoryOutbox
from milvaion_trio.policy.hops import onward
from milvaion_trio.ports import Binding, Confirmation, Deliveries, Exchange, Publisher, Topology

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIRMED, UNROUTABLE, REFUSED = Confirmation.CONFIRMED, Confirmation.UNROUTABLE, Confirmation.REFUSED
SOON = 10.0
JOBS = "jobs"
PASSWORD = "very secret"


def settings(**changes: Any) -> RabbitMQSettings:
    server = RabbitMQSettings(host=servers.HOST, port=servers.rabbitmq().port)
    return evolve(server, **changes)


@pytest.fixture
async def broker(proxy: Proxy, vhost: str, driver: str) -> RabbitMQBroker:
    """With one queue."""
    broker = RabbitMQBroker(settings(port=proxy.port, virtual_host=vhost, driver=driver), client_name="email-worker-1")
    async with connect(servers.rabbitmq().port, vhost) as client:
        await client.declare_queue(JOBS)
    return broker


def job(number: int = 1, *, key: str = JOBS, exchange: str = "", delay: float = 0.0) -> Publication:
    return Publication(Message(body=b"%d" % number), key, exchange, delay)


async def received(deliveries: Deliveries, count: int) -> list[Message]:
    messages = []
    with trio.fail_after(SOON):
        for _ in range(count):
            delivery = await deliveries.receive()
            delivery.ack()
            messages.append(delivery.message)
    return messages


async def ready(broker: RabbitMQBroker, queue: str = JOBS) -> int:
    async with broker.consuming() as consumer:
        state = await consumer.state(queue)
        assert state is not None
        return state.ready


async def why_not(broker: RabbitMQBroker) -> str:
    """Why no connection can be had, from both kinds."""
    reasons = set()
    for connection in (broker.publishing(), broker.consuming()):
        with trio.fail_after(SOON), pytest.raises(LinkLost) as caught:
            async with connection:
                pass
        reasons.add(str(caught.value))
    (reason,) = reasons
    return reason


# --- opening --------------------------------------------------------------------------------------------------------


async def test_where_nothing_listens_the_reason_names_the_address_and_its_settings() -> None:
    reason = await why_not(RabbitMQBroker(settings(port=servers.free_port())))

    assert "127.0.0.1:" in reason
    assert "Connection refused" in reason
    assert "Worker:RabbitMQ:Port" in reason


async def test_an_unknown_host_is_named() -> None:
    reason = await why_not(RabbitMQBroker(settings(host="no-such-host.invalid", port=5672)))

    assert "no-such-host.invalid:5672" in reason


async def test_a_refused_login_names_user_and_settings_but_not_the_password(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    broker = RabbitMQBroker(settings(password=PASSWORD))

    reason = await why_not(broker)

    assert "login of user 'guest'" in reason
    assert "Worker:RabbitMQ:Password" in reason
    assert PASSWORD not in reason + caplog.text + repr(broker) + broker.name


async def test_a_missing_virtual_host_is_named() -> None:
    reason = await why_not(RabbitMQBroker(settings(virtual_host="no such/vhost %")))

    assert "'no such/vhost %'" in reason
    assert "Worker:RabbitMQ:VirtualHost" in reason


@pytest.mark.parametrize(
    "changed", [{"username": ""}, {"password": ""}, {"virtual_host": "a%2Fb"}, {"virtual_host": "."}], ids=str
)
async def test_what_no_url_can_say_is_refused_and_not_changed(changed: dict[str, Any]) -> None:
    """It would be another user or another virtual host, without a word."""
    with pytest.raises(SettingsError, match="cannot be used"):
        async with RabbitMQBroker(settings(driver="aio-pika", **changed)).publishing():
            pass


async def test_our_own_client_takes_such_names_as_they_are() -> None:
    name = f"a%2F{servers.new_vhost()}"
    servers.rabbitmq().control("add_vhost", name)
    servers.rabbitmq().control("set_permissions", "-p", name, "guest", ".*", ".*", ".*")

    async with RabbitMQBroker(settings(virtual_host=name)).publishing() as publisher:
        assert await publisher.publish([Publication(Message(body=b""), "nobody")]) == [UNROUTABLE]


async def test_a_virtual_host_that_is_not_for_this_user_is_named(vhost: str) -> None:
    servers.rabbitmq().control("clear_permissions", "-p", vhost, "guest")

    assert f"does not let user 'guest' into virtual host '{vhost}'" in await why_not(
        RabbitMQBroker(settings(virtual_host=vhost))
    )


@pytest.mark.parametrize("whose", ["vhost", "user"])
async def test_a_limit_of_connections_is_named_and_passes(vhost: str, whose: str) -> None:
    """It is no matter of rights, and another connection may be closed at any time."""
    control, user = servers.rabbitmq().control, f"few-{vhost}"
    control("add_user", user, PASSWORD)
    control("set_permissions", "-p", vhost, user, ".*", ".*", ".*")
    scope = ("set_vhost_limits", "-p", vhost) if whose == "vhost" else ("set_user_limits", user)
    control(*scope, '{"max-connections": 0}')
    broker = RabbitMQBroker(settings(virtual_host=vhost, username=user, password=PASSWORD))

    with pytest.raises(LinkLost) as caught:
        async with broker.publishing():
            pass

    assert not isinstance(caught.value, LinkRefused)
    assert "connection limit (0) is reached; close some, or raise the limit" in str(caught.value)
    control(*scope, '{"max-connections": 1}')
    async with broker.consuming():
        pass


@pytest.mark.parametrize("greeting", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"AMQP\x00\x01\x00\x00", b""])
async def test_a_server_that_is_no_rabbitmq_is_given_up(greeting: bytes) -> None:
    """At once if it says something else, after a limit if it says nothing."""

    async def greet(stream: trio.SocketStream) -> None:
        await stream.send_all(greeting)
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, greet, 0, host=servers.HOST))
        broker = RabbitMQBroker(settings(port=listener.socket.getsockname()[1]), connect_timeout=0.5)
        reason = await why_not(broker)
        nursery.cancel_scope.cancel()

    assert "127.0.0.1:" in reason


async def test_silent_hosts_share_the_time_of_one_attempt(proxy: Proxy, driver: str) -> None:
    """With the whole of it for each, whoever waits would have given up before the last one is asked."""
    proxy.on_passage = hold_both
    several = settings(port=proxy.port, further_hosts=[f"localhost:{proxy.port}"], driver=driver)

    reason = await why_not(RabbitMQBroker(several, connect_timeout=0.5))

    assert reason.startswith(f"none of 2 hosts can be used: 127.0.0.1:{proxy.port} did not answer as RabbitMQ does ")
    assert reason.count(" within 0.25 s; ") == 2


async def test_connecting_is_cancelled_at_once(proxy: Proxy) -> None:
    """By a silent server too."""
    proxy.on_passage = hold_both
    broker = RabbitMQBroker(settings(port=proxy.port))
    for opening in (broker.publishing, broker.consuming):
        took = []
        for _ in range(3):
            with trio.move_on_after(0.3) as scope:
                async with opening():
                    pass
            assert scope.cancelled_caught
            took.append(trio.current_time() - scope.deadline)
        assert min(took) < 0.5


def hold_both(passage: Passage) -> None:
    passage.up.hold()
    passage.down.hold()


async def test_connections_say_whose_they_are_and_what_for(broker: RabbitMQBroker, proxy: Proxy) -> None:
    async with broker.publishing(), broker.consuming():
        publishing, consuming = proxy.passages

        assert b"\x0fconnection_nameS\x00\x00\x00\x19email-worker-1 publishing" in publishing.up.seen
        assert b"\x0fconnection_nameS\x00\x00\x00\x18email-worker-1 consuming" in consuming.up.seen


async def test_the_name_has_no_secrets() -> None:
    broker = RabbitMQBroker(RabbitMQSettings(host="rabbit", username="user", password=PASSWORD, virtual_host="jobs"))

    assert broker.name == "amqp://rabbit:5672/jobs"
    assert RabbitMQBroker(RabbitMQSettings()).name == "amqp://localhost:5672/"
    several = RabbitMQSettings(host="::1", tls=True, further_hosts=("rabbit2", "rabbit3:5000"))
    assert RabbitMQBroker(several).name == "amqps://[::1]:5671,rabbit2:5671,rabbit3:5000/"


def test_a_dead_link_is_noticed_by_the_heartbeat_of_the_design() -> None:
    """10 s: RabbitMQ's own 60 would let a dead worker keep its jobs for minutes (DESIGN.md 4)."""
    assert RabbitMQBroker(RabbitMQSettings()).heartbeat == 10


# --- consuming ------------------------------------------------------------------------------------------------------


async def test_more_prefetch_than_the_wire_can_say_is_as_much_as_it_can(broker: RabbitMQBroker) -> None:
    """A job's limit may be any number, and the field has 16 bits."""
    async with broker.publishing() as publisher, broker.consuming() as consumer:
        async with consumer.consume(JOBS, prefetch=100_000) as deliveries:
            assert await publisher.publish([job(7)]) == [CONFIRMED]
            (message,) = await received(deliveries, 1)

    assert message.body == b"7"


# --- publishing -----------------------------------------------------------------------------------------------------


async def test_integer_headers_are_int32_on_the_wire(broker: RabbitMQBroker, proxy: Proxy) -> None:
    """RELIABILITY.md 2.6 W7: pamqp alone writes 1 as int8, which .NET reads as 0 and retries for ever."""
    headers = {"x-retry-count": 1, "MaxRetries": 3}
    async with broker.publishing() as publisher:
        await publisher.publish([Publication(Message(body=b"", headers=headers), JOBS)])
        (passage,) = proxy.passages

    assert b"\x0dx-retry-countI\x00\x00\x00\x01" in passage.up.seen
    assert b"\x0aMaxRetriesI\x00\x00\x00\x03" in passage.up.seen


async def test_equal_messages_get_their_own_answers(broker: RabbitMQBroker) -> None:
    """Equal ids, or none, say nothing about which of them a queue took."""
    for message_id in (None, "the same"):
        message = Message(body=b"", message_id=message_id)
        keys = [JOBS, "nobody", JOBS, "nobody either", "nobody", JOBS]
        async with broker.publishing() as publisher:
            answers = await publisher.publish([Publication(message, key) for key in keys])

        assert answers == [CONFIRMED if key == JOBS else UNROUTABLE for key in keys]


async def test_an_unknown_exchange_does_not_disturb_the_others(broker: RabbitMQBroker) -> None:
    """The broker would close the channel, and with it forget who was to be answered."""
    async with broker.publishing() as publisher:
        answers = await publisher.publish([job(1), job(2, exchange="nowhere"), job(3), job(4, key="k" * 256), job(5)])
        again = await publisher.publish([job(6, exchange="nowhere"), job(7)])

    assert answers == [CONFIRMED, UNROUTABLE, CONFIRMED, UNROUTABLE, CONFIRMED]
    assert again == [UNROUTABLE, CONFIRMED]
    assert await ready(broker) == 4


async def test_an_exchange_that_appears_later_is_found(broker: RabbitMQBroker) -> None:
    topology = Topology(exchanges=[Exchange("late", "fanout")], bindings=[Binding("late", JOBS, "")])
    async with broker.publishing() as publisher, broker.consuming() as consumer:
        before = await publisher.publish([job(exchange="late")])
        await consumer.declare(topology)

        assert before == [UNROUTABLE]
        assert await publisher.publish([job(exchange="late")]) == [CONFIRMED]


async def test_an_exchange_that_vanishes_costs_the_link_and_no_message(broker: RabbitMQBroker, vhost: str) -> None:
    async with connect(servers.rabbitmq().port, vhost) as client:
        await client.declare_exchange("brief")
        await client.bind(JOBS, "brief", "#")
        async with broker.publishing() as publisher:
            assert await publisher.publish([job(exchange="brief")]) == [CONFIRMED]
            await client._ask((40, 20), bytes(2), b"\x05brief", b"\x00")
            with trio.fail_after(SOON), pytest.raises(LinkLost, match="no exchange 'brief'"):
                await publisher.publish([job(exchange="brief")])

    async with broker.publishing() as publisher:
        assert await publisher.publish([job(exchange="brief")]) == [UNROUTABLE]


async def test_calls_may_overlap(broker: RabbitMQBroker) -> None:
    answers: dict[int, Sequence[Confirmation]] = {}

    async def publish(publisher: Publisher, number: int) -> None:
        publications = [job(key=JOBS if (number + n) % 3 else "nobody") for n in range(20)]
        answers[number] = await publisher.publish(publications)

    async with broker.publishing() as publisher, trio.open_nursery() as nursery:
        for number in range(20):
            nursery.start_soon(publish, publisher, number)

    for number in range(20):
        assert answers[number] == [CONFIRMED if (number + n) % 3 else UNROUTABLE for n in range(20)]


async def test_a_cancelled_publish_leaves_the_link_as_it_was(broker: RabbitMQBroker, proxy: Proxy) -> None:
    faults = PublisherFaults(proxy)
    faults.install()
    async with broker.publishing() as publisher:
        faults.hold_confirms()
        with trio.move_on_after(0.1):
            await publisher.publish([job(1), job(2, key="nobody")])
        await faults.release_confirms()

        with trio.fail_after(SOON):
            assert await publisher.publish([job(3, key="nobody"), job(4)]) == [UNROUTABLE, CONFIRMED]


async def test_more_than_the_system_takes_at_once_is_sent_in_the_end(broker: RabbitMQBroker, proxy: Proxy) -> None:
    """20 MB while nobody reads, then all of it; bodies over 1 MiB are delivered as well."""
    body = os.urandom(1_000) * 2_000
    async with broker.publishing() as publisher, trio.open_nursery() as nursery:
        (passage,) = proxy.passages
        passage.up.hold()
        answers: list[Confirmation] = []

        async def publish() -> None:
            answers.extend(await publisher.publish([Publication(Message(body=body), JOBS)] * 10))

        nursery.start_soon(publish)
        await trio.sleep(0.2)
        passage.up.release()

    assert answers == [CONFIRMED] * 10
    async with broker.consuming() as consumer, consumer.consume(JOBS, prefetch=2) as deliveries:
        assert [message.body for message in await received(deliveries, 10)] == [body] * 10


async def test_an_outbox_delivers_everything_in_order_over_links_that_break(
    broker: RabbitMQBroker, proxy: Proxy
) -> None:
    """What is not confirmed is sent again: repeated, perhaps, but never missing and never out of order."""
    outbox, names = MemoryOutbox(), [f"row {number}" for number in range(300)]

    async def deliver() -> None:
        while True:
            with suppress(LinkLost):
                async with broker.publishing() as publisher:
                    await outbox.deliver(publisher)

    async with outbox.open(), trio.open_nursery() as nursery:
        nursery.start_soon(deliver)
        for number, name in enumerate(names):
            outbox.add(report(FINAL, name, to=JOBS))
            await trio.sleep(0.001)
            if number % 100 == 50:
                proxy.cut()
        with trio.fail_after(SOON):
            await outbox.drained()
        nursery.cancel_scope.cancel()

    count = await ready(broker)
    async with broker.consuming() as consumer, consumer.consume(JOBS, prefetch=100) as deliveries:
        bodies = [message.body.decode() for message in await received(deliveries, count)]
    assert list(dict.fromkeys(bodies)) == names


# --- delays ---------------------------------------------------------------------------------------------------------


async def test_a_delay_of_several_rungs_leads_over_the_hop_queue(broker: RabbitMQBroker) -> None:
    """Whoever consumes that sends it on; 3 s are 2 and 1. Nothing of the journey is left in the end."""
    message = Message(body=b"late", headers={"OccurrenceId": "a", "x-retry-count": 1}, message_id="m")
    async with broker.publishing() as publisher, broker.consuming() as consumer:
        await consumer.declare(Topology())
        async with consumer.consume(JOBS, prefetch=1) as jobs, consumer.consume(HOP_QUEUE, prefetch=10) as hops:
            began = trio.current_time()
            assert await publisher.publish([Publication(message, JOBS, delay=2.5)]) == [CONFIRMED]
            onwards = onward((await received(hops, 1))[0])
            assert onwards is not None
            assert await publisher.publish([onwards]) == [CONFIRMED]
            (arrived,) = await received(jobs, 1)

    assert 2.9 < trio.current_time() - began < 6
    assert (arrived.body, arrived.message_id) == (b"late", "m")
    assert {name: value for name, value in arrived.headers.items() if "death" not in name} == message.headers


async def test_a_delayed_message_to_a_queue_that_does_not_exist_is_unroutable(broker: RabbitMQBroker) -> None:
    """As one without a delay is: in the delay queues it would wait for ever."""
    async with broker.publishing() as publisher:
        assert await publisher.publish([job(1, key="nobody", delay=5), job(2)]) == [UNROUTABLE, CONFIRMED]
    assert await ready(broker) == 1


async def test_where_delay_queues_may_not_be_declared_delayed_messages_are_refused(
    broker: RabbitMQBroker, vhost: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Worth trying again: an operator may allow it meanwhile. Others are not disturbed."""
    servers.rabbitmq().control("set_permissions", "-p", vhost, "guest", "^jobs", ".*", ".*")

    async with broker.publishing() as publisher:
        assert await publisher.publish([job(1, delay=5), job(2)]) == [REFUSED, CONFIRMED]

    assert "no message can be delayed" in caplog.text
    assert "mtrio.delay.v1.120s" in caplog.text
