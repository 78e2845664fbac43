"""`history`, `occurrences`, `workers`, `retry` and `dlq` show what a monitor has kept, and run it once more."""

import io
import json
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve
from rich.text import Text
from tests.support import servers
from tests.support.amqp import Client, connect
from tests.support.commands import Ended, call_command, run_command
from tests.support.settings_files import write_settings
from tests.support.workers import JOB_ID, guid

from milvaion_trio.cli import server_checks, terminal
from milvaion_trio.cli.failures import UsageError
from milvaion_trio.cli.findings import Verdict
from milvaion_trio.cli.history import since_of
from milvaion_trio.history.sqlite import SQLiteHistory
from milvaion_trio.model import topology
from milvaion_trio.model.errors import StoreUnavailable
from milvaion_trio.model.history import (
    FailedOccurrence,
    FailureType,
    InstanceRecord,
    LogLine,
    OccurrenceRecord,
    StatusChange,
    WorkerRecord,
)
from milvaion_trio.model.ids import InstanceId, WorkerId
from milvaion_trio.model.instant import Instant
from milvaion_trio.model.occurrence import OccurrenceStatus as S
from milvaion_trio.model.settings import ReportingSettings, WorkerSettings
from milvaion_trio.ports import QueueState
from milvaion_trio.ports.history import HistoryStore, Rows

WORK_QUEUE = "scheduled_jobs_queue.w.work.wildcard"


def ago(seconds: float) -> Instant:
    return Instant.from_unix_ns(time.time_ns()).plus(-seconds)


DONE = OccurrenceRecord(
    id=guid(1),
    job_id=JOB_ID,
    job_name="WorkJob",
    worker_id=WorkerId("w"),
    instance_id=InstanceId("w-1"),
    status=S.COMPLETED,
    created_at=ago(7200),
    start_time=ago(7199),
    end_time=ago(7197),
    duration_ms=2000,
    result="sent",
    job_data='{"to":"ada"}',
    pattern="w.work.*",
    runs=2,
    changes=(StatusChange(ago(7199), S.QUEUED, S.RUNNING), StatusChange(ago(7197), S.RUNNING, S.COMPLETED)),
)
FAILED = evolve(
    DONE, id=guid(2), status=S.FAILED, created_at=ago(60), result=None, exception="Type: KeyError\nMessage: 'to'\n"
)
RUNNING = evolve(DONE, id=guid(3), status=S.RUNNING, created_at=ago(10), end_time=None, result=None, duration_ms=None)
UNSEEN = OccurrenceRecord(id=guid(4), job_id=JOB_ID, status=S.COMPLETED, created_at=ago(90_000))
OTHERS = evolve(UNSEEN, id=guid(5), job_name="nightly", source="APScheduler")
LETTER = FailedOccurrence(
    occurrence_id=FAILED.id,
    failed_at=ago(59),
    job_id=JOB_ID,
    job_name="WorkJob",
    worker_id=WorkerId("w"),
    job_data='{"to":"ada"}',
    exception="Type: KeyError\nMessage: 'to'\n",
    retry_count=3,
    failure_type=FailureType.MAX_RETRIES_EXCEEDED,
    message=b'{"Id":"x"}',
)
LINES = [
    LogLine(key=f"m:{number}", occurrence_id=DONE.id, at=ago(7198 - number), level="Information", message=text)
    for number, text in enumerate(("sending", "sent"))
]


@pytest.fixture
def vhost() -> str:
    return servers.new_vhost()


