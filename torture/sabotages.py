"""Defects to order: each takes one safeguard out of a worker process, so that a scenario shows that it would notice.

Each is a function that puts something else in the place of a function of the library (`wrapping`). The scenario that
names it says which invariant it must break.
"""

import importlib
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import evolve

from torture.disk_sabotages import DISK_SABOTAGES, PRETENCES
from torture.link_sabotages import LINK_SABOTAGES
from torture.scheduler_sabotages import SCHEDULER_SABOTAGES
from torture.wrapping import replace

__all__ = ["SABOTAGES", "install"]

RUNTIME: Final = "milvaion_trio.runtime"


def running_after_final() -> None:
    """Say once more that the job runs, behind its final status."""

    def make(conclude: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(reporter: Any, delivery: Any, attempt: Any, job: Any, *rest: Any, **facts: Any) -> Any:
            written = conclude(reporter, delivery, attempt, job, *rest, **facts)

            async def then_running() -> None:
                await written
                late = reporter.waiting(attempt.occurrence_id, job)
                ports = importlib.import_module("milvaion_trio.ports")
                reporter._outbox.add(ports.Report(ports.ReportKind.RUNNING, late, attempt.occurrence_id))

            return then_running()

        return wrong

    replace(f"{RUNTIME}.reporting:Reporter.conclude", make)


def ack_first() -> None:
    """Ack a message when its job begins, and not when all that replaces it is confirmed."""

    def acked(begin: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(runs: Any, admission: Any, delivery: Any, registered: Any) -> Any:
            delivery.ack()
            return begin(runs, admission, delivery, registered)

        return wrong

    replace(f"{RUNTIME}.runs:Runs.begin", acked)
    replace(f"{RUNTIME}.run:Run.ack", _nothing)
    replace(f"{RUNTIME}.run:Run.requeue", _nothing)


def not_concluded() -> None:
    """Forget which attempts were concluded."""
    for adapter in ("memory:MemoryOutbox", "disk:DiskOutbox"):
        try:
            replace(f"milvaion_trio.outbox.{adapter}.is_concluded", lambda _: lambda *__: False)
        except ImportError:
            continue


def transient_status() -> None:
    """Publish statuses so that they do not survive the broker."""

    def make(report: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(*args: Any, **facts: Any) -> Any:
            made = report(*args, **facts)
            publication = made.publication
            return evolve(made, publication=evolve(publication, message=evolve(publication.message, persistent=False)))

        return wrong

    replace(f"{RUNTIME}.reporting:Reporter._status", make)


def classic_wait_queues() -> None:
    """Let retries wait in classic queues, as is usual."""
    ladder = importlib.import_module("milvaion_trio.broker.ladder")
    kept = ("x-message-ttl", "x-dead-letter-exchange")
    queues = tuple(
        evolve(queue, arguments={name: value for name, value in queue.arguments.items() if name in kept})
        if "x-message-ttl" in queue.arguments
        else queue
        for queue in ladder.LADDER.queues
    )
    classic = evolve(ladder.LADDER, queues=queues)
    for module in ("ladder", "rabbitmq.publisher", "rabbitmq.consumer"):
        importlib.import_module(f"milvaion_trio.broker.{module}").LADDER = classic  # type: ignore[attr-defined]


def shutdown_cancels() -> None:
    """Report what a shutdown interrupts as cancelled, as the .NET worker does."""
    outcome = importlib.import_module("milvaion_trio.model.outcome")

    def make(conclude: Callable[..., Any]) -> Callable[..., Any]:
        def wrong(runs: Any, run: Any, ended: Any, at: Any) -> Any:
            if isinstance(ended, outcome.Interrupted):
                ended = outcome.Cancelled("the worker shuts down", None)
            return conclude(runs, run, ended, at)

        return wrong

    replace(f"{RUNTIME}.runs:Runs._conclude", make)


def deaths_not_counted() -> None:
    """Forget how many processes died while an attempt ran."""
    replace("milvaion_trio.outbox.disk:DiskOutbox.deaths", lambda _: lambda *__: 0)


def suspects_not_alone() -> None:
    """Run what a process may have died of beside others, like everything else."""
    importlib.import_module("milvaion_trio.policy.admission").SUSPECT_DEATHS = 99  # type: ignore[attr-defined]


def leases_for_everybody() -> None:
    """Grant every lease, and renew it, without asking."""

    def granted(_: Callable[..., Any]) -> Callable[..., Any]:
        async def acquire(*_: object) -> int:
            return time.time_ns()

        return acquire

    def renewed(_: Callable[..., Any]) -> Callable[..., Any]:
        async def renew(*_: object) -> bool:
            return True

        return renew

    replace("milvaion_trio.coordination.redis.adapter:RedisCoordination.acquire", granted)
    replace("milvaion_trio.coordination.redis.adapter:RedisCoordination.renew", renewed)


def leases_never_lost() -> None:
    """Go on with a job whose lease is lost."""
    replace("milvaion_trio.runtime.holds:Hold.lose", _nothing)


SABOTAGES: Final[Mapping[str, Callable[[], None]]] = {
    "leases-for-everybody": leases_for_everybody,
    "leases-never-lost": leases_never_lost,
    "running-after-final": running_after_final,
    "ack-first": ack_first,
    "not-concluded": not_concluded,
    "transient-status": transient_status,
    "classic-wait-queues": classic_wait_queues,
    "shutdown-cancels": shutdown_cancels,
    "deaths-not-counted": deaths_not_counted,
    "suspects-not-alone": suspects_not_alone,
    **LINK_SABOTAGES,
    **DISK_SABOTAGES,
    **SCHEDULER_SABOTAGES,
}


def install(name: str) -> None:
    """Take one safeguard out. Raises `KeyError` for an unknown name, `LookupError` where the library has changed."""
    {**SABOTAGES, **PRETENCES}[name]()


def _nothing(_: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: None
