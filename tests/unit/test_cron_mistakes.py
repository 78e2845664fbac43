"""A mistake in a cron expression or a time zone is explained."""

from datetime import timezone

import pytest

from milvaion_trio.model.errors import SettingsError
from milvaion_trio.policy.cron import parse_cron


@pytest.mark.parametrize(
    ("expression", "sentence"),
    [
        ("61 * * * * *", "second is '61'; allowed is 0 to 59."),
        ("* 1,60 * * * *", "minute is '1,60', with '60' in it; allowed is 0 to 59."),
        ("* * 24 * * *", "hour is '24'; allowed is 0 to 23."),
        ("* * * 0 * *", "day of month is '0'; allowed is 1 to 31."),
        ("* * * 32W * *", "day of month is '32W', with '32' in it; allowed is 1 to 31."),
        ("* * * L-31 * *", "day of month is 'L-31', what is taken off L is 31; allowed is 0 to 30."),
        ("* * * * FOO *", "month is 'FOO'; allowed is 1 to 12 or JAN to DEC."),
        ("* * * * MON *", "month is 'MON'; allowed is 1 to 12 or JAN to DEC."),
        ("* * * * * 8", "day of week is '8'; allowed is 0 to 7 or SUN to SAT."),
        ("* * * * * MON#6", "day of week is 'MON#6', what follows # is 6; allowed is 1 to 5."),
        ("* * * * * MON#0", "day of week is 'MON#0', what follows # is 0; allowed is 1 to 5."),
        ("*/0 * * * * *", "second is '*/0', its step is 0; allowed is 1 to 59."),
        ("* * 1-5/24 * * *", "hour is '1-5/24', its step is 24; allowed is 1 to 23."),
        ("H * * * * *", "second is 'H'; H has no meaning here, use the schedule's jitter"),
        ("* H/5 * * * *", "minute is 'H/5'; H has no meaning here"),
        ("* *,5 * * * *", "minute is '*,5', of which '*' cannot be read; allowed are 0 to 59, lists (1,3), "),
        ("* 5, * * * *", "minute is '5,', of which '' cannot be read"),
        ("* 1--5 * * * *", "minute is '1--5'; allowed are 0 to 59, lists"),
        ("* -5 * * * *", "minute is '-5'; allowed are"),
        ("* 005 * * * *", "minute is '005'; allowed are"),
        ("* \u0665 * * * *", "minute is '\u0665'; allowed are"),
        ("* * * 15W,3 * *", "day of month is '15W,3', of which '15W' cannot be read; "),
        ("* * * 1,L * *", "or one of L, L-3, LW, L-3W and 15W alone."),
        ("* * * * JANUARY *", "month is 'JANUARY'; allowed are 1 to 12 or JAN to DEC, lists"),
        ("* * * * * FR\u0131", "day of week is 'FR\u0131'; allowed are 0 to 7 or SUN to SAT, lists"),
        ("* * * * * 5L,1", "or one of 5L, MON#2 alone."),
        ("* * * *", "has 4 fields; allowed are 6 (second minute hour day-of-month month day-of-week), or the last 5"),
        ("* * * * * * 2026", "has 7 fields; allowed are 6"),
        ("   ", "has 0 fields"),
        ("*\n* * * * * *", "second is '*\\n*'"),
        ("@dayly", "'@dayly' is no macro that is known; did you mean @daily?"),
        ("@reboot!", "allowed are @yearly, @annually, "),
        ("@", "is no macro"),
    ],
)
def test_a_mistake_is_told_with_the_field_its_value_and_what_is_allowed(expression: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        parse_cron(expression)

    (problem,) = refusal.value.problems
    assert problem.startswith("cron expression ")
    assert sentence in problem


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(SettingsError) as refusal:
        parse_cron("60 60 24 32 13 8", "Europe/Berln")

    fields = ["second", "minute", "hour", "day of month", "month", "day of week", "time zone"]
    assert len(refusal.value.problems) == len(fields)
    for name, problem in zip(fields, refusal.value.problems, strict=True):
        assert f"{name} " in problem


@pytest.mark.parametrize(
    ("zone", "hint"),
    [
        ("Europe/Berln", "did you mean 'Europe/Berlin'?"),
        ("utc", "did you mean 'UTC'?"),
        ("Istanbul", "did you mean 'Europe/Istanbul'?"),
        ("europe/istanbul ", "did you mean 'Europe/Istanbul'?"),
        ("+03:00", "names such as 'UTC' and 'Europe/Istanbul'"),
        ("../../etc/passwd", "time zone '../../etc/passwd' is not known"),
        ("/etc/passwd", "time zone '/etc/passwd' is not known"),
        ("Europe", "time zone 'Europe' is not known"),
        ("Asia/\x00", "is not known"),
        ("", "time zone '' is not known"),
        ("x" * 10_000, "is not known"),
    ],
)
def test_an_unknown_time_zone_is_told_with_a_near_one(zone: str, hint: str) -> None:
    with pytest.raises(SettingsError) as refusal:
        parse_cron("@daily", zone)

    (problem,) = refusal.value.problems
    assert problem.startswith("time zone ")
    assert hint in problem
    assert len(problem) < 300


def test_a_machine_without_time_zone_files_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(_name: str) -> timezone:
        raise LookupError

    monkeypatch.setattr("milvaion_trio.policy.zones.ZoneInfo", lost)
    monkeypatch.setattr("milvaion_trio.policy.zones.available_timezones", set)

    with pytest.raises(SettingsError, match="install the package tzdata"):
        parse_cron("@daily", "Europe/Berlin")
    assert parse_cron("@daily", "UTC").after(0) == 86_400_000


def test_a_long_expression_is_shown_cut() -> None:
    with pytest.raises(SettingsError) as refusal:
        parse_cron(f"{'1,' * 100_000}x * * * *")

    assert len(str(refusal.value)) < 1000


def test_a_list_may_be_long() -> None:
    assert parse_cron(f"{','.join(['7'] * 10_000)} * * * *").after(0) == 420_000
