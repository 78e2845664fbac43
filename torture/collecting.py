"""From a play that is over to its evidence: what the API took, what processes wrote, what is left in queues and files.

Separate from the play, because it looks at everything and changes nothing.
"""

import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from attrs import evolve
from tests.support.amqp import Channel, Client, Closed, connect
from tests.support.api_model import ApiModel, Rule
from tests.support.api_model.database import Occurrence
from tests.support.api_model.server import _declare
from tests.support.api_model.topology import API_QUEUES, UNBOUND_JOB_QUEUE_ARGUMENTS
from tests.support.queues import OWN_QUEUES

from milvaion_trio.model.topology import queue_name, routing_pattern
from torture.evidence import Evidence, Leftover, LogLine, Resources, Status
from torture.play import JOB, Play

__all__ = ["SECRET", "collect", "left_in_queues", "resources_of"]

JUDGED_ELSEWHERE: Final = frozenset(
    {Rule.RUNNING_AFTER_FINAL, Rule.SECOND_FINAL, Rule.SECOND_DEAD_LETTER}  # I3, I2, I5
)
LONE_SURROGATE: Final = re.compile(
    rb"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..)\\u[dD][c-fC-F]"
)
SECRET: Final = "torture-canary"
"""A name and password that no text on a wire may have."""


def collect(play: Play, queues: dict[str, tuple[int, int]], changed: list[str], resources: list[Resources]) -> Evidence:
    """The evidence of a play whose workers have left."""
    model = play.here.api.model
    play.workers.effects.look()
    occurrences = list(model.database.occurrences.values())
    evidence = Evidence(
        expected=dict(play.expected),
        dispatched=dict(play.dispatched),
        statuses=tuple(sorted(_statuses(occurrences), key=lambda status: status.at)),
        dead_letters=tuple(row.occurrence_id for row in model.failed_occurrences),
        second_dead_letters=tuple(_complaints_of(model, Rule.SECOND_DEAD_LETTER)),
        logs=tuple(_logs(occurrences)),
        effects=tuple(play.workers.effects.lines),
        faults=tuple(play.faults),
        queues=queues,
        leftovers=tuple(_leftovers(play.workers.folder)),
        resources=tuple(resources),
        changed_queues=tuple(changed),
        stuck=tuple(_stuck(model)),
        unclean=tuple(_unclean(occurrences)),
    )
    return evolve(evidence, **play.limits)


def resources_of(play: Play) -> list[Resources]:
    """Of the worker processes that run now."""
    found = [(worker.name, worker.resources()) for worker in play.workers.running]
    return [Resources(worker=name, **numbers) for name, numbers in found if numbers is not None]


async def left_in_queues(play: Play) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """Queues that are not empty or still consumed, and those that cannot be declared as Milvaion does.

    Raises `OSError` when there is no broker. If cancelled, nothing changes but what was declared.
    """
    ids = {worker.told.worker_id for worker in play.workers.all.values()}
    job_queues = [queue_name(routing_pattern(worker_id, JOB)) for worker_id in ids]
    left: dict[str, tuple[int, int]] = {}
    changed: list[str] = []
    async with connect(play.here.rabbitmq.port, play.here.vhost) as client:
        for name in (*job_queues, *OWN_QUEUES, *API_QUEUES):
            state = await _state(client, name)
            if state is not None and state != (0, 1 if name in API_QUEUES else 0):
                left[name] = state
        try:
            async with client.channel() as channel:
                await _declare(channel)
                for name in job_queues:
                    await channel.declare_queue(name, UNBOUND_JOB_QUEUE_ARGUMENTS)
        except Closed as refusal:
            changed.append(str(refusal))
    return left, changed


async def _state(client: Client, name: str) -> tuple[int, int] | None:
    """Messages and consumers, `None` where there is no such queue. If cancelled, nothing changes."""
    try:
        async with client.channel() as channel:
            return await _asked(channel, name)
    except Closed:
        return None


async def _asked(channel: Channel, name: str) -> tuple[int, int]:
    return await channel.declare_queue(name, passive=True)


def _statuses(occurrences: Iterable[Occurrence]) -> Iterator[Status]:
    for occurrence in occurrences:
        for number, arrival in enumerate(occurrence.messages):
            status = arrival.status
            yield Status(
                occurrence=occurrence.id,
                status=int(status.status),
                message_id=arrival.message_id or f"{occurrence.id} without an id, {number}",
                instance=status.instance_id or "",
                redelivered=arrival.wire.redelivered,
                at=arrival.at,
                is_heartbeat=status.status == 1 and status.start_time is None,
            )


def _logs(occurrences: Iterable[Occurrence]) -> Iterator[LogLine]:
    for occurrence in occurrences:
        for row in occurrence.logs:
            if row.message == "line" and isinstance(row.data, dict):
                yield LogLine(occurrence=occurrence.id, token=str(row.data["token"]), number=int(row.data["number"]))


def _complaints_of(model: ApiModel, rule: Rule) -> Iterator[str]:
    return (complaint.about for complaint in model.complaints if complaint.rule is rule)


def _stuck(model: ApiModel) -> Iterator[str]:
    yield from (f"tried for ever: {one}" for one in model.requeues)
    yield from (f"thrown away: {one}" for one in model.dropped)
    yield from map(str, model.findings.not_allowed(JUDGED_ELSEWHERE))


def _unclean(occurrences: Iterable[Occurrence]) -> Iterator[str]:
    for occurrence in occurrences:
        bodies = [arrival.wire.body for arrival in occurrence.messages] + [row.wire.body for row in occurrence.logs]
        for body in bodies:
            if SECRET.encode() in body or b"\0" in body or b"\\u0000" in body or LONE_SURROGATE.search(body):
                yield f"{occurrence.id}: {body[:200]!r}"


def _leftovers(folder: Path) -> Iterator[Leftover]:
    for path in sorted(folder.rglob("*.db")):
        try:
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                (integrity,) = database.execute("pragma integrity_check").fetchone()
                tables = {name for (name,) in database.execute("select name from sqlite_master where type = 'table'")}
                rows = database.execute("select count(*) from report").fetchone()[0] if "report" in tables else 0
        except sqlite3.DatabaseError as error:
            integrity, rows = str(error), 0
        yield Leftover(path=str(path.relative_to(folder)), rows=rows, integrity=integrity)
