"""Complexity measures: numbers that describe a trained network and might predict its generalization gap.

`registry` holds the measures, one decorated function each; `subject` is what they look at, a trained network with its data.
The room `bundled` has the measures, one file a family of them; `layers`, `outputs` and `folding` are what they share. `theories` turns the
results of many runs into a number.
"""

from trainables.measures.registry import Common, Measure, find_measure, known_measures, measure, measure_all
from trainables.measures.subject import Subject

__all__ = ["Common", "Measure", "Subject", "find_measure", "known_measures", "measure", "measure_all"]
