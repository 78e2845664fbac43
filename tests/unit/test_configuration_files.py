"""A settings file is read as .NET reads it, and what it says and nobody knows is told."""

import codecs
import tempfile
from pathlib import Path

import pytest

from milvaion_trio.configuration import Resolved, resolve
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.settings import RabbitMQSettings, WorkerSettings

DOTNET_KEYS = """
Worker:WorkerId w
Worker:MaxParallelJobs 1
Worker:ExecutionTimeoutSeconds 1
Worker:StartupConnectionTimeoutSeconds 1
Worker:RabbitMQ:Host h
Worker:RabbitMQ:Port 1
Worker:RabbitMQ:Username u
Worker:RabbitMQ:Password p
Worker:RabbitMQ:VirtualHost v
Worker:RabbitMQ:RoutingKeyPattern x
Worker:Redis:ConnectionString c
Worker:Redis:Password p
Worker:Redis:Database 1
Worker:Redis:CancellationChannel c
Worker:Heartbeat:Enabled true
Worker:Heartbeat:IntervalSeconds 1
Worker:Heartbeat:JobHeartbeatIntervalSeconds 1
Worker:OfflineResilience:Enabled true
Worker:OfflineResilience:LocalStoragePath p
Worker:OfflineResilience:SyncIntervalSeconds 30
Worker:OfflineResilience:MaxSyncRetries 3
Worker:OfflineResilience:CleanupIntervalHours 1
Worker:OfflineResilience:RecordRetentionDays 1
Worker:HealthCheck:Enabled false
Worker:HealthCheck:LiveFilePath /tmp/live
Worker:HealthCheck:ReadyFilePath /tmp/ready
Worker:HealthCheck:IntervalSeconds 30
Worker:ExternalScheduler:Source
JobConsumers:J:ConsumerId c
JobConsumers:J:RoutingPattern p
JobConsumers:J:MaxParallelJobs 1
JobConsumers:J:ExecutionTimeoutSeconds 1
JobConsumers:J:MaxRetries 1
JobConsumers:J:BaseRetryDelaySeconds 1
JobConsumers:J:LogUserFriendlyLogsViaLogger false
"""
"""All of WIRE.md 10."""


def read(data: str | bytes) -> Resolved:
    """What the file alone says."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "appsettings.json").write_bytes(data if isinstance(data, bytes) else data.encode())
        return resolve(WorkerSettings(), config=None, environ={}, folder=Path(folder))


def problems(data: str | bytes) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        read(data)
    return tuple(problem.removeprefix("appsettings.json: ") for problem in caught.value.problems)


@pytest.mark.parametrize("line", DOTNET_KEYS.strip().splitlines(), ids=lambda line: line.partition(" ")[0])
def test_every_key_of_dotnet_workers_is_known(line: str) -> None:
    """With its default or a harmless value none of them is worth a warning."""
    path, _, value = line.partition(" ")

    assert read(f'{{"{path}": "{value}"}}').warnings == ()


def test_every_key_with_an_effect_has_it() -> None:
    """Each in .NET's name at its own place: all at once, each with a value of its own."""
    result = read(
        """{
        "Worker": {
            "WorkerId": "w", "MaxParallelJobs": 11,
            "ExecutionTimeoutSeconds": 12, "StartupConnectionTimeoutSeconds": 13,
            "RabbitMQ": {"Host": "h", "Port": 14, "Username": "u", "Password": "p", "VirtualHost": "v",
                         "ConsumerTimeout": 15, "Tls": true, "FurtherHosts": ["i", "j:27"], "Driver": "aio-pika",
                         "Authentication": "EXTERNAL", "TlsCaFile": "ca", "TlsCertificateFile": "cf",
                         "TlsKeyFile": "kf", "TlsKeyPassword": "kp", "TlsServerName": "sn"},
            "Redis": {"ConnectionString": "c", "Password": "q", "Database": 16, "CancellationChannel": "ch"},
            "Heartbeat": {"Enabled": false, "IntervalSeconds": 17, "JobHeartbeatIntervalSeconds": 18},
            "OfflineResilience": {"Enabled": false, "LocalStoragePath": "lsp", "Durability": "FULL"},
            "Shutdown": {"DrainTimeout": 19, "CleanupTimeout": 20, "FlushTimeout": 21},
            "Reporting": {"LocalOccurrences": true}
        },
        "JobConsumers": {"J": {
            "ConsumerId": "cid", "MaxParallelJobs": 22, "ExecutionTimeoutSeconds": 23, "MaxRetries": 24,
            "BaseRetryDelaySeconds": 25, "RoutingPatterns": ["r"], "RetryOnTimeout": true, "Jitter": 0.5, "MaxDelay": 26
        }}
    }"""
    )

    settings, job = result.settings, result.settings.jobs["J"]
    rabbitmq, redis = settings.rabbitmq, settings.redis
    assert rabbitmq is not None
    assert redis is not None
    assert (settings.worker_id, settings.max_parallel_jobs) == ("w", 11)
    assert (settings.execution_timeout, settings.startup_connection_timeout) == (12, 13)
    assert (rabbitmq.host, rabbitmq.port, rabbitmq.username) == ("h", 14, "u")
    assert (rabbitmq.password, rabbitmq.virtual_host, rabbitmq.consumer_timeout) == ("p", "v", 15)
    assert (rabbitmq.tls, rabbitmq.further_hosts, rabbitmq.driver) == (True, ("i", "j:27"), "aio-pika")
    assert (rabbitmq.authentication, rabbitmq.tls_server_name) == ("EXTERNAL", "sn")
    assert (rabbitmq.tls_ca_file, rabbitmq.tls_certificate_file) == ("ca", "cf")
    assert (rabbitmq.tls_key_file, rabbitmq.tls_key_password) == ("kf", "kp")
    assert (redis.connection_string, redis.password, redis.database) == ("c", "q", 16)
    assert redis.cancellation_channel == "ch"
    assert (settings.heartbeat.enabled, settings.heartbeat.interval) == (False, 17)
    assert settings.heartbeat.job_interval == 18
    assert (settings.offline_resilience.enabled, settings.offline_resilience.local_storage_path) == (False, "lsp")
    assert settings.offline_resilience.durability == "FULL"
    assert (settings.shutdown.drain_timeout, settings.shutdown.cleanup_timeout) == (19, 20)
    assert settings.shutdown.flush_timeout == 21
    assert settings.reporting.local_occurrences
    assert (job.consumer_id, job.max_parallel, job.timeout, job.max_retries) == ("cid", 22, 23, 24)
    assert (job.base_retry_delay, job.routing_patterns, job.retry_on_timeout) == (25, ("r",), True)
    assert (job.jitter, job.max_delay) == (0.5, 26)
    assert result.warnings == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Worker:HealthCheck:Enabled", "true"),
        ("JobConsumers:J:LogUserFriendlyLogsViaLogger", '"True"'),
    ],
)
def test_who_asks_for_what_is_not_there_is_told(key: str, value: str) -> None:
    (warning,) = read(f'{{"{key}": {value}}}').warnings

    assert warning.startswith(f"appsettings.json: {key} has no effect; ")


