"""How generated parts are written: tables, and one sentence per line, as the pages written by hand are."""

import re

__all__ = ["sentences", "table_row"]

_BETWEEN = re.compile(r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)\s+(?=[\"'`(*\[]*[A-Z])")


def sentences(paragraph: str) -> list[str]:
    """The paragraph as lines of one sentence each."""
    return _BETWEEN.split(" ".join(paragraph.split()))


def table_row(*cells: str) -> str:
    """One row of a table in Markdown."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
