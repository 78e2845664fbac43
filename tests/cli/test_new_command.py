"""`new` makes a project that does what its own README says: its tests pass, its worker runs, its code is clean."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from tests.support.commands import PATIENCE, Ended, call_command, command, environment, finish, run_command, start

PYTHON = (sys.executable, "-m")
UV = shutil.which("uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("new")
    ended = run_command("new", "report-worker", cwd=folder)

    made = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    assert ended.code == 0
    assert sorted(ended.lines) == made
    assert ended.err.endswith("\n\ncd report-worker\nmilvaion-trio dev report_worker.jobs:worker\n")
    return folder / "report-worker"


def run_in(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments,
        cwd=project,
        env=environment(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def test_its_own_tests_pass(project: Path) -> None:
    ended = run_in(project, *PYTHON, "pytest", "-q", "-p", "no:cacheprovider")

    assert ended.returncode == 0, ended.stdout
    assert "2 passed" in ended.stdout


@pytest.mark.parametrize("tool", [("ruff", "check"), ("ruff", "format", "--check"), ("mypy", "--no-incremental")])
def test_its_code_is_clean(tool: tuple[str, ...], project: Path) -> None:
    """To the tools and the strictness that its settings name."""
    ended = run_in(project, *PYTHON, *tool)

    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_list_shows_its_job_with_what_its_settings_say(project: Path) -> None:
    ended = run_command("list", "report_worker.jobs:worker", "--json", cwd=project)

    (job,) = json.loads(ended.out)
    assert job["name"] == "GreetJob"
    assert job["queue"] == "scheduled_jobs_queue.report-worker.greet.wildcard"
    assert (job["timeout"], job["max_retries"]) == (60, 3)


def test_dev_runs_what_its_readme_enqueues(project: Path) -> None:
    (line,) = [each for each in (project / "README.md").read_text().splitlines() if "trio enqueue" in each]
    arguments = shlex.split(line)[1:]
    socket = project.parent / "s"
    worker = start(["dev", "report_worker.jobs:worker", "--socket", socket], cwd=project)
    try:
        assert worker.stdout is not None
        next(told for told in worker.stdout if "ready" in told)
        ended = run_command(*arguments, "--socket", socket, cwd=project)
        worker.terminate()
        left = finish(worker)
    finally:
        worker.kill()

    assert ended.code == 0
    assert ended.err.endswith(' ended Completed: "Hello, Ada!"\n')
    assert left.code == 0


@pytest.mark.parametrize(
    ("origin", "first"),
    [
        (None, []),
        (
            '{"url": "file:///srv/my%20tools/milvaion-trio", "dir_info": {}}',
            ["pip install '/srv/my tools/milvaion-trio'"],
        ),
        ('{"url": "https://x.test/m", "vcs_info": {"vcs": "git"}}', ["pip install git+https://x.test/m"]),
        (
            '{"url": "https://x.test/m", "vcs_info": {"vcs": "git", "requested_revision": "v1"}, "subdirectory": "py"}',
            ["pip install 'git+https://x.test/m@v1#subdirectory=py'"],
        ),
        ("{}", []),
        ('{"url": "https://x.test/m.whl", "archive_info": {}}', ["pip install https://x.test/m.whl"]),
    ],
    ids=["an index", "a checkout", "git", "a revision", "nothing", "a wheel"],
)
async def test_its_readme_installs_this_package_from_where_it_came(
    origin: str | None, first: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a checkout no index knows, so the requirement alone would find nothing."""
    read = metadata.PathDistribution.read_text
    monkeypatch.setattr(
        metadata.PathDistribution,
        "read_text",
        lambda found, name: origin if name == "direct_url.json" else read(found, name),
    )

    ended = await call_command("new", "report-worker", "--path", tmp_path)

    readme = (tmp_path / "README.md").read_text()
    assert ended.code == 0
    assert [line for line in readme.splitlines() if line.startswith("pip install")] == [
        *first,
        "pip install --editable '.[dev]'",
    ]
    assert ("pip wheel --no-deps" in readme) == bool(first)
    assert readme.endswith("`\n" if origin else "```\n")


def test_run_serves_it_until_it_is_empty(project: Path) -> None:
    ended = run_command("run", "report_worker.jobs:worker", "--burst", cwd=project)

    assert ended.code == 0
    assert "scheduled_jobs_queue.report-worker.greet.wildcard" in ended.err


def test_its_settings_lead_to_a_cluster_where_the_environment_names_one(project: Path) -> None:
    """As its README says; nothing answers at that address."""
    env = environment(MILVAION_TRIO__WORKER__RABBITMQ__HOST="127.0.0.1", MILVAION_TRIO__WORKER__RABBITMQ__PORT="1")

    ended = run_command("check", "report_worker.jobs:worker", cwd=project, env=env)

    assert ended.code == 1
    assert "127.0.0.1" in next(line for line in ended.lines if line.startswith("failed   broker"))


