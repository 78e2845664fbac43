"""Code and settings that contradict each other stop the start; a setting without effect is told."""

from pathlib import Path

import pytest

from milvaion_trio import JobSettings, SettingsError, Worker, WorkerSettings
from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.configuration import Override
from milvaion_trio.model.settings import HeartbeatSettings, RabbitMQSettings, ReportingSettings, SchedulerSettings
from milvaion_trio.signals.local import LocalSignals


async def nothing() -> None:
    """Do so."""


def problems(worker: Worker) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        worker.prepare()
    return caught.value.problems


def doubts(settings: WorkerSettings, **policy: object) -> list[str]:
    worker = Worker(settings=settings)
    worker.settings = settings
    worker.job("A", **policy)(nothing)  # type: ignore[arg-type] # as the test says
    worker.prepare()
    return worker.warnings()


@pytest.fixture(autouse=True)
def somewhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# --- what stops the start -------------------------------------------------------------------------------------------


def test_a_job_that_only_the_settings_have_is_one_line_with_its_source(tmp_path: Path) -> None:
    """The near miss of both sides is one message, not two."""
    (tmp_path / "milvaion.toml").write_text("[jobs.SendMailJob]\nmax_retries = 5")
    worker = Worker()
    worker.job("SendEmailJob")(nothing)

    assert problems(worker) == (
        "The settings name a job 'SendMailJob' that this worker does not have (milvaion.toml: jobs.SendMailJob); "
        "did you mean 'SendEmailJob'?",
    )


@pytest.mark.parametrize(
    ("source", "where"),
    [
        ("appsettings.json", "appsettings.json: JobConsumers:SendMailJob"),
        ("ours", "environment: MILVAION_TRIO__JOBS__SENDMAILJOB__MAX_RETRIES"),
        ("dotnet", "environment: JobConsumers__SendMailJob__MaxRetries"),
        ("line", "command line: --set jobs.SendMailJob.max_retries"),
    ],
)
def test_every_source_is_named(source: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker()
    worker.job("SendEmailJob")(nothing)
    match source:
        case "appsettings.json":
            Path("appsettings.json").write_text('{"JobConsumers": {"SendMailJob": {"MaxRetries": 5}}}')
        case "ours":
            monkeypatch.setenv("MILVAION_TRIO__JOBS__SENDMAILJOB__MAX_RETRIES", "5")
        case "dotnet":
            monkeypatch.setenv("JobConsumers__SendMailJob__MaxRetries", "5")
        case _:
            key = "jobs.SendMailJob.max_retries"
            worker.configure(overrides=[Override(key, "5", f"--set {key}")])

    (problem,) = problems(worker)

    assert f" ({where})" in problem
    assert problem.endswith("; did you mean 'SendEmailJob'?")


def test_a_job_without_settings_has_defaults() -> None:
    """Unlike in .NET, which refuses it (WIRE.md 10): only what differs is written down."""
    Path("appsettings.json").write_text('{"JobConsumers": {"A": {"MaxRetries": 5}}}')
    worker = Worker()
    worker.job("A")(nothing)
    worker.job("B")(nothing)

    worker.prepare()

    assert [job.effective.retry.max_retries for job in worker.registry.jobs] == [5, 3]


def test_a_broker_in_the_code_and_another_in_the_settings() -> None:
    """The jobs would run where nobody looks for them."""
    Path("milvaion.toml").write_text('[rabbitmq]\nhost = "rabbit"\n[redis]\ndatabase = 1')

    assert problems(Worker(broker=EmbeddedBroker(), signals=LocalSignals())) == (
        "The settings name RabbitMQ (milvaion.toml, line 2), and the code gives this worker a broker of its own: "
        "Worker(broker=…). Leave one of them out.",
        "The settings name Redis (milvaion.toml, line 4), and the code gives this worker signals of its own: "
        "Worker(signals=…). Leave one of them out.",
    )


def test_the_code_may_say_both() -> None:
    """Whoever builds a broker from these settings says nothing that contradicts itself."""
    worker = Worker(settings=WorkerSettings(rabbitmq=RabbitMQSettings()), broker=EmbeddedBroker())

    worker.prepare()


def test_a_broker_that_is_put_in_later_is_meant() -> None:
    """`dev` does it, and tests."""
    Path("milvaion.toml").write_text('[rabbitmq]\nhost = "rabbit"')
    worker = Worker()
    worker.broker = EmbeddedBroker()

    worker.prepare()


def test_one_job_is_not_there_twice() -> None:
    with pytest.raises(SettingsError, match="jobs has 'A' and 'a'; names are the same in any case"):
        WorkerSettings(jobs={"A": JobSettings(), "a": JobSettings()})


TLS, KEY, CERTIFICATE = "rabbitmq.tls", "rabbitmq.tls_key_file", "rabbitmq.tls_certificate_file"


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ('tls_ca_file = "a"', f"rabbitmq.tls_ca_file is given, but no TLS: set {TLS} to true, or leave it out."),
        (
            'tls_certificate_file = "a"\ntls_key_file = "b"',
            f"{CERTIFICATE} and {KEY} are given, but no TLS: set {TLS} to true, or leave them out.",
        ),
        (
            'authentication = "EXTERNAL"',
            f"rabbitmq.authentication EXTERNAL logs in by a certificate, and needs {TLS} true and {CERTIFICATE}.",
        ),
        (
            'authentication = "EXTERNAL"\ntls = true',
            f"rabbitmq.authentication EXTERNAL logs in by a certificate, and needs {CERTIFICATE}.",
        ),
        (
            'tls = true\ntls_key_file = "b"',
            f"{KEY} is given, but not the key's certificate: {CERTIFICATE}.",
        ),
        (
            'tls = true\ntls_key_file = "b"\ntls_key_password = "s3cret"',
            f"{KEY} and rabbitmq.tls_key_password are given, but not the key's certificate: {CERTIFICATE}.",
        ),
        (
            'tls = true\ndriver = "aio-pika"',
            f"RabbitMQ is to be reached over TLS ({TLS}), which aio-pika does not do here: set rabbitmq.driver "
            "to amqp, or leave it out.",
        ),
    ],
)
def test_a_connection_that_would_be_other_than_it_seems_is_not_made(said: str, says: str) -> None:
    """In plain text where certificates are named, as somebody else, or with half of a certificate.

    Settings are called as in the file.
    """
    Path("milvaion.toml").write_text(f"[rabbitmq]\n{said}")

    assert problems(Worker()) == (says,)


