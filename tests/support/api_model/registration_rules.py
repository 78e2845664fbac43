"""Whether a registration is one that jobs can be created and dispatched with (WIRE.md 1.3, 3.6, 8)."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from attrs import frozen
from tests.support.api_model.findings import Rule
from tests.support.api_model.messages import Registration
from tests.support.api_model.net_json import Unparsable, parse, plain
from tests.support.api_model.net_values import Members
from tests.support.api_model.postgres import JOB_NAME, WORKER_ID
from tests.support.api_model.topology import routing_key

__all__ = ["Metadata", "problems", "read_metadata"]

MAX_ROUTING_KEY: Final = 255


@frozen
class JobConfig:
    """One job in the metadata."""

    job_type: str
    consumer_id: str | None
    max_parallel_jobs: int
    execution_timeout_seconds: int


@frozen(kw_only=True)
class Metadata:
    """The inner JSON of a registration."""

    is_external: bool = False
    heartbeat_interval: int = 0
    job_configs: tuple[JobConfig, ...] = ()


def read_metadata(text: str | None) -> Metadata:
    """Read it; names are case-sensitive. Raises `Unparsable`: on the real API every worker list then fails."""
    if not text:
        return Metadata()
    members = Members(parse(text), "Metadata", case_matters=True)
    members.integer("ProcessorCount")
    for name in ("ExternalScheduler", "OSVersion", "RuntimeVersion"):
        members.text(name)
    configs = [Members(item, "JobConfigs", case_matters=True) for item in members.items("JobConfigs") or []]
    return Metadata(
        is_external=members.flag("IsExternal"),
        heartbeat_interval=members.integer("HeartbeatInterval"),
        job_configs=tuple(
            JobConfig(
                config.text("JobType") or "",
                config.text("ConsumerId"),
                config.integer("MaxParallelJobs"),
                config.integer("ExecutionTimeoutSeconds"),
            )
            for config in configs
        ),
    )


def problems(registration: Registration) -> Iterable[tuple[Rule, str]]:
    """Every rule that it breaks, with what is wrong."""
    for problem in [*_name_problems(registration), *_job_problems(registration)]:
        yield Rule.REGISTRATION, problem
    if registration.max_parallel_jobs < 1:
        yield Rule.REGISTRATION, f"MaxParallelJobs is {registration.max_parallel_jobs}: nothing is ever dispatched"
    for problem in _metadata_problems(registration):
        yield Rule.METADATA, problem
    for kind in (registration.data_definitions, registration.result_definitions):
        for problem in _schema_problems(kind, registration):
            yield Rule.SCHEMA, problem


def _name_problems(registration: Registration) -> Iterable[str]:
    for name, value in {"WorkerId": registration.worker_id, "InstanceId": registration.instance_id}.items():
        if not value:
            yield f"no {name}"
        elif ":" in value or "\0" in value or len(value) > WORKER_ID:
            yield f"{name} {value!r} has ':' or NUL or more than {WORKER_ID} characters"


def _job_problems(registration: Registration) -> Iterable[str]:
    if not registration.job_types:
        yield "no JobTypes: no job can be created"
    for name, times in Counter(name.lower() for name in registration.job_types).items():
        if times > 1:
            yield f"{times} jobs are called {name!r} when case is not looked at"
    for name in registration.job_types:
        if not name or set(name) & set(":*#\0") or len(name) > JOB_NAME or name.lower() == "job":
            yield f"job name {name!r}"
        pattern = registration.routing_patterns.get(name)
        if not pattern:
            yield f"no routing pattern for {name!r}, in exactly this case: it cannot be created"
        elif len(routing_key(pattern).encode()) > MAX_ROUTING_KEY:
            yield f"the routing key of {name!r} is too long"
    if foreign := registration.routing_patterns.keys() - set(registration.job_types):
        yield f"routing patterns of jobs that are not in JobTypes: {sorted(foreign)}"


def _metadata_problems(registration: Registration) -> Iterable[str]:
    try:
        metadata = read_metadata(registration.metadata)
    except Unparsable as error:
        yield str(error)
        return
    if metadata.heartbeat_interval <= 0:
        yield f"HeartbeatInterval is {metadata.heartbeat_interval}: dropped at every sweep"
    if {config.job_type for config in metadata.job_configs} != set(registration.job_types):
        yield "JobConfigs and JobTypes name different jobs"
    for config in metadata.job_configs:
        if config.max_parallel_jobs < 1 or not config.consumer_id:
            yield f"JobConfigs of {config.job_type}: MaxParallelJobs {config.max_parallel_jobs}, {config.consumer_id!r}"


def _schema_problems(definitions: Mapping[str, str], registration: Registration) -> Iterable[str]:
    for name, text in definitions.items():
        if name not in registration.job_types:
            yield f"a schema of {name!r}, which is not in JobTypes"
        try:
            schema = plain(parse(text))
        except Unparsable as error:
            yield f"{name}: {error}"
            continue
        if not isinstance(schema, dict) or not isinstance(schema.get("properties"), dict):
            yield f"{name}: no object with properties"
        elif not isinstance(schema.get("required"), list) or not isinstance(schema.get("title"), str):
            yield f"{name}: no required list or no title"
        elif missing := [field for field in schema["required"] if field not in schema["properties"]]:
            yield f"{name}: required but no property: {missing}"
