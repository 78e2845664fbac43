"""RabbitMQ over TLS: whose certificate is good is talked to, and every other end of it is told in words.

Against a real broker, with listeners of every bad kind beside the good one.
"""

import contextlib
import logging
import shutil
from collections.abc import AsyncIterator
from functools import cache, partial
from pathlib import Path

import pytest
import trio
from attrs import evolve
from tests.support.amqp_script import ENDPOINT, Heard
from tests.support.certificates import KEY_PASSWORD, WORKER
from tests.support.cluster import Cluster, cluster, serving
from tests.support.servers import HOST, free_port
from tests.support.tls_servers import TlsRabbitMQServer, tls_rabbitmq

from milvaion_trio import Client
from milvaion_trio.broker.aiopika import open_link as through_aio_pika
from milvaion_trio.broker.amqp.link import open_link
from milvaion_trio.broker.rabbitmq import RabbitMQBroker
from milvaion_trio.model.errors import LinkLost, LinkRefused, SettingsError
from milvaion_trio.model.settings import RabbitMQSettings, WorkerSettings

DEMANDED = ("{verify, verify_peer}", "{fail_if_no_peer_cert, true}")
"""Nobody without a certificate is let in."""


@pytest.fixture(scope="session", name="server")
def fixture_server() -> TlsRabbitMQServer:
    """Started when the first test asks for it."""
    return tls_rabbitmq()


@pytest.fixture(autouse=True)
async def in_time() -> AsyncIterator[None]:
    """A handshake that hangs is a failure."""
    with trio.fail_after(60):
        yield


@cache
def other_port(certificate: str, *options: str) -> int:
    """One more listener of the run's broker."""
    return tls_rabbitmq().listen_otherwise(certificate, *options)


def over_tls(server: TlsRabbitMQServer) -> RabbitMQSettings:
    return RabbitMQSettings(host=HOST, port=server.tls_port, tls=True, tls_ca_file=server.file("ca.pem"))


def as_worker(server: TlsRabbitMQServer, name: str = "worker") -> RabbitMQSettings:
    """With a certificate, and with a name and a password that are nobody's."""
    return evolve(
        over_tls(server),
        authentication="EXTERNAL",
        username="nobody",
        password="nothing",
        tls_certificate_file=server.file(f"{name}.pem"),
        tls_key_file=server.file(f"{name}.key"),
    )


async def lets_in(settings: RabbitMQSettings) -> str:
    """Which product it says it is."""
    async with RabbitMQBroker(settings).administering() as administration:
        return administration.server[0]


async def refused(settings: RabbitMQSettings) -> str:
    with pytest.raises(LinkRefused) as caught:
        await lets_in(settings)
    return str(caught.value)


# --- what is let in -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [HOST, "localhost"])
async def test_a_certificate_of_ones_own_issuer_is_trusted(server: TlsRabbitMQServer, host: str) -> None:
    """By name and by address, as both are in it."""
    assert await lets_in(evolve(over_tls(server), host=host)) == "RabbitMQ"


async def test_an_issuer_in_the_file_is_trusted_without_those_above_it(server: TlsRabbitMQServer) -> None:
    """What is in the file is what is trusted, whoever has signed it."""
    settings = evolve(over_tls(server), port=other_port("branch"), tls_ca_file=server.file("branch-ca.pem"))

    assert await lets_in(settings) == "RabbitMQ"


async def test_another_name_may_be_the_right_one(server: TlsRabbitMQServer) -> None:
    settings = evolve(over_tls(server), port=other_port("renamed"), tls_server_name="rabbit.example")

    assert await lets_in(settings) == "RabbitMQ"


async def test_a_job_runs_over_tls(server: TlsRabbitMQServer) -> None:
    """With its data, its statuses and its result: everything that goes in plain text."""
    async with cluster(rabbitmq=server) as here:
        rabbitmq = evolve(over_tls(server), virtual_host=here.vhost)
        assert await ran(here, rabbitmq) == {"guest"}


@pytest.mark.parametrize("key", ["worker.key", "worker-encrypted.key"])
async def test_a_worker_is_known_by_its_certificate_alone(server: TlsRabbitMQServer, key: str) -> None:
    async with cluster(rabbitmq=server) as here:
        rabbitmq = evolve(
            as_worker(server), tls_key_file=server.file(key), tls_key_password=KEY_PASSWORD, virtual_host=here.vhost
        )
        assert await ran(here, rabbitmq) == {WORKER}


