"""The plain AMQP client against a real broker: what it sends arrives as it is, and it says what the broker said."""

from collections.abc import AsyncIterator, Mapping
from decimal import Decimal
from typing import cast

import pytest
import trio
from tests.support import servers
from tests.support.amqp import ChannelClosed, Client, ConnectionClosed, Nacked, connect
from tests.support.amqp_codec import FIELD_TYPES, Field, header_payload
from tests.support.amqp_vectors import VECTORS, publish_vector, vector, vector_headers
from tests.support.hostile import CASES, publish_case, read_properties

MESSAGES = sorted(path.stem for path in VECTORS.glob("*.json") if vector(path.stem).get("exchange") is not None)

EVERY_TYPE: dict[str, Field] = {
    "t": ("t", True),
    "t false": ("t", False),
    "b": ("b", -128),
    "B": ("B", 255),
    "s": ("s", -(2**15)),
    "u": ("u", 2**16 - 1),
    "I": ("I", -(2**31)),
    "i": ("i", 2**32 - 1),
    "l": ("l", -(2**63)),
    "f": ("f", 0.5),
    "d": ("d", 1e300),
    "D": ("D", Decimal("123.4500")),
    "S": ("S", "grüße \0 \N{SNOWMAN}"),
    "S not UTF-8": ("S", b"\xff\xfe"),
    "S empty": ("S", ""),
    "A": ("A", [("S", "a"), ("A", [("V", None)]), ("F", {"deep": ("I", 1)})]),
    "T": ("T", 2**63),
    "F": ("F", {"a": ("F", {"b": ("l", 2)}), "": ("t", False)}),
    "V": ("V", None),
    "x": ("x", b"\x00\xff"),
    "grüße": ("S", "a name beyond ASCII"),
    "\udcff": ("S", "a name that is not UTF-8"),
}


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    async with connect(servers.rabbitmq().port, servers.new_vhost()) as client:
        with trio.fail_after(20):
            await client.declare_queue("q")
            yield client


async def test_every_field_type_comes_back_with_its_letter(client: Client) -> None:
    assert {letter for letter, _ in EVERY_TYPE.values()} == set(FIELD_TYPES)

    assert await client.publish("", "q", b"body", headers=EVERY_TYPE)
    message = await client.get("q")

    assert message is not None
    assert message.headers == EVERY_TYPE
    assert (message.exchange, message.routing_key, message.redelivered) == ("", "q", False)
    assert (message.properties, message.body) == ({}, b"body")


async def test_every_property_comes_back(client: Client) -> None:
    properties: dict[str, object] = {
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "delivery_mode": 2,
        "priority": 9,
        "correlation_id": b"\xff",
        "reply_to": "somebody",
        "expiration": "60000",
        "message_id": "m" * 255,
        "timestamp": 2**63,
        "type": "t",
        "user_id": "guest",
        "app_id": "",
        "cluster_id": "c",
    }

    await client.publish("", "q", b"", properties)
    message = await client.get("q")

    assert message is not None
    assert message.properties == properties
    assert message.headers == {}


@pytest.mark.parametrize("name", MESSAGES)
async def test_vectors_are_published_byte_for_byte(client: Client, name: str) -> None:
    """WIRE.md 15: exchange, routing key, properties, header letters and body."""
    written = vector(name)
    exchange, key = cast("str", written["exchange"]), cast("str", written["routing_key"])
    queue = key if not exchange else "q"
    await client.declare_queue(queue)
    if exchange:
        await client.declare_exchange(exchange, "topic")
        await client.bind("q", exchange, key)

    assert await publish_vector(client, written)
    message = await client.get(queue)

    assert message is not None
    properties = dict(cast("Mapping[str, object]", written["properties"]))
    headers = vector_headers(cast("Mapping[str, object]", properties.pop("headers", {})))
    assert (message.exchange, message.routing_key) == (exchange, key)
    assert (message.properties, message.headers) == (properties, headers)
    assert message.body.decode() == written["body_raw"]


async def test_hostile_messages_pass_the_broker(client: Client) -> None:
    """It takes them all and changes nothing, so a worker meets them as they were sent (RELIABILITY.md 0.3)."""
    for case in CASES:
        assert await publish_case(client, case, "q"), case.name
        message = await client.get("q", no_ack=True)

        assert message is not None, case.name
        sent = read_properties(case)
        assert (message.properties, message.headers) == (sent.properties, sent.headers), case.name
        assert message.body == case.body, case.name


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
async def test_numbers_that_the_broker_refuses(client: Client, number: float) -> None:
    """Which is why they are no hostile messages."""
    with pytest.raises(ConnectionClosed, match="541"):
        await client.publish("", "q", b"", headers={"a": ("d", number)})


async def test_big_bodies_come_back_whole(client: Client) -> None:
    """They are cut into frames of the broker's size, and empty ones have none."""
    for body in (b"", b"x" * (131072 - 8), bytes(range(256)) * 6000):
        await client.publish("", "q", body)
        message = await client.get("q")

        assert message is not None
        assert message.body == body