@pytest.mark.parametrize(
    "text",
    [
        '{"Worker": {"RabbitMQ": {"Port": 1234}}}',
        '{"Worker": {"RabbitMQ": {"Port": "1234"}}}',
        '{"Worker": {"RabbitMQ": {"Port": " 1234 "}}}',
        '{"worker": {"RABBITMQ": {"port": 1234}}}',
        '{"Worker": {"rabbit_mq": {"port": 1234}}}',
        '{"Worker:RabbitMQ": {"Port": 1234}}',
        '{"Worker": {"RabbitMQ:Port": 1234}}',
        '{"Worker": {"RabbitMQ": {}}, "worker": {"RabbitMQ": {"Port": 1234}}}',
        '{"Worker": {"RabbitMQ": {"Port": 1234, "Host": null}}}',
        '{"Worker": {"RabbitMQ": {"Port": 1234, "port": 1234}}}',
        '// one\n{"Worker": /* "two" */ {"RabbitMQ": {"Port": 1234, // three\n}, /* four */ }, }\n/* five\n */',
        '{"Other": {"Worker": ["//", "/*", ",]", "\\"", ",}", 1,], "x": 2,}, "Worker": {"RabbitMQ": {"Port": 1234}}}',
    ],
)
def test_what_dotnet_reads_is_read(text: str) -> None:
    """Names in any case, numbers as text, comments, commas before an end, `:` in names, null for nothing."""
    for data in (text.encode(), codecs.BOM_UTF8 + text.encode(), text.encode("utf-16")):
        result = read(data)

        assert result.settings.rabbitmq == RabbitMQSettings(port=1234)
        assert result.warnings == ()


@pytest.mark.parametrize("password", ["12345", '"12345"'])
def test_a_number_is_a_text_where_a_text_is_wanted(password: str) -> None:
    """.NET has all values as text."""
    rabbitmq = read(f'{{"Worker": {{"RabbitMQ": {{"Password": {password}}}}}}}').settings.rabbitmq

    assert rabbitmq == RabbitMQSettings(password="12345")


