"""For all tests: the servers are shared by the parallel processes of a run."""

from tests.support import servers


def pytest_configure() -> None:
    servers.share_in_this_run()
