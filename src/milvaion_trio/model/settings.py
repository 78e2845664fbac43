"""The settings of a worker and of its jobs, as values.

Separate from where they are read (files, environment, command line): whatever the source, the same rules hold here.
A `WorkerSettings` or `JobSettings` that exists is valid; making one reports every mistake in it at once.
What files and variables call each of them stands in `configuration.keys`.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Annotated, Self, TypeAlias, TypedDict

from attrs import evolve, field, fields, frozen

from milvaion_trio.model.broker_address import ADDRESS, ADDRESS_WORDS, BrokerAddress, parse_broker_address
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.redis_address import without_password
from milvaion_trio.model.schedule_settings import ScheduleSettings
from milvaion_trio.model.settings_rules import Form, Range, hidden, problems_of
from milvaion_trio.model.wire import Dialect

__all__ = [
    "WorkerSettings",
    "JobSettings",
    "JobPolicy",
    "RabbitMQSettings",
    "RedisSettings",
    "HeartbeatSettings",
    "OfflineResilienceSettings",
    "ReportingSettings",
    "SchedulerSettings",
    "MonitorSettings",
    "ExternalSchedulerSettings",
    "ShutdownSettings",
]

Count: TypeAlias = Annotated[int, Range(1)]
WholeNumber: TypeAlias = Annotated[int, Range(0)]
Seconds: TypeAlias = Annotated[float, Range(0)]
HoldBack: TypeAlias = Annotated[float, Range(0, 60)]  # Milvaion gives up what is queued for ten minutes
Interval: TypeAlias = Annotated[float, Range(0.001)]
Fraction: TypeAlias = Annotated[float, Range(0, 1)]
ProcessCount: TypeAlias = Annotated[int, Range(0, 256)]  # with one digit too many it stays a mistake
Port: TypeAlias = Annotated[int, Range(1, 65535)]
Text: TypeAlias = Annotated[str, Form(r"[\s\S]+", "a text that is not empty")]
HostName: TypeAlias = Annotated[
    str,
    Form(
        r"[^\s/@:]+|[^\s/@:]*:[^\s/@]*:[^\s/@]*",  # the second is an IPv6 address
        "a host's name or address alone; port, user and password have settings of their own",
    ),
]
# WIRE.md 1.3: the API splits keys at `:` and its column has 100 characters; `*` and `#` are wildcards.
GroupName: TypeAlias = Annotated[str, Form(r"[A-Za-z0-9._-]{1,100}", "1 to 100 of the characters A-Z a-z 0-9 . _ -")]
Durability: TypeAlias = Annotated[str, Form("NORMAL|FULL", "NORMAL or FULL")]
Address: TypeAlias = Annotated[str, Form(ADDRESS, ADDRESS_WORDS)]
Reported: TypeAlias = Annotated[str, Form("all|none", "all or none")]
Driver: TypeAlias = Annotated[str, Form("amqp|aio-pika", "amqp or aio-pika")]
Authentication: TypeAlias = Annotated[str, Form("PLAIN|EXTERNAL", "PLAIN or EXTERNAL")]


def _listed(value: Iterable[object] | None) -> object:
    """A list as a tuple; anything else stays as it is, for the check to name it. A text is no list of letters."""
    return tuple(value) if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping) else value


# Two that do the same: type checkers do not follow a generic converter into the constructor.


def _read_only_jobs(jobs: Mapping[str, "JobSettings"]) -> Mapping[str, "JobSettings"]:
    return MappingProxyType(dict(jobs))


def _read_only_schedules(schedules: Mapping[str, ScheduleSettings]) -> Mapping[str, ScheduleSettings]:
    return MappingProxyType(dict(schedules))


def _same(settings: "WorkerSettings") -> Iterator[str]:
    for what, names in (("jobs", settings.jobs), ("schedules", settings.schedules)):
        spelled: dict[str, str] = {}
        for name in names:
            if (other := spelled.setdefault(name.lower(), name)) != name:
                yield f"{what} has {other!r} and {name!r}; names are the same in any case."


class JobPolicy(TypedDict, total=False):
    """The keywords of the `job` decorators: the fields of `JobSettings`."""

    max_retries: int | None
    base_retry_delay: float | None
    timeout: float | None
    max_parallel: int | None
    consumer_id: str | None
    routing_patterns: Iterable[str] | None
    retry_on_timeout: bool | None
    jitter: float | None
    max_delay: float | None
    never_retry: Iterable[type[BaseException]] | None
    exclusive: str | None
    unique: str | None


@frozen(kw_only=True)
class JobSettings:
    """How one job is run. `None` means that it inherits: file over decorator over the worker's job defaults."""

    max_retries: WholeNumber | None = None
    """Retries after the first run; 3 where nothing says otherwise."""
    base_retry_delay: Seconds | None = None
    """Seconds before the first retry, doubled for each further one; 60."""
    timeout: Seconds | None = None
    """Seconds a run may take, 0 for no limit; the worker's."""
    max_parallel: Count | None = None
    """Runs of this job at the same time, in this process; the worker's."""
    consumer_id: Text | None = None
    """A name shown in the dashboard; made from the job's name."""
    routing_patterns: tuple[Text, ...] | None = field(default=None, converter=_listed)
    """The first names the queue, more are bound to it; made from the names."""
    retry_on_timeout: bool | None = None
    """Whether a run that hit its time limit is tried again; no, as in Milvaion."""
    jitter: Fraction | None = None
    """Fraction by which retry delays are spread: 0.1 means ±10 %; 0."""
    max_delay: Seconds | None = None
    """No retry waits longer than these seconds; only the 30 days that hold for all."""
    never_retry: tuple[type[BaseException], ...] | None = field(default=None, converter=_listed)
    """Exceptions that fail the job for good, like `PermanentFailure`; none. Only in code, as they are classes."""
    exclusive: Text | None = None
    """A key of which one run goes on at a time, with the data's fields in braces: `account-{account}`. Ours."""
    unique: Text | None = None
    """A key of which one occurrence waits or runs at a time, made alike, claimed by our own clients. Ours."""

    def __attrs_post_init__(self) -> None:
        """Refuse values that mean nothing."""
        if problems := problems_of(self):
            raise SettingsError(problems)

    def over(self, other: "JobSettings") -> Self:
        """These settings, and the other's where these inherit."""
        inherited = {
            attribute.name: getattr(other, attribute.name)
            for attribute in fields(type(self))
            if getattr(self, attribute.name) is None
        }
        return evolve(self, **inherited)


