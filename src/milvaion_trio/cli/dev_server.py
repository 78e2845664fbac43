"""What a dev worker does for other terminals: dispatch, publish, cancel, and let them watch an occurrence to its end.

It sees what the worker publishes and what happens in it, and answers requests; it prints nothing.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import trio
from attrs import define, evolve, field

from milvaion_trio.broker.embedded import EmbeddedBroker
from milvaion_trio.cli import message_file
from milvaion_trio.cli.control import (
    Answer,
    Cancel,
    Done,
    Enqueue,
    Lines,
    Problem,
    Publish,
    Reported,
    Scheduling,
    Where,
    encode_answer,
    read_request,
)
from milvaion_trio.cli.failures import CommandFailed, with_hint
from milvaion_trio.cli.message_lines import message_line, occurrences_of
from milvaion_trio.cli.outcome_line import outcome_line
from milvaion_trio.cli.scheduling import carry_out
from milvaion_trio.model import events, headers, topology
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import InvalidJobData, JobNotRegistered, MilvaionError
from milvaion_trio.model.headers import AttemptKey
from milvaion_trio.model.ids import OccurrenceId, parse_guid
from milvaion_trio.model.json_text import write
from milvaion_trio.model.jsonable import jsonable
from milvaion_trio.model.messages import Cancellation
from milvaion_trio.model.occurrence import OccurrenceStatus, status_name
from milvaion_trio.ports import Publisher
from milvaion_trio.runtime.dispatching import Destination, dispatch_message, publish_dispatch
from milvaion_trio.scheduler.desk import ScheduleDesk
from milvaion_trio.worker import Worker

__all__ = ["DevServer"]

UNREAD = 10_000
"""Answers that may wait for a slow terminal: about 10 MB of statuses. Then it is told that it was too slow."""

ENDINGS_REMEMBERED = 10_000
"""Occurrences of which it is known how they ended: about 2 MB."""

ABOVE = "the messages above show all of it"


@define(eq=False)
class DevServer:
    """Answers the requests of other terminals about one worker on an embedded broker."""

    worker: Worker
    broker: EmbeddedBroker
    folder: str = field(factory=partial(os.path.realpath, os.curdir), init=False)
    """Where it was started; its jobs may go elsewhere."""
    _watchers: dict[OccurrenceId, list[trio.MemorySendChannel[Answer]]] = field(factory=dict, init=False)
    _asked_for: dict[OccurrenceId, AttemptKey] = field(factory=dict, init=False)
    """The attempts that were asked for here and have not ended."""
    _ended: set[AttemptKey] = field(factory=set, init=False)
    """Those that have: the worker would not run them again."""
    _running: dict[OccurrenceId, str] = field(factory=dict, init=False)
    """The names of the jobs that run."""
    _endings: dict[OccurrenceId, str] = field(factory=dict, init=False)
    """Milvaion's names of the final statuses, oldest first."""
    _own: list[Publication] = field(factory=list, init=False)
    """What is being published here, so that it is not taken for the worker's."""
    _is_leaving: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        """Schedules may come at any time."""
        self.worker.expects_schedules.set()

    async def serve(self, listener: trio.SocketListener) -> None:
        """Answer requests until cancelled; who still waits for an answer then sees the connection end."""
        async with self.broker.publishing() as publisher:

            async def answer(stream: trio.SocketStream) -> None:
                await self._answer_all(Lines(stream), publisher)

            await trio.serve_listeners(answer, [listener])

    # --- what the worker does ---------------------------------------------------------------------------------------

    def is_reported(self, publication: Publication) -> bool:
        """Whether the worker reports something with it, instead of somebody dispatching a job."""
        return publication.exchange != topology.JOBS_EXCHANGE and not any(own is publication for own in self._own)

    def published(self, publication: Publication) -> None:
        """Show a message of the worker to those who watch its occurrence."""
        if self._watchers and self.is_reported(publication):
            for occurrence_id in occurrences_of(publication) & self._watchers.keys():
                self._show(occurrence_id, Reported(message_line(publication)))

    def happened(self, event: events.Event) -> None:
        """Notice how occurrences end."""
        match event:
            case events.JobStarted(job_name, occurrence_id):
                self._running[occurrence_id] = job_name
                self._endings.pop(occurrence_id, None)  # dispatched once more
            case events.JobConcluded(job_name, occurrence_id, _, status, _, text):
                self._ended_as(occurrence_id, status, _shown(job_name, status, text))
            case events.DeliveryRefused(occurrence_id=str(occurrence_id), why=why):
                self._ended_as(occurrence_id, OccurrenceStatus.FAILED, outcome_line(why, ABOVE))
            case events.JobRetried(occurrence_id=occurrence_id):
                self._attempt_ended(occurrence_id)
            case events.JobReturned(occurrence_id=occurrence_id, why=why):
                self._running.pop(occurrence_id, None)
                self._show(occurrence_id, Problem(f"{occurrence_id} went back to its queue: {why}."), last=True)
            case events.ShutdownBegan():
                self._is_leaving = True

    def _ended_as(self, occurrence_id: OccurrenceId, status: OccurrenceStatus, text: str | None) -> None:
        self._attempt_ended(occurrence_id)
        ended = status_name(status)
        self._endings[occurrence_id] = ended
        if len(self._endings) > ENDINGS_REMEMBERED:
            del self._endings[next(iter(self._endings))]
        self._show(occurrence_id, Done(occurrence_id=occurrence_id, ended=ended, text=text), last=True)

    def _attempt_ended(self, occurrence_id: OccurrenceId) -> None:
        self._running.pop(occurrence_id, None)
        attempt = self._asked_for.pop(occurrence_id, None)
        if attempt is not None and attempt.dispatch_stamp is not None:  # without one, it would run again
            self._ended.add(attempt)

    def _show(self, occurrence_id: OccurrenceId, answer: Answer, *, last: bool = False) -> None:
        for watcher in tuple(self._watchers.get(occurrence_id, ())):
            try:
                watcher.send_nowait(answer)
            except trio.WouldBlock:
                watcher.close()  # the reader gets what is there, and then the end
            except (trio.ClosedResourceError, trio.BrokenResourceError):
                continue
            if last:
                watcher.close()

    # --- what other terminals ask for -------------------------------------------------------------------------------

    async def _answer_all(self, lines: Lines, publisher: Publisher) -> None:
        try:
            while (line := await lines.receive()) is not None:
                try:
                    await self._answer(line, lines, publisher)
                except MilvaionError as error:
                    await lines.send(encode_answer(Problem(str(error))))
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    raise
                except Exception as error:  # no request may end the worker that others use
                    problem = f"The dev worker could not do this: {type(error).__name__}: {error}"
                    await lines.send(encode_answer(Problem(problem)))
        except CommandFailed as error:  # a line without end: nothing after it can be understood
            await lines.send(encode_answer(Problem(str(error))))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the other terminal has left

    async def _answer(self, line: bytes, lines: Lines, publisher: Publisher) -> None:
        request = read_request(line)
        if isinstance(request, Where):
            history = None if self.broker.folder is None else self._history
            await lines.send(encode_answer(Done(note=self.folder, text=history)))
            return
        if self._is_leaving:
            raise CommandFailed("The dev worker is leaving and takes no more jobs. Start it again.")
        if isinstance(request, Cancel):
            answer = await self._cancel(request)
            await lines.send(encode_answer(answer))
            return
        if isinstance(request, Scheduling):
            for answer in await self._schedules(request, publisher):
                await lines.send(encode_answer(answer))
            return
        publication = self._publication(request)
        occurrence_id = headers.occurrence_id(publication.message)
        if not request.wait:
            note = await self._publish(publication, occurrence_id, publisher)
            await lines.send(encode_answer(Done(occurrence_id=occurrence_id, note=note)))
            return
        if occurrence_id is None:
            raise CommandFailed(
                "This message names no occurrence, neither in its headers nor as correlation id, so there is nothing "
                "to wait for. Send it without --wait."
            )
        with self._watching(occurrence_id) as answers:
            note = await self._publish(publication, occurrence_id, publisher)
            if note is not None:
                raise CommandFailed(note)
            async for answer in answers:
                await lines.send(encode_answer(answer))
                if not isinstance(answer, Reported):
                    return
        raise CommandFailed("This terminal reads too slowly; the occurrence goes on without it.")

    def _publication(self, request: Enqueue | Publish) -> Publication:
        if isinstance(request, Enqueue):
            return dispatch_message(self._destination(request.job), request.data, delay=request.delay)
        if request.history is not None and request.history != (here := self._history):
            raise CommandFailed(
                f"The dev worker that listens here keeps {here}, and this occurrence is in {request.history}: another "
                "worker may have another job of this name. Nothing was dispatched. Start the dev worker whose history "
                "that is, or name its socket with --socket."
            )
        if request.exchange is None:
            job = message_file.job_message(request)
            to = self._destination(job.job_name_in_worker)
            return message_file.dispatched(request, job, evolve(to, worker_id=job.worker_id or to.worker_id))
        return message_file.publication(request)

    @property
    def _history(self) -> str:
        """Where what this worker does can be read."""
        return "no history" if self.broker.folder is None else str(Path(self.worker.settings.monitor.store).resolve())

    def _destination(self, name: str) -> Destination:
        registry = self.worker.registry
        try:
            job = registry.resolve(name)
        except JobNotRegistered as error:
            raise CommandFailed(with_hint(error)) from error
        return Destination(worker_id=self.worker.settings.worker_id, job_name=job.name, pattern=job.patterns[0])

    async def _publish(
        self, publication: Publication, occurrence_id: OccurrenceId | None, publisher: Publisher
    ) -> str | None:
        """Publish, and say what to know about it. If cancelled, it may have been published."""
        attempt = None if occurrence_id is None else headers.attempt_key(publication.message, occurrence_id)
        if attempt is not None and attempt not in self._ended:
            self._asked_for[attempt.occurrence_id] = attempt
        self._own.append(publication)
        try:
            await publish_dispatch(publisher, publication)
        finally:
            self._own.remove(publication)
        if attempt is None:
            return "It names no occurrence, so it was set aside and cannot run."
        if attempt in self._ended:
            otherwise = " or start the dev worker again" if self.broker.folder is None else ""
            return (
                f"The worker has concluded this attempt of {occurrence_id} before and does not run it twice. For a new "
                f"attempt change the property timestamp{otherwise}."
            )
        return None

    async def _schedules(self, request: Scheduling, publisher: Publisher) -> list[Answer]:
        coordination, clock_ns = self.worker.coordination, self.worker.clock_ns
        if coordination is None:
            raise CommandFailed("This dev worker keeps no schedules.")
        if request.act == "add":
            self._check_data(request)
        desk = ScheduleDesk(coordination, lambda: clock_ns() // 1_000_000)
        rows: list[Answer] = []
        publish = partial(publish_dispatch, publisher)
        done = await carry_out(request, desk, self._destination, publish, lambda row: rows.append(Reported(row)))
        return [*rows, done]

    def _check_data(self, request: Scheduling) -> None:
        """Raise `CommandFailed` for a schedule whose runs could only fail, as at a worker's start."""
        to = self._destination(request.job or "")
        reader = self.worker.registry.resolve(to.job_name).reader
        data = request.keywords.get("data")
        if reader is None:
            return
        try:
            reader.read(None if data is None else write(jsonable(data)))
        except InvalidJobData as error:
            lines = [f"Its data does not fit {to.job_name}: {problem}." for problem in error.problems]
            raise CommandFailed("\n".join(lines)) from error

    async def _cancel(self, request: Cancel) -> Answer:
        occurrence_id = parse_guid(request.occurrence_id)
        if occurrence_id is None:
            raise CommandFailed(
                f"{request.occurrence_id!r} is no occurrence id; that is 36 characters, as enqueue prints."
            )
        cancellation = Cancellation(occurrence_id=OccurrenceId(occurrence_id))
        if request.reason is not None:
            cancellation = Cancellation(occurrence_id=OccurrenceId(occurrence_id), reason=request.reason)
        if (ended := self._endings.get(cancellation.occurrence_id)) is not None:
            raise CommandFailed(f"{occurrence_id} has already ended as {ended}; there is nothing to cancel.")
        await self.worker.signals.send(cancellation)
        job_name = self._running.get(cancellation.occurrence_id)
        if job_name is not None:
            return Done(occurrence_id=occurrence_id, note=f"{occurrence_id}: cancelled the running job {job_name}")
        note = f"{occurrence_id} will be cancelled when it comes: it waits, or is not known here"
        return Done(occurrence_id=occurrence_id, note=note)

    @contextmanager
    def _watching(self, occurrence_id: OccurrenceId) -> Iterator[trio.MemoryReceiveChannel[Answer]]:
        sending, receiving = trio.open_memory_channel[Answer](UNREAD)
        self._watchers.setdefault(occurrence_id, []).append(sending)
        try:
            with receiving:
                yield receiving
        finally:
            self._watchers[occurrence_id].remove(sending)
            if not self._watchers[occurrence_id]:
                del self._watchers[occurrence_id]


def _shown(job_name: str, status: OccurrenceStatus, text: str | None) -> str | None:
    """A result as it would stand in JSON, an error as one line."""
    if status is not OccurrenceStatus.COMPLETED:
        return outcome_line(text or "", ABOVE)
    if text is None or text == f"{job_name} finished without a return value":
        return "no return value"
    return outcome_line(text if text[:1] in ("{", "[") else json.dumps(text, ensure_ascii=False), ABOVE)
