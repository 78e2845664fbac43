"""Runs of the comparison are kept with every figure and shown with their spread, and say nothing of where they were."""

import json
import re
from pathlib import Path

import pytest
from attrs import evolve
from benchmarks.peers import tables
from benchmarks.peers.__main__ import Plays, _rows
from benchmarks.peers.figures import Figure
from benchmarks.peers.history import HISTORY, Point, Row, Run, append, read
from benchmarks.peers.machine import cpu_model, without_places
from benchmarks.peers.programs.told import Told
from benchmarks.peers.roster import PEERS, roster

RATE = "jobs_per_second"


def row(name: str, rate: float, *, is_peer: bool, processes: int = 1, is_on_one_core: bool = False) -> Row:
    return Row(
        name=name,
        title=name.title(),
        leaves_out="statuses",
        is_peer=is_peer,
        processes=processes,
        is_on_one_core=is_on_one_core,
        throughput={RATE: Figure(rate, rate - 10, rate + 10, 5)},
    )


RUN = Run(
    date="2026-11-22",
    cpu="Some processor",
    cores=2,
    versions={"python": "3.11.7"},
    rounds=5,
    jobs=10_000,
    rows=(
        row("ours", 3000, is_peer=False),
        row("slow", 1000, is_peer=True),
        row("fast", 2000, is_peer=True),
        row("pair", 4000, is_peer=True, processes=2),
        row("ours-core", 6000, is_peer=False, is_on_one_core=True),
        row("fast-core", 8000, is_peer=True, is_on_one_core=True),
        Row(name="gone", title="Gone", leaves_out="all", is_peer=True, failures=("the worker ended",)),
    ),
    points=(Point(series="sleeping jobs", value=10_000, figures={"kb_per_job": Figure(9.5, 9, 10, 3)}),),
    rest={"with Redis": {"rest_mb": Figure(60, 60, 60, 1)}},
)


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    kept = tmp_path / "history.json"

    append(RUN, kept)
    append(evolve(RUN, date="2026-11-23"), kept)
    assert read(kept) == [RUN, evolve(RUN, date="2026-11-23")]


def test_a_figure_is_one_line_of_the_file(tmp_path: Path) -> None:
    """So that a later run can be compared by reading the difference."""
    kept = tmp_path / "history.json"

    append(RUN, kept)
    assert '"jobs_per_second": [3000.0, 2990.0, 3010.0, 5]' in kept.read_text()
    assert json.loads(kept.read_text())[0]["date"] == RUN.date


def test_a_history_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert read(tmp_path / "history.json") == []


def test_what_is_in_the_repository_can_be_read_and_names_no_place() -> None:
    """No path, no address, no name of a machine."""
    text = HISTORY.read_text(encoding="utf-8") if HISTORY.exists() else "[]"

    assert all(run.rows or run.points for run in read())
    assert re.findall(r"https?:|[\w-]+\.(?:local|internal)\b|\d+\.\d+\.\d+\.\d+|/[a-z]+/[\w/.-]+", text) == []


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ('File "/srv/me/x-1/lib/saq/types.py", line 8', 'File "types.py", line 8'),
        ("FileNotFoundError: '/tmp'", "FileNotFoundError: 'tmp'"),
        ("connection to 127.0.0.1:5672 refused", "connection to the server refused"),
        ("celery@build-host.example ready", "celery ready"),
        ("1 of 2 jobs/s, 3.11.7", "1 of 2 jobs/s, 3.11.7"),
    ],
)
def test_what_a_program_said_is_kept_without_where_it_was(said: str, kept: str) -> None:
    """Its last words are the reason why a row has no figures, and they are published."""
    assert without_places(said) == kept


def test_the_processor_is_named_once() -> None:
    assert cpu_model("processor: 0\nmodel name\t: Fast 9000\nprocessor: 1\nmodel name\t: Fast 9000\n") == "Fast 9000"


def test_ratios_are_against_the_best_peer_with_as_many_processes_and_cores() -> None:
    by_name = {each.name: each for each in RUN.rows}

    assert tables.against_best_peer(RUN, by_name["ours"]) == 1.5
    assert tables.against_best_peer(RUN, by_name["slow"]) == 0.5
    assert tables.against_best_peer(RUN, by_name["pair"]) == 1.0
    assert tables.against_best_peer(RUN, by_name["ours-core"]) == 0.75


def test_a_worker_that_gave_no_figures_is_in_no_table_but_is_named_with_its_reason() -> None:
    assert "Gone" not in tables.throughput(RUN)
    assert "- Gone: the worker ended" in tables.whole(RUN)


@pytest.mark.parametrize(
    ("figure", "text"),
    [
        (Figure(2500, 2400, 2600, 5), "2,500 (2,400 to 2,600)"),
        (Figure(12.34, 12, 13, 3), "12.3 (12.0 to 13.0)"),
        (Figure(0.123, 0.1, 0.2, 1), "0.12"),
        (None, ""),
    ],
)
def test_a_figure_is_shown_with_its_spread(figure: Figure | None, text: str) -> None:
    assert tables.shown(figure) == text


