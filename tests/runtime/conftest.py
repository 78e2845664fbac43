"""A worker to hang jobs on, for tests that need no settings of their own."""

import pytest

from milvaion_trio import Worker


@pytest.fixture
def worker() -> Worker:
    return Worker("tests", observers=())
