"""Most tests run commands that are forked, not started (`tests.support.fork_server`): nobody could tell them apart."""

import subprocess
from pathlib import Path

import pytest
from tests.support.commands import HERE, PATIENCE, command, environment, forked_command, serving_dev


@pytest.mark.parametrize(
    "arguments", [["list", "sample_worker:worker", "--json"], ["run", "sample_worker:worker", "--brust"]]
)
@pytest.mark.parametrize("changes", [{}, {"FORCE_COLOR": "1", "COLUMNS": "60"}], ids=["plain", "coloured"])
def test_a_forked_command_says_and_ends_what_a_started_one_does(
    arguments: list[str], changes: dict[str, str], tmp_path: Path
) -> None:
    """With its own environment, and modules found from its own folder."""
    (tmp_path / "sample_worker.py").write_text((HERE / "sample_worker.py").read_text("utf-8"), "utf-8")

    forked, started = (
        subprocess.run(
            line,
            cwd=tmp_path,
            env=environment(**changes),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        for line in (forked_command(*arguments), command(*arguments))
    )

    assert (forked.returncode, forked.stdout, forked.stderr) == (started.returncode, started.stdout, started.stderr)


def test_a_forked_command_ends_with_whoever_asked_for_it(tmp_path: Path) -> None:
    """A test that gives up leaves no worker behind."""
    with serving_dev("sample_worker:worker", tmp_path, socket=tmp_path / "socket") as worker:
        worker.read_until("ready")

        worker.process.kill()

        worker.process.communicate(timeout=PATIENCE / 6)  # until nobody has its files open any more
