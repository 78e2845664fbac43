"""Dispatching once more what the history knows: the same job with the same data, as a new occurrence."""

import uuid
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

from attrs import evolve, frozen

from milvaion_trio.cli.cluster import Cluster, find_cluster
from milvaion_trio.cli.control import Publish
from milvaion_trio.cli.dev_client import ask_dev_worker, history_of_dev_worker
from milvaion_trio.cli.dev_data import is_of_dev
from milvaion_trio.cli.failures import CommandFailed
from milvaion_trio.cli.history_store import settings_here
from milvaion_trio.cli.interruptible import run_interruptible
from milvaion_trio.cli.sockets import socket_place
from milvaion_trio.configuration import Override
from milvaion_trio.model import topology
from milvaion_trio.model.envelope import Publication
from milvaion_trio.model.errors import SettingsError, StoreUnavailable
from milvaion_trio.model.history import FailedOccurrence, OccurrenceRecord
from milvaion_trio.model.ids import JobId, OccurrenceId
from milvaion_trio.model.messages import EMPTY_GUID
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.ports.history import HistoryStore, Rows
from milvaion_trio.runtime.dispatching import Destination, run_once

__all__ = ["Again", "again_of", "dispatch_again", "note_replay", "refuse_replayed", "whereto"]

Done: TypeAlias = Callable[["Again", OccurrenceId], None]
"""Told of each that was dispatched, with the id of the new occurrence."""


@frozen(kw_only=True)
class Again:
    """What is to be dispatched once more."""

    of: OccurrenceId
    to: Destination
    job_id: JobId
    display_name: str
    data: str | None

    def publication(self) -> Publication:
        """The message, with a new occurrence id."""
        return run_once(self.to, self.data, job_id=self.job_id, display_name=self.display_name)


def again_of(row: OccurrenceRecord | None, letter: FailedOccurrence | None = None) -> Again:
    """What repeats this occurrence, of which there is a row, a dead letter, or both.

    Raises `CommandFailed` where too little is known of it.
    """
    occurrence_id = row.id if row is not None else letter.occurrence_id if letter is not None else ""
    if row is not None and (row.source or row.external_id):
        raise CommandFailed(
            f"{occurrence_id} was run by another scheduler ({row.source or 'unknown'}) and only reported here: repeat "
            "it there."
        )
    name = (row.job_name if row is not None else None) or (letter.job_name if letter is not None else None)
    group = (row.worker_id if row is not None else None) or (letter.worker_id if letter is not None else None)
    if not name or not group:
        raise CommandFailed(
            f"{occurrence_id} cannot be repeated: its dispatch was not read by a monitor, so nobody here knows "
            f"{'which group of workers has its job' if name else 'which job it was, and with which data'}."
        )
    pattern = (row.pattern if row is not None else None) or topology.routing_pattern(group, name)
    known_id = (letter.job_id if letter is not None else None) or (row.job_id if row is not None else None)
    display_name = (row.display_name if row is not None else None) or (letter.display_name if letter else None)
    return Again(
        of=OccurrenceId(occurrence_id),
        to=Destination(worker_id=group, job_name=name, pattern=pattern),
        job_id=known_id if known_id is not None and known_id != EMPTY_GUID else JobId(str(uuid.uuid4())),
        display_name=display_name or name,
        data=(row.job_data if row is not None else None) or (letter.job_data if letter is not None else None),
    )


def refuse_replayed(letters: Iterable[FailedOccurrence], *, force: bool) -> None:
    """Raise `CommandFailed` for the first of these dead letters that was replayed already, unless told to go on."""
    for letter in letters:
        if letter.replayed_as is not None and not force:
            raise CommandFailed(
                f"{letter.occurrence_id} was replayed as {letter.replayed_as} already. With --force it is once more."
            )


def note_replay(store: HistoryStore, occurrence_id: OccurrenceId, new: OccurrenceId) -> None:
    """Note in the dead letter, where it still has one, as which occurrence it was replayed.

    Raises `CommandFailed` that names the new one where this cannot be written, as it was dispatched all the same.
    """
    try:
        letter = store.failure(occurrence_id)  # which a monitor may have renewed meanwhile, or somebody deleted
        if letter is not None:
            store.save(Rows(failures=[evolve(letter, replayed_as=new)]))
    except StoreUnavailable as error:
        raise CommandFailed(
            f"{occurrence_id} was dispatched once more, as {new}, and its dead letter does not say so: {error} Repeat "
            "this command, and it is dispatched again."
        ) from error


@frozen
class Whereto:
    """Where the history is, and where its occurrences are dispatched once more."""

    settings: WorkerSettings
    _dispatch: Callable[[Sequence[Again], Done], Awaitable[None]]

    def repeat(self, repeats: Sequence[Again], done: Done) -> None:
        """Publish these one after the other, and say of each as which occurrence; raises as `dispatch_again`."""
        run_interruptible(partial(self._dispatch, repeats, done))


def whereto(config: Path | None, given: Sequence[Override], socket: Path | None) -> Whereto:
    """The dev worker that is named, or whose history is the one that holds here, else the cluster.

    Raises `SettingsError`, or `CommandFailed` where nothing is known of the dev worker that is named.
    """
    told = settings_here(config, given)
    if socket is not None and config is None and not given:
        place = socket_place(socket)
        history = run_interruptible(partial(history_of_dev_worker, place))
        told = evolve(told, monitor=evolve(told.monitor, mongodb="", store=history))
        return Whereto(told, partial(_in_dev, place, history))
    if is_of_dev(told):
        history = str(Path(told.monitor.store).resolve())
        return Whereto(told, partial(_in_dev, socket_place(socket), history))
    if (cluster := find_cluster(config, given)) is None:
        raise SettingsError(
            [
                "No dev worker keeps its history in this folder, and no settings here name RabbitMQ: go to the folder "
                "in which the dev worker was started, or say where a cluster is with --config FILE."
            ]
        )
    return Whereto(cluster.settings, partial(dispatch_again, cluster))


async def _in_dev(place: Path, history: str, repeats: Iterable[Again], done: Done) -> None:
    """As `dispatch_again`, by the dev worker that listens there and keeps this. If cancelled, one more may be."""
    for again in repeats:
        body = again.publication().message.body.decode("utf-8", "surrogateescape")
        answer = await ask_dev_worker(place, Publish(body_raw=body, history=history), wait=False)
        if answer.occurrence_id is not None:
            done(again, OccurrenceId(answer.occurrence_id))


async def dispatch_again(cluster: Cluster, repeats: Iterable[Again], done: Done) -> None:
    """Publish these one after the other, and say of each once it is confirmed as which occurrence.

    Raises `CommandFailed` or `NotPublished`: then those were published of which it was said. If cancelled, one more may
    be.
    """
    with cluster.own_words():
        async with cluster.client() as client:
            for again in repeats:
                publish = partial(client.publish, again.publication(), topology.queue_name(again.to.pattern))
                done(again, await cluster.confirmed(publish, f"{again.of} was dispatched once more"))
