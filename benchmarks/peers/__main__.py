"""The command line of the comparison: plays the rounds in turn, prints the tables, keeps the figures."""

import argparse
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TypeAlias

from attrs import define, field
from benchmarks.peers import tables
from benchmarks.peers.environments import python_of
from benchmarks.peers.figures import figures
from benchmarks.peers.growth import SERIES, rest
from benchmarks.peers.history import HISTORY, Point, Row, Run, append
from benchmarks.peers.latency import latency
from benchmarks.peers.machine import cores, cpu_model, keep_to_cores, versions, without_places
from benchmarks.peers.roster import DRIVERS, ECHO, Entry, roster
from benchmarks.peers.stage import Ground, RoundFailed
from benchmarks.peers.throughput import throughput
from tests.support.servers import RabbitMQServer, RedisServer

PARTS = ("throughput", "latency", "growth", "rest")
GIVEN_UP_AFTER = 2
"""Failed rounds."""
FEWEST = 1_000
"""Jobs of a round, however slow the worker."""


Key: TypeAlias = tuple[str, int]
"""What is played, by its name and the value that grows in it, if any does."""


@define
class Plays:
    """The rounds of one part by what was played, and the failures."""

    rounds: dict[Key, list[Mapping[str, float]]] = field(factory=dict)
    failures: dict[Key, list[str]] = field(factory=dict)

    def play(self, key: Key, what: str, once: Callable[[], Mapping[str, float]]) -> None:
        """One round, which may fail; what fails again and again is left out."""
        failures = self.failures.setdefault(key, [])
        played = self.rounds.setdefault(key, [])
        if len(failures) >= GIVEN_UP_AFTER:
            return
        try:
            played.append(once())
        except RoundFailed as failed:
            failures.append(without_places(str(failed)))
            _tell(f"{what}: no figures: {failed}")
        else:
            _tell(f"{what}: {tables.one_round(played[-1])}")


def main() -> None:
    """Play what the command line asks for."""
    told = _told()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to leave"))  # so that what runs is ended on the way out
    keep_to_cores(told.cores)
    wanted = told.driver or DRIVERS
    entries = [entry for entry in roster(wanted) if not told.only or entry.name in told.only]
    if told.only and (unknown := set(told.only) - {entry.name for entry in roster(wanted)}):
        known = ", ".join(entry.name for entry in roster(wanted))
        sys.exit(f"There is no {', '.join(sorted(unknown))}; there are {known}.")
    for peer in dict.fromkeys(entry.peer for entry in entries):
        with suppress(RuntimeError):  # its rows will say it
            python_of(peer)
    by_part = {part: Plays() for part in PARTS}
    with RabbitMQServer() as rabbitmq, RedisServer() as redis:
        try:
            _play(told, Ground(rabbitmq, redis, told.deadline), entries, by_part)
        except KeyboardInterrupt:
            told.no_save = True
            _tell("stopped: what was played so far is shown, and not kept")
        run = Run(
            date=datetime.now(UTC).date().isoformat(),
            cpu=cpu_model(),
            cores=cores(),
            versions=versions(rabbitmq, redis),
            rounds=told.rounds,
            jobs=told.jobs,
            rows=_rows([ECHO, *entries], by_part["throughput"], by_part["latency"]),
            points=_points(by_part["growth"]),
            rest={what: figures(rounds) for (what, _), rounds in by_part["rest"].rounds.items() if rounds},
        )
    print(tables.whole(run))
    if not told.no_save:
        append(run, told.history)
        print("Kept in benchmarks/history.json; `python docs/generate.py` puts it into the documentation.")


def _told() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=10_000, help="of a round; slow workers get fewer")
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="this row; may be given again")
    parser.add_argument(
        "--part", action="append", choices=PARTS, help="this part; may be given again; all unless given"
    )
    parser.add_argument("--driver", action="append", choices=DRIVERS, help="this one of ours; may be given again")
    parser.add_argument("--latency-rounds", type=int, default=3, help="rounds that have latency too")
    parser.add_argument("--latency-jobs", type=int, default=300)
    parser.add_argument("--own-rounds", type=int, default=3, help="rounds that have growth and rest too")
    parser.add_argument("--deadline", type=float, default=90.0, help="seconds that one worker may take in a round")
    parser.add_argument("--cores", type=int, default=2, help="that servers and workers share")
    parser.add_argument("--history", type=Path, default=HISTORY, help=argparse.SUPPRESS)
    parser.add_argument("--no-save", action="store_true", help="keep nothing, for a look")
    told = parser.parse_args()
    told.part = told.part or list(PARTS)
    return told


def _play(told: argparse.Namespace, ground: Ground, entries: Sequence[Entry], by_part: Mapping[str, Plays]) -> None:
    ours = next((entry for entry in entries if entry.driver and entry.is_reported), None)
    for number in range(told.rounds):
        _tell(f"round {number + 1} of {told.rounds}")
        if "throughput" in told.part:
            _play_throughput(by_part["throughput"], ground, entries, told.jobs)
        if "latency" in told.part and number < told.latency_rounds:
            _play_latency(by_part["latency"], ground, entries, told.latency_jobs)
        if ours is not None and number < told.own_rounds:
            _play_own(by_part, told.part, ground, ours, told.jobs)


def _play_throughput(plays: Plays, ground: Ground, entries: Sequence[Entry], jobs: int) -> None:
    for entry in entries:
        count = max(FEWEST, int(jobs * entry.share)) if jobs > FEWEST else jobs
        plays.play((entry.name, 0), entry.name, partial(throughput, ground, entry, count))


def _play_latency(plays: Plays, ground: Ground, entries: Sequence[Entry], jobs: int) -> None:
    for entry in (ECHO, *(entry for entry in entries if entry.has_latency)):
        plays.play((entry.name, 0), entry.name, partial(latency, ground, entry, jobs))


def _play_own(by_part: Mapping[str, Plays], parts: Sequence[str], ground: Ground, ours: Entry, jobs: int) -> None:
    if "growth" in parts:
        for series, (play, values) in SERIES.items():
            for value in values:
                once = partial(play, ground, ours, value, jobs)
                by_part["growth"].play((series, value), f"{value} {series}", once)
    if "rest" in parts:
        for what, has_redis in (("without Redis", False), ("with Redis", True)):
            by_part["rest"].play((what, 0), what, partial(rest, ground, ours, has_redis))


def _rows(entries: Sequence[Entry], throughputs: Plays, latencies: Plays) -> tuple[Row, ...]:
    rows = [
        Row(
            name=entry.name,
            title=entry.title,
            leaves_out=entry.leaves_out,
            is_peer=bool(entry.peer),
            is_reported=entry.is_reported,
            keeps_states=entry.keeps_states,
            processes=entry.processes,
            is_on_one_core=entry.is_on_one_core,
            throughput=figures(throughputs.rounds.get((entry.name, 0), [])),
            latency=figures(latencies.rounds.get((entry.name, 0), [])),
            failures=(*throughputs.failures.get((entry.name, 0), []), *latencies.failures.get((entry.name, 0), [])),
        )
        for entry in entries
    ]
    return tuple(row for row in rows if row.throughput or row.latency or row.failures)


def _points(growth: Plays) -> tuple[Point, ...]:
    return tuple(
        Point(series=series, value=value, figures=figures(rounds), failures=tuple(growth.failures[series, value]))
        for (series, value), rounds in growth.rounds.items()
    )


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
