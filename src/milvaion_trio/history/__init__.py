"""Where a monitor keeps what happened (`ports.history`): one store per database."""