# Sections are checked by the WorkerSettings they are part of, so that one report names the mistakes of all of them.


@frozen(kw_only=True)
class RabbitMQSettings:
    """Where the broker is, and what it was told."""

    host: HostName = "localhost"
    """Its name or address."""
    tls: bool = False
    """Whether it is reached over TLS (amqps) instead of in plain text. Ours."""
    port: Port = field()
    """Its port for AMQP; over TLS it is 5671 unless given.

    Where code gives the usual port and a file or variable switches TLS on or off, the other usual one is taken.
    """

    @port.default
    def _usual_port(self) -> int:
        return 5671 if self.tls else 5672

    further_hosts: tuple[Address, ...] = field(default=(), converter=_listed)
    """Others of the same cluster, tried in turn where the first lets nobody in; on its port unless they name one.

    Ours.
    """
    username: str = "guest"
    """Who connects; needs the right to configure, write and read."""
    password: str = field(default="guest", repr=hidden)
    """Never shown."""
    virtual_host: Text = "/"
    """The virtual host, the same as the API's."""
    authentication: Authentication = "PLAIN"
    """PLAIN logs in by name and password, EXTERNAL by the certificate of this worker, without either. Ours."""
    tls_ca_file: str = ""
    """A file with the certificates that are trusted, in PEM form; empty for those of the system. Ours."""
    tls_certificate_file: str = ""
    """The file of this worker's own certificate, in PEM form, where RabbitMQ asks for one. Ours."""
    tls_key_file: str = ""
    """The file of the key to it; empty where the key stands in the file of the certificate. Ours."""
    tls_key_password: str = field(default="", repr=hidden)
    """What the key is encrypted with. Never shown. Ours."""
    tls_server_name: str = ""
    """The name that must be in RabbitMQ's certificate, where it is not the host's. Ours."""
    consumer_timeout: Seconds = 1800.0
    """Seconds after which this broker takes back a message that nobody acked, 0 for never. Ours.

    Only told here, set in the broker's own `consumer_timeout`; jobs that may run longer are warned about at start.
    """
    driver: Driver = "amqp"
    """What speaks AMQP: amqp is this package's own, on Trio; aio-pika the client of that name, on asyncio. Ours."""

    @property
    def addresses(self) -> tuple[BrokerAddress, ...]:
        """Where to connect, in the order of trying."""
        first = BrokerAddress(self.host, self.port)
        return (first, *(parse_broker_address(text, self.port) for text in self.further_hosts))


