"""Cancel signals over Redis, beyond what every source of them promises: loss, silence, junk, secrets, threads."""

import gc
import json
import logging
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from attrs import evolve
from tests.support.resp import message, redis_command, redis_publish, scripted_redis, subscribed
from tests.support.servers import HOST, RedisServer, free_port
from tests.support.servers import redis as shared_redis

from milvaion_trio import Worker
from milvaion_trio.model.errors import LinkLost, SettingsError
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.messages import Cancellation
from milvaion_trio.model.settings import RedisSettings
from milvaion_trio.signals.redis import RedisSignals
from milvaion_trio.testing import under_test

VECTORS = Path(__file__).parents[1] / "wire" / "vectors"
GUID = "019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193"
OTHER = "019d4a10-3b5c-7e21-8f04-6a1d2c9be077"
A = Cancellation(occurrence_id=OccurrenceId(GUID), job_id=None, reason="asked to")
CHANNEL = RedisSettings().cancellation_channel
SECRET = "s3cret-canary"


def signals_of(port: int, options: str = "", *, channel: str = CHANNEL, password: str = "") -> RedisSignals:
    return RedisSignals(
        RedisSettings(connection_string=f"{HOST}:{port}{options}", password=password, cancellation_channel=channel)
    )


async def loss(signals: RedisSignals) -> LinkLost:
    """What entering raises."""
    with pytest.raises(LinkLost) as raised, trio.fail_after(10):
        async with signals.cancellations():
            pass
    return raised.value


async def end_of(heard: AsyncIterator[Cancellation]) -> LinkLost:
    """What the next iteration raises."""
    with pytest.raises(LinkLost) as raised:
        await anext(heard)
    return raised.value


async def hear_again(signals: RedisSignals, seconds: float) -> None:
    """Subscribe again until that works, and hear what is sent then."""
    with trio.fail_after(seconds):
        while True:
            try:
                async with signals.cancellations() as heard:
                    await signals.send(A)
                    assert await anext(heard) == A
                    return
            except LinkLost:
                await trio.sleep(0.1)


# --- loss -----------------------------------------------------------------------------------------------------------


async def test_a_server_that_is_killed_is_missed_at_once_and_heard_after_its_return() -> None:
    with RedisServer() as server:
        signals = signals_of(server.port)
        async with signals.cancellations() as heard:
            server.kill()
            with trio.fail_after(4):  # silence is missed after 5
                lost = await end_of(heard)
        assert str(lost) == (
            f"Redis at 127.0.0.1:{server.port}: Connection closed by server; "
            "see the setting Worker:Redis:ConnectionString"
        )
        assert 0 <= lost.silent_for < 2

        server.start()
        await hear_again(signals, 15)


async def test_a_server_that_answers_no_more_is_missed_within_six_seconds() -> None:
    """Neither an orderly nor a broken end: the connection stays, and nothing comes over it (RELIABILITY.md F12).

    The time for which nothing was heard is told, as what was sent meanwhile may be lost.
    """
    with RedisServer() as server:
        signals = signals_of(server.port, ",connectTimeout=500")
        async with signals.cancellations() as heard:
            with server.frozen():
                with trio.fail_after(7):  # a busy machine may need one more
                    lost = await end_of(heard)
                assert "no answer to a PING within 3 s" in str(lost)
                assert 4.5 < lost.silent_for < 7
                assert f"{server.port}: no answer within 0.5 s; " in str(await loss(signals))

        await hear_again(signals, 15)


