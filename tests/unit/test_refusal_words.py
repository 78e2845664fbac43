"""What RabbitMQ's refusals, and whatever else listens at its port, are in words; and where settings come from."""

import ssl
from pathlib import Path

import pytest
import trio

from milvaion_trio.broker.connecting import foreign, mechanism_refusal, refusal, tls_refusal
from milvaion_trio.cli.narration import remark
from milvaion_trio.configuration import Override, Resolved, resolve
from milvaion_trio.configuration.spelling import spelled
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
    where = f"[{host}]:5672" if ":" in host else f"{host}:5672"
    settings = RabbitMQSettings(host="another", username=username)
    lost = refusal(settings, where, "403 ACCESS_REFUSED - Login was refused", OSError())

    assert isinstance(lost, LinkRefused)
    assert str(lost).endswith(f"the name or the password is wrong{hint}")


def test_a_vhost_that_is_down_is_no_refusal() -> None:
    """RabbitMQ says so while it starts, and it passes."""
    said = "RabbitMQ closed the connection: 541 INTERNAL_ERROR - access to vhost '/' refused: vhost '/' is down"

    lost = refusal(RabbitMQSettings(), "rabbit:5672", said, OSError())

    assert not isinstance(lost, LinkRefused)
    assert "is down" in str(lost)


@pytest.mark.parametrize(
    "limit",
    [
        "access to vhost 'v' refused for user 'guest': connection limit (0) is reached",
        "connection refused for user 'guest': user connection limit (0) is reached",
        "connection refused: node connection limit (1) is reached",
    ],
)
def test_a_limit_that_is_reached_is_no_missing_permission(limit: str) -> None:
    """It passes when somebody else closes a connection; rights change nothing."""
    lost = refusal(RabbitMQSettings(), "rabbit:5672", f"530 NOT_ALLOWED - {limit}", OSError())

    assert not isinstance(lost, LinkRefused)
    assert f": {limit}; close some, or raise the limit: rabbitmqctl set_vhost_limits, " in str(lost)
    assert "set_permissions" not in str(lost)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"AMQP\x00\x01\x00\x00", "speaks another version of AMQP than 0-9-1"),
        (b"\x16\x03\x01", "speaks TLS, and this worker plain text; switch TLS on (Worker:RabbitMQ:Tls), or name"),
        (b"\x15\x03\x03", "speaks TLS, and this worker plain text; switch TLS on (Worker:RabbitMQ:Tls), or name"),
        (b"HTTP/1.1 400 Bad Request\r\n", "is a web server"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "is no RabbitMQ: it begins with b'SSH-2.0-OpenSSH_'"),
    ],
)
def test_what_listens_is_recognised(data: bytes, says: str) -> None:
    why = foreign("rabbit:5672", data)

    assert why is not None
    assert why.startswith(f"what listens at rabbit:5672 {says}")


def test_rabbitmq_is_not_taken_for_something_else() -> None:
    assert foreign("rabbit:5672", b"\x01\x00\x00\x00\x00") is None


# --- logging in by certificate --------------------------------------------------------------------------------------

BY_CERTIFICATE = RabbitMQSettings(tls=True, tls_certificate_file="w.pem", authentication="EXTERNAL", username="not it")


def test_a_certificate_of_nobody_is_told_how_to_become_a_user() -> None:
    """Not of a wrong password, which nobody sent."""
    said = "403 ACCESS_REFUSED - Login was refused using authentication mechanism EXTERNAL."

    lost = refusal(BY_CERTIFICATE, "rabbit:5671", said, OSError())

    assert isinstance(lost, LinkRefused)
    assert str(lost).startswith(
        "RabbitMQ at rabbit:5671 refused the login by certificate (Worker:RabbitMQ:Authentication, "
        "Worker:RabbitMQ:TlsCertificateFile): either it has no user of the name in the certificate"
    )
    assert "password" not in str(lost)


def test_a_broker_that_takes_no_certificates_is_told_what_to_enable() -> None:
    lost = mechanism_refusal(BY_CERTIFICATE, "rabbit:5671", ["PLAIN", "AMQPLAIN"])

    assert str(lost) == (
        "RabbitMQ at rabbit:5671 does not take logins of the kind EXTERNAL but PLAIN, AMQPLAIN "
        "(Worker:RabbitMQ:Authentication); enable it, rabbitmq-plugins enable rabbitmq_auth_mechanism_ssl, and name it "
        "in auth_mechanisms of rabbitmq.conf"
    )


