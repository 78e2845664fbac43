"""Coordination of several machines: a Redis, asked by Lua scripts over one connection per process."""

from milvaion_trio.coordination.redis.adapter import RedisCoordination

__all__ = ["RedisCoordination"]