async def test_raw_properties_are_sent_as_they_are(client: Client) -> None:
    """Headers that are empty are not the same as none."""
    flags, data = header_payload({"correlation_id": "c"}, {})

    assert (flags, data) == (1 << 13 | 1 << 10, b"\0\0\0\0\x01c")
    assert await client.publish_raw("", "q", flags, data, b"body")
    message = await client.get("q")

    assert message is not None
    assert message.properties == {"correlation_id": "c"}


async def test_unroutable_messages_are_told_apart_from_others(client: Client) -> None:
    """Also while several wait for their confirms at the same time."""
    results: dict[int, bool] = {}

    async def publish(number: int) -> None:
        results[number] = await client.publish("", "q" if number % 3 else "nowhere", b"%d" % number)

    async with trio.open_nursery() as nursery:
        for number in range(60):
            nursery.start_soon(publish, number)

    assert results == {number: bool(number % 3) for number in range(60)}
    assert await client.declare_queue("q", passive=True) == (40, 0)


async def test_refused_messages_raise(client: Client) -> None:
    await client.declare_queue("full", {"x-max-length": ("I", 0), "x-overflow": ("S", "reject-publish")})

    with pytest.raises(Nacked):
        await client.publish("", "full", b"")


async def test_consumers_get_no_more_than_their_prefetch(client: Client) -> None:
    for number in range(5):
        await client.publish("", "q", b"%d" % number)
    messages = await client.consume("q", prefetch=2)

    first, second = await messages.receive(), await messages.receive()
    assert await client.declare_queue("q", passive=True) == (3, 1)
    with pytest.raises(trio.WouldBlock):
        messages.receive_nowait()
    await client.ack(first.delivery_tag)
    third = await messages.receive()
    await client.nack(second.delivery_tag, requeue=True)
    again = await messages.receive()
    await client.ack(again.delivery_tag, multiple=True)
    last = [await messages.receive() for _ in range(2)]

    assert [first.body, second.body, third.body, again.body] == [b"0", b"1", b"2", b"1"]
    assert (second.redelivered, again.redelivered) == (False, True)
    assert [message.body for message in last] == [b"3", b"4"]


async def test_a_deleted_queue_ends_its_consumer(client: Client) -> None:
    messages = await client.consume("q")
    await client.publish("", "q", b"")
    await messages.receive()

    assert await client.delete_queue("q") == 0

    with pytest.raises(trio.EndOfChannel):
        await messages.receive()


async def test_a_channel_closes_alone(client: Client) -> None:
    """What closes it is raised by the call that did it and by all later ones; the other channels go on."""
    async with client.channel() as channel:
        messages = await channel.consume("q")
        with pytest.raises(ChannelClosed, match="404 NOT_FOUND"):
            await channel.declare_queue("absent", passive=True)
        with pytest.raises(ChannelClosed):
            await channel.publish("", "q", b"")
        with pytest.raises(trio.EndOfChannel):
            await messages.receive()

    await client.publish("", "q", b"")
    assert await client.purge("q") == 1


async def test_a_cancelled_question_leaves_the_channel_good(client: Client) -> None:
    await client.publish("", "q", b"")
    with trio.CancelScope() as scope:
        scope.cancel()
        await client.declare_queue("other")
    with trio.CancelScope() as scope:
        scope.cancel()
        await client.publish("", "nowhere", b"")

    assert scope.cancelled_caught
    assert await client.declare_queue("q", passive=True) == (1, 0)
    assert await client.publish("", "q", b"")


async def test_a_refused_login_is_told() -> None:
    with trio.fail_after(20), pytest.raises(ConnectionClosed, match="403 ACCESS_REFUSED"):
        async with connect(servers.rabbitmq().port, password="wrong"):
            pass


async def test_an_error_of_the_test_comes_out_as_it_is() -> None:
    """Not in a group of one."""
    with trio.fail_after(20), pytest.raises(ZeroDivisionError):
        async with connect(servers.rabbitmq().port, servers.new_vhost()):
            raise ZeroDivisionError


async def test_a_lost_connection_ends_whatever_waits() -> None:
    """The broker closes all for a frame that is none."""
    with trio.fail_after(20):
        async with connect(servers.rabbitmq().port, servers.new_vhost()) as client:
            await client.declare_queue("q")
            messages = await client.consume("q")
            with pytest.raises(ConnectionClosed, match="541"):
                await client.publish_raw("", "q", 1 << 13, b"\0\0\0\5\1aQ", b"")
            with pytest.raises(trio.EndOfChannel):
                await messages.receive()
            with pytest.raises(ConnectionClosed):
                await client.ack(1)


async def test_heartbeats_keep_an_idle_connection() -> None:
    """With one second the broker gives up an idle client after three."""
    with trio.fail_after(20):
        async with connect(servers.rabbitmq().port, servers.new_vhost(), heartbeat=1) as client:
            await trio.sleep(4)

            assert await client.declare_queue("q") == (0, 0)
