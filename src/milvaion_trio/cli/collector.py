"""The garbage collector, as a program that does nothing but serve a worker wants it.

Separate, because a library leaves it alone: it belongs to the whole process. Only our own commands and benchmarks call
this.
"""

import gc

__all__ = ["suit_the_collector"]

YOUNG_OBJECTS = 20_000
"""Objects made before the collector looks at the young ones. Running jobs are about 60 objects each and end young, so
Python's 700 looks at jobs in flight again and again: a fifth of a no-op job's time (benchmarks/embedded.py)."""


def suit_the_collector() -> None:
    """Collect less often, and never look again at what the start has left behind: modules, jobs, settings."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)
