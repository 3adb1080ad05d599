"""Complexity measures: numbers that describe a trained network and might predict its generalization gap.

`registry` holds the measures, one decorated function each; `subject` is what they look at, a trained network with its data.
The other modules are one family of measures each (`counts`, `norms`, `margins`, `gradients`, `pacbayes`, `sharpness`, `fitting`,
`memorisation`), or what families share (`layers`, `folding`, `spectral`); `theories` turns the results of many runs into a number.
"""

from trainables.measures.registry import Common, Measure, find_measure, known_measures, measure, measure_all
from trainables.measures.subject import Subject

__all__ = ["Common", "Measure", "Subject", "find_measure", "known_measures", "measure", "measure_all"]
