"""The page about performance shows the last run that is kept, all of it, and its drawing is as long as its figures."""

import re
from xml.etree import ElementTree

import pytest
from attrs import evolve
from benchmarks.peers.figures import Figure
from benchmarks.peers.growth import SERIES
from benchmarks.peers.history import Point, Row, Run
from docs.drawings.throughput import throughput
from docs.performance_reference import AFTER, NOTHING

from docs import performance_reference

SVG = "{http://www.w3.org/2000/svg}"


def row(name: str, rate: float, *, is_peer: bool = False) -> Row:
    figures = {"jobs_per_second": Figure(rate, 0.9 * rate, 1.2 * rate, 5)}
    waits = {"p50_ms": Figure(1, 1, 1, 3), "p99_ms": Figure(2, 2, 2, 3)}
    return Row(
        name=name,
        title=f"the {name}",
        leaves_out=f"what {name} leaves out",
        is_peer=is_peer,
        is_reported=name.startswith("ours"),
        throughput=figures,
        latency=waits,
        failures=(f"{name} failed once",),
    )


RUN = Run(
    date="2026-11-22",
    cpu="Some processor",
    cores=2,
    versions={"python": "3.11.7", "celery": "5.7.0"},
    rounds=5,
    jobs=10_000,
    rows=(row("ours-a", 3000), row("naive", 500), row("peer", 1500, is_peer=True)),
    points=tuple(Point(series=series, value=7, figures={"resident_mb": Figure(1, 1, 1, 1)}) for series in SERIES),
    rest={"without Redis": {"rest_mb": Figure(34, 34, 34, 1)}},
)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(performance_reference, "read", lambda: [evolve(RUN, date="2020-01-01", rows=()), RUN])


@pytest.mark.usefixtures("kept")
def test_the_last_run_is_shown_with_when_and_on_what_it_was() -> None:
    facts = performance_reference.facts()

    assert [
        word for word in ("2026-11-22", "Some processor", "2 cores", "celery 5.7.0", "5 rounds") if word not in facts
    ] == []


@pytest.mark.usefixtures("kept")
def test_every_row_stands_beside_what_it_leaves_out() -> None:
    table = performance_reference.throughput_table()

    for each in RUN.rows:
        assert re.search(rf"^\| {each.title} \|.*\| {each.leaves_out} \|$", table, re.MULTILINE)
        assert f"| {each.title} |" in performance_reference.latency_table()


@pytest.mark.usefixtures("kept")
def test_a_ratio_is_as_uncertain_as_both_its_parts() -> None:
    ratios = performance_reference.ratios_list()

    assert (
        "the ours-a: 2.00 (1.50 to 2.67) times the best peer (the peer), 6.00 (4.50 to 8.00) times the plain" in ratios
    )


def test_who_reports_is_compared_with_peers_that_keep_states_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    keeping = [evolve(row(f"kept-{rate}", rate, is_peer=True), keeps_states=True) for rate in (600, 750)]
    silent = evolve(row("ours-silent", 3000), is_reported=False)
    monkeypatch.setattr(performance_reference, "read", lambda: [evolve(RUN, rows=(*RUN.rows, silent, *keeping))])

    reported, unreported = performance_reference.ratios_list().strip().splitlines()

    assert "4.00 (3.00 to 5.33) times the best one with states (the kept-750), 6.00" in reported
    assert "2.00 (1.50 to 2.67) times the best peer (the peer)." in unreported
    assert "states" not in unreported


@pytest.mark.parametrize(("kept", "is_told"), [(1.0, False), (0.5, True)])
def test_a_peer_that_did_not_keep_its_states_is_told_of(
    monkeypatch: pytest.MonkeyPatch, kept: float, *, is_told: bool
) -> None:
    peer = row("peer", 1500, is_peer=True)
    counted = {**peer.throughput, "statuses_per_job": Figure(kept, kept, kept, 5)}
    keeping = evolve(peer, keeps_states=True, throughput=counted)
    monkeypatch.setattr(performance_reference, "read", lambda: [evolve(RUN, rows=(keeping,))])

    told = "the peer: 0.50 to 0.50 statuses for each job instead of 1"
    assert (told in performance_reference.remarks_list()) is is_told


@pytest.mark.usefixtures("kept")
def test_no_failure_is_left_out() -> None:
    failures = performance_reference.remarks_list()

    assert [each.title for each in RUN.rows if f"- {each.title}: {each.failures[0]}" not in failures] == []


@pytest.mark.usefixtures("kept")
def test_every_series_is_explained() -> None:
    tables = performance_reference.growth_tables()

    assert AFTER.keys() == SERIES.keys()
    assert [text for series, text in AFTER.items() if f"{text}\n\n| {series} |" not in tables] == []


def test_a_few_figures_say_who_is_compared_with_whom(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [row(name, rate) for name, rate in (("ours-reported-amqp", 3000), ("ours-unreported-amqp-quorum", 9000))]
    kept = evolve(row("kept", 1000, is_peer=True), keeps_states=True)
    costs = {"worker_cpu_us": Figure(150, 140, 160, 5)}
    measured = [evolve(each, throughput={**each.throughput, **costs}) for each in (*rows, *RUN.rows, kept)]
    monkeypatch.setattr(performance_reference, "read", lambda: [evolve(RUN, rows=tuple(measured))])

    summary = performance_reference.summary_table()
    comparison = performance_reference.comparison_table()

    for words in (
        "outbox on disk, acked last | 3,000 (2,700 to 3,600) at 150 (140 to 160) us of CPU; not measured on quorum",
        '`reporting.mode = "none"`) | not measured; 9,000 (8,100 to 10,800) at 150 (140 to 160) us of CPU on quorum',
        "which reports nothing: the peer | 1,500 (1,350 to 1,800)",
        "keeps states: the kept | 1,000 (900 to 1,200)",
        "| 1.00 (1.00 to 1.00) ms reported, ? ms unreported; a bare socket takes ? ms |",
        "| 34.0 MB,",
    ):
        assert words in summary
    assert comparison.strip().splitlines()[2:] == [
        "| **the ours-reported-amqp** | **3,000** | **150** |",
        "| the peer | 1,500 | 150 |",
        "| the kept | 1,000 | 150 |",
    ]


@pytest.mark.usefixtures("kept")
def test_bars_are_as_long_as_their_rates_and_ordered_by_them() -> None:
    svg = ElementTree.fromstring(throughput())

    bars = [float(str(bar.get("width"))) for bar in svg.iter(f"{SVG}rect")]
    named = [text.text for text in svg.iter(f"{SVG}text") if text.get("text-anchor") == "end"]
    assert named == ["the ours-a", "the peer", "the naive"]
    assert [round(bar / bars[0], 2) for bar in bars] == [1.0, 0.5, 0.17]


@pytest.mark.usefixtures("kept")
def test_each_bar_carries_its_spread() -> None:
    svg = ElementTree.fromstring(throughput())

    for bar, line in zip(svg.iter(f"{SVG}rect"), svg.iter(f"{SVG}line"), strict=True):
        begin, length = float(str(bar.get("x"))), float(str(bar.get("width")))
        spread = [(float(str(line.get(end))) - begin) / length for end in ("x1", "x2")]
        assert spread == pytest.approx([0.9, 1.2], rel=0.02)


def test_without_a_run_the_page_says_how_to_make_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(performance_reference, "read", list)

    assert performance_reference.throughput_table() == performance_reference.facts() == NOTHING
    assert performance_reference.summary_table() == performance_reference.comparison_table() == NOTHING
    assert NOTHING in throughput()