@frozen(kw_only=True)
class RedisSettings:
    """Where cancel signals come from."""

    connection_string: Text = field(default="localhost:6379", repr=without_password)
    """In StackExchange's form, `host:port[,password=…]…`. Empty in a file or variable: no Redis."""
    password: str = field(default="", repr=hidden)
    """Never shown. Empty for the one in the connection string, if any."""
    database: WholeNumber = 0
    """Number of the database."""
    cancellation_channel: Text = "Milvaion:JobScheduler:cancellation_channel"
    """The channel on which the API says what to cancel."""


@frozen(kw_only=True)
class HeartbeatSettings:
    """How often the worker and its jobs say that they are alive."""

    enabled: bool = True
    """Whether the worker sends any but the one after each registration."""
    interval: Interval = 30.0
    """Seconds between the worker's heartbeats."""
    job_interval: Seconds = 60.0
    """Seconds between a running job's heartbeats, 0 for none."""


@frozen(kw_only=True)
class OfflineResilienceSettings:
    """The outbox on disk, of workers on RabbitMQ: what is concluded is not run again when the process dies."""

    enabled: bool = True
    """Off keeps the outbox in memory. On unless said otherwise, unlike in the .NET SDK's readme."""
    local_storage_path: Text = "./worker_data"
    """The folder of the outbox, made where it is missing; each worker process on a machine needs one of its own."""
    durability: Durability = "NORMAL"
    """NORMAL survives the death of the process, FULL the loss of power too. Ours."""


@frozen(kw_only=True)
class ReportingSettings:
    """What is told about jobs. Ours."""

    mode: Reported = "all"
    """Which jobs are reported: all, or none, for work that nobody watches.

    Without reports there are no statuses, logs and dead letters; retries, limits and acks last stay as they are.
    """
    running_after: HoldBack = 0.0
    """Seconds after which a job is reported as running; one that ends before is reported as ended only.

    Its last status says when it began. With 0.05 short jobs cost RabbitMQ a fifth less.
    """
    local_occurrences: bool = False
    """Whether occurrences of our own clients are reported too; a Milvaion API does not know them."""


@frozen(kw_only=True)
class SchedulerSettings:
    """Who turns schedules into runs. Ours."""

    enabled: bool = True
    """Whether this worker does it too, when its turn comes; of all that may, one leads.

    On RabbitMQ that needs Redis.
    """
    lease: Annotated[float, Range(1, 300)] = 10.0
    """Seconds after which another leads when the leader is silent."""
    report: bool = False
    """Whether the leader shows schedules and their runs on the Milvaion server, as external jobs.

    To be the same for all that may lead.
    """


