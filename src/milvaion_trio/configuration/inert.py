"""Keys that settings files hold and that do nothing here, with the reason.

Two kinds: those of .NET workers (WIRE.md 10), in the sections that are read, and those of other programs beside them.
Separate because it is data: one list for warnings, for `config check` and for the documentation.
"""

from collections.abc import Sequence
from typing import Final

from attrs import frozen

__all__ = ["ANY_JOB", "ANY_SCHEDULE", "FOREIGN", "WITHOUT_EFFECT", "WithoutEffect", "foreign"]

ANY_JOB: Final = "<job>"
"""Stands in a place and in a path where the name of a job does."""
ANY_SCHEDULE: Final = "<schedule>"
"""The same for the name of a schedule."""


@frozen(kw_only=True)
class WithoutEffect:
    """A key, or a section with all its keys, that is known and does nothing here."""

    path: tuple[str, ...]
    why: str
    is_missed: bool = False
    """Whether somebody who sets it expects something that this version does not do, and so is warned."""
    is_planned: bool = False
    """Whether a later version is to heed it."""


def _key(path: str, why: str, *, is_missed: bool = False, is_planned: bool = False) -> WithoutEffect:
    return WithoutEffect(path=tuple(path.split(":")), why=why, is_missed=is_missed, is_planned=is_planned)


_NO_FILES = "this version writes no health files"
WITHOUT_EFFECT: Final = (
    _key("Worker:RabbitMQ:RoutingKeyPattern", "patterns are settings of jobs; .NET does not use it either"),
    _key("Worker:OfflineResilience:SyncIntervalSeconds", "reports leave as soon as the broker takes them"),
    _key("Worker:OfflineResilience:MaxSyncRetries", "no report is given up for the number of its tries"),
    _key("Worker:OfflineResilience:CleanupIntervalHours", "a report is removed when the broker has it"),
    _key("Worker:OfflineResilience:RecordRetentionDays", "a status is kept until the broker has it, a log for a day"),
    _key("Worker:HealthCheck:Enabled", _NO_FILES, is_missed=True, is_planned=True),
    _key("Worker:HealthCheck:LiveFilePath", _NO_FILES, is_planned=True),
    _key("Worker:HealthCheck:ReadyFilePath", _NO_FILES, is_planned=True),
    _key("Worker:HealthCheck:IntervalSeconds", _NO_FILES, is_planned=True),
    _key(f"JobConsumers:{ANY_JOB}:LogUserFriendlyLogsViaLogger", "jobs' logs go to the API only", is_missed=True),
)
"""Of .NET workers."""

_LOG_LEVELS = "logs are set with --log-level and --log-format, or by logging in your code"
_WEB = "this worker answers no HTTP requests"
FOREIGN: Final = (
    _key("App", "it is another program's; this worker is named by Worker:WorkerId"),
    _key(
        "ConnectionStrings",
        "of these only a Default that begins with mongodb is read, as Worker:Monitor:Mongodb; your jobs may read the "
        "others themselves",
    ),
    _key("Orleans", "this worker joins no Orleans cluster"),
    _key(
        "Redis:Configuration",
        "cancel signals come over the Redis of Worker:Redis:ConnectionString: write it there",
        is_missed=True,
    ),
    _key("Dapr", "this version joins no Dapr event bus", is_planned=True),
    _key("Serilog", _LOG_LEVELS, is_planned=True),
    _key("Logging", _LOG_LEVELS, is_planned=True),
    _key("AllowedHosts", _WEB),
    _key("Kestrel", _WEB),
    _key("Urls", _WEB),
)
"""Of other programs, whose sections stand in the same files."""


def foreign(path: Sequence[str]) -> WithoutEffect | None:
    """The entry of `FOREIGN` that this path stands in; names in any case."""
    folded = tuple(name.lower() for name in path)
    for key in FOREIGN:
        if folded[: len(key.path)] == tuple(name.lower() for name in key.path):
            return key
    return None
