"""Complexity measures of a trained network: a registry, one decorated function a measure.

A measure takes a `Subject`, the trained network with its data, and returns one number. Yours joins by the decorator:

    from trainables.measures import Subject, measure

    @measure("largest_weight", cost="a pass over the weights", cheap=True)
    def largest_weight(subject: Subject) -> float:
        return max(layer.weight.abs().max().item() for layer in subject.layers)

Conventions, kept by all bundled measures:

- Batch norm is folded first (`Subject.folded`); weights w are those of convolutions and linear layers, without biases.
- n is the number of training samples given. A measure that enters a bound as sqrt(v/n) is returned in that form, and the
  logarithm of such a v as (v - log n)/2, as in the code of Dziugaite et al. 2020, so that training sets of several sizes compare.
  Each docstring says v and whether this form applies.
- Equation numbers are those of Jiang et al. 2020, "Fantastic generalization measures and where to find them", as that code gives them.
- NaN means that the measure is not defined for this network: a margin that is not positive, a curve that never came down.
"""

from trainables.measures.registry import Common, Measure, find_measure, known_measures, measure, measure_all
from trainables.measures.subject import Subject

__all__ = ["Common", "Measure", "Subject", "find_measure", "known_measures", "measure", "measure_all"]
