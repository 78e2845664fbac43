"""What runs under measurement, each in the environment of its own library."""
