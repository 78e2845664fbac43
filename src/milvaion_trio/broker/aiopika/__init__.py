"""The link to RabbitMQ through aio-pika, the well-known client, on trio-asyncio: the setting `driver` "aio-pika".

Importing it imports asyncio and changes it for the process (see `bridge`): import it when that driver is asked for.
"""

from milvaion_trio.broker.aiopika.link import open_link

__all__ = ["open_link"]
