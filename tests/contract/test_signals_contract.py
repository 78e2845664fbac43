"""What every source of cancel signals promises: the sentences of `ports.Signals`, one test each."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
import trio
from attrs import frozen
from tests.support.resp import redis_publish
from tests.support.servers import HOST, RedisServer
from trio.testing import MockClock

from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.messages import Cancellation
from milvaion_trio.model.settings import RedisSettings
from milvaion_trio.ports import Signals
from milvaion_trio.signals.local import LocalSignals
from milvaion_trio.signals.redis import RedisSignals

SOON = 10.0

A = Cancellation(
    occurrence_id=OccurrenceId("019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193"),
    job_id="019d4a10-3b5c-7e21-8f04-6a1d2c9be077",
    reason="asked to",
)
B = Cancellation(occurrence_id=OccurrenceId("019d4d92-04ab-72c1-9d3e-51f0a6b7c8d2"), job_id=None, reason="no need")

TEXT_OF_A = (
    '{"CorrelationId":"019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193","JobId":"019d4a10-3b5c-7e21-8f04-6a1d2c9be077",'
    '"OccurrenceId":"019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193","Reason":"asked to"}'
)


@frozen(kw_only=True)
class SignalsUnderTest:
    """Signals, how to send any text where they are heard, and how to cut them off."""

    signals: Signals
    publish: Callable[[str], Awaitable[None]]
    unreachable: Callable[[], AbstractAsyncContextManager[None]]
    """While inside, signals cannot be heard."""


@asynccontextmanager
async def _local() -> AsyncIterator[SignalsUnderTest]:
    signals = LocalSignals()

    async def publish(text: str) -> None:
        await trio.lowlevel.checkpoint()
        signals.publish(text)

    @asynccontextmanager
    async def unreachable() -> AsyncIterator[None]:
        with signals.unreachable():
            yield

    yield SignalsUnderTest(signals=signals, publish=publish, unreachable=unreachable)


@asynccontextmanager
async def _redis() -> AsyncIterator[SignalsUnderTest]:
    with RedisServer() as server:

        @asynccontextmanager
        async def unreachable() -> AsyncIterator[None]:
            await trio.lowlevel.checkpoint()
            server.kill()
            try:
                yield
            finally:
                server.start()

        signals = RedisSignals(RedisSettings(connection_string=f"{HOST}:{server.port}"))
        channel = signals.settings.cancellation_channel

        async def publish(text: str) -> None:
            await redis_publish(server.port, channel, text.encode("utf-8", "surrogatepass"))

        yield SignalsUnderTest(signals=signals, publish=publish, unreachable=unreachable)


@frozen
class SignalsKind:
    """A source of cancel signals, and how to get one for a test."""

    name: str
    has_virtual_time: bool
    open: Callable[[], AbstractAsyncContextManager[SignalsUnderTest]]


KINDS = [SignalsKind("local", True, _local), SignalsKind("redis", False, _redis)]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> SignalsKind:
    chosen: SignalsKind = request.param
    return chosen


@pytest.fixture
def clock(kind: SignalsKind) -> MockClock | None:
    """Virtual where that is possible. Every test asks for it, so that one that hangs fails at once."""
    return MockClock(autojump_threshold=0) if kind.has_virtual_time else None


@pytest.fixture
async def under_test(kind: SignalsKind) -> AsyncIterator[SignalsUnderTest]:
    async with kind.open() as under_test:
        yield under_test


def text(cancellation: Cancellation) -> str:
    as_sent = TEXT_OF_A.replace(A.occurrence_id, cancellation.occurrence_id).replace(A.reason, cancellation.reason)
    return as_sent if cancellation.job_id else as_sent.replace(f'"{A.job_id}"', "null")


async def next_of(signals: AsyncIterator[Cancellation]) -> Cancellation:
    with trio.fail_after(SOON):
        return await anext(signals)


async def nothing_comes(signals: AsyncIterator[Cancellation]) -> bool:
    with trio.move_on_after(1) as scope:
        await anext(signals)
    return scope.cancelled_caught


async def test_every_signal_comes_in_order(under_test: SignalsUnderTest, clock: MockClock | None) -> None:
    async with under_test.signals.cancellations() as signals:
        await under_test.publish(text(A))
        await under_test.publish(text(B))
        await under_test.publish(text(A))

        assert [await next_of(signals) for _ in range(3)] == [A, B, A]


async def test_signals_are_heard_while_nobody_is_iterating(
    under_test: SignalsUnderTest, clock: MockClock | None
) -> None:
    async with under_test.signals.cancellations() as signals:
        for _ in range(1000):
            await under_test.publish(text(A))

        assert [await next_of(signals) for _ in range(1000)] == [A] * 1000


async def test_what_is_sent_while_the_context_is_closed_is_not_heard(
    under_test: SignalsUnderTest, clock: MockClock | None
) -> None:
    await under_test.publish(text(A))
    async with under_test.signals.cancellations() as signals:
        assert await nothing_comes(signals)
    await under_test.publish(text(A))

    async with under_test.signals.cancellations() as signals:
        assert await nothing_comes(signals)


async def test_every_open_context_hears_every_signal(under_test: SignalsUnderTest, clock: MockClock | None) -> None:
    async with under_test.signals.cancellations() as one, under_test.signals.cancellations() as two:
        await under_test.publish(text(A))

        assert await next_of(one) == A
        assert await next_of(two) == A


@pytest.mark.parametrize("junk", ["", "junk", "{}", "[]", "\ud800", "019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193"])
async def test_junk_is_left_out(under_test: SignalsUnderTest, clock: MockClock | None, junk: str) -> None:
    async with under_test.signals.cancellations() as signals:
        await under_test.publish(junk)
        await under_test.publish(text(A))

        assert await next_of(signals) == A


async def test_a_cancelled_iteration_loses_no_signal(under_test: SignalsUnderTest, clock: MockClock | None) -> None:
    async with under_test.signals.cancellations() as signals:
        assert await nothing_comes(signals)
        await under_test.publish(text(A))
        with trio.CancelScope() as scope:
            scope.cancel()
            await anext(signals)

        assert await next_of(signals) == A


async def test_send_reaches_every_listener_there_is_now(under_test: SignalsUnderTest, clock: MockClock | None) -> None:
    await under_test.signals.send(B)
    async with under_test.signals.cancellations() as one, under_test.signals.cancellations() as two:
        await under_test.signals.send(A)

        assert await next_of(one) == A
        assert await next_of(two) == A


async def test_entering_raises_link_lost_when_signals_cannot_be_heard(
    under_test: SignalsUnderTest, clock: MockClock | None
) -> None:
    async with under_test.unreachable():
        with pytest.raises(LinkLost), trio.fail_after(SOON):
            async with under_test.signals.cancellations():
                pass


async def test_iterating_raises_link_lost_when_signals_can_no_longer_be_heard(
    under_test: SignalsUnderTest, clock: MockClock | None
) -> None:
    """After those that were sent before."""
    async with under_test.signals.cancellations() as signals:
        await under_test.signals.send(A)
        await trio.sleep(0.5)
        async with under_test.unreachable():
            assert await next_of(signals) == A
            for _ in range(2):
                with pytest.raises(LinkLost):
                    await next_of(signals)

    async with under_test.signals.cancellations() as signals:
        await under_test.signals.send(B)
        assert await next_of(signals) == B


async def test_who_waits_for_a_signal_gets_link_lost(under_test: SignalsUnderTest, clock: MockClock | None) -> None:
    async def wait(signals: AsyncIterator[Cancellation]) -> None:
        with pytest.raises(LinkLost):
            await next_of(signals)

    async with under_test.signals.cancellations() as signals, trio.open_nursery() as nursery:
        nursery.start_soon(wait, signals)
        await trio.sleep(0.5)
        async with under_test.unreachable():
            await trio.sleep(0.5)


# --- what the local signals promise beyond the port


async def test_sending_raises_link_lost_while_unreachable() -> None:
    signals = LocalSignals()

    with signals.unreachable(), pytest.raises(LinkLost):
        await signals.send(A)


async def test_a_signal_heard_while_unreachable_by_nobody_is_forgotten(autojump_clock: MockClock) -> None:
    signals = LocalSignals()

    async with signals.cancellations() as heard:
        with signals.unreachable():
            signals.cancel(A)
        with pytest.raises(LinkLost):
            await next_of(heard)


async def test_a_signal_is_sent_without_waiting_and_says_how_many_hear_it() -> None:
    signals = LocalSignals()
    assert signals.cancel(A) == 0

    async with signals.cancellations() as one, signals.cancellations():
        assert signals.cancel(A) == 2
        assert signals.publish(TEXT_OF_A) == 2
        assert [await anext(one), await anext(one)] == [A, A]

    assert signals.cancel(A) == 0


async def test_junk_is_counted() -> None:
    signals = LocalSignals()

    assert signals.publish("junk") == 0
    assert signals.ignored == 1
    signals.publish(TEXT_OF_A)
    assert signals.ignored == 1