async def test_silence_alone_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server answers PINGs, and so does one that forbids them: an error is a sign of life."""
    monkeypatch.setattr("milvaion_trio.signals.redis.listener.PING_INTERVAL", 0.3)
    monkeypatch.setattr("milvaion_trio.signals.redis.listener.ANSWER_TIME", 0.7)
    with RedisServer() as server:
        await redis_command(server.port, *b"ACL SETUSER mute on >pass +subscribe +publish allchannels".split())
        async with (
            signals_of(server.port).cancellations() as heard,
            signals_of(server.port, ",user=mute", password="pass").cancellations() as forbidden,
        ):
            await trio.sleep(2.5)
            await signals_of(server.port).send(A)
            with trio.fail_after(10):
                assert [await anext(heard), await anext(forbidden)] == [A, A]


async def test_a_signal_that_comes_in_pieces_is_heard() -> None:
    """Longer apart than the thread's patience with the server."""
    text = message(CHANNEL, json.dumps({"OccurrenceId": GUID, "Reason": "asked to"}).encode())
    pieces: list[bytes | Callable[[], Awaitable[None]]] = [
        text[:10],
        pause,
        text[10:40],
        pause,
        text[40:-1],
        pause,
        text[-1:],
    ]
    async with scripted_redis(subscribed(CHANNEL), *pieces) as port:
        async with signals_of(port).cancellations() as heard:
            with trio.fail_after(5):
                assert await anext(heard) == A


async def pause() -> None:
    await trio.sleep(0.4)


async def test_a_worker_runs_on_without_redis_and_is_cancelled_by_it_again() -> None:
    """Started while it is absent, and through its crash; the job's log says for how long nothing could be heard."""
    worker = Worker("tests", observers=())

    @worker.job()
    async def work() -> None:
        await trio.sleep_forever()

    async def until_somebody_listens() -> None:
        while not await redis_publish(server.port, CHANNEL, b""):  # noqa: ASYNC110 - the server tells only who asks
            await trio.sleep(0.05)

    with RedisServer() as server:
        server.kill()
        signals = signals_of(server.port)
        with trio.fail_after(30):
            async with under_test(worker, signals=signals) as kit:  # type: ignore[arg-type]  # kit.cancel is not used
                occurrence = kit.enqueue(work)
                server.start()
                await until_somebody_listens()
                server.kill()
                server.start()
                await until_somebody_listens()
                await signals.send(evolve(A, occurrence_id=occurrence))
                await kit.run_until_idle()

    view = kit.occurrence(occurrence)
    assert view.result == "work was cancelled: asked to"
    assert {record.log.category for record in view.logs} == {"Cancellation", "UserCode"}
    assert view.logs[0].log.message.startswith("For ")


# --- who cannot be reached, in words --------------------------------------------------------------------------------


async def test_a_server_that_is_absent_is_named() -> None:
    port = free_port()

    with trio.fail_after(10):
        entering = str(await loss(signals_of(port)))
        with pytest.raises(LinkLost) as sending:
            await signals_of(port).send(A)

    assert entering == str(sending.value)
    assert entering == (f"Redis at 127.0.0.1:{port}: Connection refused; see the setting Worker:Redis:ConnectionString")