async def test_a_certificate_may_be_shown_beside_a_password(server: TlsRabbitMQServer) -> None:
    """Where only the machine is known by it, as with a port that demands one."""
    settings = evolve(as_worker(server), authentication="PLAIN", username="guest", password="guest")

    assert await lets_in(evolve(settings, port=other_port("server", *DEMANDED))) == "RabbitMQ"


async def ran(here: Cluster, rabbitmq: RabbitMQSettings) -> set[str]:
    """Run a large job on that connection; returns who was connected over TLS meanwhile."""
    worker = here.worker()
    worker.settings = evolve(worker.settings, rabbitmq=rabbitmq)
    users: set[str] = set()

    @worker.job("Shout")
    async def shout(text: str) -> str:
        listed = await trio.to_thread.run_sync(here.rabbitmq.control, "list_connections", "user", "ssl", "vhost")
        rows = [line.split("\t") for line in listed.splitlines()]
        users.update(user for user, ssl, vhost in rows if ssl == "true" and vhost == here.vhost)
        return f"{len(text)} {text[-1]}"

    async with serving(worker):
        text = "a" * 500_000  # many records of TLS, and many reads
        occurrence = await here.api.dispatch("Shout", f'"{text}"')
        await here.api.until_ended(occurrence)
    assert here.api.occurrence(occurrence).result == "500000 a"
    return users


# --- whom this worker refuses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ca", ["foreign-ca.pem", ""])
async def test_a_certificate_of_somebody_elses_issuer(server: TlsRabbitMQServer, ca: str) -> None:
    """Also when the system is asked, which knows nothing of ours."""
    text = await refused(evolve(over_tls(server), tls_ca_file=server.file(ca) if ca else ""))

    assert text.startswith(f"the certificate of RabbitMQ at {HOST}:{server.tls_port} is signed by ")
    assert "(Worker:RabbitMQ:TlsCaFile)" in text


async def test_a_certificate_of_the_past(server: TlsRabbitMQServer) -> None:
    port = other_port("expired")

    text = await refused(evolve(over_tls(server), port=port))

    assert text.startswith(f"the certificate of RabbitMQ at {HOST}:{port} is out of date")


@pytest.mark.parametrize("host", [HOST, "localhost"])
async def test_a_certificate_for_another_name(server: TlsRabbitMQServer, host: str) -> None:
    port = other_port("renamed")

    text = await refused(evolve(over_tls(server), host=host, port=port))

    assert text.startswith(f"the certificate of RabbitMQ at {host}:{port} is for another name; call it by one")


async def test_a_certificate_for_another_name_than_the_one_that_is_said(server: TlsRabbitMQServer) -> None:
    text = await refused(evolve(over_tls(server), tls_server_name="rabbit.example"))

    assert text.endswith("is for another name than 'rabbit.example' (Worker:RabbitMQ:TlsServerName)")


async def test_what_speaks_no_tls(server: TlsRabbitMQServer) -> None:
    """RabbitMQ's own port for plain text."""
    text = await refused(evolve(over_tls(server), port=server.port))

    assert text.startswith(f"what listens at {HOST}:{server.port} speaks no TLS; ")


async def test_what_speaks_old_tls_only(server: TlsRabbitMQServer) -> None:
    port = other_port("server", "{versions, ['tlsv1.1']}")

    text = await refused(evolve(over_tls(server), port=port))

    assert text.startswith(f"what listens at {HOST}:{port} speaks only versions of TLS that are no longer safe; ")


async def test_what_speaks_tls_where_plain_text_is_meant(server: TlsRabbitMQServer) -> None:
    text = await refused(RabbitMQSettings(host=HOST, port=server.tls_port))

    assert text.startswith(f"what listens at {HOST}:{server.tls_port} speaks TLS, and this worker plain text; switch ")


async def test_files_that_are_no_use(server: TlsRabbitMQServer) -> None:
    text = await refused(evolve(over_tls(server), tls_ca_file=server.file("missing.pem")))

    assert text.endswith("missing.pem (Worker:RabbitMQ:TlsCaFile) cannot be read: No such file or directory")


async def test_files_are_read_again_for_each_connection(server: TlsRabbitMQServer, tmp_path: Path) -> None:
    """As certificates are renewed; one that is missing for a moment is a refusal, and ends no worker that runs."""
    file = tmp_path / "ca.pem"
    broker = RabbitMQBroker(evolve(over_tls(server), tls_ca_file=str(file)))

    for name in (None, "foreign-ca.pem", "ca.pem"):
        if name is not None:
            shutil.copy(server.file(name), file)
        with contextlib.ExitStack() as expected:
            if name != "ca.pem":
                expected.enter_context(pytest.raises(LinkRefused))
            async with broker.administering() as administration:
                assert administration.server[0] == "RabbitMQ"


