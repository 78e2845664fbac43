"""`schedule` and `scheduler`: what runs when, in a dev worker and in a cluster, and what an expression means."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import trio
from tests.support import servers
from tests.support.amqp import connect
from tests.support.commands import HERE, PATIENCE, call_command, environment, finish, serving_dev, start
from tests.support.settings_files import write_settings

from milvaion_trio.model import headers, topology

CLEANUP = "scheduled_jobs_queue.report-worker.cleanup.wildcard"
DATABASE = 11
"""Of the tests' Redis, which no other test schedules in."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where no settings are, and nobody listens."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


# --- an expression, without anybody ---------------------------------------------------------------------------------


async def test_an_expression_is_explained_and_its_times_are_printed(folder: Path) -> None:
    ended = await call_command("schedule", "next", "0 9 L * MON", "-n", "3", "--timezone", "Europe/Istanbul")

    assert (ended.code, len(ended.lines)) == (0, 3)
    assert all(line.endswith("T09:00:00+03:00") for line in ended.lines)
    assert [line.split(maxsplit=1) for line in ended.err.splitlines() if line.startswith(("hour", "day of m"))] == [
        ["hour", "9        9       "],
        ["day", "of month  L        the last"],
    ]


async def test_it_is_told_to_programs_too(folder: Path) -> None:
    ended = await call_command("schedule", "next", "@hourly", "-n", "2", "--json")

    told = json.loads(ended.out)
    assert (told["expression"], told["timezone"], len(told["next"])) == ("0 0 * * * *", "UTC", 2)
    assert told["fields"][1] == {"name": "minute", "text": "0", "meaning": "0"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("next", "0 25 * * *"), "error: cron expression '0 0 25 * * *': hour is '25'; allowed is 0 to 23."),
        (("next", "0 9 * *"), "error: cron expression '0 9 * *' has 4 fields; allowed are 6 (second minute hour "),
        (("next", "@dayly"), "error: cron expression '@dayly' is no macro that is known; did you mean @daily?"),
        (("next", "@daily", "--timezone", "Europe/Istambul"), "error: time zone 'Europe/Istambul' is not known; did "),
        (("next", "@daily", "-n", "0"), "error: --count is 0; it must be a whole number, 1 to 1000."),
        (("next", "nightly", "--timezone", "UTC"), "error: --timezone goes with an expression, and 'nightly' is taken"),
        (
            ("add", "CleanupJob", "--cron", "0 9 * * MO"),
            "error: Schedule 'CleanupJob': cron expression '0 0 9 * * MO': day of week is 'MO'; allowed are 0 to 7 or "
            "SUN to SAT, lists (1,3), ranges ",
        ),
        (("add", "CleanupJob"), "error: Schedule 'CleanupJob': it does not say when it runs: add cron, every or at."),
        (
            ("add", "CleanupJob", "--at", "tomorrow"),
            "error: Schedule 'CleanupJob': at is 'tomorrow'; it must be a date",
        ),
        (("add", "CleanupJob", "--every", "1", "--data", "{"), "error: --data cannot be read."),
    ],
    ids=lambda each: " ".join(each) if isinstance(each, tuple) else "",
)
async def test_a_mistake_teaches(folder: Path, arguments: tuple[str, ...], told: str) -> None:
    """Before anybody is asked."""
    ended = await call_command("schedule", *arguments)

    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(told)


async def test_a_date_that_never_comes_is_told(folder: Path) -> None:
    ended = await call_command("schedule", "next", "0 0 30 2 *")

    assert (ended.code, ended.out) == (0, "")
    assert ended.err.endswith("It never ticks: no date fits its day of month, month and day of week together.\n")


async def test_a_cluster_without_redis_keeps_no_schedules(folder: Path) -> None:
    (folder / "milvaion.toml").write_text("[rabbitmq]\nhost = 'nowhere'")

    listed = await call_command("schedule", "list", "--config", "milvaion.toml")
    led = await call_command("scheduler", "--config", "milvaion.toml")

    assert listed.code == 1
    assert listed.err.startswith("error: The settings name no Redis (redis.connection_string), and the schedules ")
    assert led.code == 2
    assert led.err.startswith("error: The settings name no Redis (redis.connection_string), and schedules are ")


# --- a worker in another terminal -----------------------------------------------------------------------------------


