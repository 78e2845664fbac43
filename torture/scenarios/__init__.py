"""The scenarios, one module each; each has a `SCENARIO`."""