@pytest.fixture
def config(vhost: str, tmp_path: Path) -> Path:
    return write_settings(tmp_path, vhost, Monitor={"Store": str(tmp_path / "history.db")})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[HistoryStore]:
    """Open all the time, as a monitor has it."""
    with SQLiteHistory(tmp_path / "history.db") as opened:
        group = WorkerRecord(
            worker_id=WorkerId("w"),
            registered_at=ago(500),
            job_types=("WorkJob",),
            routing_patterns={"WorkJob": "w.work.*"},
            heartbeat_interval=10.0,
        )
        processes = [
            InstanceRecord(worker_id=WorkerId("w"), instance_id=InstanceId(f"w-{name}"), last_heartbeat=at, **more)
            for name, at, more in (
                ("alive", ago(5), {"current_jobs": 3}),
                ("lost", ago(100), {"lost_at": ago(70)}),
                ("silent", ago(25), {}),
                ("stopped", ago(50), {"stopped_at": ago(50)}),
            )
        ]
        rows = [DONE, FAILED, RUNNING, UNSEEN, OTHERS]
        opened.save(Rows(occurrences=rows, lines=LINES, failures=[LETTER], workers=[group], instances=processes))
        yield opened


@pytest.fixture
async def client(vhost: str) -> AsyncIterator[Client]:
    """With the queue of the job."""
    async with connect(servers.rabbitmq().port, vhost) as client:
        await client.declare_exchange(topology.JOBS_EXCHANGE)
        arguments = {name: ("S", value) for name, value in topology.JOB_QUEUE_ARGUMENTS.items()}
        await client.declare_queue(WORK_QUEUE, arguments)
        await client.bind(WORK_QUEUE, topology.JOBS_EXCHANGE, "w.work.*")
        yield client


async def told(config: Path, *arguments: str) -> Ended:
    return await call_command(*arguments, "--config", config)


async def facts(config: Path, *arguments: str) -> Any:
    ended = await told(config, *arguments, "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


# --- reading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ((), [3, 2, 1, 4, 5]),
        (("--limit", "2"), [3, 2]),
        (("--since", "45m"), [3, 2]),
        (("--since", "3h", "--status", "completed"), [1]),
        (("--status", "Failed", "--status", "running"), [3, 2]),
        (("--job", "workjob"), [3, 2, 1]),
        (("--worker", "w"), [3, 2, 1]),
        (("--schedule", "nightly"), []),
        (("--status", "lost"), []),
    ],
)
async def test_history_shows_what_was_asked_for(
    options: tuple[str, ...], numbers: list[int], config: Path, store: HistoryStore
) -> None:
    """The newest first; as JSON and as a table."""
    found = await facts(config, "history", *options)
    shown = await told(config, "history", *options)

    ids = [row["occurrence_id"] for row in found["occurrences"]]
    assert sorted(ids) == sorted(guid(number) for number in numbers)
    assert ids[:2] == [guid(number) for number in numbers][:2]
    assert found["counts"] == {"Running": 1, "Completed": 3, "Failed": 1}
    assert [each for each in ids if each not in shown.out] == []
    assert "of 5 occurrences in" in shown.err


async def test_an_occurrence_is_shown_with_all_that_is_known(config: Path, store: HistoryStore) -> None:
    good = await facts(config, "occurrences", "show", DONE.id)
    bad = await facts(config, "occurrences", "show", FAILED.id.upper())
    shown = await told(config, "occurrences", "show", DONE.id)

    assert (good["status"], good["runs"], good["duration_ms"], good["result"]) == ("Completed", 2, 2000, "sent")
    assert [(each["from"], each["to"]) for each in good["changes"]] == [("Queued", "Running"), ("Running", "Completed")]
    assert [line["message"] for line in good["log"]] == ["sending", "sent"]
    assert good["dead_letter"] is None
    assert bad["dead_letter"]["failure_type"] == "MaxRetriesExceeded"
    for text in ("WorkJob", "Completed", "2.0 s", '{"to":"ada"}', "sending", "Running", "Runs        2"):
        assert text in shown.out
    assert "KeyError" in (await told(config, "occurrences", "show", FAILED.id)).out


def test_a_narrow_terminal_gets_ids_whole_and_nothing_that_steers_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A person copies ids, and anybody's job writes the texts."""
    printed = io.StringIO()
    console = terminal._Console(file=printed, width=60, soft_wrap=True, force_terminal=True, color_system=None)
    monkeypatch.setattr(terminal, "output_console", lambda: console)
    shown = terminal.table("Job", "Occurrence", "Error", width=100)
    shown.add_row("WorkJob", DONE.id, Text("a\x1b[31mred\x1b]0;title\x07\x9b1m" + 9 * " and more of it"))
    console.print(shown)

    assert DONE.id in printed.getvalue()
    assert printed.getvalue().count("more") == 9
    assert not {"\x1b", "\x07", "\x9b"} & set(printed.getvalue())


