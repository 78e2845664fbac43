"""What Sphinx makes of our docstrings: plain prose, with names in single backticks.

They are written for who reads the code; that they are no reStructuredText is said here instead of in them.
"""

import importlib
import re
from typing import ParamSpec, TypeVar

from docutils import nodes
from docutils.parsers.rst.states import Inliner
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.typing import ExtensionMetadata, stringify_annotation

from milvaion_trio.model import events

__all__ = ["setup"]

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


def setup(app: Sphinx) -> ExtensionMetadata:
    """Called by Sphinx once, as `docs.docstrings` is one of its extensions."""
    app.add_role("named", _named)
    app.connect("autodoc-process-docstring", _escape)
    app.connect("autodoc-skip-member", _skip)
    app.connect("autodoc-process-signature", _name_aliases)
    app.connect("missing-reference", _resolve)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


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
    """Let only backticks, *emphasis*, lists and indented code mean something in docstrings: they are plain prose."""
    blocks = "\n".join(lines).split("\n\n")
    for number, block in enumerate(blocks):
        if block.startswith("    "):
            continue
        parts = re.split(r"(`[^`]*`|(?<!\w)\*\w+\*(?!\w))", block)
        parts[::2] = [re.sub(r"([*|\\]|_\b)", r"\\\1", part) for part in parts[::2]]
        is_before_code = block.endswith(":") and "".join(blocks[number + 1 : number + 2]).startswith("    ")
        blocks[number] = "".join(parts) + (":" if is_before_code else "")
    lines[:] = "\n\n".join(blocks).split("\n")


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
    # What is checked beyond the type stands in the settings reference, in words.
    signature = re.sub(r"~?(?:typing\.)?Annotated\[(\S+), [^\]]*?(?:\[.*?)?\)\]", r"\1", signature)
    signature = re.sub(r"<(?:built-in )?function (\w+)>", r"\1", signature)
    return signature.replace("= NOTHING", "= ...").replace("mappingproxy({})", "{}"), returned


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
