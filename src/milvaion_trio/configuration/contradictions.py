"""Where code and settings, or two settings, contradict each other.

A contradiction about where jobs run stops the start; one that only leaves a setting without effect is a warning.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from milvaion_trio.configuration.resolution import Resolved
from milvaion_trio.model.errors import SettingsError
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.policy.consumer_timeout import consumer_timeout_warnings
from milvaion_trio.policy.guarding import exclusive_lease_problems
from milvaion_trio.policy.login import login_contradictions
from milvaion_trio.runtime.registry import RegisteredJob

__all__ = ["contradictions", "doubts", "keyless", "refuse_if_made", "unheard", "unkept"]

_FORGOTTEN: Final = 120.0
"""Seconds without a heartbeat after which Milvaion forgets a worker (WIRE.md 4.7, life time of an instance entry)."""
_ZOMBIE: Final = 300.0
"""Seconds without a sign of a running job after which Milvaion gives it up, in its shipped settings (WIRE.md 4.8)."""


def contradictions(resolved: Resolved, settings: WorkerSettings, given: Iterable[str]) -> Iterator[str]:
    """One line for each server that the settings name although the code has `given` its own, `broker` or `signals`."""
    for own, section, names in (("broker", "rabbitmq", "RabbitMQ"), ("signals", "redis", "Redis")):
        whose = "a broker" if own == "broker" else own
        said = dict.fromkeys(origin for place, origin in resolved.origins.items() if place[0] == section)
        if own in given and said and getattr(settings, section) is not None:
            yield (
                f"The settings name {names} ({', '.join(said)}), and the code gives this worker {whose} of its own: "
                f"Worker({own}=…). Leave one of them out."
            )
    if settings.rabbitmq is not None:
        yield from login_contradictions(settings.rabbitmq)


def unkept(settings: WorkerSettings, schedules: Iterable[str], *, is_kept: bool) -> Iterator[str]:
    """A line where there are schedules and nobody to keep them: RabbitMQ cannot say who of several leads."""
    names = ", ".join(map(repr, schedules))
    if names and not is_kept and settings.scheduler.enabled:
        yield (
            f"This worker has schedules ({names}) and is on RabbitMQ without Redis. Schedules are kept in Redis, so "
            "that of several processes one dispatches each tick: name one (Worker:Redis:ConnectionString), or have "
            "them run elsewhere (Worker:Scheduler:Enabled false, and milvaion-trio scheduler where there is a Redis)."
        )


def unheard(settings: WorkerSettings, *, is_embedded: bool) -> Iterator[str]:
    """A line where runs of schedules are to be shown on a server that cannot be there, or would be told of them twice.

    A dead letter of an occurrence that it knows by such a report would hold up all others there for ever: it names a
    job that the server does not have (WIRE.md 4.5). Workers send none, unless they report what our own clients made.
    """
    if not settings.scheduler.report:
        return
    if is_embedded:
        yield (
            "Schedules are to be shown on a Milvaion server (Worker:Scheduler:Report), and jobs run on the embedded "
            "broker, which no server can reach: name RabbitMQ (Worker:RabbitMQ), or set it to false."
        )
    elif settings.reporting.local_occurrences:
        yield (
            "Runs of schedules are to be shown by whoever leads (Worker:Scheduler:Report) and by the workers, too "
            "(Worker:Reporting:LocalOccurrences): a job that failed would keep Milvaion from taking any dead letter. "
            "Set one of them to false, for all workers."
        )


def keyless(settings: WorkerSettings, jobs: Iterable[RegisteredJob], *, is_kept: bool) -> Iterator[str]:
    """A line for each job whose keys nobody could keep, and one where leases are too short to be kept."""
    jobs = tuple(jobs)
    for job in () if is_kept else jobs:
        if words := " and ".join(filter(None, ["exclusive" if job.exclusive else "", "unique" if job.unique else ""])):
            yield (
                f"{job.name} has a key ({words}), and this worker is on RabbitMQ without Redis. Keys are kept in "
                "Redis, which all workers and clients have to share: name one (Worker:Redis:ConnectionString)."
            )
    if is_kept and any(job.exclusive is not None for job in jobs):
        yield from exclusive_lease_problems(settings.exclusive_lease, settings.shutdown.cleanup_timeout)


def refuse_if_made(parts: Mapping[str, object], given: Collection[str]) -> None:
    """Raise `SettingsError` if one of a worker's parts exists that the code has not given: by settings of before."""
    made = [name for name, part in parts.items() if part is not None and name not in given]
    if made:
        raise SettingsError(
            [
                f"The worker's {' and '.join(made)} came into use while its module was imported, by other settings "
                "than these. Call worker.client() and AsyncioClient.of(worker) inside of functions."
            ]
        )


def doubts(settings: WorkerSettings, jobs: Sequence[RegisteredJob]) -> Iterator[str]:
    """One line for each setting that does not do what it seems to."""
    for job in jobs:
        effective, retry = job.effective, job.effective.retry
        if effective.max_parallel > settings.max_parallel_jobs:
            yield (
                f"{job.name} may run {effective.max_parallel} times at once (MaxParallelJobs), which is never reached: "
                f"this worker runs {settings.max_parallel_jobs} jobs at once (Worker:MaxParallelJobs)."
            )
        if retry.retry_on_timeout and retry.max_retries == 0:
            yield f"{job.name} is to be retried after a timeout (RetryOnTimeout), and never at all (MaxRetries 0)."
    if settings.rabbitmq is None:
        return
    limits = {job.name: job.effective.timeout for job in jobs}
    yield from consumer_timeout_warnings(limits, settings.rabbitmq.consumer_timeout)
    heartbeat = settings.heartbeat
    if heartbeat.enabled and heartbeat.interval >= _FORGOTTEN:
        yield (
            f"A heartbeat every {heartbeat.interval:g} s (Worker:Heartbeat:IntervalSeconds) is too seldom: Milvaion "
            f"forgets a worker of which it has heard nothing for {_FORGOTTEN:g} s."
        )
    longest = max((limit or float("inf") for limit in limits.values()), default=0.0)
    if longest > _ZOMBIE and not 0 < heartbeat.job_interval < _ZOMBIE:
        yield (
            f"Jobs may run for over {_ZOMBIE:g} s without a heartbeat "
            f"(Worker:Heartbeat:JobHeartbeatIntervalSeconds {heartbeat.job_interval:g}): Milvaion then takes them for "
            "lost, and shows them as Unknown while they run."
        )
