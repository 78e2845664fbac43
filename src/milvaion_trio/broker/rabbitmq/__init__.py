"""RabbitMQ, as the runtime's ports see it, over a link that either client opens (`broker.link`).

`broker` is what users see; `publisher` and `consumer` are the two kinds of connections; `declaring` is topology;
`administration` and `draining` are for the command line. Without I/O:
`confirms` and `deliveries` keep count.
"""

from milvaion_trio.broker.rabbitmq.broker import CONNECT_TIMEOUT, RabbitMQBroker

__all__ = ["CONNECT_TIMEOUT", "RabbitMQBroker"]
