"""The public face type-checks the way its examples are written, and mistakes are found before anything runs."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SOURCES = HERE.parent.parent / "src"


def test_mypy_finds_the_marked_mistakes_and_no_others(tmp_path: Path) -> None:
    """Each line marked as refused in typed_jobs.py is such an error; everything else is clean."""
    file = HERE / "typed_jobs.py"

    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--cache-dir", str(tmp_path), file.name],
        cwd=HERE,
        env={"MYPYPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        check=False,
    )

    # Modules that are imported are checked too, but not by this test.
    mistakes = [line for line in checked.stdout.splitlines() if line.startswith(file.name) and ": error: " in line]
    assert mistakes == []
    assert checked.returncode in (0, 1), checked.stderr
