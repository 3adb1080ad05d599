"""What theories of regression predict for a point, computed from its own data: its test loss.

`registry` names the theories and asks them; one file each: `eigenlearning` (a kernel, over training sets), `cross_validation` (any linear
fit, from its training set), `random_features` (over features), `tangent_kernel` (a network linearized at its start). Each checks the
regime in which it holds and refuses outside it (`regime`). All losses are half the squared distance to the one-hot labels, as recorded.
"""

from trainables.predictions.regime import OutOfRegime
from trainables.predictions.registry import Theory, find_theory, known_theories

__all__ = ["OutOfRegime", "Theory", "find_theory", "known_theories"]
