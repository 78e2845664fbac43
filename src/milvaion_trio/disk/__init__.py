"""What everything that keeps messages in a file has in common: the outbox, and the embedded broker with a folder."""
