"""What everything that keeps something in a file of its own has in common, whatever it keeps there."""
