"""A point: everything that determines one result, its key, its streams of randomness."""
