"""The nursery tree, read from the syntax tree of `serve()`: as a drawing, and as the order in which it is left."""

import ast
import inspect
from collections.abc import Iterator

from attrs import field, frozen
from docs.drawings.svg import ACCENT, document, element, text

from milvaion_trio.runtime import serve as serve_module

__all__ = ["nursery_tree", "shutdown_order"]

_WORDS = {
    "house.places.open()": (
        "places, worker processes and the asyncio loop of jobs",
        "Worker processes and the loop of asyncio jobs end.",
    ),
    "trio.open_nursery() as jobs": (
        "jobs, a task per running job",
        "A task that ignored its cancellation is waited for; nothing else of the worker waits for it.",
    ),
    "house.outbox.open()": (
        "outbox, reports that wait for their confirm",
        "The outbox closes; what was not sent stays in its file, where it has one.",
    ),
    "house.publishing.kept_up()": (
        "publishing connection, made again when it is lost",
        "The publishing connection closes.",
    ),
    "house.consuming.kept_up()": (
        "consuming connection, made again when it is lost",
        "The consuming connection closes; what was not acked returns to its queue.",
    ),
    "_shared(house)": (
        "leases, and what is told of runs that ended",
        "Leases are given up, and ends that others wait for are told, within the flush time.",
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
        "cancel signals, heard while jobs run",
        "Cancel signals are no longer heard.",
    ),
    "_heartbeats_and_logs(house)": (
        "heartbeats, and log batches of running jobs",
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
    "house.scheduling()": (
        "scheduling, where it leads or may",
        "It dispatches no more ticks; another worker may lead at once.",
    ),
    "shutdown.requested()": (
        "serves here, until asked to leave",
        "Somebody asks the worker to leave.",
    ),
    "wind_down(house.runs, shutdown, house.observers)": (
        "winds down, running jobs end",
        "Running jobs get the drain time, then are cancelled and get the clean-up time; "
        "what then still runs has its message given back.",
    ),
}
"""What each step is, and what its end does, by how `serve` writes it. One that is not here cannot be drawn."""

_WIDTH = 760.0
_LINE = 31.0
"""Height of a name."""
_INSET = 13.0
"""How much further in a context stands than the one around it."""
_GAP = 7.0
"""Between what stands in the same context."""


@frozen
class _Node:
    """A context that `serve` enters, or a step that it awaits, with what happens inside of it."""

    source: str
    is_context: bool
    inside: "tuple[_Node, ...]" = field(default=())

    @property
    def name(self) -> str:
        return _words(self.source)[0].partition(", ")[0]

    @property
    def meaning(self) -> str:
        return _words(self.source)[0].partition(", ")[2]

    @property
    def end(self) -> str:
        return _words(self.source)[1]

    @property
    def height(self) -> float:
        return _LINE + sum(node.height + _GAP for node in self.inside)


def _words(source: str) -> tuple[str, str]:
    if source not in _WORDS:
        raise KeyError(f"serve() has a new step, {source!r}: say in {__file__} what it is and what its end does")
    return _WORDS[source]


def nursery_tree() -> str:
    """The drawing: a box for each context, inside of the one that is left after it, with numbers in that order."""
    roots = _tree()
    numbers = {node.source: number for number, node in enumerate(_left(roots), 1)}
    height = sum(node.height + _GAP for node in roots) + _GAP
    parts: list[str] = []
    y = _GAP
    for node in roots:
        parts += _box(node, 1, y, _WIDTH - 2, numbers)
        y += node.height + _GAP
    return document(
        "nursery-tree",
        "The nursery tree of a serving worker",
        "From the outside to the inside: " + "; ".join(_in_words(roots)) + ".",
        _WIDTH,
        height,
        parts,
    )


def shutdown_order() -> str:
    """The contexts and steps in the order in which they end, as a numbered list."""
    return "\n".join(f"{number}. {node.end}" for number, node in enumerate(_left(_tree()), 1))


def _box(node: _Node, x: float, y: float, width: float, numbers: dict[str, int]) -> Iterator[str]:
    # The steps are what is done inside of all contexts; they stand out, and have nothing inside.
    frame: dict[str, str | float] = {"fill": "none", "stroke": ACCENT, "stroke_dasharray": "4 3"}
    if node.is_context:
        frame = {"fill": ACCENT, "fill_opacity": 0.05, "stroke": "currentColor", "stroke_opacity": 0.35}
    yield element("rect", x=x, y=y, width=width, height=node.height, rx=6, **frame)
    name = text(node.name, x + 12, y + 20.5, font_weight=600).removesuffix("</text>")
    meaning = f'<tspan dx="8" font-weight="400" fill-opacity="0.8">{node.meaning}</tspan>' if node.meaning else ""
    yield f"{name}{meaning}</text>"
    yield text(
        str(numbers[node.source]),
        x + width - 12,
        y + 20.5,
        text_anchor="end",
        font_size=12,
        fill_opacity=0.7,
    )
    inner = y + _LINE
    for inside in node.inside:
        yield from _box(inside, x + _INSET, inner, width - 2 * _INSET, numbers)
        inner += inside.height + _GAP


def _in_words(nodes: tuple[_Node, ...]) -> Iterator[str]:
    for node in nodes:
        yield f"{node.name} ({node.meaning})" if node.meaning else node.name
        yield from _in_words(node.inside)


def _left(nodes: tuple[_Node, ...]) -> Iterator[_Node]:
    """What is inside ends first; what stands beside each other ends from top to bottom."""
    for node in nodes:
        yield from _left(node.inside)
        yield node


def _tree() -> tuple[_Node, ...]:
    function = ast.parse(inspect.getsource(serve_module.serve)).body[0]
    if not isinstance(function, ast.AsyncFunctionDef):
        raise TypeError("serve() is no async function any more")
    return tuple(_within(function.body))


def _within(statements: list[ast.stmt]) -> Iterator[_Node]:
    for statement in statements:
        if isinstance(statement, ast.AsyncWith):
            inside = tuple(_within(statement.body))
            for item in reversed(statement.items):
                inside = (_Node(ast.unparse(item), is_context=True, inside=inside),)
            yield from inside
        else:
            for awaited in ast.walk(statement):
                if isinstance(awaited, ast.Await):
                    yield _Node(ast.unparse(awaited.value), is_context=False)
