"""Dramatiq: acknowledged after the run, no results."""

import dramatiq
from benchmarks.peers.programs.marking import URL, count_and_text, mark
from dramatiq.brokers.rabbitmq import RabbitmqBroker

broker = RabbitmqBroker(url=URL)
dramatiq.set_broker(broker)


def work(text: str) -> None:
    """Do nothing."""
    mark()


noop = dramatiq.actor(work, queue_name="bench")

if __name__ == "__main__":
    count, text = count_and_text()
    for _ in range(count):
        noop.send(text)
