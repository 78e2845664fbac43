"""Values: what the runtime talks about. No I/O, no clock, no randomness.

Errors, ids, the wire's messages and their JSON text, topology names, states, outcomes, settings and events.
Everything else in the package may import this one; it imports nothing of the package.
"""
