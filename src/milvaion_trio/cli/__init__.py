"""The command line `milvaion-trio`: one command group per file, and the only code of the package that prints.

`app` puts the commands together; nothing below this layer imports cyclopts or rich.
"""
