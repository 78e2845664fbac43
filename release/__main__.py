"""Builds what would be published and tries it as installed, on every Python the classifiers promise that is here.

`python -m release 3.13` tries it on that one only.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from release import archives, pythons
from release.archives import Stray
from release.installed import Environment, Failed, copy_tests

OWN_TESTS = Path(__file__).with_name("test_installed.py")
PARTS = ("test_installed.py", "cli", "embedding", "runtime", "properties", "typing", "unit", "wire")
"""What the wheel is tried with on the newest Python: all but what is mostly about servers, and about the checkout."""
PARTS_BETWEEN = ("test_installed.py", "embedding", "runtime", "typing", "unit", "wire")
"""The same for those between it and the one that runs this, where little is left that could be different."""
PARTS_HERE = ("test_installed.py", "typing", "unit", "wire")
"""The same for the Python that runs this, on which `make test` has tried everything with the checkout."""
PARTS_OF_SDIST = ("test_installed.py", "unit")
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def check(folder: Path) -> None:
    """Raise `Stray`, `Failed` or `CalledProcessError` for the first thing that would disappoint somebody."""
    built = archives.build(folder / "dist")
    archives.look_into(built)
    twine = Path(sys.executable).with_name("twine")
    subprocess.run([twine, "check", "--strict", built.sdist, built.wheel], check=True)

    found = {version: pythons.find(version) for version in sys.argv[1:] or archives.tested_pythons()}
    for version, python in found.items():
        say(f"Python {version}: {python or 'not on this machine, so NOT TRIED'}")
    present = {version: python for version, python in found.items() if python is not None}
    wheels = {
        version: Environment.make(folder / f"wheel-{version}", f"wheel on Python {version}", python, built.wheel)
        for version, python in present.items()
    }
    newest = list(present)[-1]
    sdist = Environment.make(folder / "sdist", f"sdist on Python {newest}", present[newest], built.sdist)

    say("starting each, with a demo, without the packages of the tests")
    demos = [(environment, environment.start_demo()) for environment in wheels.values()]
    for environment in (*wheels.values(), sdist):
        environment.check_start()
    say("types of all that is public")
    wheels[newest].check_types()
    for environment, demo in demos:
        environment.end_demo(demo)

    tests = copy_tests(folder / "elsewhere", OWN_TESTS)
    for version, environment in wheels.items():
        parts = PARTS_HERE if version == HERE else PARTS if version == newest else PARTS_BETWEEN
        say(f"tests of the {environment.name}: {', '.join(parts)}")
        environment.run_tests(tests, *parts)
    say(f"tests of the {sdist.name}")
    sdist.run_tests(tests, *PARTS_OF_SDIST)
    tried = ", ".join(present)
    left_out = [version for version in found if version not in present]
    say(f"wheel on Python {tried}, sdist on {newest}: as they should be; not tried: {', '.join(left_out) or 'none'}")


def say(what: str) -> None:
    """Print what comes next, and when."""
    print(f"[{time.monotonic() - STARTED:5.1f} s] {what}", flush=True)


STARTED = time.monotonic()

with tempfile.TemporaryDirectory(prefix="mtrio-release-") as name:
    try:
        check(Path(name))
    except (Stray, Failed, subprocess.CalledProcessError) as error:
        sys.exit(f"release check: {error}")
