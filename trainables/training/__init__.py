"""Training: the loop, its members, evaluation, limits."""
