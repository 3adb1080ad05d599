"""What training takes: multiply-adds of a forward pass, floating-point operations of a whole run.

A multiply-add is two operations, and a backward pass costs two forward passes, so that n samples seen for e epochs take 6·m·n·e
operations, with m multiply-adds of one sample's forward pass. In a dense network m is the number of weights N, and this is C = 6·N·D with
D = n·e samples seen (Kaplan et al. 2020, section 2.1; Hoffmann et al. 2022, section 3). Evaluations, penalties and the optimizer's own
arithmetic are not counted.
"""

from __future__ import annotations

from trainables.models import multiply_adds, solver_of
from trainables.point.config import ImageShape, TrialConfig, sizes_only
from trainables.point.errors import leave_if_stopped

OPERATIONS = 2.0
"""Of a multiply-add."""
PASSES = 3.0
"""Forward passes that a training step costs: its own, and two for the backward pass."""


def compute_columns(point: TrialConfig, image_shape: ImageShape, classes: int, samples: int, epochs: int) -> dict[str, int | float | None]:
    """The columns of a record that say what its training took.

    Args:
        point: a resolved point.
        image_shape: of its inputs.
        classes: that it tells apart.
        samples: trained on in each epoch.
        epochs: trained.

    Returns:
        ``multiply_adds`` of one sample's forward pass, and ``training_flops`` of the run. Both are None for a model of the user's whose
        forward pass cannot be counted without data. A point that is solved has no forward pass, and the order of the operations of
        its factorization.
    """
    if point.is_solved:
        return {"multiply_adds": None, "training_flops": OPERATIONS * solver_of(point.model.name).multiply_adds(point, image_shape) or None}
    try:
        forward = multiply_adds(sizes_only(point.model), image_shape, classes)
    except BaseException as error:  # it looks at its input's values
        leave_if_stopped(error)
        return {"multiply_adds": None, "training_flops": None}
    return {"multiply_adds": forward, "training_flops": OPERATIONS * PASSES * forward * samples * epochs}