@pytest.mark.parametrize(
    ("options", "password", "says"),
    [
        ("", "", "Authentication required"),
        (",password=" + SECRET + "x", "", "invalid username-password pair"),
        ("", SECRET + "x", "invalid username-password pair"),
        (",user=nobody,password=" + SECRET, "", "invalid username-password pair"),
    ],
    ids=["none", "wrong in the string", "wrong in the setting", "unknown user"],
)
async def test_a_refused_login_names_the_settings_and_never_the_password(
    options: str, password: str, says: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with RedisServer(password=SECRET) as server:
        signals = signals_of(server.port, options, password=password)
        lost = await loss(signals)

    assert says in str(lost)
    assert str(lost).endswith("see the setting Worker:Redis:ConnectionString and Worker:Redis:Password")
    assert SECRET not in "".join([str(lost), repr(lost), repr(signals), repr(vars_of(signals)), caplog.text])


def vars_of(signals: RedisSignals) -> list[object]:
    return [signals.settings, signals._address, signals.name]


@pytest.mark.parametrize(
    ("options", "password"), [(f",password={SECRET}", ""), ("", SECRET), (",password=old", SECRET)]
)
async def test_a_login_is_accepted(options: str, password: str) -> None:
    """The setting counts for more than the string, as .NET appends it to that."""
    with RedisServer(password=SECRET) as server:
        await hear_again(signals_of(server.port, options, password=password), 5)


async def test_a_user_who_may_not_listen_is_told_so() -> None:
    with RedisServer() as server:
        await redis_command(server.port, *b"ACL SETUSER deaf on >pass +ping".split())

        lost = await loss(signals_of(server.port, ",user=deaf,password=pass"))

    assert "no permissions to run the 'subscribe' command" in str(lost)


async def test_servers_are_tried_in_turn() -> None:
    absent, other = free_port(), free_port()
    port = shared_redis().port

    await hear_again(signals_of(absent, f",{HOST}:{port}", channel="in turn"), 5)
    async with scripted_redis() as silent:
        await hear_again(signals_of(silent, f",{HOST}:{silent},{HOST}:{port},connectTimeout=900", channel="in turn"), 5)
    lost = await loss(signals_of(absent, f",{HOST}:{other}"))

    assert str(lost).count("Connection refused; ") == 2
    assert f"127.0.0.1:{absent}" in str(lost)
    assert f"127.0.0.1:{other}" in str(lost)


async def test_entering_takes_no_longer_than_the_connect_timeout_with_any_number_of_servers() -> None:
    """The start of a worker waits for it."""
    async with scripted_redis() as silent:
        signals = signals_of(silent, f",{HOST}:{silent},{HOST}:{silent},connectTimeout=900")
        began = trio.current_time()
        await loss(signals)

        assert 0.8 < trio.current_time() - began < 2


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"-ERR max number of clients reached\r\n",
        b":1\r\n",
        b"+OK\r\n",
        b"$abc\r\n",
        b"*abc\r\n",
        b"\r\n",
        b"\x00\xff\xfe\r\n",
        f"-ERR you said {SECRET}\x1b[31m\r\n".encode(),
    ],
    ids=ascii,
)
async def test_what_is_no_redis_or_a_hostile_one_is_a_lost_link(answer: bytes) -> None:
    """Also after a subscription that looked well. What it wrote is shown without secrets and control characters."""
    async with scripted_redis(answer) as port:
        entering = await loss(signals_of(port, ",connectTimeout=500"))
    assert str(entering).startswith(f"Redis at 127.0.0.1:{port}: ")
    async with scripted_redis(b"+OK\r\n", answer) as port:
        after_login = await loss(signals_of(port, f",password={SECRET},connectTimeout=500"))
    assert str(after_login).startswith(f"Redis at 127.0.0.1:{port}: ")
    assert SECRET not in str(after_login)
    assert str(after_login).isprintable()


async def test_nonsense_in_the_stream_is_a_lost_link() -> None:
    async with scripted_redis(subscribed(CHANNEL), b"nonsense\r\n") as port:
        async with signals_of(port).cancellations() as heard:
            with trio.fail_after(5):
                lost = await end_of(heard)

    assert "Protocol Error" in str(lost)


# --- what is heard --------------------------------------------------------------------------------------------------


def payload(**members: object) -> bytes:
    return json.dumps(members).encode()


@pytest.mark.parametrize("vector", ["cancellation.json", "cancellation_default_reason.json"])
async def test_the_vectors_are_heard_and_sent_byte_for_byte(vector: str) -> None:
    """WIRE.md 5.3."""
    content = json.loads((VECTORS / vector).read_text())
    channel = f"vectors {vector}"
    signals = signals_of(shared_redis().port, channel=channel)
    async with signals.cancellations() as heard:
        assert await redis_publish(shared_redis().port, channel, content["body_raw"].encode()) == 1
        with trio.fail_after(5):
            signal = await anext(heard)
    assert signal.occurrence_id == content["body"]["OccurrenceId"]
    assert signal.job_id == content["body"]["JobId"]
    assert signal.reason == content["body"]["Reason"]

    asked: list[bytes] = []
    async with recording_redis(asked) as port:
        await signals_of(port, channel=channel).send(signal)
    assert asked == [b"PUBLISH", channel.encode(), content["body_raw"].encode()]


