"""What scenarios about networks claim of links and signals: each finds what it is there for, and nothing else."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest
from torture.effects import Effect
from torture.evidence import Evidence, Fault, Status
from torture.network import detection_limit, links_come_back, links_stay, silence_is_noticed
from torture.scenarios.t08_rst_storm import runs_are_adopted
from torture.scenarios.t10_slow_and_sliced import nothing_comes_twice
from torture.scenarios.t12_alarm import acks_flow, publishes_wait
from torture.scenarios.t14_redis import cancels_work_again, gaps_are_told

Claim = Callable[[Evidence], Iterable[str]]


def line(what: str, at: float, worker: str = "only", occurrence: str = "", **facts: Any) -> Effect:
    return Effect(what=what, at=at, pid=1, worker=worker, occurrence=occurrence, attempt=1, facts=facts)


def up(link: str, at: float) -> Effect:
    return line("link-up", at, link=link)


def lost(link: str, at: float, why: str = "nothing was heard") -> Effect:
    return line("link-lost", at, link=link, why=why)


def final(occurrence: str, at: float, status: int = 2) -> Status:
    identity = f"{occurrence}:final"
    return Status(occurrence=occurrence, status=status, message_id=identity, instance="i", redelivered=False, at=at)


HOLE = Fault(kind="black-hole", whom="only", began=100, ended=140, facts={"heartbeat": 10})
BOTH_UP = (up("publishing", 1), up("consuming", 1))
LOST_IN_TIME = (lost("publishing", 135), lost("consuming", 136))
BACK = (up("publishing", 141), up("consuming", 142))
NORMAL_END = "this connection was closed"

ALARM = Fault(kind="alarm", whom="broker", began=100, ended=160, facts={"alarm": "memory"})
WAITED = (line("end", 120, "reported", "w"),)

KILL = Fault(kind="kill", whom="redis", began=100, ended=102)
CANCEL = Fault(kind="cancel", whom="only", began=110, ended=112, facts={"victim": "v"})

CASES: list[tuple[Claim, Evidence, str]] = [
    (silence_is_noticed, Evidence(faults=[HOLE], effects=[*BOTH_UP, *LOST_IN_TIME]), ""),
    (silence_is_noticed, Evidence(faults=[HOLE], effects=[*BOTH_UP, LOST_IN_TIME[0]]), "never noticed by only consum"),
    (
        silence_is_noticed,
        Evidence(faults=[HOLE], effects=[*BOTH_UP, LOST_IN_TIME[0], lost("consuming", 138.5)]),
        "noticed after 38.5 s by only consuming, at most 38 s",
    ),
    (silence_is_noticed, Evidence(faults=[HOLE], effects=[*BOTH_UP, lost("publishing", 50)]), "by only consuming"),
    (silence_is_noticed, Evidence(faults=[HOLE], effects=[]), "no link was there"),
    (links_come_back, Evidence(faults=[HOLE], effects=[*BOTH_UP, *LOST_IN_TIME, *BACK]), ""),
    (links_come_back, Evidence(faults=[HOLE], effects=[*BOTH_UP, *LOST_IN_TIME, BACK[0]]), "has no consuming link"),
    (links_come_back, Evidence(faults=[HOLE], effects=[*BOTH_UP, lost("consuming", 150, NORMAL_END)]), ""),
    (links_stay, Evidence(effects=[*BOTH_UP, lost("consuming", 5, NORMAL_END)]), ""),
    (links_stay, Evidence(effects=[*BOTH_UP, lost("consuming", 5)]), "lost its consuming link: nothing was heard"),
    (runs_are_adopted, Evidence(effects=[line("begin", 1, occurrence="a"), line("adopted", 2, occurrence="a")]), ""),
    (runs_are_adopted, Evidence(effects=[line("begin", 1, occurrence="a")]), "0 messages came back"),
    (runs_are_adopted, Evidence(effects=[line("begin", at, occurrence="a") for at in (1, 2)]), "1 were run a second"),
    (nothing_comes_twice, Evidence(statuses=[final("a", 1), final("b", 2)]), ""),
    (nothing_comes_twice, Evidence(statuses=[final("a", 1), final("a", 2)]), "a:final was published 2 times"),
    (acks_flow, Evidence(faults=[ALARM], effects=[line("begin", 101, "acking", str(n)) for n in range(9)]), ""),
    (acks_flow, Evidence(faults=[ALARM], effects=[line("begin", 99, "acking", str(n)) for n in range(9)]), "0 jobs"),
    (publishes_wait, Evidence(faults=[ALARM], effects=WAITED, statuses=[final("w", 161)]), ""),
    (publishes_wait, Evidence(faults=[ALARM], effects=WAITED, statuses=[final("w", 150)]), "no report had to wait"),
    (gaps_are_told, Evidence(faults=[KILL], effects=[line("deaf", 101), line("hears", 103)]), ""),
    (gaps_are_told, Evidence(faults=[KILL], effects=[line("deaf", 107), line("hears", 108)]), "told after 7.0 s"),
    (gaps_are_told, Evidence(faults=[KILL]), "told never"),
    (gaps_are_told, Evidence(faults=[KILL], effects=[line("deaf", 101), line("hears", 118)]), "no signal was heard"),
    (cancels_work_again, Evidence(faults=[CANCEL], statuses=[final("v", 111, 4)]), ""),
    (cancels_work_again, Evidence(faults=[CANCEL], statuses=[final("v", 114, 4)]), "had no effect within 3 s"),
    (cancels_work_again, Evidence(faults=[CANCEL], statuses=[final("v", 105, 4)]), "by the signal in the gap"),
]


@pytest.mark.parametrize(("claim", "evidence", "found"), CASES)
def test_a_claim_is_judged(claim: Claim, evidence: Evidence, found: str) -> None:
    """One sentence for what violates it, none otherwise."""
    sentences = list(claim(evidence))

    assert len(sentences) == bool(found), sentences
    assert found in "".join(sentences)


def test_the_limit_is_the_one_of_the_promise() -> None:
    """DESIGN.md 4: 3 x (heartbeat + 1) + heartbeat / 2."""
    assert detection_limit(10) == 38
    assert detection_limit(1) == 6.5
