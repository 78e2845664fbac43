"""Runs of other schedulers, reported to Milvaion as external jobs (WIRE.md 3.7)."""
