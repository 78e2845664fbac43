"""Runs of other schedulers, told to a Milvaion server (WIRE.md 3.7): it shows them beside its own, and starts none."""
