"""The package as somebody has it who installed it: in an environment of its own, far from the checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from attrs import frozen

from release.archives import ROOT

__all__ = ["Environment", "Failed", "copy_tests"]

_UV = Path(sys.executable).with_name("uv")
_IMPORT_ALL = """
import importlib, pathlib, pkgutil, milvaion_trio
for module in pkgutil.walk_packages(milvaion_trio.__path__, "milvaion_trio."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
"""


class Failed(Exception):
    """A command on the installed package ended otherwise than it should."""


@frozen
class Environment:
    """A virtual environment, with what is installed in it."""

    folder: Path
    name: str

    @classmethod
    def make(cls, folder: Path, name: str, python: Path, archive: Path) -> "Environment":
        """A fresh one, with this archive and what it says it needs, and nothing else."""
        made = cls(folder, name)
        made._run(_UV, "venv", "--quiet", "--python", python, folder)
        made._uv("install", archive)
        made._uv("check")
        return made

    def program(self, name: str) -> Path:
        """The path of a program that is installed in it."""
        return self.folder / "bin" / name

    def check_start(self) -> None:
        """Every module can be imported without what the tests need, and both ways to start the program lead to it."""
        self._run(self.program("python"), "-c", _IMPORT_ALL)
        for start in ([self.program("milvaion-trio")], [self.program("python"), "-m", "milvaion_trio"]):
            self._run(*start, "--version")

    def start_demo(self) -> subprocess.Popen[str]:
        """Begin the demo, which waits more than it computes; `end_demo` looks at it later."""
        return subprocess.Popen(
            [self.program("milvaion-trio"), "demo"],
            cwd=self.folder,
            env=_surroundings(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def end_demo(self, demo: subprocess.Popen[str]) -> None:
        """Wait for the end of the demo; raise `Failed` unless every job of it ended as promised."""
        said, _ = demo.communicate(timeout=120)
        if demo.returncode or "ended as promised" not in said:
            raise Failed(f"{self.name}: demo exited {demo.returncode}:\n{said}")

    def run_tests(self, tests: Path, *parts: str) -> None:
        """Run these parts of the copied tests with the installed package."""
        self._uv("install", "--group", f"{ROOT}/pyproject.toml:test")
        paths = [f"tests/{part}" for part in parts]
        self._run(
            self.program("python"),
            "-m",
            "pytest",
            "-n",
            "4",
            "--dist",
            "worksteal",
            "-q",
            "-p",
            "no:cacheprovider",
            *paths,
            cwd=tests,
        )

    def check_types(self) -> None:
        """Pyright knows the type of everything that the installed packages export, without inferring any."""
        pyright = Path(sys.executable).with_name("basedpyright")
        for package in ("milvaion_trio", "_milvaion_trio_pytest"):
            # It finds the package by the environment that is switched on; here it ignores its option --pythonpath.
            found = subprocess.run(
                [pyright, "--verifytypes", package, "--ignoreexternal"],
                cwd=self.folder,
                env=_surroundings(self),
                capture_output=True,
                text=True,
                check=False,
            )
            if found.returncode or "Type completeness score: 100%" not in found.stdout:
                unknown = found.stdout.partition("Symbols used in public interface:")[2] or found.stdout
                raise Failed(f"pyright does not know all types of {package}:\n{unknown}{found.stderr}")

    def _uv(self, *arguments: str | Path) -> None:
        self._run(_UV, "pip", arguments[0], "--quiet", "--python", self.program("python"), *arguments[1:])

    def _run(self, *command: str | Path, cwd: Path | None = None) -> None:
        place = cwd or self.folder.parent
        if subprocess.run(command, cwd=place, env=_surroundings(), stdin=subprocess.DEVNULL, check=False).returncode:
            raise Failed(f"{self.name}: failed: {' '.join(str(word) for word in command)}")


def copy_tests(folder: Path, also: Path) -> Path:
    """Copy the tests, and what they look at, to where no sources are; `also` is one more module of tests."""
    for part in ("tests", "docs"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (ROOT / "pyproject.toml", ROOT / "README.md"):
        shutil.copy(path, folder)
    shutil.copy(also, folder / "tests")
    return folder


def _surroundings(environment: Environment | None = None) -> dict[str, str]:
    """The process environment without what leads to the checkout, and with that environment switched on."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    if environment is None:
        return inherited
    path = os.pathsep.join([str(environment.folder / "bin"), inherited.get("PATH", "")])
    return {**inherited, "VIRTUAL_ENV": str(environment.folder), "PATH": path}
