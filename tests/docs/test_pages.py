"""What the documentation names exists: links, commands, options, and what is drawn from code is current."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from docs.generate import renewed
from tests.docs.markdown import PAGES, ROOT, anchors, links, shown

COMMANDS = ROOT / "docs" / "reference" / "commands.md"
LONGEST_GUIDE = 200


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file of the repository, and where it names a heading, to one that is there."""
    broken = [
        f"{path}#{anchor}"
        for path, anchor in links(page)
        if not (target := (page.parent / path).resolve() if path else page).exists()
        or (anchor and anchor not in anchors(target))
    ]

    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_what_is_drawn_from_code_is_current(page: Path) -> None:
    """To renew it: `python docs/generate.py`."""
    text = page.read_text(encoding="utf-8")

    assert renewed(text) == text


@pytest.mark.parametrize("page", [page for page in PAGES if page.parent.name == "how-to"], ids=shown)
def test_a_guide_is_short(page: Path) -> None:
    assert len(page.read_text(encoding="utf-8").splitlines()) < LONGEST_GUIDE


def test_every_page_can_be_reached_from_the_readme() -> None:
    """Directly, so that nobody has to know where to look."""
    readme = ROOT / "README.md"

    linked = {(readme.parent / path).resolve() for path, _ in links(readme)}

    assert [shown(page) for page in PAGES if page != readme and page not in linked] == []


def test_every_command_is_documented() -> None:
    """And no other one."""
    assert list(_commands()) == list(_sections())


@pytest.mark.parametrize("command", re.findall(r"^## `milvaion-trio (.+)`$", COMMANDS.read_text(), re.MULTILINE))
def test_every_option_is_documented(command: str) -> None:
    """With the name of its value, and no other one."""
    offered = set(_options(_help(command))) - {"--help", "--version"}

    documented = re.findall(r"^\| `(--[^`]+)`", _sections()[command], re.MULTILINE)

    assert {option.partition(" ")[0] for option in documented} == offered
    assert [option for option in documented if option not in _squeezed(_help(command))] == []


def test_text_names_only_options_that_exist() -> None:
    """In all pages, inside of code and outside."""
    known = {"--help", "--version"} | {option for command in _sections() for option in _options(_help(command))}

    named = {option for page in PAGES for option in _options(page.read_text(encoding="utf-8"))}

    assert named <= known


_shown: dict[str, str] = {}

_GROUPS = ("topology",)
"""Commands that only hold others."""


def _commands(group: str = "") -> Iterator[str]:
    for name in re.findall(r"^  ([a-z]+)  ", _help(group), re.MULTILINE):
        command = f"{group} {name}".strip()
        yield from _commands(command) if command in _GROUPS else [command]


def _help(command: str = "") -> str:
    """What `--help` prints; asked for once."""
    if command not in _shown:
        done = subprocess.run(
            [sys.executable, "-m", "milvaion_trio", *command.split(), "--help"],
            capture_output=True,
            text=True,
            check=True,
        )
        _shown[command] = done.stdout
    return _shown[command]


def _sections() -> dict[str, str]:
    parts = re.split(r"^## (.+)$", COMMANDS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    titled = zip(parts[1::2], parts[2::2], strict=True)
    return {
        title.strip("`").removeprefix("milvaion-trio "): text for title, text in titled if title.startswith("`milvaion")
    }


def _options(text: str) -> list[str]:
    return re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)


def _squeezed(text: str) -> str:
    return re.sub(r"\s+", " ", text)