@pytest.mark.parametrize(
    "said",
    [
        "tls = true",
        'tls = true\ntls_ca_file = "a"\ntls_server_name = "b"\nfurther_hosts = ["c"]',
        'tls = true\ntls_certificate_file = "a"\nauthentication = "EXTERNAL"',
        'tls = true\ntls_certificate_file = "a"\ntls_key_file = "b"\ntls_key_password = "c"',
        'further_hosts = ["b"]\ndriver = "aio-pika"',
    ],
)
def test_what_makes_sense_of_tls_and_hosts_is_taken(said: str) -> None:
    Path("milvaion.toml").write_text(f"[rabbitmq]\n{said}")

    Worker().prepare()


def test_schedules_are_shown_on_no_server_that_cannot_be_there() -> None:
    """The embedded broker is in this process alone."""
    worker = Worker(settings=WorkerSettings(scheduler=SchedulerSettings(report=True)))

    assert problems(worker) == (
        "Schedules are to be shown on a Milvaion server (Worker:Scheduler:Report), and jobs run on the embedded "
        "broker, which no server can reach: name RabbitMQ (Worker:RabbitMQ), or set it to false.",
    )


def test_runs_of_schedules_are_not_shown_twice() -> None:
    """A worker would send a dead letter of an occurrence that the server knows, with a job that it does not."""
    worker = Worker(
        settings=WorkerSettings(
            rabbitmq=RabbitMQSettings(),
            scheduler=SchedulerSettings(report=True),
            reporting=ReportingSettings(local_occurrences=True),
        )
    )

    assert problems(worker) == (
        "Runs of schedules are to be shown by whoever leads (Worker:Scheduler:Report) and by the workers, too "
        "(Worker:Reporting:LocalOccurrences): a job that failed would keep Milvaion from taking any dead letter. Set "
        "one of them to false, for all workers.",
    )


# --- what is told ---------------------------------------------------------------------------------------------------


def test_what_does_what_it_says_is_not_told() -> None:
    assert doubts(WorkerSettings(rabbitmq=RabbitMQSettings()), max_parallel=10, retry_on_timeout=True) == []


def test_more_runs_of_a_job_than_the_worker_allows() -> None:
    assert doubts(WorkerSettings(max_parallel_jobs=5), max_parallel=6) == [
        "A may run 6 times at once (MaxParallelJobs), which is never reached: this worker runs 5 jobs at once "
        "(Worker:MaxParallelJobs)."
    ]


def test_a_retry_after_a_timeout_and_no_retry() -> None:
    assert doubts(WorkerSettings(), retry_on_timeout=True, max_retries=0) == [
        "A is to be retried after a timeout (RetryOnTimeout), and never at all (MaxRetries 0)."
    ]


@pytest.mark.parametrize(
    ("heartbeat", "timeout", "start"),
    [
        (HeartbeatSettings(interval=120), 300, "A heartbeat every 120 s (Worker:Heartbeat:IntervalSeconds) is too sel"),
        (HeartbeatSettings(interval=119), 300, None),
        (HeartbeatSettings(job_interval=0), 301, "Jobs may run for over 300 s without a heartbeat "),
        (HeartbeatSettings(job_interval=300), 0, "Jobs may run for over 300 s without a heartbeat "),
        (HeartbeatSettings(job_interval=0), 300, None),
        (HeartbeatSettings(job_interval=299), 301, None),
    ],
)
def test_heartbeats_that_milvaion_would_miss(heartbeat: HeartbeatSettings, timeout: float, start: str | None) -> None:
    """WIRE.md 4.7 and 4.8; without a server there is nobody to miss them."""
    rabbitmq = RabbitMQSettings(consumer_timeout=0)

    found = doubts(WorkerSettings(rabbitmq=rabbitmq, heartbeat=heartbeat), timeout=timeout)

    assert [sentence[: len(start or "")] for sentence in found] == ([] if start is None else [start])
    assert doubts(WorkerSettings(heartbeat=heartbeat), timeout=timeout) == []


def test_settings_that_come_too_late_are_refused() -> None:
    """A broker that was made at import, by `client()`, would go on being used, whatever the command line says."""
    worker = Worker("w", observers=())
    worker.client()

    worker.configure()
    with pytest.raises(SettingsError, match="The worker's broker and signals came into use while"):
        worker.configure(overrides=[Override("rabbitmq.host", "rabbit")])


def test_what_the_code_gives_is_no_broker_of_earlier_settings() -> None:
    worker = Worker("w", broker=EmbeddedBroker(), signals=LocalSignals(), observers=())
    worker.client()

    worker.configure(overrides=[Override("max_parallel_jobs", "3")])

    assert worker.settings.max_parallel_jobs == 3
