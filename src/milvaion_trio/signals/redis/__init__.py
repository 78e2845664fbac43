"""Cancel signals over Redis pub/sub (WIRE.md 5.3).

redis-py's own blocking client, in a thread per subscription: Redis is one low-rate foreign thing that needs no bridge
to asyncio. The library costs 23 MB and 0.3 s, so it is imported when the first subscription is opened.
"""

from milvaion_trio.signals.redis.adapter import RedisSignals

__all__ = ["RedisSignals"]