@asynccontextmanager
async def recording_redis(asked: list[bytes]) -> AsyncIterator[int]:
    """A server that takes one command, every part of it, and answers with 0."""

    async def answer(stream: trio.SocketStream) -> None:
        asked.extend(bytes(await stream.receive_some()).split(b"\r\n")[2::2])
        await stream.send_all(b":0\r\n")

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host=HOST)
        await nursery.start(trio.serve_listeners, answer, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "text",
    [
        payload(OccurrenceId=GUID, CorrelationId=OTHER, Reason="asked to"),
        payload(occurrenceId=GUID, correlationId=OTHER, reason="asked to"),
        payload(CorrelationId=GUID, Reason="asked to"),
        payload(OCCURRENCEID=None, correlationid=GUID.upper(), REASON="asked to"),
        payload(OccurrenceId="junk", CorrelationId=GUID, Reason="asked to"),
    ],
)
async def test_either_casing_is_heard_and_the_occurrence_comes_first(text: bytes) -> None:
    port = shared_redis().port
    channel = f"casing {text.decode()}"
    async with signals_of(port, channel=channel).cancellations() as heard:
        await redis_publish(port, channel, text)
        with trio.fail_after(5):
            assert await anext(heard) == A


JUNK = [
    b"",
    GUID.encode(),
    json.dumps(GUID).encode(),
    b"{",
    b"{}",
    b"[]",
    b"null",
    b"\xff\xfe\x00",
    b'{"OccurrenceId":"\xff"}',
    payload(OccurrenceId=1, CorrelationId=[GUID]),
    payload(OccurrenceId="00000000-0000-0000-0000-00000000000"),
    b'{"OccurrenceId":' * 700,
    payload(OccurrenceId=GUID, Reason="x" * 5000),
]


async def test_junk_is_ignored_counted_and_told_to_who_wants_to_know(caplog: pytest.LogCaptureFixture) -> None:
    """A bare guid of an older API, broken or wrong JSON, binary, and more than 4 kB (RELIABILITY.md F14 and 5.1)."""
    caplog.set_level(logging.DEBUG, "milvaion_trio.signals")
    port = shared_redis().port
    signals = signals_of(port, channel="junk")
    async with signals.cancellations() as heard:
        for text in JUNK:
            await redis_publish(port, "junk", text)
        await signals.send(A)
        with trio.fail_after(5):
            assert await anext(heard) == A

    assert signals.ignored == len(JUNK)
    ours = [record for record in caplog.records if record.name == "milvaion_trio.signals"]
    assert [record.levelno for record in ours] == [logging.DEBUG] * len(JUNK)
    assert all(record.getMessage().isprintable() and len(record.getMessage()) < 1000 for record in ours)


async def test_the_prefix_of_stackexchange_is_put_before_the_channel() -> None:
    """`channelPrefix` holds for every subscription of a .NET worker, so the API publishes with it."""
    port = shared_redis().port
    async with signals_of(port, ",channelPrefix=test:", channel="prefixed").cancellations() as heard:
        await signals_of(port, channel="test:prefixed").send(A)
        with trio.fail_after(5):
            assert await anext(heard) == A


# --- TLS ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Callable[[str], Path]:
    """Make a self-signed certificate, and its key in one file with it, for this name."""

    def make(name: str) -> Path:
        path = tmp_path / f"{name}.pem"
        command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
        command += ["-addext", f"subjectAltName={name}", "-keyout", str(path), "-out", str(tmp_path / "certificate")]
        subprocess.run(command, check=True, capture_output=True)
        path.write_bytes(path.read_bytes() + (tmp_path / "certificate").read_bytes())
        return path

    return make


@pytest.mark.parametrize(
    ("is_trusted", "name", "says"),
    [
        (True, "IP:127.0.0.1", None),
        (False, "IP:127.0.0.1", "self-signed certificate"),
        (True, "IP:127.0.0.2", "IP address mismatch"),
    ],
    ids=["good", "not trusted", "of another server"],
)
async def test_a_server_with_tls_must_have_a_certificate_for_its_name(
    certificate: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    is_trusted: bool,
    name: str,
    says: str | None,
) -> None:
    path = certificate(name)
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(path))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(path)
    text = payload(OccurrenceId=GUID, Reason="asked to")
    async with scripted_redis(subscribed(CHANNEL), message(CHANNEL, text), tls=context) as port:
        if says is None:
            for address in (f"{HOST}:{port},ssl=true", f"rediss://{HOST}:{port}"):
                async with RedisSignals(RedisSettings(connection_string=address)).cancellations() as heard:
                    with trio.fail_after(5):
                        assert await anext(heard) == A
        else:
            assert says in str(await loss(signals_of(port, ",ssl=true")))


