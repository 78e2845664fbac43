"""What the documentation names exists, and what of it is made from code is as the code has it."""

import itertools
import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from docs.command_reference import commands, options
from docs.generate import DRAWINGS, PARTS, renewed
from tests.docs.markdown import PAGES, ROOT, addresses, anchors, blocks, links, shown

from milvaion_trio.cli.app import app

HOSTS = {
    "github.com",
    "pytest-trio.readthedocs.io",
    "trio.readthedocs.io",
}
"""Where links may lead: the fewer, the fewer can break unseen, as nothing here looks at the network."""

FOREIGN_OPTIONS = {
    "--bind",  # Hypercorn
    "--default-queue-type",  # rabbitmqctl
    "--faults",  # torture
    "--jobs",  # torture
    "--no-save",  # benchmarks.peers
    "--only",  # benchmarks.peers
    "--part",  # benchmarks.peers
    "--port",  # uvicorn
    "--report",  # torture
    "--rounds",  # benchmarks.peers
    "--run",  # benchmarks/embedded.py
    "--sabotage",  # torture
    "--seed",  # torture
    "--short",  # torture
    "--worker-class",  # Hypercorn
}
"""Options of other programs that pages name."""


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
def test_addresses_on_the_network_are_well_formed_and_few(page: Path) -> None:
    """Whether they answer is not asked; what a typo makes of them is found."""
    parts = [urlsplit(address) for address in addresses(page)]

    assert {part.scheme for part in parts} <= {"https"}
    assert {part.hostname for part in parts} <= HOSTS
    assert [part.geturl() for part in parts if re.search(r"[.,;:]$|//.*//", part.geturl())] == []


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_what_is_made_from_code_is_current(page: Path) -> None:
    """To renew it: `python docs/generate.py`."""
    text = page.read_text(encoding="utf-8")

    assert renewed(text) == text


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_drawing_is_current(name: str) -> None:
    """To renew it: `python docs/generate.py`."""
    file = ROOT / "docs" / "_static" / name

    assert file.read_text(encoding="utf-8") == DRAWINGS[name]()


def test_everything_made_from_code_stands_in_a_page() -> None:
    """A new command, for one, that no page shows yet."""
    pages = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)

    assert sorted(re.findall(r"<!-- generated: ([\w ]+) -->", pages)) == sorted(PARTS)
    assert [name for name in DRAWINGS if f"/_static/{name})" not in pages] == []


def test_every_command_has_its_section() -> None:
    """In the order of `--help`, with the part made from it below its heading."""
    page = (ROOT / "docs" / "reference" / "commands.md").read_text(encoding="utf-8")

    names = [name for name, _ in commands()]
    assert re.findall(r"^## `milvaion-trio ([^`]+)`\n\n<!-- generated: command \1 -->$", page, re.MULTILINE) == names


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_command_line_could_be_typed(page: Path) -> None:
    """Command, options, number and kind of arguments are as the command takes them; what a shell does is left out."""
    for block in blocks(page):
        for line in block.code.splitlines() if block.language == "console" else ():
            words = list(
                itertools.takewhile(lambda word: word not in {"|", ">", "&", "&&"}, shlex.split(line, comments=True))
            )
            if words[:1] == ["milvaion-trio"]:
                app.parse_args(words[1:], exit_on_error=False, print_error=False)


def test_text_names_only_options_that_exist() -> None:
    """In all pages, inside of code and outside."""
    known = {"--help", "--version", *FOREIGN_OPTIONS}
    known |= {option for _, command in commands() for option in options(command)}

    for page in PAGES:
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", page.read_text(encoding="utf-8")))
        assert named <= known, shown(page)
