"""A settings value that exists is valid, and making one reports every mistake at once."""

import math
from typing import Any

import attrs
import pytest

from milvaion_trio.model.broker_address import BrokerAddress
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.settings import (
    HeartbeatSettings,
    JobSettings,
    OfflineResilienceSettings,
    RabbitMQSettings,
    RedisSettings,
    ShutdownSettings,
    WorkerSettings,
)
from milvaion_trio.model.wire import Dialect


def test_the_defaults_are_the_readmes() -> None:
    settings = WorkerSettings()

    assert (settings.worker_id, settings.max_parallel_jobs, settings.execution_timeout) == ("worker", 10, 300.0)
    assert settings.startup_connection_timeout == 30.0
    assert settings.wire is Dialect.V1_1
    rabbitmq = RabbitMQSettings()
    assert (rabbitmq.host, rabbitmq.port, rabbitmq.virtual_host) == ("localhost", 5672, "/")
    assert (rabbitmq.username, rabbitmq.password, rabbitmq.consumer_timeout) == ("guest", "guest", 1800.0)
    assert RedisSettings().connection_string == "localhost:6379"
    assert RedisSettings().cancellation_channel == "Milvaion:JobScheduler:cancellation_channel"
    assert attrs.astuple(settings.heartbeat) == (True, 30.0, 60.0)
    assert settings.offline_resilience.local_storage_path == "./worker_data"


def test_unless_told_otherwise_rabbitmq_is_one_host_in_plain_text() -> None:
    rabbitmq = RabbitMQSettings()

    assert (rabbitmq.driver, rabbitmq.tls, rabbitmq.authentication) == ("amqp", False, "PLAIN")
    assert rabbitmq.addresses == (BrokerAddress("localhost", 5672),)


def test_tls_has_a_port_of_its_own() -> None:
    """5671, as everybody has it; any other one that is given stays."""
    assert RabbitMQSettings(tls=True).port == 5671
    assert RabbitMQSettings(tls=True, port=5672).port == 5672


def test_several_hosts_are_tried_in_the_order_they_are_named() -> None:
    """Those without a port on the port of the first."""
    rabbitmq = RabbitMQSettings(host="::1", port=1, further_hosts=["b", "c:2", "[::2]", "[::3]:65535"])

    assert [str(address) for address in rabbitmq.addresses] == ["[::1]:1", "b:1", "c:2", "[::2]:1", "[::3]:65535"]
    assert [address.host for address in rabbitmq.addresses] == ["::1", "b", "c", "::2", "::3"]


@pytest.mark.parametrize("text", ["", "a b", "a:0", "a:65536", "a:", "::1", "[b]", "[::1", "a,b", "u:p@a", "amqp://a"])
def test_a_further_host_is_a_host_and_a_port_and_nothing_else(text: str) -> None:
    with pytest.raises(SettingsError, match="further_hosts is"):
        WorkerSettings(rabbitmq=RabbitMQSettings(further_hosts=[text]))


@pytest.mark.parametrize(
    ("rabbitmq", "says"),
    [
        (RabbitMQSettings(driver="pika"), "rabbitmq.driver is 'pika'; it must be amqp or aio-pika."),
        (RabbitMQSettings(authentication="plain"), "rabbitmq.authentication is 'plain'; it must be PLAIN or EXTERNAL."),
    ],
)
def test_what_is_one_of_a_few_is_nothing_else(rabbitmq: RabbitMQSettings, says: str) -> None:
    with pytest.raises(SettingsError) as caught:
        WorkerSettings(rabbitmq=rabbitmq)

    assert caught.value.problems == (says,)


def test_without_a_broker_jobs_run_in_this_process() -> None:
    assert (WorkerSettings().rabbitmq, WorkerSettings().redis) == (None, None)


def test_offline_resilience_is_on_against_the_readme() -> None:
    assert WorkerSettings().offline_resilience.enabled


def test_leaving_takes_less_than_kubernetes_gives() -> None:
    assert sum(attrs.astuple(ShutdownSettings())) < 30


def test_a_job_inherits_everything_by_default() -> None:
    assert set(attrs.astuple(JobSettings())) == {None}


def test_every_mistake_of_every_section_is_in_one_report() -> None:
    with pytest.raises(SettingsError) as caught:
        WorkerSettings(
            worker_id="a b",
            max_parallel_jobs=0,
            execution_timeout=math.inf,
            rabbitmq=RabbitMQSettings(port=70000, host="", consumer_timeout=-1),
            redis=RedisSettings(connection_string="", database=-1),
            heartbeat=HeartbeatSettings(interval=0),
            offline_resilience=OfflineResilienceSettings(durability="OFF"),
        )

    assert caught.value.problems == (
        "worker_id is 'a b'; it must be 1 to 100 of the characters A-Z a-z 0-9 . _ -.",
        "max_parallel_jobs is 0; it must be a whole number, 1 or more.",
        "execution_timeout is inf; it must be a number, 0 or more.",
        "rabbitmq.host is ''; it must be a host's name or address alone; "
        "port, user and password have settings of their own.",
        "rabbitmq.port is 70000; it must be a whole number, 1 to 65535.",
        "rabbitmq.consumer_timeout is -1; it must be a number, 0 or more.",
        "redis.connection_string is not shown here; it must be a text that is not empty.",
        "redis.database is -1; it must be a whole number, 0 or more.",
        "heartbeat.interval is 0; it must be a number, 0.001 or more.",
        "offline_resilience.durability is 'OFF'; it must be NORMAL or FULL.",
    )


