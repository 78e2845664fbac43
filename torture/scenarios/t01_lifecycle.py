"""T01: every way a job can end, and what it puts on the wire, message by message; the API is away for some of it."""

from typing import Final

import trio
from tests.support.api_model.database import OccurrenceStatus
from tests.support.api_model.messages import Status
from tests.support.api_model.topology import routing_pattern

from torture.collecting import SECRET
from torture.expectations import Act, Expected
from torture.play import JOB, Play
from torture.scenario import Scenario, Size

__all__ = ["SCENARIO"]

RETRIES: Final = 2
ACTS: Final = {
    "ok": Act(ends=["ok"], lines=3),
    "retried": Act(ends=["fail", "ok"], delay=1),
    "exhausted": Act(ends=["fail"], delay=1),
    "permanent": Act(ends=["permanent"]),
    "timed-out": Act(ends=["time-out"]),
    "cancelled": Act(ends=["cancel"]),
}
UNKNOWN: Final = "unknown job"
GOLDEN: Final = {
    "ok": "Running Completed",
    "retried": "Running Running Completed",
    "exhausted": "Running Running Running Failed dead-letter",
    "permanent": "Running Failed dead-letter",
    "timed-out": "Running TimedOut",
    "cancelled": "Running Cancelled",
    UNKNOWN: "Failed dead-letter",
}
"""The statuses of each, in order."""
WORDS: Final = {1: "Running", 2: "Completed", 3: "Failed", 4: "Cancelled", 5: "TimedOut"}


async def play(play: Play) -> None:
    """One worker, and each ending so often as there are jobs. If cancelled, it stops."""
    play.tell(max_parallel=20, max_retries=RETRIES, time_limit=1.5, username=SECRET, password=SECRET)
    await trio.to_thread.run_sync(_add_user, play)
    await play.workers.start("only")
    await play.registered()
    kinds = {await play.dispatch(act): kind for _ in range(play.size.jobs) for kind, act in ACTS.items()}
    model, api = play.here.api.model, play.here.api
    job = model.register_job(
        "019d4d8e-91f0-7a3b-b2c6-0d5e4f7a8193", "Nobody", worker_id=play.workers.told.worker_id, auto_disable=False
    )
    job.routing_pattern = routing_pattern(play.workers.told.worker_id, JOB)
    kinds[await play.dispatch(Act(ends=["ok"]), Expected(status=3, attempts=0, dead_letter=True), job=job)] = UNKNOWN
    for occurrence in (one for one, kind in kinds.items() if kind == "cancelled"):
        await play.until_running(occurrence)
        await play.here.cancel(occurrence)
    await api.until_idle()  # what it took and has not stored it loses when it restarts, and no worker can help that
    last = await play.dispatch(Act(ends=["ok"], takes=0.5))
    kinds[last] = "ok"
    async with api.away():
        await play.until(lambda: any(line.occurrence == last and line.what == "end" for line in play.effects()))
    await play.until_all_ended()
    for occurrence, kind in kinds.items():
        told = " ".join(WORDS[status.status] for status in api.occurrence(occurrence).wire if _is_news(status))
        if any(row.occurrence_id == occurrence for row in api.failed_occurrences):
            told += " dead-letter"
        if told != GOLDEN[kind]:
            play.complain("I3", f"{kind} is told as {told!r} instead of {GOLDEN[kind]!r}")


def _add_user(play: Play) -> None:
    """A user whose name and password no text on a wire may have."""
    user, vhost = f'<<"{SECRET}">>', f'<<"{play.here.vhost}">>'
    play.here.rabbitmq.control(
        "eval",
        f"case rabbit_auth_backend_internal:exists({user}) of true -> ok; false ->"
        f' rabbit_auth_backend_internal:add_user({user}, {user}, <<"torture">>) end,'
        f' rabbit_auth_backend_internal:set_permissions({user}, {vhost}, <<".*">>, <<".*">>, <<".*">>, <<"torture">>).',
    )


def _is_news(status: Status) -> bool:
    return status.status != OccurrenceStatus.RUNNING or status.start_time is not None


SCENARIO: Final = Scenario(
    id="T01",
    title="every ending of a job, as it is on the wire",
    full=Size(jobs=50),
    short=Size(jobs=1, patience=6),
    play=play,
    agrees=True,
    sabotages={"running-after-final": frozenset({"I3"})},
    slow_bites=frozenset({"running-after-final"}),
)
