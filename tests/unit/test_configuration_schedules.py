"""Schedules in settings: the same from every source, one mapping beside the jobs, later sources over earlier ones."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from milvaion_trio import SettingsError, Worker
from milvaion_trio.configuration import Override, Resolved, resolve
from milvaion_trio.configuration.effective import effective_settings
from milvaion_trio.model.schedule import Misfire, Overlap
from milvaion_trio.model.schedule_settings import ScheduleSettings
from milvaion_trio.model.settings import MonitorSettings, WorkerSettings

NIGHTLY = ScheduleSettings(
    job="SendReport", cron="0 3 * * *", timezone="Europe/Istanbul", overlap=Overlap.QUEUE, misfire=Misfire.ALL, grace=5
)

TOML = """
[schedules.nightly]
job = "SendReport"
cron = "0 3 * * *"
timezone = "Europe/Istanbul"
overlap = "queue"
misfire = "all"
grace = 5
"""
JSON = """
{"Schedules": {"nightly": {
    "Job": "SendReport", "Cron": "0 3 * * *", "TimeZone": "Europe/Istanbul", "Overlap": "queue", "Misfire": "all",
    "Grace": "5"
}}}
"""
DOTNET = {
    "Schedules__nightly__Job": "SendReport",
    "Schedules__nightly__Cron": "0 3 * * *",
    "Schedules__nightly__Timezone": "Europe/Istanbul",
    "Schedules__nightly__Overlap": "queue",
    "Schedules__nightly__Misfire": "all",
    "Schedules__nightly__Grace": "5",
}
OURS = {f"MILVAION_TRIO__{name.upper()}".replace("NIGHTLY", "nightly"): text for name, text in DOTNET.items()}
LINE = {
    "schedules.nightly.job": "SendReport",
    "schedules.nightly.cron": "0 3 * * *",
    "Schedules:nightly:Timezone": "Europe/Istanbul",
    "schedules.nightly.overlap": "queue",
    "schedules.nightly.misfire": "all",
    "schedules.nightly.grace": "5",
}


def read(
    folder: Path,
    files: Mapping[str, str],
    environ: Mapping[str, str] | None = None,
    line: Mapping[str, str] | None = None,
    base: WorkerSettings | None = None,
) -> Resolved:
    for name, text in files.items():
        (folder / name).write_text(text)
    overrides = [Override(key, text) for key, text in (line or {}).items()]
    return resolve(base or WorkerSettings(), environ=environ or {}, folder=folder, overrides=overrides)


def problems(folder: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(SettingsError) as caught:
        read(folder, {"milvaion.toml": text})
    return caught.value.problems


@pytest.mark.parametrize(
    ("files", "environ", "line", "where"),
    [
        ({"milvaion.toml": TOML}, {}, {}, "milvaion.toml: schedules.nightly"),
        ({"appsettings.json": JSON}, {}, {}, "appsettings.json: Schedules:nightly"),
        ({}, DOTNET, {}, "environment: Schedules__nightly__Cron"),
        ({}, OURS, {}, "environment: MILVAION_TRIO__SCHEDULES__nightly__CRON"),
        ({}, {}, LINE, "command line: schedules.nightly.job"),
    ],
    ids=["toml", "appsettings", "dotnet", "ours", "command line"],
)
def test_every_source_says_the_same(
    tmp_path: Path, files: Mapping[str, str], environ: Mapping[str, str], line: Mapping[str, str], where: str
) -> None:
    resolved = read(tmp_path, files, environ, line)

    assert resolved.settings.schedules == {"nightly": NIGHTLY}
    assert resolved.schedules == {"nightly": where}
    assert resolved.warnings == ()


def test_names_are_the_same_in_any_case_and_keep_the_first_spelling(tmp_path: Path) -> None:
    resolved = read(tmp_path, {"milvaion.toml": TOML}, {"MILVAION_TRIO__SCHEDULES__NIGHTLY__MAX_RUNS": "2"})

    assert list(resolved.settings.schedules) == ["nightly"]
    assert resolved.settings.schedules["nightly"].max_runs == 2


@pytest.mark.parametrize("later", ["environment", "code"])
def test_times_of_a_later_source_are_in_place_of_earlier_ones(tmp_path: Path, later: str) -> None:
    """Also those of settings in code; a time zone belongs to its expression."""
    environ = {"MILVAION_TRIO__SCHEDULES__NIGHTLY__EVERY": "7"}
    if later == "environment":
        resolved = read(tmp_path, {"milvaion.toml": TOML}, environ)
    else:
        resolved = read(tmp_path, {}, environ, base=WorkerSettings(schedules={"nightly": NIGHTLY}))

    schedule = resolved.settings.schedules["nightly"]
    assert (schedule.every, schedule.cron, schedule.timezone, schedule.grace) == (7, None, None, 5)


def test_an_expression_of_a_later_source_keeps_the_time_zone(tmp_path: Path) -> None:
    resolved = read(tmp_path, {"milvaion.toml": TOML}, {"MILVAION_TRIO__SCHEDULES__NIGHTLY__CRON": "@daily"})

    schedule = resolved.settings.schedules["nightly"]
    assert (schedule.cron, schedule.timezone) == ("@daily", "Europe/Istanbul")


@pytest.mark.parametrize("written", ["2027-05-04T09:00:00+03:00", '"2027-05-04T06:00:00Z"'])
def test_a_moment_is_a_date_of_toml_or_a_text(tmp_path: Path, written: str) -> None:
    resolved = read(tmp_path, {"milvaion.toml": f'[schedules.once]\njob = "A"\nat = {written}'})

    assert resolved.settings.schedules["once"].at == datetime(2027, 5, 4, 6, tzinfo=UTC)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("crn = '@daily'", "schedules.a.crn is no setting; did you mean schedules.a.cron?"),
        ("every = '5'", 'schedules.a.every is "5"; it must be a number, 0.1 or more, without quotes.'),
        ("every = 0", "schedules.a.every is 0; it must be a number, 0.1 or more."),
        ("overlap = 'skp'", "schedules.a.overlap is \"skp\"; it must be one of 'skip', 'queue', 'cancel-previous', "),
        ("at = 2027-05-04T09:00:00", "schedules.a.at is 2027-05-04T09:00:00; it must be a date and time with its dis"),
        ("at = 2027-05-04", "schedules.a.at is 2027-05-04; it must be a date and time with its distance from UTC, "),
        ("data = '{to: 1}'", 'schedules.a.data is "{to: 1}"; it must be JSON as a text, such as '),
        ("data = {to = 1}", "schedules.a.data has names below it; it must be JSON as a text, such as "),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, line: str, told: str) -> None:
    (problem,) = problems(tmp_path, f"[schedules.a]\n{line}")

    assert problem.startswith(f"milvaion.toml, line 2: {told}")


def test_a_single_value_is_no_schedule(tmp_path: Path) -> None:
    assert problems(tmp_path, '[schedules]\nnightly = "0 3 * * *"') == (
        "milvaion.toml, line 2: schedules.nightly is a single value; it must be a section, with names below it.",
    )


def test_an_unknown_key_of_a_dotnet_file_is_a_warning(tmp_path: Path) -> None:
    resolved = read(tmp_path, {"appsettings.json": '{"Schedules": {"a": {"Job": "A", "Every": 5, "Overlp": "x"}}}'})

    assert resolved.warnings == (
        "appsettings.json: Schedules:a:Overlp is no setting and is ignored; did you mean Schedules:a:Overlap?",
    )


def test_what_is_shown_names_the_source_of_each_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "milvaion.toml").write_text("[schedules.nightly]\ncron = '@daily'\nstart = 2027-05-04T09:00:00+03:00")
    worker = Worker(settings=WorkerSettings(schedules={"nightly": ScheduleSettings(grace=5)}))

    @worker.every(5)
    @worker.cron("0 3 * * *", timezone="Europe/Istanbul", id="nightly")
    async def look() -> None: ...

    shown = effective_settings(worker.read_settings(), schedules=worker.timetable.declared)

    assert [(each.name, each.value, each.origin) for each in shown if each.name.startswith("schedules.")] == [
        ("schedules.nightly.job", "look", "decorator"),
        ("schedules.nightly.cron", "@daily", "milvaion.toml, line 2"),
        ("schedules.nightly.timezone", "Europe/Istanbul", "decorator"),
        ("schedules.nightly.grace", 5, "constructor"),
        ("schedules.nightly.start", "2027-05-04T09:00:00+03:00", "milvaion.toml, line 3"),
        ("schedules.look.job", "look", "decorator"),
        ("schedules.look.every", 5, "decorator"),
    ]


# --- the database of .NET programs ----------------------------------------------------------------------------------

MONGODB = "mongodb://me:secret@localhost:27017/Aevatar"


def settings_file(**sections: object) -> dict[str, str]:
    return {"appsettings.json": json.dumps({"Worker": {"WorkerId": "w"}, **sections})}


def test_a_mongodb_among_the_connection_strings_keeps_the_history(tmp_path: Path) -> None:
    """The others stay another program's."""
    strings = {"Default": MONGODB, "Other": MONGODB}

    resolved = read(tmp_path, settings_file(ConnectionStrings=strings))

    assert resolved.settings.monitor == MonitorSettings(mongodb=MONGODB)
    assert resolved.origins["monitor", "mongodb"] == "appsettings.json"
    assert resolved.warnings == ()
    (note,) = resolved.notes
    assert note.startswith("appsettings.json: ConnectionStrings has no effect; of these only a Default that begins")
    assert MONGODB not in str(resolved)


