"""The little of SVG that the drawings need, written so that one file suits light pages and dark ones.

Lines and texts have the colour of the text around the drawing; where it stands alone, the reader's preference decides.
"""

from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

__all__ = ["ACCENT", "FONT_SIZE", "document", "element", "text"]

ACCENT = "var(--color-brand-primary, #3b7dd8)"
"""The colour of links in the pages; elsewhere a blue that can be read on white and on black."""

FONT_SIZE = 14

_STYLE = """\
svg:root { color: #1f2328 } /* only where the file is the whole document: inside of a page its colours hold */
@media (prefers-color-scheme: dark) { svg:root { color: #d1d7e0 } }"""

_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"


def document(name: str, title: str, description: str, width: float, height: float, parts: Iterable[str]) -> str:
    """A whole drawing; `title` is its short name for screen readers, `description` says in words all that it shows."""
    head = element(
        "svg",
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_number(width)} {_number(height)}",
        width=width,
        height=height,
        role="img",
        aria_labelledby=f"{name}-title {name}-description",
        font_family=_FONT,
        font_size=FONT_SIZE,
        fill="currentColor",
        style="max-width: 100%; height: auto",
    ).removesuffix("/>")
    lines = [
        f"{head}>",
        f'<title id="{name}-title">{escape(title)}</title>',
        f'<desc id="{name}-description">{escape(description)}</desc>',
        f"<style>{_STYLE}</style>",
        *parts,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def element(kind: str, **attributes: str | float) -> str:
    """An element without content; `_` in names of attributes means `-`, at their end it is left out."""
    written = (
        f"{name.rstrip('_').replace('_', '-')}={quoteattr(value if isinstance(value, str) else _number(value))}"
        for name, value in attributes.items()
    )
    return f"<{' '.join([kind, *written])}/>"


def text(content: str, x: float, y: float, **attributes: str | float) -> str:
    """One line of text whose baseline begins at x and y, unless `text_anchor` says otherwise."""
    return f"{element('text', x=x, y=y, **attributes).removesuffix('/>')}>{escape(content)}</text>"


def _number(value: float) -> str:
    return f"{value:g}"
