"""What happened: what workers report is read and kept as history, and who fell silent is noticed.

`monitor` is what is run, `queues` what it reads, `batches` how it collects, `reading` what messages say, `keeper` how
they become rows, `rounds` what is done by the clock; `ends` and `set_aside` are where else something goes.
"""

from milvaion_trio.monitor.monitor import Monitor

__all__ = ["Monitor"]
