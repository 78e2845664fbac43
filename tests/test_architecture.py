"""The house stays the house: layers, import cost, size and naming of modules, cancellation written down."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "src" / "milvaion_trio"
MODULES = sorted(PACKAGE.rglob("*.py"))


def test_imports_point_down_only() -> None:
    """The layers of DESIGN.md 3 hold; the contracts are in pyproject.toml."""
    command = [str(Path(sys.executable).with_name("lint-imports"))]

    done = subprocess.run(command, cwd=PACKAGE.parents[1], capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout


@cache
def imported_with_the_package() -> frozenset[str]:
    """The modules of a new process that has imported the package and nothing else."""
    code = "import sys, milvaion_trio; print(*sys.modules)"
    modules = frozenset(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split())
    assert "milvaion_trio.worker" in modules
    return modules


@pytest.mark.parametrize("foreign", ["asyncio", "trio_asyncio", "aio_pika", "redis", "sqlite3", "cyclopts", "rich"])
def test_importing_the_package_stays_cheap(foreign: str) -> None:
    """`import milvaion_trio` pulls in no asyncio, no bridge, no client library, no database, no command line."""
    assert foreign not in imported_with_the_package()


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_is_one_idea(path: Path) -> None:
    """A module says in its docstring which idea it is, and is short enough to hold only one."""
    source = path.read_text()
    tree = ast.parse(source)

    assert ast.get_docstring(tree), "a module begins with a docstring"
    limit = ARGUED_FOR.get(str(path.relative_to(PACKAGE)), 400)
    assert len(source.splitlines()) <= limit


ARGUED_FOR: dict[str, int] = {}
"""Modules over 400 lines, each with the reason why it is one idea."""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_names_are_roles(path: Path) -> None:
    """No module is a drawer for whatever fits nowhere else."""
    drawers = {"utils", "util", "helpers", "helper", "common", "base", "manager", "handler", "misc"}

    assert path.stem.lstrip("_") not in drawers


def public_coroutines() -> Iterator[tuple[str, ast.AsyncFunctionDef]]:
    for path in MODULES:
        if path.name == "demo_jobs.py":  # jobs as a user writes them, not an API
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.AsyncFunctionDef) and not node.name.startswith("_") and ast.get_docstring(node):
                yield f"{path.relative_to(PACKAGE)}:{node.name}", node


@pytest.mark.parametrize("node", [pytest.param(node, id=name) for name, node in public_coroutines()])
def test_cancellation_is_written_down(node: ast.AsyncFunctionDef) -> None:
    """Every public coroutine says what happens when it is cancelled, or that it runs until then."""
    docstring = (ast.get_docstring(node) or "").lower()

    assert "cancel" in docstring or "while the context is open" in docstring
