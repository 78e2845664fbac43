"""Hosting a worker in a program that is something else: `async with serving(worker):`.

On Trio, and on AnyIO over Trio, a worker is a task like any other. A host that runs asyncio gets it in a Trio run in a
thread of its own; that start, errors, cancellation and `drain()` cross over is what these modules are for.
"""

from milvaion_trio.embed.serving import serving

__all__ = ["serving"]