@pytest.mark.parametrize("is_tls_there", [False, True])
async def test_a_driver_without_tls_does_not_go_on_in_plain_text(server: TlsRabbitMQServer, is_tls_there: bool) -> None:
    """As a client does, which has no worker that would be looked at before."""
    port = server.tls_port if is_tls_there else server.port

    with pytest.raises(SettingsError, match=r"over TLS \(Worker:RabbitMQ:Tls\), which aio-pika does not do here"):
        await lets_in(evolve(over_tls(server), port=port, driver="aio-pika"))


# --- who refuses this worker ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.2", "1.3"])
async def test_a_certificate_is_demanded(server: TlsRabbitMQServer, version: str) -> None:
    """The newer version tells it after the handshake."""
    port = other_port("server", *DEMANDED, f"{{versions, ['tlsv{version}']}}")

    text = await refused(evolve(over_tls(server), port=port))

    assert "demands a certificate of this worker" in text
    assert text.startswith(f"RabbitMQ at {HOST}:{port} ")
    assert text.endswith("; name one that it trusts (Worker:RabbitMQ:TlsCertificateFile, Worker:RabbitMQ:TlsKeyFile)")


@pytest.mark.parametrize("version", ["1.2", "1.3"])
@pytest.mark.parametrize(
    ("name", "says"),
    [("worker-foreign", "nobody whom it trusts has signed it"), ("worker-expired", "it is out of date: get a new one")],
)
async def test_a_certificate_is_refused(server: TlsRabbitMQServer, name: str, says: str, version: str) -> None:
    port = other_port("server", *DEMANDED, f"{{versions, ['tlsv{version}']}}")

    text = await refused(evolve(as_worker(server, name), port=port))

    assert text.startswith(f"RabbitMQ at {HOST}:{port} refused the certificate {server.file(name)}.pem (Worker:Rabbi")
    assert says in text


async def test_a_certificate_of_nobody(server: TlsRabbitMQServer) -> None:
    """Which is good, and names no user."""
    text = await refused(as_worker(server, "nobody"))

    assert text.startswith(f"RabbitMQ at {HOST}:{server.tls_port} refused the login by certificate (Worker:RabbitMQ:Au")


async def test_a_broker_that_asks_for_no_certificate(server: TlsRabbitMQServer) -> None:
    """And so knows nobody by one; it does not say that it is this."""
    text = await refused(evolve(as_worker(server), port=other_port("server", "{verify, verify_none}")))

    assert text.endswith(" Or it does not ask for certificates; ssl_options.verify = verify_peer changes that")


async def test_a_kind_of_login_that_is_not_taken(server: TlsRabbitMQServer) -> None:
    """That by certificate, where there is none: in plain text."""
    settings = evolve(as_worker(server), tls=False, port=server.port)
    endpoint = evolve(ENDPOINT, settings=settings, address=settings.addresses[0])

    with pytest.raises(LinkRefused) as caught:  # of the link, as the broker does not even try
        async with open_link(endpoint, Heard()):
            pass

    text = str(caught.value)
    assert text.startswith(f"RabbitMQ at {HOST}:{server.port} does not take logins of the kind EXTERNAL")


async def test_a_wrong_password_over_tls_is_a_wrong_password(server: TlsRabbitMQServer) -> None:
    text = await refused(evolve(over_tls(server), password="wrong"))

    assert "refused the login of user 'guest' (Worker:RabbitMQ:Username, Worker:RabbitMQ:Password)" in text


# --- several hosts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True])
async def test_the_next_host_is_used_when_the_first_is_dead(server: TlsRabbitMQServer, tls: bool) -> None:
    port = server.tls_port if tls else server.port
    one = over_tls(server) if tls else RabbitMQSettings(host=HOST)
    settings = evolve(one, port=free_port(), further_hosts=[f"{HOST}:{port}"])

    assert await lets_in(settings) == "RabbitMQ"


async def test_all_dead_hosts_are_named(server: TlsRabbitMQServer) -> None:
    first, second = free_port(), free_port()

    with pytest.raises(LinkLost) as caught:
        await lets_in(evolve(over_tls(server), port=first, further_hosts=[f"localhost:{second}"]))

    assert not isinstance(caught.value, LinkRefused)
    assert f"{HOST}:{first}" in str(caught.value)
    assert f"localhost:{second}" in str(caught.value)


