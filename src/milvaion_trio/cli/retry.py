"""`milvaion-trio retry`: run an occurrence of the history once more."""

from typing import Annotated

from cyclopts import Parameter

from milvaion_trio.cli.failures import CommandFailed, ExitCode
from milvaion_trio.cli.history_rows import shown_status
from milvaion_trio.cli.history_store import occurrence_in, opened_history
from milvaion_trio.cli.options import ConfigOption, SetOption, SocketOption, overrides
from milvaion_trio.cli.repeating import Again, again_of, note_replay, refuse_replayed, whereto
from milvaion_trio.cli.terminal import write_json, write_line
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.occurrence import OccurrenceStatus

__all__ = ["retry"]


def retry(
    occurrence_id: Annotated[str, Parameter(help="What history and enqueue print.")],
    /,
    *,
    force: Annotated[bool, Parameter(negative="", help="Also one that waits, runs, or was replayed already.")] = False,
    config: ConfigOption = None,
    settings: SetOption = None,
    socket: SocketOption = None,
    json: Annotated[bool, Parameter(negative="", help="One JSON object: both ids.")] = False,
) -> int:
    """Dispatch the job of an occurrence once more, with the same data, and print the id of the new occurrence.

    The old one stays as it is; its dead letter, where there is one, names the new one. It has to be in the history
    that a monitor keeps, with its dispatch. Where that is the history of a dev worker, which has to run, the job goes
    to that one.

        milvaion-trio retry 0f8fad5b-d9cb-469f-a165-70867728950e
    """
    place = whereto(config, overrides(settings), socket)
    with opened_history(place.settings) as store:
        row = occurrence_in(store, occurrence_id)
        letter = store.failure(row.id)
        if row.status in (OccurrenceStatus.QUEUED, OccurrenceStatus.RUNNING) and not force:
            raise CommandFailed(
                f"{row.id} is {shown_status(row.status)}: it would run twice. With --force it is dispatched all the "
                "same."
            )
        if letter is not None:
            refuse_replayed([letter], force=force)

        def done(_: Again, new: OccurrenceId) -> None:
            if json:
                write_json({"occurrence_id": new, "repeats": row.id})
            else:
                write_line(new)
            note_replay(store, row.id, new)

        place.repeat([again_of(row, letter)], done)
    return ExitCode.DONE
