"""`config show` and `config check` as somebody uses them who wonders why a worker does what it does."""

import json
from pathlib import Path

import pytest
from tests.docs.markdown import ROOT, blocks
from tests.support.commands import Ended, call_command, environment, run_command
from tests.support.readmes import AEVATAR_README, SDK_README

WORKER = """
from milvaion_trio import Worker

worker = Worker("code-worker")


@worker.job("SendEmailJob", max_retries=7)
async def send_email() -> None: ...
"""
TOML = """version = 1
worker_id = "shop-worker"

[rabbitmq]
host = "rabbit"
password = "hunter2"

[redis]
connection_string = "redis:6379,password=hunter3"

[jobs.SendEmailJob]
timeout = 30
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "milvaion.toml").write_text(TOML)
    (tmp_path / "app.py").write_text(WORKER)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def config(folder: Path, *arguments: str, **variables: str) -> Ended:
    return run_command("config", *arguments, cwd=folder, env=environment(**variables))


async def test_show_tells_every_setting_with_its_value_and_where_it_comes_from(folder: Path) -> None:
    ended = await call_command("config", "show", "--set", "rabbitmq.port=15672")

    assert (ended.code, ended.err) == (0, "")
    found = {line.split()[0]: line.split()[1:] for line in ended.lines[2:]}
    assert found["worker_id"] == ["shop-worker", "milvaion.toml,", "line", "2"]
    assert found["rabbitmq.host"] == ["rabbit", "milvaion.toml,", "line", "5"]
    assert found["rabbitmq.port"] == ["15672", "command", "line"]
    assert found["heartbeat.enabled"] == ["true", "default"]
    assert found["jobs.SendEmailJob.timeout"] == ["30", "milvaion.toml,", "line", "12"]
    assert "hunter" not in ended.out


def test_show_with_a_worker_has_its_code_and_the_policies_of_its_jobs(folder: Path) -> None:
    ended = config(folder, "show", "app:worker", "--json", MILVAION_TRIO__JOBS__SENDEMAILJOB__JITTER="0.5")

    assert (ended.code, ended.err) == (0, "")
    told = json.loads(ended.out)
    found = {each["name"]: (each["value"], each["origin"]) for each in told["settings"]}
    assert told["sources"] == ["milvaion.toml", "environment"]
    assert told["warnings"] == []
    assert found["jobs.SendEmailJob.timeout"] == (30, "milvaion.toml, line 12")
    assert found["jobs.SendEmailJob.max_retries"] == (7, "decorator")
    assert found["jobs.SendEmailJob.jitter"] == (0.5, "MILVAION_TRIO__JOBS__SENDEMAILJOB__JITTER")
    assert found["jobs.SendEmailJob.max_parallel"] == (10, "default (max_parallel_jobs)")
    assert found["rabbitmq.password"] == ("***", "milvaion.toml, line 6")
    assert found["redis.connection_string"] == ("redis:6379,password=***", "milvaion.toml, line 9")
    assert "hunter" not in ended.out


async def test_what_has_no_effect_is_told_beside_it(folder: Path) -> None:
    (folder / "appsettings.json").write_text(SDK_README)

    ended = await call_command("config", "show")

    assert ended.code == 0
    assert ended.err == (
        "warning: milvaion.toml is the settings file here; appsettings.json beside it is not read. Name the file that "
        "holds with --config FILE, or remove the others.\n"
    )


async def test_settings_that_contradict_themselves_are_one_report_with_2(folder: Path) -> None:
    (folder / "milvaion.toml").write_text('[rabbitmq]\nhots = "x"\nport = "5672"')

    shown = await call_command("config", "show", "--set", "worker_id=two words")
    checked = await call_command("config", "check", "--set", "worker_id=two words")

    lines = [
        "milvaion.toml, line 2: rabbitmq.hots is no setting; did you mean rabbitmq.host?",
        'milvaion.toml, line 3: rabbitmq.port is "5672"; it must be a whole number, 1 to 65535, without quotes.',
        'command line: --set worker_id is "two words"; it must be 1 to 100 of the characters A-Z a-z 0-9 . _ -.',
    ]
    assert (shown.code, shown.out) == (2, "")
    assert shown.err.splitlines()[1:] == [f"  - {line}" for line in lines]
    assert (checked.code, checked.err) == (2, "")
    assert checked.lines == [f"failed   settings  {line}" for line in lines]


async def test_a_mistake_hides_no_warning(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one in a setting nor one that is found when all of them are there; the worst is said first."""
    monkeypatch.setenv("Worker__MaxParalelJobs", "5")

    misspelt = await call_command("config", "check", "--set", "worker_id=two words")
    unreadable = await call_command("config", "check", "--set", "redis.connection_string=h:0")

    for checked, mistake in ((misspelt, "--set worker_id is"), (unreadable, "its port must be a number")):
        failed, warning = checked.lines
        assert checked.code == 2
        assert failed.startswith("failed   settings  ")
        assert mistake in failed
        assert warning.startswith("warning  settings  environment: Worker__MaxParalelJobs is no setting and is ignored")