def test_a_broker_that_refuses_the_kind_of_login_is_told_so_too() -> None:
    said = "503 COMMAND_INVALID - unknown authentication mechanism 'EXTERNAL'"

    assert isinstance(refusal(BY_CERTIFICATE, "rabbit:5671", said, OSError()), LinkRefused)
    assert "does not take logins of the kind EXTERNAL (" in str(refusal(BY_CERTIFICATE, "r:1", said, OSError()))


def test_what_the_connection_says_of_logins_is_told_with_what_to_do() -> None:
    said = "the broker takes no login with EXTERNAL, only with PLAIN, AMQPLAIN"

    lost = refusal(BY_CERTIFICATE, "rabbit:5671", said, OSError())

    assert str(lost) == str(mechanism_refusal(BY_CERTIFICATE, "rabbit:5671", ["PLAIN", "AMQPLAIN"]))


def test_what_the_broker_says_is_no_connection_that_broke() -> None:
    """Though the word is in it."""
    lost = refusal(RabbitMQSettings(), "rabbit:5672", "the broker takes frames of 1 bytes", OSError())

    assert str(lost) == "the handshake with RabbitMQ at rabbit:5672 failed: the broker takes frames of 1 bytes"


def test_a_virtual_host_is_refused_to_the_user_of_the_certificate() -> None:
    """Whose name only the broker knows."""
    said = "530 NOT_ALLOWED - access to vhost 'v' refused for user 'w'"

    text = str(refusal(BY_CERTIFICATE, "rabbit:5671", said, OSError()))

    assert text.startswith("RabbitMQ at rabbit:5671 does not let this worker into virtual host '/'")
    assert "not it" not in text


# --- TLS ------------------------------------------------------------------------------------------------------------


def broken(reason: str | None, verify_code: int = 0) -> trio.BrokenResourceError:
    """As Trio raises what OpenSSL says."""
    cause = ssl.SSLCertVerificationError(1, "ssl.c:1") if verify_code else ssl.SSLError(1, "ssl.c:1")
    cause.reason = reason or ""
    if isinstance(cause, ssl.SSLCertVerificationError):
        cause.verify_code, cause.verify_message = verify_code, "some words"
    error = trio.BrokenResourceError()
    error.__cause__ = cause if reason is not None else None
    return error


def tls_words(error: Exception, **settings: str) -> str:
    lost = tls_refusal(RabbitMQSettings(tls=True, **settings), "rabbit:5671", error)  # type: ignore[arg-type] # all texts
    assert isinstance(lost, LinkRefused)
    return str(lost)


@pytest.mark.parametrize(
    ("code", "settings", "says"),
    [
        (10, {}, "is out of date: it needs a new one"),
        (9, {}, "is not valid yet: is the clock"),
        (
            62,
            {},
            "is for another name; call it by one that is in there (Worker:RabbitMQ:Host), or say which it is (Wor",
        ),
        (
            64,
            {},
            "is for another name; call it by one that is in there (Worker:RabbitMQ:Host), or say which it is (Wor",
        ),
        (62, {"tls_server_name": "x.y"}, "is for another name than 'x.y' (Worker:RabbitMQ:TlsServerName)"),
        (20, {}, "is signed by nobody whom this machine trusts; name a file with the certificate of its issuer (Wor"),
        (19, {"tls_ca_file": "ca.pem"}, "is signed by none of those in ca.pem (Worker:RabbitMQ:TlsCaFile)"),
        (26, {}, "cannot be accepted: some words (Worker:RabbitMQ:TlsCaFile)"),
    ],
)
def test_what_is_wrong_with_its_certificate_is_told(code: int, settings: dict[str, str], says: str) -> None:
    text = tls_words(broken("CERTIFICATE_VERIFY_FAILED", code), **settings)

    assert text.startswith(f"the certificate of RabbitMQ at rabbit:5671 {says}")