async def test_workers_are_shown_by_how_they_are(config: Path, store: HistoryStore) -> None:
    found = await facts(config, "workers")
    shown = await told(config, "workers")

    [group] = found["workers"]
    assert group["jobs"] == {"WorkJob": "w.work.*"}
    states = {each["instance_id"]: (each["state"], each["current_jobs"]) for each in group["instances"]}
    assert states == {
        "w-alive": ("alive", 3),
        "w-lost": ("lost", 0),
        "w-silent": ("silent", 0),
        "w-stopped": ("stopped", 0),
    }
    assert "1 of 4 processes alive" in shown.err


async def test_dead_letters_are_shown_with_the_quarantine(config: Path, store: HistoryStore, client: Client) -> None:
    typed = {
        name: ("S" if isinstance(of, str) else "I", of) for name, of in topology.QUARANTINE_QUEUE_ARGUMENTS.items()
    }
    await client.declare_queue(topology.QUARANTINE_QUEUE, typed)
    await client.publish("", topology.QUARANTINE_QUEUE, b"odd")

    found = await facts(config, "dlq", "list")
    none = await facts(config, "dlq", "list", "--job", "OtherJob")
    one = await facts(config, "dlq", "show", FAILED.id)
    shown = await told(config, "dlq", "list")

    assert [row["occurrence_id"] for row in found["failures"]] == [FAILED.id]
    assert found["quarantine"] == {"queue": topology.QUARANTINE_QUEUE, "messages": 1, "problem": None}
    assert none["failures"] == []
    assert (one["retry_count"], one["message"], one["replayed_as"]) == (3, '{"Id":"x"}', None)
    assert FAILED.id in shown.out
    assert f"1 message in {topology.QUARANTINE_QUEUE}" in shown.err


async def test_dead_letters_are_shown_without_a_broker(config: Path, store: HistoryStore) -> None:
    found = await facts(config, "dlq", "list", "--set", f"rabbitmq.port={servers.free_port()}")

    assert len(found["failures"]) == 1
    assert found["quarantine"]["messages"] is None
    assert found["quarantine"]["problem"]


@pytest.mark.parametrize(
    "arguments",
    [("history",), ("workers",), ("occurrences", "show", DONE.id), ("dlq", "list"), ("dlq", "show", DONE.id)],
    ids=" ".join,
)
async def test_where_there_is_no_history_it_says_how_to_get_one(
    arguments: tuple[str, ...], config: Path, tmp_path: Path
) -> None:
    """And none is made by looking."""
    ended = await told(config, *arguments)

    assert ended.code == 1
    assert f"There is no history {tmp_path / 'history.db'}" in ended.err
    assert "milvaion-trio monitor" in ended.err
    assert not (tmp_path / "history.db").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("history", "--status", "done"), 2, "must be one of Queued, Running"),
        (("history", "--since", "yesterday"), 2, "a time ago (90s, 15m, 2h, 3d, 1w) or a date"),
        (("history", "--limit", "0"), 2, "from 1 to"),
        (("history", "--limit", "99999999999999999999"), 2, "from 1 to"),
        (("dlq", "list", "--limit", "-1"), 2, "from 1 to"),
        (("occurrences", "show", DONE.id, "--lines", "0"), 2, "from 1 to"),
        (("occurrences", "show", "7"), 2, "is no occurrence id"),
        (("occurrences", "show", guid(99)), 1, "knows no occurrence"),
        (("retry", guid(99)), 1, "knows no occurrence"),
        (("retry", RUNNING.id), 1, "--force"),
        (("retry", UNSEEN.id), 1, "its dispatch was not read by a monitor"),
        (("retry", OTHERS.id), 1, "another scheduler (APScheduler)"),
        (("dlq", "show", DONE.id), 1, "There is no dead letter"),
        (("dlq", "replay"), 2, "or --all"),
        (("dlq", "replay", FAILED.id, "--all"), 2, "or --all"),
        (("dlq", "purge"), 2, "or --all"),
    ],
)
async def test_a_refusal_says_what_to_do(
    arguments: tuple[str, ...], code: int, text: str, config: Path, store: HistoryStore
) -> None:
    ended = await told(config, *arguments)

    assert (ended.code, ended.out) == (code, "")
    assert text in ended.err


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("15m", 900), ("2h", 7200), ("1.5h", 5400), ("3d", 259_200), ("1w", 604_800)]
)
def test_since_may_be_a_time_ago(text: str, seconds: int) -> None:
    assert since_of(text, 10**18) == Instant.from_unix_ns(10**18 - seconds * 10**9)


