"""Dramatiq: acknowledged after the run; results in Redis or nowhere."""

import dramatiq
from benchmarks.peers.programs.marking import STATES, URL, count_and_text, mark
from dramatiq.brokers.rabbitmq import RabbitmqBroker

broker = RabbitmqBroker(url=URL)
dramatiq.set_broker(broker)
if STATES:  # else nobody has to load this
    from dramatiq.results import Results
    from dramatiq.results.backends import RedisBackend

    broker.add_middleware(Results(backend=RedisBackend(url=STATES)))


def work(text: str) -> None:
    """Do nothing."""
    mark()


noop = dramatiq.actor(work, queue_name="bench", **({"store_results": True} if STATES else {}))

if __name__ == "__main__":
    count, text = count_and_text()
    for _ in range(count):
        noop.send(text)
