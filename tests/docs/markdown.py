"""Pages of the documentation as tests see them: blocks of code with their marks, links, headings."""

import re
from collections.abc import Iterator
from pathlib import Path

from attrs import field, frozen

__all__ = ["PAGES", "ROOT", "Block", "addresses", "anchors", "blocks", "links", "module_of", "prose", "shown"]

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "RELIABILITY.md", *sorted((ROOT / "docs").rglob("*.md")))

_FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (no-run|file|exits): (.+?) -->\s*\Z")


@frozen
class Block:
    """A fenced block; `marks` are the HTML comments right above it, e.g. `<!-- file: shop.py -->`."""

    language: str
    code: str
    line: int
    marks: dict[str, str] = field(factory=dict)


def blocks(page: Path) -> Iterator[Block]:
    """Every fenced block of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for fence in _FENCE.finditer(text):
        mark = _MARK.search(text[: fence.start()])
        marks = {} if mark is None else {mark[1]: mark[2]}
        yield Block(fence[1], fence[2], text.count("\n", 0, fence.start(2)), marks)


def module_of(page: Path) -> str:
    """The Python of a page as one module, each line where the page has it; without what is a file or marked no-run."""
    lines: list[str] = []
    for block in blocks(page):
        if block.language == "python" and not block.marks.keys() & {"file", "no-run"}:
            lines += [""] * (block.line - len(lines))
            lines += block.code.splitlines()
    return "\n".join(lines)


def links(page: Path) -> Iterator[tuple[str, str]]:
    """Path and anchor of every link that leads to a file or a heading, both as written."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield path, anchor


def addresses(page: Path) -> list[str]:
    """Every address on the network that the page's text names, inside of links and outside."""
    return re.findall(r"https?:[^\s)>\"'`|]*", _FENCE.sub("", page.read_text(encoding="utf-8")))


def prose(page: Path) -> list[str]:
    """The lines of the page, numbered as in the file; those of fenced blocks say nothing but that they are."""
    text = page.read_text(encoding="utf-8")
    return _FENCE.sub(lambda fence: re.sub(r"(?m)^.*$", "```", fence[0]), text).split("\n")


def anchors(page: Path) -> set[str]:
    """What GitHub calls the headings of a page."""
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def shown(page: Path) -> str:
    """How a test names the page."""
    return str(page.relative_to(ROOT))
