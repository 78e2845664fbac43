"""The public face type-checks the way its examples are written, and mistakes are found before anything runs."""

import ast
import subprocess
import sys
from pathlib import Path

import milvaion_trio
from milvaion_trio import testing

HERE = Path(__file__).parent
TYPED = sorted(HERE.glob("typed_*.py"))


def test_mypy_finds_the_marked_mistakes_and_no_others(tmp_path: Path) -> None:
    """Each line marked as refused is such an error, and everything else is clean, for a user with strict settings.

    The package is looked at as a user's mypy does: by its installation and its `py.typed`.
    """
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), *(file.name for file in TYPED)],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.stdout == f"Success: no issues found in {len(TYPED)} source files\n", checked.stdout + checked.stderr


def test_every_public_name_is_checked() -> None:
    """Of the package and of its testing kit: none is added without saying what its types are good for."""
    public = {*milvaion_trio.__all__, *testing.__all__}

    used = {
        node.id
        for file in TYPED
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Name)
    }

    assert public - used == set()
