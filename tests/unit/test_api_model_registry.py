"""The model knows workers as the API does: who is registered and alive, what can be created (WIRE.md 3.6, 4.7)."""

from typing import Any

import pytest
from tests.support.amqp import WireMessage
from tests.support.api_model import ApiModel, Rule
from tests.support.api_model.examples import JOB, START, sent
from tests.support.api_model.net_json import Verbatim, write
from tests.support.api_model.topology import HEARTBEATS, REGISTRATIONS
from tests.support.api_model.worker_registry import Gone

WORKER, INSTANCE = "mail", "mail-5f0c2a9b"


def registration(metadata: dict[str, object] | str | None = None, **members: object) -> WireMessage:
    config = {"JobType": "SendJob", "ConsumerId": "c", "MaxParallelJobs": 1, "ExecutionTimeoutSeconds": 60}
    inner: dict[str, object] = {"IsExternal": False, "HeartbeatInterval": 5, "JobConfigs": [config]}
    body = {
        "WorkerId": WORKER,
        "InstanceId": INSTANCE,
        "RoutingPatterns": {"SendJob": "mail.send.*"},
        "JobTypes": ["SendJob"],
        "MaxParallelJobs": 2,
        "Metadata": metadata if isinstance(metadata, str) else write({**inner, **(metadata or {})}),
        **members,
    }
    return sent(REGISTRATIONS, write(body))


def heartbeat(seconds: float, jobs: int = 0, **members: object) -> WireMessage:
    """A heartbeat with the clock of the worker at so many seconds after `START` (09:15:01)."""
    minutes, rest = divmod(seconds + 1, 60)
    date = Verbatim(f"2026-04-02T09:{15 + int(minutes):02}:{int(rest):02}Z")
    body = {"WorkerId": WORKER, "InstanceId": INSTANCE, "CurrentJobs": jobs, "Timestamp": date, **members}
    return sent(HEARTBEATS, write(body))


def registered(*args: Any, **members: Any) -> ApiModel:
    api = ApiModel()
    api.take(REGISTRATIONS, registration(*args, **members), START)
    api.tick(START)
    return api


def beat(api: ApiModel, seconds: float, *messages: WireMessage) -> None:
    for message in messages:
        api.take(HEARTBEATS, message, START + seconds)
    api.tick(START + seconds)


def test_a_good_registration_is_no_reason_to_complain() -> None:
    registered().assert_content()


@pytest.mark.parametrize(
    ("members", "rule"),
    [
        ({"WorkerId": None}, Rule.REGISTRATION),
        ({"InstanceId": ""}, Rule.REGISTRATION),
        ({"WorkerId": "x" * 101}, Rule.REGISTRATION),
        ({"InstanceId": "a:b"}, Rule.REGISTRATION),
        ({"MaxParallelJobs": 0}, Rule.REGISTRATION),
        ({"JobTypes": []}, Rule.REGISTRATION),
        ({"JobTypes": ["SendJob", "sendjob"]}, Rule.REGISTRATION),
        ({"RoutingPatterns": {"sendJob": "mail.send.*"}}, Rule.REGISTRATION),
        ({"RoutingPatterns": {"SendJob": "x" * 256}}, Rule.REGISTRATION),
        ({"JobTypes": ["Job"], "RoutingPatterns": {"Job": "mail.*"}}, Rule.REGISTRATION),
        ({"metadata": "no JSON"}, Rule.METADATA),
        ({"metadata": {"HeartbeatInterval": 0}}, Rule.METADATA),
        ({"metadata": {"HeartbeatInterval": "5"}}, Rule.METADATA),
        ({"metadata": {"JobConfigs": {}}}, Rule.METADATA),
        ({"metadata": '{"isExternal":false,"heartbeatInterval":5}'}, Rule.METADATA),
        ({"JobDataDefinitions": {"SendJob": "{}"}}, Rule.SCHEMA),
        ({"JobDataDefinitions": {"SendJob": "no JSON"}}, Rule.SCHEMA),
    ],
    ids=str,
)
def test_a_registration_that_nothing_can_be_done_with(members: dict[str, Any], rule: Rule) -> None:
    api = registered(**members)

    assert rule in {complaint.rule for complaint in api.complaints}


