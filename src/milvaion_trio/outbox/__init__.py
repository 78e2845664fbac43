"""What must still reach the broker: each implements `ports.Outbox`, held to it by `tests/contract`."""
