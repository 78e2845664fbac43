"""Transports: each implements `ports.Broker`, held to it by `tests/contract`."""