def test_every_row_says_what_it_leaves_out_and_has_a_name_of_its_own() -> None:
    entries = roster()

    assert [entry.name for entry in entries if not entry.leaves_out] == []
    assert len({entry.name for entry in entries}) == len({entry.title for entry in entries}) == len(entries)


def test_nobody_but_a_peer_has_an_environment_of_its_own() -> None:
    programs = {entry.program for entry in PEERS}

    assert [entry.name for entry in roster() if bool(entry.peer) is not (entry.program in programs)] == []


@pytest.mark.parametrize(
    ("figures", "words"),
    [
        ({"left_in_queue": Figure(0, 0, 3, 5)}, "up to 3 jobs that had run were in the queue again"),
        ({"killed": Figure(1, 1, 1, 2)}, "did not leave when it was asked to, in 2 rounds"),
        ({"statuses_per_job": Figure(2, 1.5, 2, 5)}, "1.50 to 2.00 statuses for each job instead of 2"),
    ],
)
def test_what_makes_a_figure_doubtful_is_told(figures: dict[str, Figure], words: str) -> None:
    """A worker that reports less than it should is faster for it."""
    doubtful = evolve(RUN.rows[0], is_reported=True, throughput={**RUN.rows[0].throughput, **figures})

    assert f"- Ours: {words}." in tables.remarks(evolve(RUN, rows=(doubtful,)))


def test_nothing_is_told_of_rounds_that_went_well() -> None:
    figures = {"left_in_queue": Figure(0, 0, 0, 5), "statuses_per_job": Figure(2, 2, 2, 5)}
    well = evolve(RUN.rows[0], is_reported=True, throughput={**RUN.rows[0].throughput, **figures})

    assert tables.remarks(evolve(RUN, rows=(well,))) == ""


@pytest.mark.parametrize(
    ("sleepers", "counts"), [(0, []), (9_900, [9_900]), (50_000, [50_000]), (99_900, [50_000, 49_900])]
)
def test_sleepers_are_of_as_many_jobs_as_their_consumers_can_hold(sleepers: int, counts: list[int]) -> None:
    """One can hold 65,535 messages."""
    assert list(Told(sleepers=sleepers).sleeping_jobs.values()) == counts


def test_a_row_is_what_its_title_says() -> None:
    rows = roster()

    assert [row.name for row in rows if row.title.endswith(", on one core") is not row.is_on_one_core] == []
    assert [row.name for row in rows if (", states in Redis" in row.title) is not row.keeps_states] == []
    assert [row.name for row in rows if row.has_latency and (row.is_on_one_core or row.keeps_states)] == []
    assert {row.keeps_states for row in rows if row.peer == "dramatiq"} == {True, False}


def test_each_row_on_one_core_has_a_twin_with_all_and_a_peer_beside_it() -> None:
    rows = {row.name: row for row in roster()}
    on_one = [row for row in rows.values() if row.is_on_one_core]

    assert [row.name for row in on_one if row.name.removesuffix("-core") not in rows] == []
    assert {bool(row.peer) for row in on_one} == {True, False}


def test_what_rows_are_compared_by_is_kept() -> None:
    plays = Plays(failures={(entry.name, 0): ["the worker ended"] for entry in roster()})
    kept = {row.name: row for row in _rows(roster(), plays, plays)}

    for entry in roster():
        row = kept[entry.name]
        assert (row.is_peer, row.is_reported, row.keeps_states, row.processes, row.is_on_one_core) == (
            bool(entry.peer),
            entry.is_reported,
            entry.keeps_states,
            entry.processes,
            entry.is_on_one_core,
        )


def test_a_peer_that_keeps_states_may_be_the_best_of_all() -> None:
    quick, lucky = row("kept", 9000, is_peer=True), row("lucky", 1, is_peer=True)
    lucky = evolve(lucky, throughput={"jobs_per_second": Figure(100, 1, 99_999, 5)})
    run = evolve(RUN, rows=(*RUN.rows, evolve(quick, keeps_states=True), lucky))

    assert tables.against_best_peer(run, evolve(RUN.rows[0], is_reported=True)) == pytest.approx(1 / 3)


def test_one_core_is_not_compared_with_a_plain_worker_that_has_two() -> None:
    ours = evolve(row("ours-x", 100, is_peer=False, is_on_one_core=True), is_reported=True)

    assert "plain worker" not in tables.ratios(evolve(RUN, rows=(*RUN.rows, ours, row("naive", 50, is_peer=False))))


@pytest.mark.parametrize(("counted", "is_told"), [(0.0, False), (2.0, True)])
def test_who_reports_nothing_owes_nothing(counted: float, *, is_told: bool) -> None:
    figures = {**RUN.rows[0].throughput, "statuses_per_job": Figure(counted, counted, counted, 5)}
    run = evolve(RUN, rows=(evolve(RUN.rows[0], throughput=figures),))

    assert ("statuses for each job instead of 0" in tables.remarks(run)) is is_told
