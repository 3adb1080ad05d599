"""Searches as they are recorded: their `objectives`, and the `trials` that count because their points are recorded."""
