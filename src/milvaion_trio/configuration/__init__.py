"""Where settings come from: command line, environment, one settings file, and over them all one set of rules.

`resolution` is the order of the sources; `command_line`, `environment`, `toml_file` and `appsettings` say what each of
them holds, `files` which file holds, `keys` what every setting is called and `inert` what does nothing, `sources` which
source wins, `reading` how text becomes a `WorkerSettings`, `schema` what editors are told.
A new kind of source is a module that yields `Said` values; everything else stays.
"""

from milvaion_trio.configuration.command_line import Override
from milvaion_trio.configuration.files import LOOKED_FOR
from milvaion_trio.configuration.resolution import Resolved, resolve

__all__ = ["LOOKED_FOR", "Override", "Resolved", "resolve"]