async def test_the_certificate_of_the_host_that_is_tried_is_looked_at(server: TlsRabbitMQServer) -> None:
    """Not for the name of the first one."""
    port = other_port("numbered")
    by_name = evolve(over_tls(server), host="localhost", port=free_port(), further_hosts=[f"{HOST}:{port}"])
    by_address = evolve(over_tls(server), host=HOST, port=free_port(), further_hosts=[f"localhost:{port}"])

    assert await lets_in(by_name) == "RabbitMQ"
    with pytest.raises(LinkLost, match="is for another name"):
        await lets_in(by_address)


@pytest.mark.parametrize("bad", ["expired", "renamed", "no TLS", "old TLS", "no name"])
async def test_one_host_that_refuses_does_not_stop_the_others(
    server: TlsRabbitMQServer, bad: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What is wrong with one of them need not be with the next; and somebody hears of it."""
    good = evolve(over_tls(server), further_hosts=[f"{HOST}:{server.tls_port}"])
    match bad:
        case "no TLS":
            settings = evolve(good, port=server.port)
        case "old TLS":
            settings = evolve(good, port=other_port("server", "{versions, ['tlsv1.1']}"))
        case "no name":
            settings = evolve(good, host="rabbit..example")
        case _:
            settings = evolve(good, port=other_port(bad))

    assert await lets_in(settings) == "RabbitMQ"

    (warning,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warning.startswith(f"RabbitMQ at {HOST}:{server.tls_port} carries milvaion-trio administration, as others ")


async def test_where_all_hosts_refuse_it_is_final(server: TlsRabbitMQServer) -> None:
    """Each for its own reason."""
    first, second = other_port("expired"), other_port("renamed")

    text = await refused(evolve(over_tls(server), port=first, further_hosts=[f"{HOST}:{second}"]))

    assert f"{HOST}:{first} is out of date" in text
    assert f"{HOST}:{second} is for another name" in text


async def test_a_wrong_password_is_tried_once(server: TlsRabbitMQServer, caplog: pytest.LogCaptureFixture) -> None:
    """It is as wrong at the other hosts."""
    settings = evolve(over_tls(server), password="wrong", further_hosts=[f"{HOST}:{free_port()}"])

    text = await refused(settings)

    assert text.startswith(f"RabbitMQ at {HOST}:{server.tls_port} refused the login of user 'guest'")


# --- what is never sent ---------------------------------------------------------------------------------------------


FORGOTTEN: list[dict[str, str]] = [
    {"tls_ca_file": "ca.pem"},
    {"tls_certificate_file": "worker.pem"},
    {"tls_server_name": "rabbit.example"},
    {"authentication": "EXTERNAL"},
    {"authentication": "EXTERNAL", "driver": "aio-pika"},
    {"tls_ca_file": "ca.pem", "driver": "aio-pika"},
]


async def connect(settings: RabbitMQSettings, kind: str) -> None:
    if kind == "client":
        connection = Client.from_settings(WorkerSettings(rabbitmq=settings))
    else:
        connection = getattr(RabbitMQBroker(settings), kind)()
    async with connection:
        pass


@pytest.mark.parametrize("said", FORGOTTEN, ids=lambda said: " ".join(said))
@pytest.mark.parametrize("kind", ["publishing", "consuming", "administering", "client"])
async def test_nothing_is_sent_where_tls_was_forgotten(said: dict[str, str], kind: str) -> None:
    """By whoever connects: a password must not leave in plain text because one line is missing in a file."""
    accepted = 0

    async def count(_: trio.SocketStream) -> None:
        nonlocal accepted
        accepted += 1

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, count, 0, host=HOST))
        base = RabbitMQSettings(host=HOST, port=listener.socket.getsockname()[1], password="s3cret")
        settings = evolve(base, **said)  # type: ignore[arg-type] # all texts
        with pytest.raises(SettingsError, match=r"Worker:RabbitMQ:Tls\b"):
            await connect(settings, kind)
        nursery.cancel_scope.cancel()

    assert accepted == 0


async def test_aio_pika_sends_no_password_instead_of_a_certificate() -> None:
    """It knows no other login, and would do so without a word."""
    settings = RabbitMQSettings(host=HOST, authentication="EXTERNAL", driver="aio-pika", password="s3cret")
    endpoint = evolve(ENDPOINT, settings=settings, address=settings.addresses[0])

    with pytest.raises(SettingsError, match="aio-pika logs in by name and password only, and not by EXTERNAL"):
        async with through_aio_pika(endpoint, Heard()):
            pass