@pytest.mark.parametrize(
    ("reason", "certificate", "says"),
    [
        ("WRONG_VERSION_NUMBER", "", "what listens at rabbit:5671 speaks no TLS; RabbitMQ's port for TLS is 5671 "),
        ("TLSV1_ALERT_PROTOCOL_VERSION", "", "what listens at rabbit:5671 speaks only versions of TLS that are no "),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "", "RabbitMQ at rabbit:5671 demands a certificate of this worker; name"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "", "RabbitMQ at rabbit:5671 gave up TLS, most likely as it demands a certi"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "w.pem", "what listens at rabbit:5671 and this worker found no way of TLS "),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "w.pem", "RabbitMQ at rabbit:5671 demands a certificate, and was not s"),
        ("TLSV1_ALERT_UNKNOWN_CA", "w.pem", "RabbitMQ at rabbit:5671 refused the certificate w.pem (Worker:RabbitMQ:"),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "w.pem", "RabbitMQ at rabbit:5671 refused the certificate w.pem (Worker:"),
    ],
)
def test_what_it_says_against_tls_is_told(reason: str, certificate: str, says: str) -> None:
    assert tls_words(broken(reason), tls_certificate_file=certificate).startswith(says)


@pytest.mark.parametrize("reason", [None, "SOMETHING_NEW"])
def test_what_may_pass_is_no_refusal(reason: str | None) -> None:
    """A connection closed without a word, and what nobody here knows."""
    lost = tls_refusal(RabbitMQSettings(tls=True), "rabbit:5671", broken(reason))

    assert not isinstance(lost, LinkRefused)
    assert "rabbit:5671" in str(lost)


def test_sources_are_said_of_the_settings_that_a_text_names(tmp_path: Path) -> None:
    """Those that our own rules cannot judge."""
    config = tmp_path / "milvaion.toml"
    config.write_text('[rabbitmq]\nhost = "a"\nport = 1\n')
    code = WorkerSettings(rabbitmq=RabbitMQSettings(username="jobs"))
    resolved = resolve(code, config=config, environ={"MILVAION_TRIO__RABBITMQ__PORT": "2"})

    names = ("Host", "Port", "Username", "Password", "VirtualHost", "Nothing")
    sentence = whence(" ".join(f"Worker:RabbitMQ:{name}" for name in names), resolved)

    assert sentence == (
        f" host is from {config}, line 2, PORT is from MILVAION_TRIO__RABBITMQ__PORT, username is from the code, "
        "password and virtual_host are the defaults."
    )
    assert whence("Worker:RabbitMQ:Host", resolve(WorkerSettings(), environ={}, folder=tmp_path / "empty")) == ""
    assert whence("Worker:StartupConnectionTimeoutSeconds", resolved) == ""


def test_settings_are_called_as_whoever_said_them_calls_them(tmp_path: Path) -> None:
    """What nobody said as in the file, or as in the environment where there is no file."""
    (tmp_path / "milvaion.toml").write_text('[worker.RabbitMQ]\nHost = "a"\n')
    (tmp_path / "appsettings.json").write_text('{"Worker": {"WorkerId": "w"}}')
    port, text = (
        {"MILVAION_TRIO__RABBITMQ__PORT": "2"},
        "(Worker:RabbitMQ:Host, Worker:RabbitMQ:Port), Worker:RabbitMQ.",
    )

    def called(config: str | None, environ: dict[str, str]) -> str:
        found = resolve(
            WorkerSettings(),
            config=tmp_path / config if config else None,
            environ=environ,
            folder=tmp_path / "none",
            overrides=[Override(key="rabbitmq.port", text="3", name="--port")] if not environ else [],
        )
        return spelled(text, found)

    ours = "MILVAION_TRIO__RABBITMQ__PORT"
    assert called("milvaion.toml", port) == f"(worker.RabbitMQ.Host, {ours}), rabbitmq."
    assert called("milvaion.toml", {}) == "(worker.RabbitMQ.Host, --port), rabbitmq."
    assert called("appsettings.json", port) == f"(Worker:RabbitMQ:Host, {ours}), Worker:RabbitMQ."
    assert called(None, port) == f"(MILVAION_TRIO__WORKER__RABBITMQ__HOST, {ours}), MILVAION_TRIO__WORKER__RABBITMQ."
    assert called(None, {}) == "(rabbitmq.host, --port), rabbitmq."
    assert spelled(text, Resolved(WorkerSettings())) == text
    others = "amqp://Worker:5672/ of the job 'Worker:Import:Daily'"
    assert spelled(others, resolve(WorkerSettings(), environ=port)) == others


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
