"""What Sphinx does with our pages that it would not do by itself.

They stay Markdown that GitHub shows as it is, so what makes a site of them is said here instead of in them.
"""

import os
import re
from pathlib import Path

from docutils import nodes
from pygments.lexers.shell import BashLexer
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata

__all__ = ["setup"]

_log = logging.getLogger(__name__)

OUTSIDE = {
    "README.md": "index.md",
    "CHANGELOG.md": "reference/changelog.md",
    "RELIABILITY.md": "explanation/reliability.md",
}
"""Files beside the documentation, and the pages that stand for them here."""


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx once, as `docs.rendering` is one of its extensions."""
    app.connect("source-read", _add_shelves)
    app.connect("source-read", _lead_inside)
    app.connect("source-read", _name_files)
    app.connect("build-finished", _refuse_what_others_serve)
    app.add_lexer("console", BashLexer)  # what is typed, without prompts and answers
    app.add_post_transform(DrawingsInline)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


# --- pages ----------------------------------------------------------------------------------------------------------


def _add_shelves(app: Sphinx, page: str, source: list[str]) -> None:
    """The lists of the front page are the shelves: each section that lists pages becomes a table of contents."""
    if page != app.config.root_doc:
        return
    for section in re.split(r"^## ", source[0], flags=re.MULTILINE)[1:]:
        pages = re.findall(r"^- \[[^\]]+\]\((\S+)\.md\):", section, re.MULTILINE)
        if pages:
            caption = section.partition("\n")[0]
            source[0] += "\n".join(["", "```{toctree}", ":hidden:", f":caption: {caption}", "", *pages, "```", ""])


def _lead_inside(app: Sphinx, page: str, source: list[str]) -> None:
    """Links that lead out of the documentation, to the README for one, lead to what stands for it."""
    folder = Path(app.srcdir) / page

    def inside(match: re.Match[str]) -> str:
        target = (folder.parent / match[1]).resolve()
        for name, page_here in OUTSIDE.items():
            if target == Path(app.srcdir).parent / name:
                return f"]({os.path.relpath(Path(app.srcdir) / page_here, folder.parent)})"
        return match[0]

    source[0] = re.sub(r"\]\((\.\./[^)#]+)(?:#[^)]*)?\)", inside, source[0])


def _name_files(app: Sphinx, page: str, source: list[str]) -> None:
    """Blocks that are files are shown under the file's name, which stands in the mark above them for the tests."""
    mark = re.compile(r"^<!-- file: (\S+) -->\n```(\w+)\n", re.MULTILINE)
    source[0] = mark.sub(r"```{code-block} \2\n:caption: \1\n\n", source[0])


# --- drawings -------------------------------------------------------------------------------------------------------


class DrawingsInline(SphinxPostTransform):
    """Drawings stand in the page, not beside it: only so do they take the colours of its theme, light or dark."""

    default_priority = 8  # before images are counted as files to copy
    formats = ("html",)

    def run(self, **_: object) -> None:
        for image in list(self.document.findall(nodes.image)):
            path = Path(self.env.srcdir) / str(image["uri"])
            if path.suffix == ".svg" and path.parent.name == "_static":
                image.replace_self(nodes.raw("", path.read_text(encoding="utf-8"), format="html"))


# --- afterwards -----------------------------------------------------------------------------------------------------

_FETCHED = re.compile(
    r"""<(?:script|img|iframe|link\b(?![^>]*rel="(?:canonical|author)"))[^>]*?(?:src|href)="(https?:[^"]+)"""
)
_IMPORTED = re.compile(r"""(?:@import\s+|url\()["']?(https?:[^"')]+)""")


def _refuse_what_others_serve(app: Sphinx, error: Exception | None) -> None:
    """The pages can be read without a network: what a browser fetches by itself is beside them."""
    if error is not None or app.builder.format != "html":
        return
    for path in sorted(Path(app.outdir).rglob("*")):
        pattern = {".html": _FETCHED, ".css": _IMPORTED}.get(path.suffix)
        if pattern is not None:
            for address in pattern.findall(path.read_text(encoding="utf-8")):
                _log.warning("%s would be fetched from elsewhere: %s", path.relative_to(app.outdir), address)
