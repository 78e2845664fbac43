"""T20: messages that nobody should send, between those that everybody sends: none costs more than itself."""

from collections import Counter
from collections.abc import Iterator
from itertools import chain, islice
from typing import Final

import trio
from tests.support.amqp import Client, connect
from tests.support.hostile import CASES, JOB_ID, HostileCase, publish_case
from tests.support.hostile_mutations import mutants

from milvaion_trio.model.topology import QUARANTINE_QUEUE, queue_name, routing_pattern
from torture.evidence import FINALS, Evidence
from torture.expectations import Act
from torture.network import judged, leave, links_stay
from torture.play import JOB, GaveUp, Play
from torture.scenario import Scenario, Size

__all__ = ["SCENARIO"]

AT_ONCE: Final = 5
"""Hostile messages on their way at the same time."""
OTHER_JOB: Final = "abcdef00-0000-0000-0000-000000000001"
"""Of a case that names its job in capitals."""
PROBES: Final = ("Probe", "PickyProbe")
JUDGED: Final = frozenset({"I3", "I4", "I6", "I8", "I9", "I10", "I12", "I14"})
"""Without those that take every message for one that was to be sent; `requeues` stands for I13."""


async def play(play: Play) -> None:
    """Hostile and good ones in one queue, ten to one. If cancelled, it stops."""
    good = max(1, play.size.jobs)
    play.tell(probes=True, max_parallel=20)
    play.allow(most_extra_runs=0, judged=JUDGED)
    with judged(play, {"links": links_stay, "good": good_ones_complete}):
        await play.workers.start("only")
        await play.registered()
        cases = list(islice(chain(CASES, mutants(play.random, play.size.faults)), play.size.faults))
        know(play, cases)
        async with connect(play.here.rabbitmq.port, play.here.vhost) as client:
            acts = (Act(ends=["ok"], takes=0.05) for _ in range(good))
            async with trio.open_nursery() as nursery:
                nursery.start_soon(publish_all, play, client, cases)
                nursery.start_soon(play.dispatch_all, acts)
            await play.until_all_ended()
            await until_dealt_with(play, client, cases)
            play.facts["quarantined"] = await client.purge(QUARANTINE_QUEUE)
            await leave(play)
        account(play, cases)


def know(play: Play, cases: list[HostileCase]) -> None:
    """Let the API know the jobs, and the occurrences that the messages can be taken for."""
    model = play.here.api.model
    for identity in (JOB_ID, OTHER_JOB):
        model.register_job(identity, "Probe", worker_id=play.workers.told.worker_id, auto_disable=False)
    for case in cases:
        model.queued(case.occurrence_id, JOB_ID, play.here.api.now())


async def publish_all(play: Play, client: Client, cases: list[HostileCase]) -> None:
    """Publish them into the queue of the good ones. If cancelled, some were."""
    queue = queue_name(routing_pattern(play.workers.told.worker_id, JOB))
    waiting = iter(cases)

    async def one_after_the_other() -> None:
        for case in waiting:
            if not await publish_case(client, case, queue):
                play.complain("sent", f"{case.name} did not arrive")

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(one_after_the_other)


async def until_dealt_with(play: Play, client: Client, cases: list[HostileCase]) -> None:
    """Return when each has ended or was set aside. Raises `GaveUp`. If cancelled, nothing changes."""
    best, since = -1, trio.current_time()
    while True:
        set_aside, _ = await client.declare_queue(QUARANTINE_QUEUE, passive=True)
        found = set_aside + len(ends(play, cases))
        if found >= len(cases):
            return
        if found > best:
            best, since = found, trio.current_time()
        if trio.current_time() - since > play.size.patience:
            raise GaveUp(f"{found} of {len(cases)} hostile messages were dealt with")
        await trio.sleep(0.1)


def ends(play: Play, cases: list[HostileCase]) -> dict[str, int]:
    """The final status of each occurrence that has one."""
    told = {case.occurrence_id: play.here.api.occurrence(case.occurrence_id).wire for case in cases}
    return {one: int(wire[-1].status) for one, wire in told.items() if wire and wire[-1].status in FINALS}


def account(play: Play, cases: list[HostileCase]) -> None:
    """Say what became of them, and complain of what may not become of any."""
    model = play.here.api.model
    found = ends(play, cases)
    play.facts["hostile"] = {"sent": len(cases), **Counter(f"status {status}" for status in found.values())}
    runs = Counter(line.occurrence for line in play.effects() if line.what == "probe")
    for case in cases:
        if runs[case.occurrence_id] > 1:
            play.complain("once", f"{case.name} ran {runs[case.occurrence_id]} times")
    if len(found) + play.facts["quarantined"] != len(cases):
        play.complain("once", f"{len(found)} ended and {play.facts['quarantined']} were set aside, of {len(cases)}")
    for requeue in model.requeues:
        play.complain("I13", f"tried for ever: {requeue}")


def good_ones_complete(evidence: Evidence) -> Iterator[str]:
    """Whatever stands before and behind it, each good job is completed, once."""
    finals = Counter(
        one.occurrence for one in evidence.statuses if one.status == 2 and one.occurrence in evidence.expected
    )
    for occurrence in evidence.expected:
        if finals[occurrence] != 1:
            yield f"{occurrence} was completed {finals[occurrence]} times"


SCENARIO: Final = Scenario(
    id="T20",
    title="hostile messages",
    full=Size(jobs=500, faults=5_000, patience=20, limit=300),
    short=Size(jobs=20, faults=500, patience=6),
    play=play,
    sabotages={"strict-decoder": frozenset({"links"})},
    slow_bites=frozenset({"strict-decoder"}),
)
