"""Points that are solved, not trained (Zhang et al. 2017, section 5 and Theorem 1).

`solving` takes a point to its outcome. It calls `closed_form` (minimum-norm and ridge least squares, and the risk that theory gives them),
`kernel_systems` (large kernel matrices that are never held whole), `features` (fixed features of images) and `expressivity` (the
network of Theorem 1), which know nothing of points and serve on their own.
"""

from trainables.least_squares.closed_form import Solution, kernel_regression, linear_regression, ridgeless_risk, ridgeless_trial
from trainables.least_squares.expressivity import ReluInterpolant, interpolant, weight_count
from trainables.least_squares.features import GaborFeatures, PatchFeatures, extract, patch_features
from trainables.least_squares.kernel_systems import GaussianKernel, Kernel, LinearKernel, solve

__all__ = [
    "GaborFeatures",
    "GaussianKernel",
    "Kernel",
    "LinearKernel",
    "PatchFeatures",
    "ReluInterpolant",
    "Solution",
    "extract",
    "interpolant",
    "kernel_regression",
    "linear_regression",
    "patch_features",
    "ridgeless_risk",
    "ridgeless_trial",
    "solve",
    "weight_count",
]
