"""Decisions: plain functions over values that return what to do. The runtime does it.

Nothing here waits, reads a clock or draws a random number: time and randomness are arguments.
"""
