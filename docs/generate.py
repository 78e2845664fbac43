"""Renews the parts of the documentation that are drawn from code: `python docs/generate.py`.

A part stands in its page between `<!-- generated: NAME -->` and `<!-- end -->`.
Only values and syntax trees are read, so what a page shows is what the code says; `tests/docs` holds the pages to it.
"""

import ast
import inspect
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from attrs import NOTHING, Attribute, AttrsInstance, fields, frozen

from milvaion_trio.configuration import environment, keys
from milvaion_trio.model import settings, settings_rules
from milvaion_trio.model.wire import Dialect
from milvaion_trio.runtime import serve as serve_module

__all__ = ["PARTS", "renewed"]

DOCS = Path(__file__).parent


def renewed(page: str) -> str:
    """The page with every generated part as the code has it now; raises `KeyError` for a part nobody draws."""

    def part(match: re.Match[str]) -> str:
        return f"{match[1]}\n{PARTS[match[2]]()}\n{match[3]}"

    return re.sub(r"(<!-- generated: ([\w ]+) -->).*?(<!-- end -->)", part, page, flags=re.DOTALL)


# --- settings -------------------------------------------------------------------------------------------------------

_PLACES: dict[type[AttrsInstance], str] = {
    settings.WorkerSettings: "",
    settings.JobSettings: "",
    settings.HeartbeatSettings: "heartbeat",
    settings.ShutdownSettings: "shutdown",
    settings.ReportingSettings: "reporting",
    settings.OfflineResilienceSettings: "offline_resilience",
    settings.RabbitMQSettings: "rabbitmq",
    settings.RedisSettings: "redis",
}
"""Every class of settings, and the attribute of the worker's settings that holds it."""


def settings_tables() -> str:
    """One table for each class of settings: attribute, names outside of Python, default, what it may be and means."""
    return "\n".join("\n".join(_table(kind, place)) for kind, place in _PLACES.items())


def _table(kind: type[AttrsInstance], place: str) -> Iterator[str]:
    meanings = _meanings(kind)
    yield f"\n## `{kind.__name__}`\n"
    yield (inspect.getdoc(kind) or "") + (f" The attribute `{place}` of `WorkerSettings`." if place else "") + "\n"
    yield "| name | in files | variable | default | allowed | meaning |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for attribute in fields(kind):
        yield _row(
            f"`{attribute.name}`",
            *_outside(kind, place, attribute.name),
            _default(attribute),
            _allowed(attribute),
            meanings.get(attribute.name, ""),
        )


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


_PATHS = {setting.place: setting.path for setting in keys.SETTINGS}


def _outside(kind: type[AttrsInstance], place: str, name: str) -> tuple[str, str]:
    """The name in files and of the variable; nothing for sections, and for what only code can say."""
    section = ("jobs", keys.ANY_JOB) if kind is settings.JobSettings else (place,) if place else ()
    path = _PATHS.get((*section, name))
    return ("", "") if path is None else (f"`{':'.join(path)}`", f"`{environment.variable(path)}`")


def keys_without_effect() -> str:
    """What .NET's files may hold that does nothing here, and why that is so."""
    lines = ["", "| in files | without effect, because | warning |", "| --- | --- | --- |"]
    warned = {True: "where it is set and not false", False: "no"}
    lines += [_row(f"`{':'.join(key.path)}`", key.why, warned[key.is_missed]) for key in keys.WITHOUT_EFFECT]
    return "\n".join([*lines, ""])


def _meanings(kind: type[AttrsInstance]) -> dict[str, str]:
    """The text under each field, which Python does not keep at run time."""
    (body,) = (node.body for node in ast.parse(inspect.getsource(kind)).body if isinstance(node, ast.ClassDef))
    texts: dict[str, str] = {}
    for statement, text in itertools.pairwise(body):
        match statement, text:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(meaning))):
                texts[name] = " ".join(meaning.split())
    return texts


def _default(attribute: "Attribute[object]") -> str:
    default = attribute.default
    if settings_rules.section_of(attribute.type) is not None:
        return "its defaults" if default is not None else "none"
    if default is NOTHING:
        return "none; it must be given"
    if isinstance(default, Dialect):
        return f"`{default}`"  # as code writes it: Dialect.V1_1
    return "empty" if default == {} or default == "" else f"`{default!r}`"


def _allowed(attribute: "Attribute[object]") -> str:
    section = settings_rules.section_of(attribute.type)
    if section is not None:
        return f"[`{section.__name__}`](#{section.__name__.lower()})"
    # The words of the very check that refuses anything else.
    return settings_rules.words_of(attribute.type).removesuffix(", or None").replace("'", "`")