@pytest.mark.parametrize(("text", "value"), [("true", True), ('"True"', True), ('" false"', False), ('"FALSE"', False)])
def test_true_and_false_may_be_texts(text: str, value: bool) -> None:
    assert read(f'{{"Worker:Heartbeat:Enabled": {text}}}').settings.heartbeat.enabled is value


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "line 1, column 1:"),
        ('{"Worker":\n {"WorkerId" "x"}}', "line 2, column 14:"),
        ('{/* long\n comment */ // and another, "\n "Worker": x}', "line 3, column 12:"),
        ('{"a": 1,,}', "line 1, column 9:"),
        ('{"a": [,]}', "line 1, column 8:"),
        ('{"a": [1 2]}', "line 1, column 10:"),
        ('{"a":\n "b": 1, "c": NaN}', "line 2, column 15:"),
        ('{"a": -Infinity}', "line 1, column 8:"),
        ('{"a": "b\n"}', "line 1, column 9:"),
        ('{"a": 1} {}', "line 1, column 10:"),
        ("[]", "line 1, column 1:"),
        ('"Worker"', "line 1, column 1:"),
        ("{ /* ", "line 1, column 3:"),
        ('{"a":' * 100_000, "line 1, column 1: it is nested too deep"),
        (b'{\n "a": "\xff"}', "line 2, column 8: this is not UTF-8 text"),
        (codecs.BOM_UTF16_LE + b"{\xd8", "line 1, column 3: this is not UTF-16"),
    ],
)
def test_what_is_no_json_is_a_mistake_with_its_place(text: str | bytes, where: str) -> None:
    (problem,) = problems(text)

    assert problem.startswith(where)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"Worker": 5}', "Worker is a single value; it must be a section, with names below it."),
        ('{"JobConsumers": ["A"]}', "JobConsumers:0 is a single value; it must be a section, with names below it."),
        (
            '{"Worker": {"Redis": "h:6379,password=s3cret"}}',
            "Worker:Redis is a single value; it must be a section, with names below it.",
        ),
        ('{"Worker": {"WorkerId": {"a": 1}}}', "Worker:WorkerId has names below it; it must be 1 to 100 of the"),
        ('{"Worker": {"RabbitMQ": {"Port": [1]}}}', "Worker:RabbitMQ:Port has names below it; it must be a whole"),
        (
            '{"JobConsumers": {"A": {"RoutingPatterns": [["a"]]}}}',
            "JobConsumers:A:RoutingPatterns has names below it; it must be a list, each item a text",
        ),
        ('{"JobConsumers": {"A": {"RoutingPatterns": ["a", ""]}}}', 'JobConsumers:A:RoutingPatterns:1 is ""; it must'),
        ('{"Worker": {"RabbitMQ": {"Port": 5672.5}}}', "Worker:RabbitMQ:Port is 5672.5; it must be a whole number"),
        ('{"Worker": {"RabbitMQ": {"Port": true}}}', "Worker:RabbitMQ:Port is true; it must be a whole number"),
        ('{"Worker": {"RabbitMQ": {"Port": "1_0"}}}', 'Worker:RabbitMQ:Port is "1_0"; it must be a whole number'),
        ('{"Worker": {"RabbitMQ": {"Port": "\u0661"}}}', 'Worker:RabbitMQ:Port is "\u0661"; it must be a whole number'),
        ('{"Worker": {"MaxParallelJobs": ' + 5000 * "9" + "}}", "Worker:MaxParallelJobs is 9999"),
        ('{"Worker": {"ExecutionTimeoutSeconds": 1e999}}', "Worker:ExecutionTimeoutSeconds is 1e999; it must be a num"),
        ('{"Worker": {"ExecutionTimeoutSeconds": "nan"}}', 'Worker:ExecutionTimeoutSeconds is "nan"; it must be a num'),
        ('{"Worker": {"ExecutionTimeoutSeconds": ""}}', 'Worker:ExecutionTimeoutSeconds is ""; it must be a number'),
        ('{"Worker": {"Heartbeat": {"Enabled": 1}}}', "Worker:Heartbeat:Enabled is 1; it must be true or false."),
        ('{"Worker": {"Wire": "2.0"}}', "Worker:Wire is \"2.0\"; it must be one of '1.1', '1.0'."),
        ('{"Worker": {"RabbitMQ": {"Host": "\\ud800"}}}', 'Worker:RabbitMQ:Host is "\\ud800"; it must be a host'),
        ('{"Worker": {"WorkerId": "a", "WorkerId": "b"}}', "Worker:WorkerId is there twice, with different values."),
        (
            '{"Worker": {"WorkerId": "a"}, "worker": {"worker_id": "b"}}',
            "Worker:WorkerId and worker:worker_id are the same setting, with different values.",
        ),
        (
            '{"JobConsumers": {"A": {"RoutingPattern": "a", "RoutingPatterns": ["b", "c"]}}}',
            "JobConsumers:A:RoutingPattern and JobConsumers:A:RoutingPatterns:0 are the same setting, with different",
        ),
    ],
)
def test_a_value_that_means_nothing_is_a_mistake(text: str, problem: str) -> None:
    (found,) = problems(text)

    assert found.startswith(problem)