def test_the_schedules_of_a_dev_worker_are_changed_while_it_runs(tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="mt") as place:  # short enough for a socket
        with serving_dev("scheduled_worker:worker", tmp_path, socket=Path(place) / "s") as dev:
            dev.read_until("completed after")  # of the one that runs every second

            added = dev.ask("schedule", "add", "cleanupjob", "--at", "2099-01-01T00:00:00Z", "--id", "late")
            paused = dev.ask("schedule", "pause", "often")
            listed = dev.ask("schedule", "list", "--json")
            triggered = dev.ask("schedule", "trigger", "late")
            following = dev.ask("schedule", "next", "CleanupJob", "-n", "2")
            removed = dev.ask("schedule", "remove", "late")
            missing = dev.ask("schedule", "resume", "oftn")
            unknown = dev.ask("schedule", "add", "CleanpJob", "--every", "1")
            unfit = dev.ask("schedule", "add", "CleanupJob", "--every", "1", "--id", "x", "--data", '{"days": "many"}')
            dev.read_until(triggered.lines[0])
            ended = dev.stop(signal.SIGINT)

    assert (added.code, added.lines) == (0, ["late"])
    assert "CleanupJob of report-worker: at 2099-01-01T00:00:00+00:00, next at 2099-" in added.err
    assert (paused.code, paused.lines) == (0, ["often is paused: its ticks do not run until it is resumed"])
    states = {each["id"]: (each["state"], each["origin"], each["data"]) for each in json.loads(listed.out)}
    assert states == {
        "CleanupJob": ("active", "code", None),
        "late": ("active", "client", None),
        "often": ("paused", "code", {"days": 30}),
    }
    assert [line[10:] for line in following.lines] == ["T09:00:00+03:00"] * 2
    assert removed.lines == ["late is removed"]
    assert (missing.code, missing.err) == (1, "error: There is no schedule called 'oftn'. Did you mean 'often'?\n")
    assert unknown.code == 1
    assert "Did you mean CleanupJob?" in unknown.err
    mistake = "error: Its data does not fit CleanupJob: $['days']: found the text \"many\", expected a whole number.\n"
    assert (unfit.code, unfit.err) == (1, mistake)
    assert ended.code == 0


def test_a_worker_runs_its_schedules_with_nothing_but_itself(tmp_path: Path) -> None:
    """`trio.run(worker.serve)`, as the readme has it: the broker is embedded, and so is the scheduler."""
    program = Path(HERE / "scheduled_worker.py").read_text("utf-8")
    (tmp_path / "program.py").write_text(program)

    ended = subprocess.run(
        [sys.executable, "program.py"], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
    )

    assert (ended.returncode, ended.stdout) == (0, "1\n"), ended.stderr


# --- a cluster ------------------------------------------------------------------------------------------------------


@pytest.fixture
def vhost() -> str:
    return servers.new_vhost()


@pytest.fixture
def config(vhost: str, tmp_path: Path) -> Path:
    return write_settings(tmp_path, vhost, redis={"Database": DATABASE})


async def test_a_scheduler_dispatches_what_settings_and_commands_say(vhost: str, config: Path) -> None:
    """Until it is told to leave. Of workers it needs nothing but the queue that one has declared."""
    env = environment(Schedules__often__Job="CleanupJob", Schedules__often__Every="0.2", Schedules__often__Data="7")
    async with connect(servers.rabbitmq().port, vhost) as client:
        await client.declare_exchange(topology.JOBS_EXCHANGE)
        arguments = {name: ("S", of) for name, of in topology.JOB_QUEUE_ARGUMENTS.items()}
        await client.declare_queue(CLEANUP, arguments)
        await client.bind(CLEANUP, topology.JOBS_EXCHANGE, "report-worker.cleanup.*")
        scheduler = start(["scheduler", "--config", os.fspath(config)], env=env)
        try:
            with trio.fail_after(PATIENCE):
                message = await (await client.consume(CLEANUP, no_ack=True)).receive()
            listed = await call_command("schedule", "list", "--json", "--config", config)
            removed = await call_command("schedule", "remove", "often", "--config", config)
            digits = '{"n": [12345678901234567.891, 123456789012345678901], "deep": ' + "[" * 62 + "]" * 62 + "}"
            at = ("--at", "2090-01-01T00:00:00Z", "--data", digits, "--config", config)
            added = await call_command("schedule", "add", "CleanupJob", *at, "--json")
            await call_command("schedule", "remove", "CleanupJob", "--config", config)
            triggered = await call_command("schedule", "trigger", "often", "--config", config)
            scheduler.send_signal(signal.SIGTERM)
            ended = await trio.to_thread.run_sync(finish, scheduler)
        finally:
            scheduler.kill()

    assert message.headers[headers.SCHEDULE] == ("S", "often")
    assert json.loads(message.body)["jobData"] == "7"
    (often,) = json.loads(listed.out)
    assert (often["id"], often["origin"], often["worker_id"], often["every"]) == (
        "often",
        "settings",
        "report-worker",
        0.2,
    )
    assert removed.lines == ["often is removed; a worker that declares it brings it back when it starts"]
    assert added.code == 0
    assert f'"data":{"".join(digits.split())},' in "".join(added.out.split())
    assert triggered.code == 1
    assert triggered.err == "error: There is no schedule called 'often'. There are none.\n"
    assert ended.code == 0, ended.err
    told = [
        word
        for word in ("ready", "added or changed", ") leads", ") follows: it leaves", "stopped")
        if word in ended.err
    ]
    assert told == ["ready", "added or changed", ") leads", ") follows: it leaves", "stopped"]
