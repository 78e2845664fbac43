"""For all tests: the servers are shared by the parallel processes of a run, and nobody minds a slow machine."""

from hypothesis import HealthCheck, settings
from tests.support import servers

# Two cores run the tests and their servers: how long one example took says nothing.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")


def pytest_configure() -> None:
    servers.share_in_this_run()
