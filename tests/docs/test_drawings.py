"""The drawings say what the code does, read back from the SVG alone."""

import itertools
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from docs.drawings.nursery_tree import nursery_tree, shutdown_order
from docs.drawings.occurrence_states import occurrence_states

from milvaion_trio.model.occurrence import TRANSITIONS, OccurrenceEvent, OccurrenceStatus, status_name

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "occurrence-states.md"
SVG = "{http://www.w3.org/2000/svg}"
DRAWINGS = (nursery_tree, occurrence_states)


@pytest.mark.parametrize("draw", DRAWINGS)
def test_a_drawing_is_named_and_described_for_who_cannot_see_it(draw: Callable[[], str]) -> None:
    svg = ElementTree.fromstring(draw())

    named = [svg.find(f"{SVG}{kind}") for kind in ("title", "desc")]
    assert svg.get("role") == "img"
    assert all(element is not None and element.text for element in named)
    assert str(svg.get("aria-labelledby")).split() == [element.get("id") for element in named if element is not None]


@pytest.mark.parametrize("draw", DRAWINGS)
def test_a_drawing_suits_light_pages_and_dark_ones(draw: Callable[[], str]) -> None:
    """It has no colours but that of the text around it and that of links; only on its own it brings its own."""
    drawing = draw()
    colours = set(re.findall(r'(?:fill|stroke)="([^"]+)"', drawing))

    assert colours <= {"none", "currentColor", "var(--color-brand-primary, #3b7dd8)"}
    assert re.findall(r"([\w:]+) \{ color:", drawing) == ["svg:root", "svg:root"]


def test_every_step_is_a_dot_whose_row_has_a_ring() -> None:
    """Found by where they stand: below the name of a status, beside the name of an event."""
    svg = ElementTree.fromstring(occurrence_states())
    texts = {str(text.text): (float(text.get("x", 0)), float(text.get("y", 0))) for text in svg.iter(f"{SVG}text")}
    statuses = {texts[status_name(status)][0]: status for status in OccurrenceStatus}
    events = {texts[event.value][1]: event for event in OccurrenceEvent}
    marks: dict[bool, set[tuple[OccurrenceStatus, OccurrenceEvent]]] = {True: set(), False: set()}
    for circle in svg.iter(f"{SVG}circle"):
        x, y = float(circle.get("cx", 0)), float(circle.get("cy", 0))
        beside = [event for baseline, event in events.items() if abs(baseline - y) < 8]
        if beside:  # else it is in the legend
            marks[circle.get("fill") == "none"].add((statuses[x], beside[0]))

    assert marks[False] == set(TRANSITIONS)
    assert marks[True] == {(after, event) for (_, event), after in TRANSITIONS.items()}


def test_an_event_leads_to_one_status_or_changes_none() -> None:
    """Else one row could not show which status with a dot becomes which one with a ring."""
    for event in OccurrenceEvent:
        steps = [(before, after) for (before, what), after in TRANSITIONS.items() if what is event]

        assert len({after for _, after in steps}) == 1 or all(before is after for before, after in steps)


def test_every_status_and_every_event_is_explained() -> None:
    text = PAGE.read_text(encoding="utf-8")

    explained = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    assert explained == [status_name(status) for status in OccurrenceStatus] + [
        event.value for event in OccurrenceEvent
    ]


def test_what_stands_inside_of_a_box_is_left_before_it() -> None:
    """The numbers count the order of leaving, and there is one for each line of the list beside the drawing."""
    svg = ElementTree.fromstring(nursery_tree())
    boxes = [tuple(float(box.get(side, 0)) for side in ("x", "y", "width", "height")) for box in svg.iter(f"{SVG}rect")]
    numbers = [int(str(text.text)) for text in svg.iter(f"{SVG}text") if str(text.text).isdigit()]

    assert sorted(numbers) == list(range(1, len(shutdown_order().splitlines()) + 1))
    for (outer, outer_number), (inner, inner_number) in itertools.permutations(zip(boxes, numbers, strict=True), 2):
        if _holds(outer, inner):
            assert inner_number < outer_number
        else:
            assert _holds(inner, outer) or not _overlap(inner, outer)


def _holds(outer: tuple[float, ...], inner: tuple[float, ...]) -> bool:
    (x, y, width, height), (left, top, wide, high) = outer, inner
    return x < left and y < top and left + wide < x + width and top + high < y + height


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    (x, y, width, height), (left, top, wide, high) = one, other
    return x < left + wide and left < x + width and y < top + high and top < y + height