# --- the container --------------------------------------------------------------------------------------------------


def instructions(project: Path) -> list[tuple[str, str]]:
    lines = (project / "Dockerfile").read_text().splitlines()
    return [(line.split()[0], line.partition(" ")[2]) for line in lines if line and not line.startswith("#")]


def test_its_image_is_small_without_root_and_hears_signals(project: Path) -> None:
    """Read only: there is no container engine here."""
    said = instructions(project)
    names = [name for name, _ in said]

    assert said[0] == ("FROM", "python:3.13-slim")
    assert dict(said)["USER"] == "10001"
    assert dict(said)["STOPSIGNAL"] == "SIGTERM"
    assert json.loads(dict(said)["CMD"]) == ["milvaion-trio", "run", "report_worker.jobs:worker"]
    assert names.index("USER") > max(index for index, name in enumerate(names) if name == "RUN")
    assert ("RUN", "mkdir worker_data && chown worker worker_data") in said  # where the outbox is
    assert set(names) <= {"FROM", "ENV", "RUN", "WORKDIR", "COPY", "USER", "STOPSIGNAL", "CMD"}


def test_what_its_image_copies_is_there_and_enough(project: Path, tmp_path: Path) -> None:
    """The copied files alone make the distribution, and run; none of them is kept out by `.dockerignore`."""
    let_in = {line[1:] for line in (project / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name, arguments in instructions(project):
        if name == "COPY":
            *sources, target = arguments.split()
            for source in sources:
                assert source.rstrip("/") in let_in
                place = tmp_path / target / ("" if source.endswith("/") else source)
                if source.endswith("/"):
                    shutil.copytree(project / source, place)
                else:
                    shutil.copy(project / source, place)

    ended = run_in(tmp_path, *command("check", "report_worker.jobs:worker"))

    assert ended.returncode == 0, ended.stderr
    assert "read from milvaion.toml" in ended.stdout


def test_its_wheel_has_the_package_and_asks_for_this_one(project: Path, tmp_path: Path) -> None:
    if UV is None or not run_in(project, UV, "--version").stdout.startswith("uv 0.13."):
        pytest.skip("there is no uv 0.13 here, which has the build backend within it and needs no network")
    ended = run_in(project, UV, "build", "--offline", "--wheel", "--out-dir", str(tmp_path))

    assert ended.returncode == 0, ended.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        asked_for = archive.read("report_worker-0.1.0.dist-info/METADATA").decode()
    assert "report_worker/jobs.py" in names
    assert not any(name.startswith("tests") for name in names)
    assert "Requires-Dist: milvaion-trio>=" in asked_for


# --- names and places -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Report Worker", "report-worker, for one"),
        ("9lives", "lives, for one"),
        ("", "report-worker, for one"),
        ("jobs/mail", "--path"),
        ("x" * 61, "60 at most"),
        ("email", "would hide email, which others import. Try email-worker."),
        ("trio", "would hide trio"),
        ("tests", "would hide tests"),
        ("class", "a word of the language"),
    ],
)
async def test_a_name_that_would_not_do_is_refused_with_one_that_does(name: str, says: str) -> None:
    ended = await call_command("new", "--path", "/no/such/place", "--", name)

    assert (ended.code, ended.out) == (2, "")
    assert ended.err.startswith(f"error: A project cannot be called {name!r}: ")
    assert says in ended.err


async def test_what_is_there_stays_as_it_is(tmp_path: Path) -> None:
    """A single file in the way, and nothing is written; other files are not in the way."""
    (tmp_path / "notes.txt").touch()
    (tmp_path / "milvaion.toml").write_text("# mine")

    refused = await call_command("new", "report-worker", "--path", tmp_path)

    assert refused == Ended(1, "", f"error: Nothing was written, for there is already, in {tmp_path}: milvaion.toml.\n")
    assert sorted(os.listdir(tmp_path)) == ["milvaion.toml", "notes.txt"]

    (tmp_path / "milvaion.toml").unlink()
    made = await call_command("new", "report-worker", "--path", tmp_path)

    assert made.code == 0
    assert tomllib.loads((tmp_path / "milvaion.toml").read_text())["worker_id"] == "report-worker"


async def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    ended = await call_command("new", "report-worker", "--path", tmp_path / "file" / "inside")

    assert (ended.code, ended.out) == (1, "")
    assert ended.err == f"error: {tmp_path / 'file' / 'inside'} cannot be written: Not a directory.\n"
