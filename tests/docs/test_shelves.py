"""The documentation is a book of four shelves: every page stands in one of them, and all are written alike."""

import re
from pathlib import Path

import pytest
from docs.prose import sentences
from tests.docs.markdown import PAGES, ROOT, blocks, links, prose, shown

FRONT = ROOT / "docs" / "index.md"
SHELVES = {"Tutorial": "tutorial", "How-to guides": "how-to", "Reference": "reference", "Explanation": "explanation"}
"""The sections of the front page, and the folders of their pages."""

LONGEST_GUIDE = 200
"""Lines of a guide, all of them, are fewer (STYLE.md, house style 16)."""

LISTED = re.compile(r"^- \[[^\]]+\]\(([\w./-]+\.md)\): (?=\S)[^\n]+\.$", re.MULTILINE)


def test_every_page_stands_in_its_shelf_with_one_line_about_it() -> None:
    """The site's table of contents is made from these lists (`docs/rendering.py`)."""
    sections = re.split(r"^## (.+)$", FRONT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    listed = {title: LISTED.findall(text) for title, text in zip(sections[1::2], sections[2::2], strict=True)}

    for title, folder in SHELVES.items():
        pages = {f"{folder}/{page.name}" for page in (ROOT / "docs" / folder).glob("*.md")}
        assert sorted(listed[title]) == sorted(pages)


def test_there_is_no_page_beside_the_shelves() -> None:
    folders = [ROOT / "docs" / folder for folder in SHELVES.values()]

    beside = [shown(page) for page in PAGES if page.parent not in folders]
    assert beside == ["README.md", "RELIABILITY.md", "docs/index.md"]


def test_the_readme_leads_to_the_front_page_and_to_all_that_is_to_be_done_or_understood() -> None:
    """Of the reference the front page has the parts."""
    linked = {(ROOT / path).resolve() for path, _ in links(ROOT / "README.md")}
    folders = [ROOT / "docs" / folder for title, folder in SHELVES.items() if title != "Reference"]
    written_out = ROOT / "docs" / "explanation" / "reliability.md"  # RELIABILITY.md, which is linked, as a page

    assert {FRONT, *(page for page in PAGES if page.parent in folders)} - {written_out} - linked == set()


def test_the_front_page_begins_with_the_first_job_of_the_readme() -> None:
    """Which is written, served and enqueued in the tests of examples."""
    shown_there = [(block.language, block.code) for block in blocks(ROOT / "README.md")]

    assert [block.code for block in blocks(FRONT) if (block.language, block.code) not in shown_there] == []
    assert [block.language for block in blocks(FRONT)] == ["python", "console", "console"]


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name == "how-to"], ids=shown)
def test_a_guide_is_short(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").splitlines()) < LONGEST_GUIDE


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_a_line_holds_one_sentence(page: Path) -> None:
    """Except in lists and tables, where it may hold the whole item."""
    written = [line for line in prose(page) if line and not re.match(r"\||\s*(-|\d+\.) ", line)]

    assert [line for line in written if len(sentences(line)) > 1] == []


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_two_blank_lines_stand_before_a_heading(page: Path) -> None:
    lines = prose(page)

    headings = [number for number, line in enumerate(lines) if re.match(r"#+ ", line)]
    assert headings[0] == 0
    before = {lines[number]: [bool(line) for line in lines[number - 3 : number]] for number in headings[1:]}
    assert [heading for heading, is_text in before.items() if is_text != [True, False, False]] == []