@frozen(kw_only=True)
class MonitorSettings:
    """What `milvaion-trio monitor` keeps, and where. Ours."""

    store: Text = "./monitor_data/history.db"
    """The file of the history, SQLite's; its folder is made where it is missing."""
    mongodb: str = field(default="", repr=hidden)
    """Instead of the file: a `mongodb://` address with the name of a database. Never shown."""
    zombie_timeout: Interval = 600.0
    """Seconds without a word after which an occurrence counts as lost, unless its job says otherwise."""
    check_interval: Interval = 30.0
    """Seconds between looks for lost occurrences and workers."""
    retention_days: Seconds = 30.0
    """Days for which ended occurrences are kept, 0 for ever."""
    batch_interval: Interval = 0.1
    """Seconds for which messages are collected before they are written together."""


@frozen(kw_only=True)
class ExternalSchedulerSettings:
    """Runs of other schedulers, which a program only reports."""

    source: str = ""
    """What the server calls their scheduler, e.g. APScheduler; milvaion-trio where it is empty."""


@frozen(kw_only=True)
class ShutdownSettings:
    """How long leaving may take: 28 s together, inside the 30 s Kubernetes gives. Ours."""

    drain_timeout: Seconds = 20.0
    """Seconds that running jobs get to end by themselves."""
    cleanup_timeout: Seconds = 5.0
    """Seconds that a cancelled job gets to clean up."""
    flush_timeout: Seconds = 3.0
    """Seconds for the last reports to reach the broker."""


@frozen(kw_only=True)
class WorkerSettings:
    """Everything a worker can be told."""

    worker_id: GroupName = "worker"
    """Name of the worker group; all its processes share queues."""
    max_parallel_jobs: Count = 10
    """Jobs that run at the same time in this process."""
    processes: ProcessCount = 0
    """Processes that `milvaion-trio run` starts and keeps running, 0 to serve in its own. Ours."""
    max_jobs_per_process: WholeNumber = 0
    """Jobs after which a process leaves, for its supervisor to start another; 0 for no limit. Ours."""
    execution_timeout: Seconds = 300.0
    """Seconds a job may take unless it or its message says otherwise, 0 for ever."""
    startup_connection_timeout: Annotated[float, Range(-math.inf)] = 30.0
    """Seconds to try for the broker at start, 0 or less for ever."""
    exclusive_lease: Annotated[float, Range(3, 3600)] = 15.0
    """Seconds after which the exclusive key of a job is free again when its worker has died. Ours."""
    wire: Dialect = Dialect.V1_1
    """Which Milvaion the statuses and logs are written for. Ours."""
    rabbitmq: RabbitMQSettings | None = None
    """`None` runs the jobs on the embedded broker, in this process."""
    redis: RedisSettings | None = None
    """`None` hears cancel signals of this process only."""
    heartbeat: HeartbeatSettings = field(factory=HeartbeatSettings)
    offline_resilience: OfflineResilienceSettings = field(factory=OfflineResilienceSettings)
    reporting: ReportingSettings = field(factory=ReportingSettings)
    scheduler: SchedulerSettings = field(factory=SchedulerSettings)
    monitor: MonitorSettings = field(factory=MonitorSettings)
    external_scheduler: ExternalSchedulerSettings = field(factory=ExternalSchedulerSettings)
    shutdown: ShutdownSettings = field(factory=ShutdownSettings)
    job_defaults: JobSettings = field(factory=JobSettings)
    """For jobs that do not say it themselves. Ours."""
    jobs: Mapping[str, JobSettings] = field(default=MappingProxyType({}), converter=_read_only_jobs)
    """What is said about single jobs, over their decorators, by job name in any case."""
    schedules: Mapping[str, ScheduleSettings] = field(default=MappingProxyType({}), converter=_read_only_schedules)
    """When jobs run by themselves, by the name of the schedule in any case, over what decorators say. Ours."""

    def __attrs_post_init__(self) -> None:
        """Refuse values that mean nothing, those of the sections included, and what is named twice."""
        if problems := problems_of(self) or list(_same(self)):
            raise SettingsError(problems)
