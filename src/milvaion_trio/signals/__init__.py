"""Where cancel signals come from: each implements `ports.Signals`, held to it by `tests/contract`."""
