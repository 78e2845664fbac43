"""`milvaion-trio dlq`: the dead letters that a monitor keeps: look at them, run them once more, delete them."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Final

from cyclopts import Parameter

from milvaion_trio.cli.cluster import CONNECT_TIMEOUT
from milvaion_trio.cli.failures import CommandFailed, ExitCode, UsageError
from milvaion_trio.cli.history_rows import brief, failure_json, failure_name, moment
from milvaion_trio.cli.history_store import check_count, occurrence_id_of, opened_history, settings_here
from milvaion_trio.cli.interruptible import run_interruptible
from milvaion_trio.cli.options import ConfigOption, SetOption, SocketOption, overrides
from milvaion_trio.cli.repeating import Again, again_of, note_replay, refuse_replayed, whereto
from milvaion_trio.cli.terminal import error_console, output_console, table, write_json, write_line
from milvaion_trio.model.errors import LinkLost
from milvaion_trio.model.history import FailedOccurrence
from milvaion_trio.model.ids import OccurrenceId
from milvaion_trio.model.settings import WorkerSettings
from milvaion_trio.model.topology import QUARANTINE_QUEUE
from milvaion_trio.ports.history import HistoryStore
from milvaion_trio.transports import broker_for

__all__ = ["list_failures", "purge_failures", "replay_failures", "show_failure"]

NARROWEST: Final = 180
"""Columns of a table in which its errors take a few lines, and all else one."""
ALL: Final = 1_000_000
"""Dead letters that --all means at most."""


def list_failures(
    *,
    job: Annotated[str | None, Parameter(metavar="NAME", help="Only of this job, in any case.")] = None,
    limit: Annotated[int, Parameter(metavar="COUNT", help="Show so many, the newest.")] = 50,
    config: ConfigOption = None,
    settings: SetOption = None,
    json: Annotated[bool, Parameter(negative="", help="One JSON object, with numbers as numbers.")] = False,
) -> int:
    """List dead letters: occurrences that failed for good, the newest first.

    Where the settings name RabbitMQ, it also says how many messages are in quarantine there: those that nobody could
    read, or that name no occurrence.

        milvaion-trio dlq list --job SendEmailJob
    """
    check_count("--limit", limit)
    told = settings_here(config, overrides(settings))
    with opened_history(told) as store:
        rows, name = store.failures(job_name=job, limit=limit), store.name
    quarantined, problem = run_interruptible(partial(_quarantined, told))
    if json:
        quarantine = {"queue": QUARANTINE_QUEUE, "messages": quarantined, "problem": problem or None}
        write_json({"store": name, "failures": [failure_json(row) for row in rows], "quarantine": quarantine})
        return ExitCode.DONE
    if rows:
        columns = ("Failed", "Job", "Worker", "Why", "Retries", "Occurrence", "Replayed as", "Error")
        shown = table(*columns, width=NARROWEST)
        for row in rows:
            shown.add_row(
                moment(row.failed_at),
                row.job_name,
                row.worker_id or "",
                failure_name(row),
                str(row.retry_count),
                row.occurrence_id,
                row.replayed_as or "",
                brief(row.exception),
            )
        output_console().print(shown)
    error_console().print(f"{_letters(len(rows))} shown, of {name}.")
    if quarantined is None:
        error_console().print(f"How many messages are in quarantine is not known: {problem.rstrip('.?')}.")
    else:
        messages = "1 message" if quarantined == 1 else f"{quarantined} messages"
        error_console().print(f"{messages} in {QUARANTINE_QUEUE}, which end by themselves in two weeks.")
    return ExitCode.DONE


def show_failure(
    occurrence_id: Annotated[str, Parameter(help="What dlq list prints.")],
    /,
    *,
    config: ConfigOption = None,
    settings: SetOption = None,
    json: Annotated[bool, Parameter(negative="", help="One JSON object, with numbers as numbers.")] = False,
) -> int:
    """Show all of a dead letter: its error, its data, and the message as it came.

    What became of its occurrence before that, occurrences show tells.

        milvaion-trio dlq show 0f8fad5b-d9cb-469f-a165-70867728950e
    """
    with opened_history(settings_here(config, overrides(settings))) as store:
        row = _letter(store, occurrence_id_of(occurrence_id))
    if json:
        write_json(failure_json(row))
        return ExitCode.DONE
    console = output_console()
    facts = [
        ("Occurrence", row.occurrence_id),
        ("Job", row.job_name),
        ("Worker", row.worker_id),
        ("Failed", moment(row.failed_at)),
        ("Why", failure_name(row)),
        ("Retries", str(row.retry_count)),
        ("Replayed as", row.replayed_as),
        ("Data", row.job_data),
    ]
    for label, value in facts:
        if value:
            console.print(f"{label:<12}{value}")
    console.print(row.exception.rstrip())
    return ExitCode.DONE


def replay_failures(
    *occurrence_ids: Annotated[str, Parameter(name="OCCURRENCE_ID", help="What dlq list prints.")],
    everything: Annotated[bool, Parameter(name="--all", negative="", help="All that were not replayed yet.")] = False,
    job: Annotated[str | None, Parameter(metavar="NAME", help="With --all: only of this job, in any case.")] = None,
    force: Annotated[bool, Parameter(negative="", help="Also one that was replayed already.")] = False,
    config: ConfigOption = None,
    settings: SetOption = None,
    socket: SocketOption = None,
    json: Annotated[bool, Parameter(negative="", help="One JSON object: the ids, old and new.")] = False,
) -> int:
    """Dispatch the jobs of dead letters once more, each as a new occurrence, and note that in the dead letter.

    Prints the old id and the new one, a line each. It may be interrupted and repeated: what was replayed is left out.
    With --all so is that of which too little is known: it is told on stderr, and the exit code is 1.

        milvaion-trio dlq replay 0f8fad5b-d9cb-469f-a165-70867728950e
        milvaion-trio dlq replay --all --job SendEmailJob
    """
    place = whereto(config, overrides(settings), socket)
    made: list[dict[str, str]] = []
    repeats: list[Again] = []
    with opened_history(place.settings) as store:
        letters = _chosen(store, occurrence_ids, everything=everything, job=job)
        if everything and not force:
            letters = [letter for letter in letters if letter.replayed_as is None]
        refuse_replayed(letters, force=force)
        rows = store.load([letter.occurrence_id for letter in letters])

        def done(again: Again, new: OccurrenceId) -> None:
            made.append({"occurrence_id": again.of, "replayed_as": new})
            if not json:
                write_line(f"{again.of} {new}")
            note_replay(store, again.of, new)

        for letter in letters:
            try:
                repeats.append(again_of(rows.get(letter.occurrence_id), letter))
            except CommandFailed as cannot:
                if not everything:
                    raise
                error_console().print(f"left out: {cannot}")
        if repeats:
            place.repeat(repeats, done)
    if json:
        write_json({"replayed": made})
    error_console().print(f"{_letters(len(made))} replayed.")
    return ExitCode.DONE if len(repeats) == len(letters) else ExitCode.FAILED


def purge_failures(
    *occurrence_ids: Annotated[str, Parameter(name="OCCURRENCE_ID", help="What dlq list prints.")],
    everything: Annotated[bool, Parameter(name="--all", negative="", help="All there are.")] = False,
    yes: Annotated[bool, Parameter(negative="", help="Delete; without it this only says what would be done.")] = False,
    config: ConfigOption = None,
    settings: SetOption = None,
) -> int:
    """Delete dead letters from the history.

    Their occurrences stay, with their logs. Without --yes nothing is deleted, and how many it would be is said.

        milvaion-trio dlq purge 0f8fad5b-d9cb-469f-a165-70867728950e --yes
        milvaion-trio dlq purge --all --yes
    """
    with opened_history(settings_here(config, overrides(settings))) as store:
        letters = _chosen(store, occurrence_ids, everything=everything, job=None)
        if not yes:
            write_line(f"would delete {_letters(len(letters))}; add --yes")
            return ExitCode.DONE
        count = store.purge_failures([letter.occurrence_id for letter in letters])
    write_line(f"deleted {_letters(count)}")
    return ExitCode.DONE


def _chosen(
    store: HistoryStore, occurrence_ids: Sequence[str], *, everything: bool, job: str | None
) -> Sequence[FailedOccurrence]:
    if everything == bool(occurrence_ids):
        raise UsageError("Say which dead letters: by their occurrence ids, or --all.")
    if not everything and job is not None:
        raise UsageError("--job chooses among --all: leave it out where you name occurrences.")
    if everything:
        return store.failures(job_name=job, limit=ALL)
    return [_letter(store, each) for each in dict.fromkeys(map(occurrence_id_of, occurrence_ids))]


def _letter(store: HistoryStore, occurrence_id: OccurrenceId) -> FailedOccurrence:
    found = store.failure(occurrence_id)
    if found is None:
        raise CommandFailed(
            f"There is no dead letter of {occurrence_id} in {store.name}. Only what failed for good has one; jobs of "
            "our own clients only where their workers have Worker:Reporting:LocalOccurrences."
        )
    return found


async def _quarantined(settings: WorkerSettings) -> tuple[int | None, str]:
    """How many messages are in quarantine, or why that is not known. If cancelled, nothing changes."""
    if settings.rabbitmq is None:
        return None, "the settings name no RabbitMQ"
    try:
        async with broker_for(settings, "milvaion-trio dlq", CONNECT_TIMEOUT).consuming() as consumer:
            state = await consumer.state(QUARANTINE_QUEUE)
    except LinkLost as lost:
        return None, str(lost)
    return 0 if state is None else state.ready, ""


def _letters(count: int) -> str:
    return "1 dead letter" if count == 1 else f"{count} dead letters"
