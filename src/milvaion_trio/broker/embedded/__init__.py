"""A broker inside the process: nothing to install, and a verified fake for tests.

`demo`, `dev` and the testing kit run on it.
It keeps RabbitMQ's habits wherever a worker could notice a difference; its messages live as long as the process, unless
it has a folder.

`broker` is what users see, `links` its connections, `vhost` the exchanges and queues, `routing` who takes a message,
`queues` who gets it, `delays` when. With a folder: `durable` is what users see, `kept_queues` what is done to messages,
`keeping` when that gets into the file, `store` the file, `stored` a message in it.
"""

from milvaion_trio.broker.embedded.broker import EmbeddedBroker
from milvaion_trio.broker.embedded.queues import QueueView

__all__ = ["EmbeddedBroker", "QueueView"]
