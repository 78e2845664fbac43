"""Dispatch messages: what makes a job run once (WIRE.md 2).

Clients and the scheduler make the same ones, as Milvaion's dispatcher does, so that any worker and monitor takes them.
"""

import time
import uuid
from collections.abc import Mapping

from attrs import frozen

from milvaion_trio.model import headers, topology
from milvaion_trio.model.envelope import HeaderValue, Message, Publication
from milvaion_trio.model.errors import NotPublished
from milvaion_trio.model.ids import JobId, OccurrenceId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.json_text import write
from milvaion_trio.model.jsonable import jsonable
from milvaion_trio.model.messages import JobMessage
from milvaion_trio.model.wire import Casing, encode_job
from milvaion_trio.policy.backoff import LONGEST_DELAY
from milvaion_trio.ports import Confirmation, Publisher

__all__ = ["Destination", "dispatch", "dispatch_message", "publish_dispatch", "run_once"]


@frozen(kw_only=True)
class Destination:
    """Which job of which worker group a message is for."""

    worker_id: str
    job_name: str
    pattern: str
    """The routing pattern of the job's queue."""


def dispatch(
    to: Destination,
    job: JobMessage,
    occurrence_id: OccurrenceId,
    *,
    timestamp: int,
    body: bytes | None = None,
    is_recurring: bool | None = None,
    more: Mapping[str, HeaderValue] | None = None,
) -> Publication:
    """This job for that occurrence, on its way to every queue that the destination's pattern leads to.

    `body` is the job as it is written already, `more` are headers of ours. It recurs if it has a cron expression,
    unless said otherwise.
    """
    key = topology.routing_key(to.pattern)
    message = Message(
        body=encode_job(job, Casing.CAMEL) if body is None else body,
        headers={
            "JobType": job.job_name_in_worker,
            "ExecuteAt": job.execute_at.round_trip,
            "IsRecurring": bool(job.cron_expression) if is_recurring is None else is_recurring,
            headers.OCCURRENCE_ID: occurrence_id,
            "RoutingKey": key,
            "WorkerId": to.worker_id,
            **(more or {}),
        },
        message_id=job.id,
        correlation_id=occurrence_id,
        content_type="application/json",
        timestamp=timestamp,
    )
    return Publication(message, key, topology.JOBS_EXCHANGE)


def dispatch_message(
    to: Destination,
    data: object,
    *,
    delay: float | None = None,
    now_ns: int | None = None,
    more: Mapping[str, HeaderValue] | None = None,
) -> Publication:
    """As `run_once`, with data that is written here.

    Raises `TypeError` or `ValueError` when the data has no JSON form, or the delay is none.
    """
    return run_once(to, None if data is None else write(jsonable(data)), delay=delay, now_ns=now_ns, more=more)


def run_once(
    to: Destination,
    job_data: str | None,
    *,
    job_id: JobId | None = None,
    display_name: str | None = None,
    delay: float | None = None,
    now_ns: int | None = None,
    more: Mapping[str, HeaderValue] | None = None,
) -> Publication:
    """The message that makes the job run once, with a new occurrence id and, if there are `more`, these headers.

    No Milvaion API knows this occurrence, and it says so. Raises `ValueError` or `TypeError` when the delay is none.
    """
    if delay is not None:
        must = f"delay is {delay!r}; it must be a number of seconds from 0 to {LONGEST_DELAY:.0f} (30 days)."
        if not isinstance(delay, int | float):
            raise TypeError(must)
        if not 0 <= delay <= LONGEST_DELAY:  # also NaN
            raise ValueError(must)
    ns = time.time_ns() if now_ns is None else now_ns
    now = Instant.from_unix_ns(ns)
    job = JobMessage(
        id=JobId(str(uuid.uuid4())) if job_id is None else job_id,
        display_name=to.job_name if display_name is None else display_name,
        job_name_in_worker=to.job_name,
        job_data=job_data,
        execute_at=now.plus(delay or 0.0),
        is_active=True,
        worker_id=to.worker_id,
        routing_pattern=to.pattern,
        version=1,
        creation_date=now,
    )
    at_once = dispatch(
        to,
        job,
        OccurrenceId(str(uuid.uuid4())),
        timestamp=ns // 1_000_000_000,
        more={headers.ORIGIN: "client", **(more or {})},
    )
    if delay:  # what waits is on its way to one queue: the one the exchange would have found
        return Publication(at_once.message, topology.queue_name(to.pattern), delay=delay)
    return at_once


async def publish_dispatch(publisher: Publisher, publication: Publication, queue: str | None = None) -> OccurrenceId:
    """Publish a dispatch message, meant for that queue, and return its occurrence id once the broker has confirmed it.

    Raises `NotPublished` when no queue takes it or the broker refuses it. If cancelled, it may have been published.
    """
    sent = [publication]
    if publication.delay:  # it passes no exchange, of which a monitor would get a copy
        sent.append(Publication(publication.message, topology.DISPATCHES_QUEUE))
    answer = (await publisher.publish(sent))[0]
    if answer is Confirmation.UNROUTABLE:
        key, exchange = publication.routing_key, publication.exchange or "the default exchange"
        missing = f"There is no queue {queue!r}, so none" if queue else "No queue"
        raise NotPublished(
            f"{missing} takes messages with the key {key!r} of {exchange}: no worker with this job has ever declared "
            "it. Nothing was enqueued. Check worker id, job name and routing pattern, and start that worker once."
        )
    if answer is Confirmation.REFUSED:
        raise NotPublished(
            "The broker refused the message (a full queue or a failing disk). Nothing was enqueued; try again."
        )
    return OccurrenceId(str(publication.message.correlation_id))
