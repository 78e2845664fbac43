"""What every test of the scheduler stands on."""

import pytest
from tests.support.scheduling import Ground


@pytest.fixture
def ground() -> Ground:
    return Ground()
