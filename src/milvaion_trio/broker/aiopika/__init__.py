"""RabbitMQ through aio-pika, the well-known client, on Trio.

`from milvaion_trio.broker.aiopika import AioPikaBroker` imports asyncio and changes it for the process (see `bridge`):
import it when RabbitMQ is configured, not before.

`broker` is what users see; `link` opens, asks, loses and closes a connection; `publisher` and `consumer` are the two
kinds; `declaring` is topology, `connecting` the way there; `administration` and `draining` are for the command line.
Without I/O: `frames` cuts what comes, `decoding` reads messages, `encoding` writes them, `confirms` and `deliveries`
keep count.
"""

from milvaion_trio.broker.aiopika.broker import CONNECT_TIMEOUT, AioPikaBroker

__all__ = ["CONNECT_TIMEOUT", "AioPikaBroker"]