# --- the nursery tree -----------------------------------------------------------------------------------------------

_WORDS = {
    "trio.open_nursery() as jobs": (
        "jobs, a task per running job",
        "A task that ignored its cancellation is waited for; everything else of the worker is closed by then.",
    ),
    "house.outbox.open()": (
        "outbox, reports that wait for their confirm",
        "The outbox closes.",
    ),
    "house.publishing.kept_up()": (
        "publishing connection, made again when it is lost",
        "The publishing connection closes.",
    ),
    "house.consuming.kept_up()": (
        "consuming connection, made again when it is lost",
        "The consuming connection closes; what was not acked returns to its queue.",
    ),
    "house.presence.announced(shutdown)": (
        "presence, registration and heartbeats of the worker",
        "A last heartbeat says that the worker is stopping.",
    ),
    "_courier(house)": (
        "courier, from the outbox to the broker",
        "The last logs and reports are sent and their messages acked, within the flush time.",
    ),
    "house.listener.listening()": (
        "cancel signals",
        "Cancel signals are no longer heard.",
    ),
    "_heartbeats_and_logs(house)": (
        "heartbeats and log batches of running jobs",
        "Running jobs send no more heartbeats.",
    ),
    "house.hops.sent_on(jobs)": (
        "hops, messages that wait long and pass by",
        "What was not sent on goes back to the hop queue, for another worker.",
    ),
    "dispatcher.intake(house.consuming, jobs)": (
        "intake, one per job queue",
        "No more messages are taken; those that wait for a slot go back to their queues at once.",
    ),
    "shutdown.requested()": (
        "(serves here until asked to leave)",
        "Somebody asks the worker to leave.",
    ),
    "wind_down(house.runs, shutdown, house.observers)": (
        "(here running jobs end)",
        "Running jobs get the drain time, then are cancelled and get the clean-up time; "
        "what then still runs has its message given back.",
    ),
}
"""What each step is, and what its end does, by how `serve` writes it. One that is not here cannot be drawn."""


@frozen
class _Node:
    """A context that `serve` enters, or a step that it awaits, with how deep it stands."""

    source: str
    depth: int
    is_context: bool

    @property
    def name(self) -> str:
        return _WORDS[self.source][0]

    @property
    def end(self) -> str:
        return _WORDS[self.source][1]


def nursery_tree() -> str:
    """The contexts of `serve`, each inside the one above it, and the steps it awaits between them."""
    lines = ["```text", "serve"]
    for node in _nodes():
        branch = "└─ " if node.is_context else ""
        lines.append(f"{'   ' * node.depth}{branch}{node.name}")
    return "\n".join([*lines, "```"])


def shutdown_order() -> str:
    """The contexts and steps in the order in which they end."""
    left: list[str] = []
    entered: list[_Node] = []
    for node in _nodes():
        # What stands deeper, or as deep, has been left before this is reached.
        while entered and entered[-1].depth >= node.depth:
            left.append(entered.pop().end)
        if node.is_context:
            entered.append(node)
        else:
            left.append(node.end)
    left += [node.end for node in reversed(entered)]
    return "\n".join(f"{number}. {end}" for number, end in enumerate(left, 1))


def _nodes() -> list[_Node]:
    function = ast.parse(inspect.getsource(serve_module.serve)).body[0]
    if not isinstance(function, ast.AsyncFunctionDef):
        raise TypeError("serve() is no async function any more")
    return list(_within(function.body, 0))


def _within(statements: list[ast.stmt], depth: int) -> Iterator[_Node]:
    for statement in statements:
        if isinstance(statement, ast.AsyncWith):
            inner = depth
            for item in statement.items:
                yield _Node(ast.unparse(item), inner, is_context=True)
                inner += 1
            yield from _within(statement.body, inner)
        else:
            for awaited in ast.walk(statement):
                if isinstance(awaited, ast.Await):
                    yield _Node(ast.unparse(awaited.value), depth, is_context=False)


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings_tables,
    "keys without effect": keys_without_effect,
    "nursery tree": nursery_tree,
    "shutdown order": shutdown_order,
}
"""What can be drawn, by the name that stands in the pages."""


if __name__ == "__main__":
    for path in sorted(DOCS.rglob("*.md")):
        before = path.read_text(encoding="utf-8")
        after = renewed(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"renewed {path.relative_to(DOCS)}")
