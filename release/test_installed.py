"""What is tested is the installed package: `make release-check` runs this beside the copied tests."""

import sys
import sysconfig
from importlib import metadata, resources
from pathlib import Path

import pytest

import _milvaion_trio_pytest
import milvaion_trio

SITE_PACKAGES = Path(sysconfig.get_path("purelib"))


@pytest.mark.parametrize("package", [milvaion_trio, _milvaion_trio_pytest])
def test_the_package_is_the_installed_one(package: object) -> None:
    """It lies in the environment's site-packages, and no checkout is on the path."""
    assert Path(str(getattr(package, "__file__", ""))).parents[1] == SITE_PACKAGES
    assert [entry for entry in sys.path if (Path(entry) / "milvaion_trio").exists()] == [str(SITE_PACKAGES)]


def test_it_was_installed_from_an_archive() -> None:
    """Not in a way that leads back to the sources."""
    distribution = metadata.distribution("milvaion-trio")

    origin = distribution.read_text("direct_url.json")
    assert origin is None or '"editable"' not in origin
    assert not list(SITE_PACKAGES.glob("*milvaion*.pth"))


@pytest.mark.parametrize("package", ["milvaion_trio", "_milvaion_trio_pytest"])
def test_type_checkers_are_told_to_look_inside(package: str) -> None:
    assert resources.files(package).joinpath("py.typed").is_file()


def test_every_file_of_the_archive_is_there() -> None:
    """As the record of the wheel lists them, with the licence."""
    files = metadata.files("milvaion-trio") or []

    assert [str(file) for file in files if not Path(str(file.locate())).exists()] == []
    assert any(file.name == "LICENSE" for file in files)


def test_pytest_finds_the_fixtures_by_itself(milvaion_worker: object) -> None:
    """By the entry point: nothing in the copied tests names the plugin."""
    assert callable(milvaion_worker)


def test_the_version_is_the_archives() -> None:
    assert milvaion_trio.worker.__version__ == metadata.version("milvaion-trio")