def test_a_first_pattern_may_be_said_twice() -> None:
    """The SDK reads the one name, its readme shows the other."""
    jobs = read('{"JobConsumers:A": {"RoutingPattern": "a", "RoutingPatterns": ["a", "b"]}}').settings.jobs

    assert jobs["A"].routing_patterns == ("a", "b")


def test_a_job_may_be_named_without_saying_anything_of_it() -> None:
    assert list(read('{"JobConsumers": {"A": {}, "B": null}}').settings.jobs) == ["A", "B"]


@pytest.mark.parametrize(
    ("text", "warning"),
    [
        ('{"Worker": {"Foo": 1}}', "Worker:Foo is no setting and is ignored."),
        ('{"Worker": {"Foo": {"A": 1, "B": [1, 2]}}}', "Worker:Foo is no setting and is ignored."),
        (
            '{"Worker": {"RabbitMQ": {"Hots": "x"}}}',
            "Worker:RabbitMQ:Hots is no setting and is ignored; did you mean Worker:RabbitMQ:Host?",
        ),
        (
            '{"worker": {"RabitMQ": {"host": "x"}}}',
            "worker:RabitMQ is no setting and is ignored; did you mean Worker:RabbitMQ?",
        ),
        (
            '{"Worker": {"JobConsumers": {"A": {"MaxRetries": 1}}}}',
            "Worker:JobConsumers is no setting and is ignored; did you mean JobConsumers:A:MaxRetries?",
        ),
        (
            '{"Worker": {"Port": 1}}',
            "Worker:Port is no setting and is ignored; did you mean Worker:RabbitMQ:Port?",
        ),
        (
            '{"JobConsumers": {"A": {"MaxRetrys": 1}}}',
            "JobConsumers:A:MaxRetrys is no setting and is ignored; did you mean JobConsumers:A:MaxRetries?",
        ),
        (
            '{"Worker": {"MaxParallelJobsPerWorker": 1}}',
            "Worker:MaxParallelJobsPerWorker is no setting and is ignored; did you mean Worker:MaxParallelJobs?",
        ),
        ('{"JobConsumers:A:NeverRetry": "x"}', "JobConsumers:A:NeverRetry is no setting and is ignored."),
        ('{"Worker": {"Enabled": true}}', "Worker:Enabled is no setting and is ignored."),
        ('{"JobConsumers:A:Port": 1}', "JobConsumers:A:Port is no setting and is ignored."),
        ('{"Worker": {"": 1}}', "Worker: is no setting and is ignored."),
        ('{"JobConsumers": {"": {"MaxRetries": 1}}}', "JobConsumers: is no setting and is ignored."),
    ],
)
def test_an_unknown_name_is_one_warning_with_a_hint(text: str, warning: str) -> None:
    result = read(text)

    assert result.warnings == (f"appsettings.json: {warning}",)
    assert list(result.settings.jobs) in ([], ["A"])


def test_secrets_are_told_to_nobody() -> None:
    """Not when they are right, wrong, unknown, twice, or in the wrong place."""
    secret = "s3cret"
    section = f'{{"a": "{secret}"}}'
    texts = [
        f'{{"Worker:RabbitMQ:Password": "{secret}", "Worker:Redis:ConnectionString": "h,password={secret}"}}',
        f'{{"Worker:RabbitMQ:Password": {section}, "Worker:Redis:ConnectionString": ["{secret}"]}}',
        f'{{"Worker:RabbitMQ:Password": "{secret}", "Worker:RabbitMQ:password": "{secret}2"}}',
        f'{{"Worker:RabbitMQ:Password": "{secret}\\ud800", "Worker:Redis:Password": "{secret}\\ud800"}}',
        f'{{"Worker:RabbitMQ:Pasword": "{secret}", "Worker:Redis": "h,password={secret}"}}',
        f'{{"Worker:RabbitMQ": {{"Password": "{secret}',
        f'{{"Worker:Redis:ConnectionString": "\\ud800 password={secret}"}}',
    ]

    for text in texts:
        try:
            said = repr(read(text))
        except SettingsError as error:
            said = f"{error} {error!r}"
        assert secret not in said


@pytest.mark.parametrize(("section", "meant"), [("Workers", "Worker"), ("JobConsumer", "JobConsumers")])
def test_a_section_that_looks_like_ours_is_told(section: str, meant: str) -> None:
    """Everything in it would be ignored without a word, and the worker join as another group."""
    resolved = read(f'{{"{section}": {{"WorkerId": "w"}}, "Logging": {{"LogLevel": "x"}}}}')

    assert f"appsettings.json: {section} is no section that is read here; did you mean {meant}?" in resolved.warnings
    assert not any("Logging" in warning for warning in resolved.warnings)
