"""Simulation: what a planned study would cost and find, from the records of another.

`study.simulation.cost` predicts times from recorded ones, `study.simulation.replay` runs schedules and searches on a clock of its own.
"""