@pytest.mark.parametrize("members", [{"JobTypes": {}}, {"MaxParallelJobs": "2"}, {"metadata": "{}", "Metadata": {}}])
def test_a_registration_of_the_wrong_shape_is_dropped(members: dict[str, Any]) -> None:
    """`Metadata` is a text (WIRE.md 3.6)."""
    api = registered(**members)

    assert len(api.dropped) == 1
    assert not api.workers


def test_an_instance_that_is_silent_for_three_intervals_is_swept() -> None:
    """By the clock of the worker, every 30 s; looked at, its worker is then gone until it registers again."""
    api = registered()
    job = api.create_job("SendJob")

    beat(api, 20, heartbeat(16))
    beat(api, 30)
    assert api.workers[WORKER].is_active

    beat(api, 60)
    assert [(gone.instance_id, gone.why) for gone in api.registry.departures] == [(INSTANCE, Gone.SWEPT)]
    assert api.dispatcher.held_back(job) == "its worker 'mail' is not active"
    beat(api, 61, heartbeat(61))
    assert WORKER not in api.workers

    api.take(REGISTRATIONS, registration(), START + 62)
    assert api.dispatcher.held_back(job) is None


def test_an_interval_of_zero_flaps() -> None:
    """Every sweep drops the instance, the next heartbeat brings it back (WIRE.md 3.6)."""
    api = registered({"HeartbeatInterval": 0})

    beat(api, 29, heartbeat(29))
    beat(api, 30)
    assert not api.workers[WORKER].is_active

    beat(api, 31, heartbeat(31))
    assert api.workers[WORKER].is_active


def test_entries_end_when_nothing_renews_them() -> None:
    """An instance after 2 minutes, a worker after 5, however long its interval is (WIRE.md 4.7)."""
    api = registered({"HeartbeatInterval": 1000})

    beat(api, 119)
    assert api.workers[WORKER].is_active
    beat(api, 120)
    assert [gone.why for gone in api.registry.departures] == [Gone.EXPIRED]
    assert WORKER in api.workers
    beat(api, 300)
    assert not api.workers


def test_the_newest_heartbeat_counts_and_a_registration_sets_the_jobs_to_zero() -> None:
    api = registered()

    beat(api, 2, heartbeat(2, 2), heartbeat(1, 1))
    assert api.workers[WORKER].current_jobs == 2
    assert api.dispatcher.held_back(api.create_job("SendJob")) == "its worker has 2 of 2 jobs"

    api.take(REGISTRATIONS, registration(), START + 3)
    assert api.workers[WORKER].current_jobs == 0


def test_a_goodbye_is_for_good() -> None:
    """It removes the instance at once; a later heartbeat would bring it back."""
    api = registered()

    beat(api, 2, heartbeat(2, IsStopping=True))
    assert [gone.why for gone in api.registry.departures] == [Gone.GOODBYE]
    api.assert_content()

    beat(api, 3, heartbeat(3))
    assert [complaint.rule for complaint in api.complaints] == [Rule.BEAT_AFTER_STOPPING]


@pytest.mark.parametrize("members", [{"CurrentJobs": -1}, {"WorkerId": None}, {"IsStopping": True, "CurrentJobs": 1}])
def test_a_heartbeat_that_makes_no_sense(members: dict[str, object]) -> None:
    api = registered()

    beat(api, 1, heartbeat(1, **members))  # type: ignore[arg-type]

    assert [complaint.rule for complaint in api.complaints] == [Rule.HEARTBEAT]


def test_a_registration_updates_patterns_and_takes_over_the_jobs_of_a_dead_worker() -> None:
    """WIRE.md 4.7."""
    api = registered()
    job = api.register_job(JOB, "SendJob", worker_id="gone", routing_pattern="gone.send.*")

    api.take(REGISTRATIONS, registration(), START + 1)
    assert (job.worker_id, job.routing_pattern) == (WORKER, "mail.send.*")

    api.take(REGISTRATIONS, registration(RoutingPatterns={"SendJob": "other.*"}), START + 2)
    assert job.routing_pattern == "other.*"


def test_a_job_of_policy_skip_waits_for_the_end_of_the_running_one() -> None:
    """By job, not by occurrence (WIRE.md 4.1)."""
    api = registered()
    job = api.create_job("SendJob")
    api.database.running.add(job.id)

    assert api.dispatcher.held_back(job) == "it is running and its policy is Skip"
    job.skips_when_running = False
    assert api.dispatcher.held_back(job) is None