@pytest.mark.parametrize("worker_id", ["", "a:b", "a*", "a#", "ä", "x" * 101, "a\n", None, 5])
def test_a_worker_id_is_short_and_plain(worker_id: str) -> None:
    with pytest.raises(SettingsError, match="worker_id is"):
        WorkerSettings(worker_id=worker_id)


@pytest.mark.parametrize("worker_id", ["w", "Report-Worker_1.2", "x" * 100])
def test_a_plain_worker_id_is_kept_as_it_is(worker_id: str) -> None:
    assert WorkerSettings(worker_id=worker_id).worker_id == worker_id


@pytest.mark.parametrize("value", ["5", True, 1.5])
def test_a_count_is_a_whole_number_and_nothing_that_looks_like_one(value: int) -> None:
    with pytest.raises(SettingsError, match="max_parallel_jobs is"):
        WorkerSettings(max_parallel_jobs=value)


def test_a_section_is_no_other_section() -> None:
    with pytest.raises(SettingsError, match="redis is"):
        WorkerSettings(redis=RabbitMQSettings())  # type: ignore[arg-type] # the mistake under test


@pytest.mark.parametrize("seconds", [10**400, math.nan, -math.inf])
def test_seconds_are_a_number_that_a_clock_can_hold(seconds: float) -> None:
    with pytest.raises(SettingsError, match="execution_timeout is"):
        WorkerSettings(execution_timeout=seconds)


def test_half_a_character_is_no_text() -> None:
    """It could not be sent, and what a JSON file escapes or a variable holds may be one."""
    with pytest.raises(SettingsError, match="consumer_id is"):
        JobSettings(consumer_id="a\ud83d")


def test_to_try_for_ever_is_a_startup_timeout() -> None:
    assert WorkerSettings(startup_connection_timeout=-1).startup_connection_timeout == -1


def test_the_mistakes_of_a_job_name_their_fields() -> None:
    with pytest.raises(SettingsError) as caught:
        JobSettings(
            max_retries=-1,
            timeout=-5,
            jitter=2,
            max_parallel=0,
            consumer_id="",
            routing_patterns="a.*",
            never_retry=["x"],
        )

    named = [problem.split(" ")[0] for problem in caught.value.problems]
    assert named == [
        "max_retries",
        "timeout",
        "max_parallel",
        "consumer_id",
        "routing_patterns",
        "jitter",
        "never_retry",
    ]


def test_a_list_may_be_given_where_a_tuple_is_kept() -> None:
    job = JobSettings(routing_patterns=["a.*", "b.*"], never_retry=[KeyError])

    assert job.routing_patterns == ("a.*", "b.*")
    assert job.never_retry == (KeyError,)


def test_settings_over_others_win_where_they_say_something() -> None:
    job = JobSettings(timeout=0, max_retries=1).over(JobSettings(timeout=60, jitter=0.5))

    assert job == JobSettings(timeout=0, max_retries=1, jitter=0.5)


def test_passwords_are_shown_nowhere() -> None:
    settings = WorkerSettings(
        rabbitmq=RabbitMQSettings(password="s3cret", tls_key_password="s3cret"),
        redis=RedisSettings(connection_string="h:6379,password=s3cret,ssl=true", password="s3cret"),
    )

    assert "s3cret" not in repr(settings)
    assert "'h:6379," in repr(settings)


def test_a_password_of_the_wrong_type_is_not_shown_either() -> None:
    with pytest.raises(SettingsError) as caught:
        WorkerSettings(rabbitmq=RabbitMQSettings(password=123456))  # type: ignore[arg-type] # the mistake under test

    assert "123456" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"further_hosts": ("amqp://user:s3cret@rabbit2:5672",)},
        {"further_hosts": ["rabbit2", "amqp://user:s3cret@rabbit3"]},
        {"further_hosts": {"amqp://user:s3cret@rabbit2": 1}},
        {"host": "amqp://user:my s3cret@rabbit2"},
        {"host": b"amqp://user:s3cret@rabbit2"},
        {"port": "amqp://user:s3cret@rabbit2"},
    ],
    ids=str,
)
def test_a_password_in_the_wrong_place_is_not_shown(wrong: dict[str, Any]) -> None:
    """Whole URLs are pasted where a host alone belongs, and errors end up in logs."""
    with pytest.raises(SettingsError) as caught:
        WorkerSettings(rabbitmq=RabbitMQSettings(**wrong))

    assert f"rabbitmq.{next(iter(wrong))} is not shown here; it must be " in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_settings_of_single_jobs_cannot_be_changed_afterwards() -> None:
    jobs = {"SendEmailJob": JobSettings(timeout=5)}
    settings = WorkerSettings(jobs=jobs)

    jobs["Other"] = JobSettings()

    assert list(settings.jobs) == ["SendEmailJob"]
