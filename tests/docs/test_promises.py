"""What the pages on guarantees and on messages say is there: tests by their names, messages by their words."""

import ast
import re
from collections.abc import Iterator
from functools import cache

from tests.cli import test_typical_mistakes as mistakes
from tests.docs.markdown import ROOT, blocks

GUARANTEES = (ROOT / "docs" / "explanation" / "guarantees.md").read_text(encoding="utf-8")
LEASES = (ROOT / "docs" / "explanation" / "leases-and-fencing.md").read_text(encoding="utf-8")
MESSAGES = (ROOT / "docs" / "how-to" / "troubleshoot.md").read_text(encoding="utf-8")
QUOTED = [line for _, line in re.findall(r"^- (`+) ?(.+?) ?\1$", MESSAGES, re.MULTILINE)]
"""The messages that it explains, with a gap for what differs."""

GAP = "…"


def test_every_test_that_a_guarantee_names_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", GUARANTEES + LEASES)

    assert len(named) > 60
    assert [f"{path}::{name}" for path, name in named if name not in functions(path)] == []


def test_every_fault_of_the_page_about_leases_names_a_test_or_a_scenario() -> None:
    faults = re.findall(r"^\| ([^|]+) \| [^|]+ \| ([^|]+) \|$", LEASES.partition("## Faults")[2], re.MULTILINE)

    shown = [fault for fault, test in faults[2:] if re.search(r"`tests/[\w/]+\.py::test_\w+`|\bT\d\d\b", test)]
    assert len(shown) > 15
    assert shown == [fault for fault, _ in faults[2:]]


def test_every_guarantee_names_a_test() -> None:
    """A section that promises something without one is a wish; the first, last and measured ones promise nothing."""
    sections = re.split(r"^## (.+)$", GUARANTEES, flags=re.MULTILINE)
    promises = dict(zip(sections[1::2], sections[2::2], strict=True))

    without = [title for title, text in promises.items() if "::test_" not in text]

    assert without == ["What is assumed", "Measured limits", "Not there yet"]


def test_every_message_on_the_page_is_one_that_is_written() -> None:
    """In the code, with a gap where it fills something in, or in the texts that the tests of typical mistakes hold."""
    texts = [*written(), *(mistake.says for mistake in mistakes.MISTAKES.values()), *mistakes.TOLD.values()]

    assert len(QUOTED) > 40
    assert [line for line in QUOTED if not any(is_in(line, text) for text in texts)] == []


def test_typical_mistakes_stand_on_the_page() -> None:
    """Everything that the tests provoke is explained."""
    words = [*(mistake.says for mistake in mistakes.MISTAKES.values()), *mistakes.TOLD.values()]

    missing = [text for text in words if not any(is_in(line, text) for line in QUOTED)]

    assert missing == [mistakes.MISTAKES[name].says for name in ELSEWHERE]


ELSEWHERE = (
    "typo in an option",
    "no number behind an option",
    "settings file with a missing comma",
    "empty password",
    "no worker named",
)
"""Mistakes whose messages say all that there is to say."""


def is_in(quoted: str, text: str) -> bool:
    """Whether the text has these words, with anything in the gaps of either."""
    parts = [re.escape(part) for part in quoted.strip(GAP).split(GAP)]
    return re.search(".+?".join(parts), text, re.DOTALL) is not None


@cache
def written() -> tuple[str, ...]:
    """Every text of the code, with a gap for what is filled in."""
    return tuple(text for path in (ROOT / "src").rglob("*.py") for text in _texts(ast.parse(path.read_text())))


def _texts(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(_constant(part) or GAP for part in node.values)
        elif text := _constant(node):
            yield re.sub(r"%(\.\d)?[sdfgr]", GAP, text)


def _constant(node: ast.AST) -> str:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


@cache
def functions(path: str) -> frozenset[str]:
    """The names of the tests of a module."""
    file = ROOT / path
    tree = ast.parse(file.read_text(encoding="utf-8")) if file.exists() else ast.Module([], [])
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_the_first_job_of_the_readme_has_ten_lines() -> None:
    """Of code; blank ones do not count."""
    first = next(block for block in blocks(ROOT / "README.md") if "file" in block.marks)

    assert len([line for line in first.code.splitlines() if line.strip()]) <= 10
