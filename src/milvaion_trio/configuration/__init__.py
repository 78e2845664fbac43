"""Where settings come from: a .NET worker's settings file, the environment, and over them all one set of rules.

`resolution` is the order of the sources, `appsettings` and `environment` say what each of them holds, `keys` what every
setting is called, `sources` which source wins, `reading` how text becomes a `WorkerSettings`.
A new kind of source is a module that yields `Said` values; everything else stays.
"""

from milvaion_trio.configuration.resolution import Resolved, resolve

__all__ = ["Resolved", "resolve"]
