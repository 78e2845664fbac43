"""What is kept of the runs, in `benchmarks/history.json`: when, on what, with which versions, and every figure.

Separate from measuring: the documentation reads it where no server is.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import cattrs
from attrs import field, frozen
from benchmarks.peers.figures import Figure

__all__ = ["HISTORY", "Point", "Row", "Run", "append", "read"]

HISTORY: Final = Path(__file__).parents[1] / "history.json"

DIGITS: Final = 4
"""That count; the spread says that fewer would do."""


@frozen(kw_only=True)
class Row:
    """An entry of the comparison."""

    name: str
    title: str
    leaves_out: str
    is_peer: bool
    is_reported: bool = False
    keeps_states: bool = False
    processes: int = 1
    is_on_one_core: bool = False
    throughput: Mapping[str, Figure] = field(factory=dict)
    latency: Mapping[str, Figure] = field(factory=dict)
    failures: tuple[str, ...] = ()
    """A sentence for each round that gave no figures."""


@frozen(kw_only=True)
class Point:
    """A point of a series of our own worker."""

    series: str
    value: int
    figures: Mapping[str, Figure] = field(factory=dict)
    failures: tuple[str, ...] = ()


@frozen(kw_only=True)
class Run:
    """One call of the comparison."""

    date: str
    cpu: str
    cores: int
    versions: Mapping[str, str]
    rounds: int
    jobs: int
    rows: tuple[Row, ...] = ()
    points: tuple[Point, ...] = ()
    rest: Mapping[str, Mapping[str, Figure]] = field(factory=dict)


def _written(figure: Figure) -> list[float]:
    values = (figure.median, figure.least, figure.most)
    return [*(float(f"{value:.{DIGITS}g}") for value in values), figure.rounds]


def _figure(value: Any, _: object) -> Figure:
    median, least, most, rounds = value
    return Figure(float(median), float(least), float(most), int(rounds))


_converter = cattrs.Converter()
_converter.register_unstructure_hook(Figure, _written)
_converter.register_structure_hook(Figure, _figure)


def read(path: Path = HISTORY) -> list[Run]:
    """All runs, the oldest first."""
    if not path.exists():
        return []
    return _converter.structure(json.loads(path.read_text(encoding="utf-8")), list[Run])


def append(run: Run, path: Path = HISTORY) -> None:
    """Keep a run, whole or not at all."""
    written = path.with_suffix(".new")
    written.write_text(_text([*read(path), run]), encoding="utf-8")
    written.replace(path)


def _text(runs: Sequence[Run]) -> str:
    """As JSON, with a line for each figure, so that a change can be read."""
    whole = json.dumps(_converter.unstructure(list(runs)), indent=1)
    return re.sub(r"\[\s+([\d.e+-]+),\s+([\d.e+-]+),\s+([\d.e+-]+),\s+(\d+)\s+\]", r"[\1, \2, \3, \4]", whole) + "\n"
