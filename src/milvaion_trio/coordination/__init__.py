"""What processes that work together share (`ports.coordination`): one adapter per keeper."""
