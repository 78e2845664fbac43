"""Celery: acknowledged late, no remote control traffic beyond its defaults; states in Redis or nowhere."""

import os

from benchmarks.peers.programs.marking import STATES, URL, count_and_text, mark
from celery import Celery

app = Celery("bench", broker=URL, backend=STATES or None)
app.conf.update(
    task_acks_late=True,
    task_ignore_result=not STATES,
    task_track_started=bool(STATES),
    task_default_queue="bench",
    worker_prefetch_multiplier=int(os.environ.get("BENCH_MULTIPLIER", "100")),
    broker_connection_retry_on_startup=True,
)


def work(text: str) -> None:
    """Do nothing."""
    mark()


noop = app.task(name="noop")(work)

if __name__ == "__main__":
    count, text = count_and_text()
    for _ in range(count):
        noop.delay(text)
