"""Both readmes' JSON files load unchanged, and every key in them has a stated meaning.

It is used; or it has no effect, and a line says why: a warning where somebody would miss it, else a note that
`config check` shows.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.readmes import AEVATAR_README, SDK_OFFLINE, SDK_README, SDK_RETRIES

from milvaion_trio.configuration import Resolved, resolve
from milvaion_trio.configuration.keys import find
from milvaion_trio.model.settings import WorkerSettings

FILES = {"sdk": SDK_README, "sdk, outbox": SDK_OFFLINE, "sdk, retries": SDK_RETRIES, "aevatar": AEVATAR_README}

USED = "used"
HISTORY = "used as Worker:Monitor:Mongodb"
SEE_WORKER = "OfflineResilience is read inside of Worker only; write Worker:OfflineResilience."

MEANINGS = {
    "sdk": {
        "Worker:WorkerId": USED,
        "Worker:MaxParallelJobs": USED,
        "Worker:RabbitMQ:Host": USED,
        "Worker:RabbitMQ:Port": USED,
        "Worker:RabbitMQ:Username": USED,
        "Worker:RabbitMQ:Password": USED,
        "Worker:RabbitMQ:VirtualHost": USED,
        "Worker:Redis:ConnectionString": USED,
        "Worker:Redis:Database": USED,
        "Worker:Heartbeat:Enabled": USED,
        "Worker:Heartbeat:IntervalSeconds": USED,
        "Worker:OfflineResilience:Enabled": USED,
        "Worker:OfflineResilience:LocalStoragePath": USED,
        "JobConsumers:SendEmailJob:ConsumerId": USED,
        "JobConsumers:SendEmailJob:MaxParallelJobs": USED,
        "JobConsumers:SendEmailJob:ExecutionTimeoutSeconds": USED,
        "JobConsumers:SendEmailJob:MaxRetries": USED,
        "JobConsumers:SendEmailJob:BaseRetryDelaySeconds": USED,
        "JobConsumers:SendEmailJob:RoutingPatterns:0": USED,
    },
    "sdk, outbox": {
        "OfflineResilience:Enabled": SEE_WORKER,
        "OfflineResilience:LocalStoragePath": SEE_WORKER,
        "OfflineResilience:SyncIntervalSeconds": SEE_WORKER,
    },
    "sdk, retries": {
        "JobConsumers:UnreliableApiJob:ConsumerId": USED,
        "JobConsumers:UnreliableApiJob:MaxRetries": USED,
        "JobConsumers:UnreliableApiJob:BaseRetryDelaySeconds": USED,
    },
    "aevatar": {
        "App:Name": "App has no effect; it is another program's; this worker is named by Worker:WorkerId.",
        "ConnectionStrings:Default": HISTORY,
        "Orleans:ClusterId": "Orleans has no effect; this worker joins no Orleans cluster.",
        "Orleans:ServiceId": "Orleans has no effect; this worker joins no Orleans cluster.",
        "Orleans:ClientName": "Orleans has no effect; this worker joins no Orleans cluster.",
        "Redis:Configuration": "Redis:Configuration has no effect; cancel signals come over the Redis of "
        "Worker:Redis:ConnectionString: write it there.",
        "Dapr:HttpPort": "Dapr has no effect; this version joins no Dapr event bus.",
        "Dapr:GrpcPort": "Dapr has no effect; this version joins no Dapr event bus.",
        "Serilog:MinimumLevel:Default": "Serilog has no effect; logs are set with --log-level and --log-format",
        "Serilog:MinimumLevel:Override:Microsoft": "Serilog has no effect; logs are set with --log-level",
        "Serilog:MinimumLevel:Override:System": "Serilog has no effect; logs are set with --log-level",
    },
}
"""What becomes of every key, by the name of the file."""

WARNED = {"OfflineResilience", "Redis"}
"""Sections that somebody would miss."""


def read(text: str) -> Resolved:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "appsettings.json").write_text(text)
        return resolve(WorkerSettings(), environ={}, folder=Path(folder))


def keys(value: object, *path: str) -> Iterator[str]:
    """Every value in a JSON text, by its path as .NET writes it."""
    match value:
        case dict():
            for name, member in value.items():
                yield from keys(member, *path, name)
        case list():
            for number, item in enumerate(value):
                yield from keys(item, *path, str(number))
        case _:
            yield ":".join(path)


@pytest.mark.parametrize("name", FILES)
def test_no_key_of_the_readmes_is_left_out(name: str) -> None:
    assert list(keys(json.loads(FILES[name]))) == list(MEANINGS[name])


@pytest.mark.parametrize(("name", "key"), [(name, key) for name in MEANINGS for key in MEANINGS[name]])
def test_every_key_means_what_is_stated(name: str, key: str) -> None:
    resolved, meaning = read(FILES[name]), MEANINGS[name][key]

    if meaning in (USED, HISTORY):
        place = ("monitor", "mongodb") if meaning == HISTORY else find(key.split(":")).place[:3]
        assert resolved.origins[place] == "appsettings.json"
        assert not any(key in line for line in resolved.warnings + resolved.notes)
    else:
        lines = resolved.warnings if key.partition(":")[0] in WARNED else resolved.notes
        (line,) = [line for line in lines if line.startswith(f"appsettings.json: {meaning}")]
        assert line not in (resolved.notes if lines is resolved.warnings else resolved.warnings)


def test_a_section_that_nobody_here_knows_is_somebody_elses() -> None:
    resolved = read('{"Worker": {}, "Nobody": {"A": 1, "B": [2]}, "Jobs": {"A": 1}}')

    assert resolved.notes == ("appsettings.json: Nobody has no effect; it is another program's.",)
    assert resolved.warnings == ("appsettings.json: Jobs is no section that is read here; did you mean JobConsumers?",)


@pytest.mark.parametrize(
    ("text", "upper"),
    [
        ('{"Worker": {}, "RabbitMQ": {"Host": "h"}}', "RabbitMQ is read inside of Worker only; write Worker:RabbitMQ."),
        ('{"Worker": {}, "redis": {"Password": ""}}', "redis is read inside of Worker only; write Worker:Redis."),
        ('{"Worker": {}, "WorkerId": "w"}', "WorkerId is read inside of Worker only; write Worker:WorkerId."),
    ],
)
def test_what_stands_outside_of_worker_is_told(text: str, upper: str) -> None:
    """It is not read there by .NET either, and whoever wrote it thinks it is."""
    assert read(text).warnings == (f"appsettings.json: {upper}",)


@pytest.mark.parametrize(
    ("name", "below"), [("RabbitMQ", '{"Connections": {"Default": {"HostName": "h"}}}'), ("Wire", '{"Gauge": 5}')]
)
def test_a_section_of_another_library_with_the_same_name_is_not_ours(name: str, below: str) -> None:
    """ABP's RabbitMQ, for one."""
    resolved = read(f'{{"Worker": {{}}, "{name}": {below}}}')

    assert resolved.warnings == ()
    assert resolved.notes == (f"appsettings.json: {name} has no effect; it is another program's.",)
