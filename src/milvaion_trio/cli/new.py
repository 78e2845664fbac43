"""`milvaion-trio new`: a project to begin with, made from the templates in the folder `project` beside this file.

Every file there ends in `.in`, so that no tool takes it for code or settings of this package.
"""

import json
import keyword
import re
import shlex
import sys
from collections.abc import Mapping
from importlib import metadata, resources
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from cyclopts import Parameter

from milvaion_trio.cli.failures import CommandFailed, ExitCode, UsageError
from milvaion_trio.cli.terminal import error_console, write_line
from milvaion_trio.worker import __version__

__all__ = ["new"]

FILES: Final[Mapping[str, str]] = {
    "README.md": "README.md.in",
    "pyproject.toml": "pyproject.toml.in",
    "milvaion.toml": "milvaion.toml.in",
    "{{ package }}/__init__.py": "package.py.in",
    "{{ package }}/jobs.py": "jobs.py.in",
    "tests/test_jobs.py": "test_jobs.py.in",
    "Dockerfile": "Dockerfile.in",
    ".dockerignore": "dockerignore.in",
    ".gitignore": "gitignore.in",
}
"""What a project has, and the template of each file."""

LONGEST_NAME = 60
"""Characters: with a job's name it becomes part of a queue's name, which has 255 bytes."""
_NAME = re.compile(r"[a-z][a-z0-9]*(?:[-_][a-z0-9]+)*")


def new(
    name: Annotated[str, Parameter(name="NAME", help="What the project and its group of workers are called.")],
    /,
    *,
    path: Annotated[
        Path | None, Parameter(metavar="FOLDER", help="Where to make it; in a new folder of that name unless given.")
    ] = None,
) -> int:
    """Make a project: a worker with one job, its settings, a test and a Dockerfile.

    The name is in small letters, digits and hyphens. Files that are there already stay as they are: if one of them is
    in the way, nothing is written. What was written is listed on stdout.

    Exit codes: 0 made, 1 something is in the way, 2 the name cannot be used.

        milvaion-trio new report-worker
        milvaion-trio new report-worker --path .
    """
    package = _package(name)
    folder = Path(name) if path is None else path
    words = {"name": name, "package": package, "version": __version__, **_words_on_source(_source())}
    files = {folder / _filled(place, words): _filled(_template(source), words) for place, source in FILES.items()}
    _write(folder, files)
    for file in files:
        write_line(str(file))
    go_there = [] if folder.resolve() == Path.cwd() else [f"cd {shlex.quote(str(folder))}"]
    # The commands stand alone on their line, so that they can be copied.
    next_steps = "\n".join([*go_there, f"milvaion-trio dev {package}.jobs:worker"])
    error_console().print(f"\nRun it, without any server:\n\n{next_steps}")
    return ExitCode.DONE


def _package(name: str) -> str:
    """The name as Python imports it; raises `UsageError` for one that would not do."""
    if _NAME.fullmatch(name) is None or len(name) > LONGEST_NAME:
        plain = "-".join(re.findall("[a-z0-9]+", name.lower())).lstrip("0123456789-")[:LONGEST_NAME].rstrip("-")
        hint = f": {plain}, for one" if plain else ": report-worker, for one"
        raise UsageError(
            f"A project cannot be called {name!r}: a name begins with a letter and has small letters, digits and "
            f"hyphens, {LONGEST_NAME} at most{hint}. Where to make it is said with --path."
        )
    package = name.replace("-", "_")
    if keyword.iskeyword(package):
        raise UsageError(f"A project cannot be called {name!r}: that is a word of the language. Try {name}-worker.")
    if package in sys.stdlib_module_names or package in _installed() or package == "tests":
        raise UsageError(
            f"A project cannot be called {name!r}: its package would hide {package}, which others import. "
            f"Try {name}-worker."
        )
    return package


def _source() -> str | None:
    """What `pip install` was given for this package, where it was no name for an index to look up (PEP 610)."""
    try:
        text = metadata.distribution("milvaion-trio").read_text("direct_url.json")
    except metadata.PackageNotFoundError:  # it runs from its files
        return None
    match json.loads(text or "null"):
        case {"url": str(url), "vcs_info": {"vcs": str(system), **version}, **rest}:
            revision = version.get("requested_revision") or version.get("commit_id")
            folder = rest.get("subdirectory")
            return f"{system}+{url}{f'@{revision}' if revision else ''}{f'#subdirectory={folder}' if folder else ''}"
        case {"url": str(url)}:
            return url2pathname(urlsplit(url).path) if url.startswith("file:") else url
    return None


def _words_on_source(source: str | None) -> dict[str, str]:
    """What a README says more where no index is known to have this package."""
    if source is None:
        return {"first": "", "image": ""}
    given = shlex.quote(source)
    return {
        "first": f"pip install {given}\n",
        "image": "\nThe image takes milvaion-trio from a package index.\n"
        f"Where none has it, make a wheel beside the Dockerfile, `pip wheel --no-deps {given}`, let it in in "
        "`.dockerignore`, and copy it before `pip install`, which then is `pip install --no-cache-dir *.whl .`\n",
    }


def _installed() -> Mapping[str, object]:
    return metadata.packages_distributions()


def _template(source: str) -> str:
    return resources.files("milvaion_trio.cli").joinpath("project", source).read_text("utf-8")


def _filled(text: str, words: Mapping[str, str]) -> str:
    return re.sub(r"\{\{ (\w+) \}\}", lambda match: words[match[1]], text)


def _write(folder: Path, files: Mapping[Path, str]) -> None:
    """Write all files or, if one is there already, none; raises `CommandFailed`."""
    # A symbolic link that leads nowhere is in the way, too.
    taken = [str(file.relative_to(folder)) for file in files if file.exists() or file.is_symlink()]
    if taken:
        raise CommandFailed(f"Nothing was written, for there is already, in {folder.resolve()}: {', '.join(taken)}.")
    try:
        for file, text in files.items():
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("x", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
    except OSError as error:
        raise CommandFailed(f"{error.filename} cannot be written: {error.strerror}.") from error
