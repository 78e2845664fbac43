"""Building wheel and sdist, and what must be in them: the sources as they are in the checkout, and nothing else."""

import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath
from typing import Any

from attrs import frozen

__all__ = ["ROOT", "Archives", "Stray", "build", "look_into", "tested_pythons"]

ROOT = Path(__file__).parents[1]
_OF_SDIST = {"PKG-INFO", "LICENSE", "README.md", "pyproject.toml", "pyproject.toml.orig"}
_OF_WHEEL = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE"}


class Stray(Exception):
    """An archive holds what it should not, or lacks what it should hold."""


@frozen
class Archives:
    """What is published."""

    sdist: Path
    wheel: Path


def build(folder: Path) -> Archives:
    """Both archives in that folder; the wheel is built from the sdist, as an installer would."""
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "build", "--quiet", "--python", sys.executable, "--out-dir", folder, ROOT], check=True)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return Archives(sdist, wheel)


def tested_pythons() -> list[str]:
    """The versions that the classifiers promise, oldest first."""
    prefix = "Programming Language :: Python :: 3."
    return [name.rpartition(" ")[2] for name in _project()["classifiers"] if name.startswith(prefix)]


def look_into(archives: Archives) -> None:
    """Raise `Stray` for the first archive whose files or metadata are not the checkout's."""
    sources = {str(PurePosixPath(name).relative_to("src")) for name in _tracked("src")}
    if missing := {"milvaion_trio/py.typed", "_milvaion_trio_pytest/py.typed"} - sources:
        raise Stray(f"the checkout lacks {sorted(missing)}")

    with zipfile.ZipFile(archives.wheel) as wheel:
        names = {name for name in wheel.namelist() if not name.endswith("/")}
        folder = next(name.partition("/")[0] for name in names if ".dist-info/" in name)
        metadata = wheel.read(f"{folder}/METADATA").decode()
    _compare(archives.wheel, names, sources | {f"{folder}/{name}" for name in _OF_WHEEL})

    with tarfile.open(archives.sdist) as sdist:
        files = {member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()}
    _compare(archives.sdist, files, {f"src/{name}" for name in sources} | _OF_SDIST)

    _check_metadata(metadata)


def _tracked(folder: str) -> list[str]:
    """What git knows or would add, so that the check also holds before a commit."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", folder]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in names if (ROOT / name).exists()]


def _compare(archive: Path, found: set[str], expected: set[str]) -> None:
    if found != expected:
        lacks, strays = sorted(expected - found), sorted(found - expected)
        raise Stray(f"{archive.name} lacks {lacks} and has, though nothing says so, {strays}")


def _check_metadata(text: str) -> None:
    said, project = HeaderParser().parsestr(text), _project()
    expected = {
        "Name": project["name"],
        "Version": project["version"],
        "License-Expression": project["license"],
        "Requires-Python": project["requires-python"],
        "Description-Content-Type": "text/markdown",
    }
    wrong = {key: said[key] for key, value in expected.items() if said[key] != value}
    if wrong or (ROOT / "README.md").read_text(encoding="utf-8") != said.get_payload():
        raise Stray(f"the metadata is not what pyproject.toml and README.md say: {wrong or 'the description'}")


def _project() -> Any:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