async def test_tls_against_a_server_without_it_is_a_lost_link() -> None:
    await loss(signals_of(shared_redis().port, ",ssl=true,connectTimeout=300"))


# --- threads and cost -----------------------------------------------------------------------------------------------


def test_neither_the_package_nor_the_adapter_imports_redis_before_it_is_used() -> None:
    code = (
        "import sys, milvaion_trio\n"
        "from milvaion_trio.model.settings import RedisSettings\n"
        "from milvaion_trio.signals.redis import RedisSignals\n"
        "RedisSignals(RedisSettings())\n"
        "sys.exit('redis' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


async def test_a_wrong_connection_string_is_a_mistake_in_the_settings() -> None:
    with pytest.raises(SettingsError) as raised:
        RedisSignals(RedisSettings(connection_string=f"localhost:x,ssl=maybe,password={SECRET}"))

    assert len(raised.value.problems) == 2
    assert SECRET not in str(raised.value)


async def test_what_has_no_effect_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    signals = signals_of(shared_redis().port, f",passwort={SECRET},abortConnect=false", channel="notes")
    for _ in range(2):
        async with signals.cancellations():
            pass

    assert [record.getMessage() for record in caplog.records] == [
        "Worker:Redis:ConnectionString: part 2 is no option this worker knows; ignored; did you mean password?"
    ]


async def test_a_subscription_that_is_cancelled_ends_soon() -> None:
    """While it listens and while it is opened; a server that answers nothing holds nobody."""

    async def listen(signals: RedisSignals) -> None:
        async with signals.cancellations() as heard:
            async for _ in heard:
                pass

    async with scripted_redis() as silent:
        for port in (shared_redis().port, silent):
            took = []
            for _ in range(3):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(listen, signals_of(port, channel="cancelled"))
                    await trio.sleep(0.5)
                    nursery.cancel_scope.cancel()
                    cancelled = trio.current_time()
                took.append(trio.current_time() - cancelled)
            assert min(took) < 0.5


async def test_sending_that_is_cancelled_ends_at_once() -> None:
    async with scripted_redis() as silent:
        took = []
        for _ in range(3):
            with trio.move_on_after(0.3) as scope:
                await signals_of(silent).send(A)
            assert scope.cancelled_caught
            took.append(trio.current_time() - scope.deadline)
    assert min(took) < 0.3


async def test_what_is_raised_in_the_context_comes_out_as_it_is() -> None:
    """Not in a group."""
    with pytest.raises(ZeroDivisionError):
        async with signals_of(shared_redis().port, channel="raised").cancellations():
            raise ZeroDivisionError


async def test_nothing_is_left_of_twenty_subscriptions() -> None:
    """Neither threads nor connections: of those that were left, could not be opened, and were lost."""
    signals = signals_of(shared_redis().port, channel="leaks")
    async with signals.cancellations():
        await signals.send(A)
    threads, files = subscription_threads(), open_files()
    absent = free_port()

    for _ in range(20):
        async with signals.cancellations():
            await signals.send(A)
        await loss(signals_of(absent))
        async with scripted_redis(b"-ERR no\r\n") as port:
            await loss(signals_of(port))
        async with scripted_redis(subscribed(CHANNEL), b"nonsense\r\n") as port:
            async with signals_of(port).cancellations() as heard:
                await end_of(heard)

    with trio.fail_after(5):
        while subscription_threads() > threads or open_files() > files:  # noqa: ASYNC110 - no event tells it
            await trio.sleep(0.05)
    assert await redis_command(shared_redis().port, b"PUBLISH", b"leaks", b"") == b":0"


def subscription_threads() -> int:
    """Those that are at work: Trio keeps idle ones for a while, without the name."""
    return sum("Redis" in thread.name for thread in threading.enumerate())


def open_files() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))