def test_since_may_be_a_date() -> None:
    assert since_of("2030-01-31", 0) == Instant.parse("2030-01-31")
    assert since_of("2030-01-31 12:00:00Z", 0) == Instant.parse("2030-01-31T12:00:00Z")
    with pytest.raises(UsageError):
        since_of("999999999w", 0)


@pytest.mark.parametrize(("is_told", "verdict"), [(True, Verdict.OK), (False, Verdict.WARNING)])
def test_check_says_when_a_worker_hides_jobs_from_a_monitor(is_told: bool, verdict: Verdict) -> None:
    """Of the jobs of our own clients it reports nothing, unless it is told to."""
    settings = WorkerSettings(reporting=ReportingSettings(local_occurrences=is_told))

    [finding] = server_checks._monitor(QueueState(ready=0, consumers=1), settings)

    assert finding.verdict is verdict
    assert list(server_checks._monitor(QueueState(ready=9, consumers=0), settings)) == []
    assert list(server_checks._monitor(None, settings)) == []


# --- once more ------------------------------------------------------------------------------------------------------


async def test_retry_dispatches_the_same_job_with_the_same_data(
    config: Path, store: HistoryStore, client: Client
) -> None:
    ended = await told(config, "retry", DONE.id)
    deliveries = await client.consume(WORK_QUEUE)
    message = await deliveries.receive()

    new = ended.out.strip()
    assert ended.code == 0
    assert new != DONE.id
    body = json.loads(message.body)
    assert (body["jobNameInWorker"], body["jobData"], body["workerId"], body["id"]) == (
        "WorkJob",
        '{"to":"ada"}',
        "w",
        JOB_ID,
    )
    assert message.headers["OccurrenceId"] == ("S", new)
    assert message.headers["x-mtrio-origin"] == ("S", "client")


async def test_one_that_waits_is_not_retried_by_chance(config: Path, store: HistoryStore, client: Client) -> None:
    """It would run twice."""
    store.save(Rows(occurrences=[evolve(RUNNING, status=S.QUEUED)]))

    refused = await told(config, "retry", RUNNING.id)

    assert (refused.code, refused.out) == (1, "")
    assert "is Queued: it would run twice" in refused.err


async def test_a_running_one_is_retried_by_force(config: Path, store: HistoryStore, client: Client) -> None:
    ended = await facts(config, "retry", RUNNING.id, "--force")

    assert ended["repeats"] == RUNNING.id


async def test_who_retries_what_failed_for_good_replays_its_dead_letter(
    config: Path, store: HistoryStore, client: Client
) -> None:
    """So `dlq replay --all` does not run it a third time; and a second `retry` has to be meant."""
    first = await told(config, "retry", FAILED.id)
    letter = store.failure(FAILED.id)
    again = await told(config, "retry", FAILED.id)
    everything = await facts(config, "dlq", "replay", "--all")
    forced = await told(config, "retry", FAILED.id, "--force")

    assert letter is not None
    assert letter.replayed_as == first.out.strip()
    assert (again.code, f"was replayed as {letter.replayed_as} already" in again.err) == (1, True)
    assert everything == {"replayed": []}
    assert forced.code == 0


