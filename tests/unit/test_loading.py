"""Jobs and workers are found by name, and whatever stands in the way is said in words."""

import importlib.metadata
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

from milvaion_trio.loading import ENTRY_POINT_GROUP, discover, entry_point_jobs, load_worker
from milvaion_trio.model.errors import SettingsError

JOB = """
from milvaion_trio.runtime.definition import job

@job("{name}")
async def {function}() -> None: ...
"""


class FakeWorker:
    pass


def is_worker(value: object) -> TypeGuard[FakeWorker]:
    return type(value).__name__ == "FakeWorker"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on `sys.path` whose modules are forgotten afterwards."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def write(folder: Path, **modules: str) -> None:
    """Write modules; `a__b` is `b` in the package `a`, and `a____init__` the package itself."""
    for name, text in modules.items():
        path = folder.joinpath(*name.replace("____init__", "__/__init__").split("__/" if "____" in name else "__"))
        path.parent.mkdir(exist_ok=True)
        path.with_name(path.name + ".py").write_text(text)


def names(package: str) -> list[str]:
    return sorted(definition.name for definition in discover(package))


# --- discovering ----------------------------------------------------------------------------------------------------


def test_the_jobs_of_a_module_are_found(folder: Path) -> None:
    write(folder, one=JOB.format(name="SendEmailJob", function="send"))

    assert names("one") == ["SendEmailJob"]


def test_a_package_is_walked_to_the_bottom(folder: Path) -> None:
    (folder / "app" / "deep").mkdir(parents=True)
    for place, name in (("app/__init__", "A"), ("app/jobs", "B"), ("app/deep/__init__", "C"), ("app/deep/jobs", "D")):
        (folder / f"{place}.py").write_text(JOB.format(name=name, function="run"))
    (folder / "app" / "__main__.py").write_text("raise SystemExit('imported')")

    assert names("app") == ["A", "B", "C", "D"]


def test_a_job_under_two_names_is_found_once(folder: Path) -> None:
    write(folder, two=JOB.format(name="SendEmailJob", function="send") + "alias = send\n")

    assert names("two") == ["SendEmailJob"]


def test_a_job_imported_from_elsewhere_is_not_the_modules_own(folder: Path) -> None:
    """Who imports a job to enqueue it does not want to run it."""
    write(folder, theirs=JOB.format(name="Theirs", function="send"), ours="from theirs import send\n")

    assert names("ours") == []


def test_classes_that_derive_from_job_are_found_and_their_bases_are_not(folder: Path) -> None:
    text = """
from abc import abstractmethod
from milvaion_trio.runtime.definition import Job, job

class Base(Job):
    @abstractmethod
    async def prepare(self): ...

class WithoutExecute(Job): ...

class CleanUp(Job):
    async def execute(self, ctx): ...

class Renamed(Job):
    async def execute(self, ctx): ...

renamed = job("Other", timeout=5)(Renamed)
"""
    write(folder, classes=text)

    assert names("classes") == ["CleanUp", "Other"]


def test_every_module_that_cannot_be_imported_is_in_the_report(folder: Path) -> None:
    (folder / "bad").mkdir()
    (folder / "bad" / "__init__.py").write_text("")
    (folder / "bad" / "a.py").write_text("1 / 0")
    (folder / "bad" / "b.py").write_text("import not_installed_anywhere")

    with pytest.raises(SettingsError) as caught:
        discover("bad")

    assert caught.value.problems == (
        "The module bad.a cannot be imported: ZeroDivisionError: division by zero",
        "The module bad.b imports not_installed_anywhere, which is not installed.",
    )


def test_a_package_that_is_not_there_is_said_to_be_missing(folder: Path) -> None:
    with pytest.raises(SettingsError, match="There is no module 'nowhere'"):
        discover("nowhere.jobs")


# --- entry points ---------------------------------------------------------------------------------------------------


def announce(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    entries = [importlib.metadata.EntryPoint(f"entry{n}", value, ENTRY_POINT_GROUP) for n, value in enumerate(values)]

    def entry_points(*, group: str) -> list[importlib.metadata.EntryPoint]:
        return [entry for entry in entries if entry.group == group]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)


def test_an_entry_point_is_a_job_a_class_or_a_module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(
        folder,
        three=JOB.format(name="Three", function="run"),
        four="from milvaion_trio.runtime.definition import Job\nclass Four(Job):\n    def execute(self): ...\n",
        five=JOB.format(name="Five", function="run"),
    )
    announce(monkeypatch, "three:run", "four:Four", "five")

    assert [definition.name for definition in entry_point_jobs()] == ["Three", "Four", "Five"]


def test_every_wrong_entry_point_is_in_the_report(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, six="x = 5\n")
    announce(monkeypatch, "six:x", "six:y", "nowhere")

    with pytest.raises(SettingsError) as caught:
        entry_point_jobs()

    assert len(caught.value.problems) == 3
    assert "entry0 = six:x is neither a job nor a module with jobs" in caught.value.problems[0]


# --- workers --------------------------------------------------------------------------------------------------------

APP = """
class FakeWorker: ...

worker = FakeWorker()
number = 5

class Group:
    inner = worker
"""


def test_a_worker_is_loaded_by_module_and_variable(folder: Path) -> None:
    write(folder, app1=APP)

    assert is_worker(load_worker("app1:worker", is_worker))
    assert is_worker(load_worker("app1:Group.inner", is_worker))


def test_the_current_directory_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "only_here.py").write_text(APP)

    try:
        assert is_worker(load_worker("only_here:worker", is_worker))
    finally:
        sys.modules.pop("only_here", None)


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("app2", r"'app2' names no worker. Write MODULE:WORKER"),
        (":worker", r"names no worker"),
        ("app2:", r"names no worker"),
        ("nowhere:worker", r"There is no module 'nowhere' here"),
        ("app2.sub:worker", r"There is no module 'app2.sub' here"),
        ("app2:wroker", r"The module app2 has no 'wroker'. Did you mean app2:worker\?"),
        ("app2:Group.outer", r"has no 'Group.outer'"),
        ("app2:number", r"app2:number is no Worker but a int"),
        ("broken:worker", r"The module broken cannot be imported: SyntaxError"),
    ],
)
def test_what_cannot_be_loaded_is_explained(folder: Path, target: str, words: str) -> None:
    write(folder, app2=APP, broken="def\n")

    with pytest.raises(SettingsError, match=words):
        load_worker(target, is_worker)
