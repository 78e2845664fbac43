"""Renews what of the documentation is made from code: `python docs/generate.py`.

A part stands in its page between `<!-- generated: NAME -->` and `<!-- end -->`; a drawing is a file in `_static`.
Only values and syntax trees are read, so what a page shows is what the code says; `tests/docs` holds the pages to it.
"""

import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # for `docs` itself, from wherever this is run

from docs.command_reference import command_parts
from docs.drawings.nursery_tree import nursery_tree, shutdown_order
from docs.drawings.occurrence_states import occurrence_states, steps_table
from docs.drawings.throughput import throughput
from docs.performance_reference import (
    comparison_table,
    facts,
    growth_tables,
    latency_table,
    ratios_list,
    remarks_list,
    resting_table,
    summary_table,
    throughput_table,
)
from docs.schedule_reference import options_table
from docs.settings_reference import keys_without_effect, settings_tables
from docs.torture_reference import controls_table, facts_list, invariants_list, measured_table, scenarios_table

__all__ = ["DRAWINGS", "PARTS", "renewed"]

DOCS = Path(__file__).parent


def renewed(page: str) -> str:
    """The page with every generated part as the code has it now; raises `KeyError` for a part nobody draws."""

    def part(match: re.Match[str]) -> str:
        return f"{match[1]}\n{PARTS[match[2]]()}\n{match[3]}"

    return re.sub(r"(<!-- generated: ([\w ]+) -->).*?(<!-- end -->)", part, page, flags=re.DOTALL)


PARTS: Mapping[str, Callable[[], str]] = {
    "settings": settings_tables,
    "keys without effect": keys_without_effect,
    "schedule options": options_table,
    "shutdown order": shutdown_order,
    "occurrence steps": steps_table,
    "torture table": measured_table,
    "torture facts": facts_list,
    "torture scenarios": scenarios_table,
    "torture invariants": invariants_list,
    "torture controls": controls_table,
    "performance facts": facts,
    "performance throughput": throughput_table,
    "performance ratios": ratios_list,
    "performance latency": latency_table,
    "performance growth": growth_tables,
    "performance rest": resting_table,
    "performance remarks": remarks_list,
    "performance summary": summary_table,
    "performance comparison": comparison_table,
    **command_parts(),
}
"""What is written into pages, by the name that stands there."""

DRAWINGS: Mapping[str, Callable[[], str]] = {
    "nursery-tree.svg": nursery_tree,
    "occurrence-states.svg": occurrence_states,
    "throughput.svg": throughput,
}
"""What is drawn, by the name of its file in `_static`."""


def _renew(path: Path, content: str) -> None:
    if not path.exists() or path.read_text(encoding="utf-8") != content:
        path.write_text(content, encoding="utf-8")
        print(f"renewed {path.relative_to(DOCS.parent)}")


if __name__ == "__main__":
    for page in (DOCS.parent / "README.md", DOCS.parent / "RELIABILITY.md", *sorted(DOCS.rglob("*.md"))):
        _renew(page, renewed(page.read_text(encoding="utf-8")))
    for name, draw in DRAWINGS.items():
        _renew(DOCS / "_static" / name, draw())