@pytest.mark.parametrize("command", [("retry",), ("dlq", "replay")])
async def test_a_replay_that_cannot_be_noted_is_told_with_its_id(
    command: tuple[str, ...], config: Path, store: HistoryStore, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was dispatched all the same: who does not know that dispatches it twice."""

    def fails(*_: object) -> None:
        raise StoreUnavailable("The history is locked.")

    monkeypatch.setattr(SQLiteHistory, "save", fails)

    ended = await told(config, *command, FAILED.id)
    message = await (await client.consume(WORK_QUEUE)).receive()

    new = str(message.headers["OccurrenceId"][1])
    assert ended.code == 1
    assert ended.out.split()[-1] == new
    assert f"{FAILED.id} was dispatched once more, as {new}, and its dead letter does not say so" in ended.err
    assert "locked" in ended.err


async def test_an_id_that_is_named_twice_is_replayed_once(config: Path, store: HistoryStore, client: Client) -> None:
    """Also in capitals."""
    replayed = await facts(config, "dlq", "replay", FAILED.id, FAILED.id.upper())

    assert len(replayed["replayed"]) == 1


async def test_a_dead_letter_is_replayed_once(config: Path, store: HistoryStore, client: Client) -> None:
    """And says as which occurrence."""
    first = await told(config, "dlq", "replay", FAILED.id)
    again = await told(config, "dlq", "replay", FAILED.id)
    everything = await facts(config, "dlq", "replay", "--all")
    deliveries = await client.consume(WORK_QUEUE)
    message = await deliveries.receive()
    letter = store.failure(FAILED.id)

    old, new = first.out.split()
    assert old == FAILED.id
    assert letter is not None
    assert letter.replayed_as == new
    assert message.headers["OccurrenceId"] == ("S", new)
    assert json.loads(message.body)["jobData"] == '{"to":"ada"}'
    assert (again.code, f"was replayed as {new} already" in again.err) == (1, True)
    assert everything == {"replayed": []}


async def test_one_that_cannot_be_repeated_does_not_keep_all_others_from_it(
    config: Path, store: HistoryStore, client: Client
) -> None:
    """Nobody knows of which group it was."""
    store.save(Rows(failures=[evolve(LETTER, occurrence_id=UNSEEN.id, worker_id=None)]))

    alone = await told(config, "dlq", "replay", UNSEEN.id)
    everything = await told(config, "dlq", "replay", "--all")

    assert (alone.code, alone.out) == (1, "")
    assert (everything.code, everything.out.split()[:1]) == (1, [FAILED.id])
    assert f"left out: {UNSEEN.id} cannot be repeated" in everything.err
    assert "1 dead letter replayed" in everything.err


async def test_what_no_queue_takes_is_not_marked_as_replayed(config: Path, store: HistoryStore) -> None:
    """No worker has ever declared it."""
    ended = await told(config, "dlq", "replay", "--all")
    letter = store.failure(FAILED.id)

    assert ended.code == 1
    assert "There is no queue" in ended.err
    assert letter is not None
    assert letter.replayed_as is None


async def test_dead_letters_are_deleted_when_it_is_confirmed(config: Path, store: HistoryStore) -> None:
    asked = await told(config, "dlq", "purge", "--all")
    kept = store.failures()
    done = await told(config, "dlq", "purge", FAILED.id, "--yes")

    assert asked.out == "would delete 1 dead letter; add --yes\n"
    assert len(kept) == 1
    assert done.out == "deleted 1 dead letter\n"
    assert store.failures() == []
    assert FAILED.id in store.load([FAILED.id])


def test_the_commands_are_programs(config: Path, store: HistoryStore) -> None:
    ended = run_command("history", "--json", "--config", config)

    assert ended.code == 0
    assert len(json.loads(ended.out)["occurrences"]) == 5


async def test_a_foreign_file_is_told_and_left_alone(config: Path, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "history.db")) as db, db:
        db.execute("CREATE TABLE theirs (x)")

    ended = await told(config, "history")

    assert ended.code == 1
    assert "database of another program" in ended.err
