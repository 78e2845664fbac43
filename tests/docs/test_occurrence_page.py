"""The page about occurrence states shows the table that the code uses."""

import re
from pathlib import Path

from milvaion_trio.model.occurrence import OccurrenceEvent, OccurrenceStatus, mermaid

PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "occurrence-states.md"


def test_the_diagram_is_the_one_drawn_from_the_table() -> None:
    """To renew it, print `milvaion_trio.model.occurrence.mermaid()` into the page's mermaid block."""
    blocks = re.findall(r"```mermaid\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)

    assert blocks == [mermaid()]


def test_every_status_and_every_event_is_explained() -> None:
    text = PAGE.read_text(encoding="utf-8")

    explained = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    titles = [status.name.title().replace("_", "") for status in OccurrenceStatus]
    assert explained == titles + [event.value for event in OccurrenceEvent]
