"""What Sphinx does with our sources that it would not do by itself.

The sources stay Markdown that GitHub shows as it is, and docstrings stay plain prose; so what is special about them
is told here instead of in them.
"""

import importlib
import os
import re
from pathlib import Path
from typing import ParamSpec, TypeVar

from docutils import nodes
from docutils.parsers.rst.states import Inliner
from pygments.lexers.shell import BashLexer
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging
from sphinx.util.typing import ExtensionMetadata, stringify_annotation

from milvaion_trio.model import events

__all__ = ["setup"]

_log = logging.getLogger(__name__)

PACKAGE = "milvaion_trio"

UNLISTED = (
    "milvaion_trio.embed.asyncio_client.Host",
    "milvaion_trio.policy.system_logs.SystemLog",
    "milvaion_trio.broker.embedded.links.EmbeddedConsumer",
    "milvaion_trio.broker.embedded.links.EmbeddedPublisher",
)
"""Names of ours in signatures that no page describes."""

ALIASES = {
    f"{PACKAGE}.model.events.Observer": events.Observer,
    f"{PACKAGE}.model.events.Event": events.Event,
}
"""Types whose name would be lost, as Python does not keep it; those that contain others come first."""

MADE_FOR_YOU = frozenset(
    f"{PACKAGE}.{name}"
    for name in ("JobContext", "JobDefinition", "runtime.context.JobLog", "testing.JobRun", "testing.WorkerUnderTest")
)
"""Classes that nobody makes but this package, so how they are made says nothing."""

OUTSIDE = {"README.md": "index.md", "CHANGELOG.md": "reference/changelog.md"}
"""Files beside the documentation, and the pages that stand for them here."""


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx once, as `docs.rendering` is one of its extensions."""
    app.connect("source-read", _add_shelves)
    app.connect("source-read", _lead_inside)
    app.connect("build-finished", _refuse_what_others_serve)
    app.add_role("named", _named)
    app.connect("autodoc-process-docstring", _escape)
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-signature", _name_aliases)
    app.connect("missing-reference", _resolve)
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


# --- docstrings -----------------------------------------------------------------------------------------------------


def _named(
    role: str, rawtext: str, text: str, line: int, inliner: Inliner, options: object = None, content: object = ()
) -> tuple[list[nodes.Node], list[nodes.system_message]]:
    """What stands in single backticks: code, with a link if it is the name of something that is described."""
    code = nodes.literal(text, text)
    if not re.fullmatch(r"[A-Za-z_][\w.]*(\(\))?", text):
        return [code], []
    environment: BuildEnvironment = inliner.document.settings.env
    link = addnodes.pending_xref(
        "",
        code,
        refdomain="py",
        reftype="obj",
        reftarget=text.removesuffix("()"),
        refexplicit=False,
        refdoc=environment.docname,
        is_only_perhaps_a_name=True,
    )
    link["py:module"] = environment.ref_context.get("py:module")
    link["py:class"] = environment.ref_context.get("py:class")
    return [link], []


def _escape(app: Sphinx, kind: str, name: str, described: object, options: object, lines: list[str]) -> None:
    """Docstrings are plain prose: only backticks, lists and indented code mean something in them."""
    for number, line in enumerate(lines):
        if line.startswith("    "):
            continue
        parts = re.split(r"(`[^`]*`)", line)
        parts[::2] = [re.sub(r"([*|\\]|_\b)", r"\\\1", part) for part in parts[::2]]
        following = next((later for later in lines[number + 1 :] if later.strip()), "")
        is_before_code = line.endswith(":") and following.startswith("    ")
        lines[number] = "".join(parts) + (":" if is_before_code else "")


def _skip(app: Sphinx, kind: str, name: str, member: object, skipped: bool, options: object) -> bool | None:
    """Constructors that Python or `typing` made up say nothing: those of protocols, and of exceptions without facts."""
    is_ours = str(getattr(member, "__module__", "")).startswith(PACKAGE)
    return True if name in ("__init__", "__new__") and not is_ours else None


def _name_aliases(
    app: Sphinx, kind: str, name: str, described: object, options: object, signature: str | None, returned: str | None
) -> tuple[str | None, str | None] | None:
    """What has a name is shown by it: types, not what they consist of; functions, not that they are some."""
    if signature is None:
        return None
    if name in MADE_FOR_YOU:
        return "", None
    for alias, meant in ALIASES.items():
        signature = signature.replace(stringify_annotation(meant, "smart"), f"~{alias}")
    signature = re.sub(r"<(?:built-in )?function (\w+)>", r"\1", signature)
    return signature.replace("= NOTHING", "= ..."), returned


def _resolve(
    app: Sphinx, environment: BuildEnvironment, node: addnodes.pending_xref, shown: nodes.Element
) -> nodes.Element | None:
    """Let names of other projects be names without links, and every name of ours that is not described be a mistake."""
    target = str(node.get("reftarget", ""))
    if node.get("refdomain") != "py":
        return None
    if node.get("is_only_perhaps_a_name"):
        matches = environment.domains.python_domain.find_obj(environment, PACKAGE, None, target, None, 0)  # type: ignore[arg-type]
        if len(matches) == 1 and app.builder is not None:
            _, entry = matches[0]
            address = app.builder.get_relative_uri(str(node["refdoc"]), entry.docname)
            return nodes.reference("", "", shown, internal=True, refuri=f"{address}#{entry.node_id}")
        return shown
    if not target.startswith(PACKAGE) or target in UNLISTED or _is_type_variable(target):
        return shown
    return None


def _is_type_variable(target: str) -> bool:
    module, _, name = target.rpartition(".")
    try:
        return isinstance(getattr(importlib.import_module(module), name, None), TypeVar | ParamSpec)
    except ModuleNotFoundError:  # it is no module but a class
        return False


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