async def test_check_says_what_is_right(folder: Path) -> None:
    """And asks no server: there is none under these names."""
    ended = await call_command("config", "check")

    assert (ended.code, ended.err) == (0, "")
    assert ended.lines == ["ok       settings  worker id shop-worker; read from milvaion.toml"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("--set", "amqp://u:s3cret@h"),
        ("--set", "amqp://u:s3cret@h/?heartbeat=10"),
        ("--set", "redis://h/s3cret?database=1"),
        ("--set", "u:s3cret@h=1"),
        ("--set", "rabbitmq.u:s3cret@h=1"),
        ("--set", "JobConsumers:u:s3cret@h=1"),
        ("--set", "redis.connection_string=h:6379,s3cret"),
        ("--set", "redis.connection_string=redis://h/s3cret"),
        ("--config", "amqp://u:s3cret@h"),
    ],
)
async def test_a_password_in_the_wrong_place_is_not_told(folder: Path, arguments: tuple[str, str]) -> None:
    for command in ("show", "check"):
        ended = await call_command("config", command, *arguments)

        assert "s3cret" not in ended.out + ended.err


def test_check_with_a_worker_holds_its_jobs_against_the_settings(folder: Path) -> None:
    right = config(folder, "check", "app:worker", "--json")
    wrong = config(folder, "check", "app:worker", "--set", "jobs.SendMailJob.timeout=1")

    told = json.loads(right.out)
    assert (right.code, told["verdict"]) == (0, "ok")
    assert {"area": "jobs", "verdict": "ok"}.items() <= told["findings"][-1].items()
    assert (wrong.code, wrong.err) == (2, "")
    assert wrong.lines[-1] == (
        "failed   jobs      The settings name a job 'SendMailJob' that this worker does not have "
        "(command line: --set jobs.SendMailJob.timeout); did you mean 'SendEmailJob'?"
    )


async def test_check_tells_of_every_key_of_a_dotnet_file_what_becomes_of_it(folder: Path) -> None:
    (folder / "appsettings.json").write_text(AEVATAR_README)

    ended = await call_command("config", "check", "--config", "appsettings.json")

    assert ended.code == 0
    told = [line.partition("appsettings.json: ")[::2] for line in ended.lines]
    notes = {text.partition(" has no effect")[0]: start.split()[0] for start, text in told if "no effect" in text}
    assert notes == {
        "App": "ok",
        "Orleans": "ok",
        "Redis:Configuration": "warning",
        "Dapr": "ok",
        "Serilog": "ok",
    }


async def test_without_any_settings_it_is_said_where_they_were_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    ended = await call_command("config", "check")

    assert (ended.code, ended.err) == (0, "")
    assert ended.lines == [
        "ok       settings  worker id worker; all from the code: nothing in the environment, no file "
        "(milvaion.toml, [tool.milvaion-trio] in pyproject.toml, appsettings.json)"
    ]


def test_a_run_takes_its_settings_from_the_command_line(folder: Path) -> None:
    """`--set` and the options that are settings too; to the end, on the embedded broker."""
    (folder / "milvaion.toml").write_text('[shutdown]\ndrain_timeout = "x"')
    broken = run_command("run", "app:worker", "--burst", cwd=folder)
    (folder / "milvaion.toml").write_text("max_parallel_jobs = 3")
    options = ("--worker-id", "line-worker", "--max-parallel-jobs", "4", "--set", "jobs.SendEmailJob.timeout=9")

    done = run_command("run", "app:worker", "--burst", *options, cwd=folder)
    wrong = run_command("run", "app:worker", "--burst", "--worker-id", "line worker", cwd=folder)

    assert broken.code == 2
    assert (done.code, done.out) == (0, "")
    assert "line-worker" in done.err
    assert (wrong.code, wrong.err.splitlines()[-1]) == (
        2,
        'error: command line: --worker-id is "line worker"; it must be 1 to 100 of the characters A-Z a-z 0-9 . _ -.',
    )


def test_every_command_that_reads_settings_takes_them(folder: Path) -> None:
    """`list` shows what `--set` says, `dev` and the others have the same option."""
    (folder / "milvaion.toml").write_text("")

    listed = run_command("list", "app:worker", "--json", "--set", "jobs.SendEmailJob.timeout=9", cwd=folder)

    assert json.loads(listed.out)[0]["timeout"] == 9


def test_the_how_to_shows_what_is_printed(tmp_path: Path) -> None:
    """Its files, and its reports line by line."""
    page = ROOT / "docs" / "how-to" / "configure.md"
    reports = [block.code.splitlines() for block in blocks(page) if block.language == "text"]
    for block in blocks(page):
        if "file" in block.marks:
            (tmp_path / block.marks["file"]).write_text(block.code)

    ended = config(tmp_path, "check", "shop:worker", "--config", "broken.toml")
    text = (tmp_path / "broken.toml").read_text()
    (tmp_path / "broken.toml").write_text(text.replace("hots", "host").replace('"5672"', "5672"))
    mended = config(tmp_path, "check", "shop:worker", "--config", "broken.toml")

    assert ended.lines == reports[0]
    assert [line for line in mended.lines if line.startswith("failed")] == reports[1]