@pytest.mark.parametrize("other", ["Server=.;Database=Jobs", "", None, 5, {"Name": "x"}])
def test_another_database_is_another_programs(tmp_path: Path, other: object) -> None:
    resolved = read(tmp_path, settings_file(ConnectionStrings={"Default": other}))

    assert resolved.settings.monitor == MonitorSettings()
    assert resolved.warnings == ()


def test_what_we_are_told_ourselves_counts(tmp_path: Path) -> None:
    worker = {"WorkerId": "w", "Monitor": {"Mongodb": "mongodb://ours/h"}}

    resolved = read(tmp_path, settings_file(ConnectionStrings={"Default": MONGODB}, Worker=worker))

    assert resolved.settings.monitor.mongodb == "mongodb://ours/h"


def test_it_may_be_a_variable_too(tmp_path: Path) -> None:
    """As a .NET host reads it, over the file; one of another database is not ours."""
    files = settings_file(ConnectionStrings={"Default": MONGODB})

    over = read(tmp_path, files, {"ConnectionStrings__Default": "mongodb+srv://cluster/h"})
    other = read(tmp_path, files, {"ConnectionStrings__Default": "Server=."})

    assert over.settings.monitor.mongodb == "mongodb+srv://cluster/h"
    assert over.origins["monitor", "mongodb"] == "ConnectionStrings__Default"
    assert other.settings.monitor.mongodb == MONGODB


def test_toml_has_no_connection_strings(tmp_path: Path) -> None:
    assert problems(tmp_path, f'[ConnectionStrings]\nDefault = "{MONGODB}"') == (
        "milvaion.toml, line 2: ConnectionStrings is no setting.",
    )
