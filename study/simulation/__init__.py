"""Simulation: what a planned study would cost and find, from the records of another."""
