"""Numbers that pages promise are those of the code: tests replace most of them by shorter ones."""

import pytest
from tests.docs.markdown import ROOT

from milvaion_trio.cli import cluster, lifeline, outbox_folders, processes
from milvaion_trio.runtime import lookout

CORES = "how-to/run-on-several-cores.md"
SEEN = lookout.INTERVAL + lookout.LOOKS * lookout.LOOK

PROMISED = [
    ("explanation/guarantees.md", "blocks the event loop for seven seconds is named", SEEN, 7.0),
    ("explanation/life-of-a-job.md", "after 7 seconds at most", SEEN, 7.0),
    (CORES, "every further death that follows within a minute", processes.STEADY, 60.0),
    (CORES, "up to 30 s", processes.LONGEST_PAUSE, 30.0),
    (CORES, "when the three budgets are over, and two seconds more, is killed", processes.GRACE, 2.0),
    (CORES, "cancel their jobs after half a second", lifeline.BETWEEN, 0.5),
    (CORES, "after 10.5 s at the latest they are gone", lifeline.BETWEEN + lifeline.LEAVING, 10.5),
    (CORES, "waits up to 11.5 s for it", outbox_folders.LEAVING, 11.5),
    ("how-to/join-a-cluster.md", "a command after 5 s", cluster.CONNECT_TIMEOUT, 5.0),
]


@pytest.mark.parametrize(("page", "words", "number", "promised"), PROMISED, ids=[each[1] for each in PROMISED])
def test_a_number_on_a_page_is_the_one_of_the_code(page: str, words: str, number: float, promised: float) -> None:
    assert words in " ".join((ROOT / "docs" / page).read_text(encoding="utf-8").split())
    assert number == promised
