"""What RabbitMQ's refusals, and whatever else listens at its port, are in words; and where settings come from."""

from pathlib import Path

import pytest

from milvaion_trio.broker.aiopika.connecting import foreign, refusal
from milvaion_trio.cli.narration import remark
from milvaion_trio.configuration import resolve
from milvaion_trio.configuration.whence import whence
from milvaion_trio.model.error_text import error_summary
from milvaion_trio.model.errors import LinkRefused
from milvaion_trio.model.events import LinkDown
from milvaion_trio.model.settings import RabbitMQSettings, WorkerSettings

GUEST_HINT = "; guest may log in from the broker's own machine only, so make a user: rabbitmqctl add_user"


@pytest.mark.parametrize(
    ("host", "username", "hint"),
    [
        ("localhost", "guest", ""),
        ("127.0.0.1", "guest", ""),
        ("::1", "guest", ""),
        ("rabbitmq.internal", "guest", GUEST_HINT),
        ("10.0.0.7", "guest", GUEST_HINT),
        ("rabbitmq.internal", "jobs", ""),
    ],
)
def test_guest_is_told_where_it_may_log_in(host: str, username: str, hint: str) -> None:
    """Only where that may be the reason."""
    lost = refusal(RabbitMQSettings(host=host, username=username), "403 ACCESS_REFUSED - Login was refused", OSError())

    assert isinstance(lost, LinkRefused)
    assert str(lost).endswith(f"the name or the password is wrong{hint}")


def test_a_vhost_that_is_down_is_no_refusal() -> None:
    """RabbitMQ says so while it starts, and it passes."""
    said = "RabbitMQ closed the connection: 541 INTERNAL_ERROR - access to vhost '/' refused: vhost '/' is down"

    lost = refusal(RabbitMQSettings(), said, OSError())

    assert not isinstance(lost, LinkRefused)
    assert "is down" in str(lost)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"AMQP\x00\x01\x00\x00", "speaks another version of AMQP than 0-9-1"),
        (b"\x16\x03\x01", "speaks TLS"),
        (b"HTTP/1.1 400 Bad Request\r\n", "is a web server"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "is no RabbitMQ: it begins with b'SSH-2.0-OpenSSH_'"),
    ],
)
def test_what_listens_is_recognised(data: bytes, says: str) -> None:
    why = foreign(RabbitMQSettings(), data)

    assert why is not None
    assert why.startswith(f"what listens at localhost:5672 {says}")


def test_rabbitmq_is_not_taken_for_something_else() -> None:
    assert foreign(RabbitMQSettings(), b"\x01\x00\x00\x00\x00") is None


def test_sources_are_said_of_the_settings_that_a_text_names(tmp_path: Path) -> None:
    """Those that our own rules cannot judge."""
    config = tmp_path / "milvaion.toml"
    config.write_text('[rabbitmq]\nhost = "a"\nport = 1\n')
    code = WorkerSettings(rabbitmq=RabbitMQSettings(username="jobs"))
    resolved = resolve(code, config=config, environ={"MILVAION_TRIO__RABBITMQ__PORT": "2"})

    names = ("Host", "Port", "Username", "Password", "VirtualHost", "Nothing")
    sentence = whence(" ".join(f"Worker:RabbitMQ:{name}" for name in names), resolved)

    assert sentence == (
        f" Host is from {config}, line 2, Port is from MILVAION_TRIO__RABBITMQ__PORT, Username is from the code, "
        "Password and VirtualHost are the defaults."
    )
    assert whence("Worker:RabbitMQ:Host", resolve(WorkerSettings(), environ={}, folder=tmp_path / "empty")) == ""
    assert whence("Worker:StartupConnectionTimeoutSeconds", resolved) == ""


def test_a_connection_that_never_was_is_not_called_lost() -> None:
    first = remark(LinkDown("publishing", "amqp://a/", "no", was_up=False))
    later = remark(LinkDown("publishing", "amqp://a/", "no"))

    assert [first and first.text, later and later.text] == [
        "no publishing connection to amqp://a/: no",
        "lost the publishing connection to amqp://a/: no",
    ]


def test_a_list_in_one_line_has_no_semicolon_behind_its_colon() -> None:
    text = "The data of this Mail message does not fit the job:\n  - $.to: is missing\n  - $.cc: is missing"

    assert (
        error_summary(text) == "The data of this Mail message does not fit the job: $.to: is missing; $.cc: is missing"
    )
