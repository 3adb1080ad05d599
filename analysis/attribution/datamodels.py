"""Datamodels: the outputs of a network as linear functions of the subset that it is trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from analysis.attribution.subsets import Masks
from analysis.errors import NothingToShow
from analysis.statistics.intervals import Estimate

Doubles = NDArray[np.float64]

PENALTIES = np.geomspace(1e-3, 1e3, 25)
"""Ridge penalties that are tried, as multiples of the mean eigenvalue of the subsets' covariance."""
HELD_OUT = 0.1
"""Share of the networks on which a datamodel is scored, and that it is not fitted to."""
FOLDS = 10
"""Parts of the held-out networks that the jackknife leaves out, one at a time."""
_FEWEST = 40
"""Networks, at least: a tenth of them are ranked."""


@dataclass(frozen=True)
class Datamodels:
    """Linear fits of m outputs.

    Attributes:
        basis: (n, r), of the weights, with r at most n and at most `fitted`: their product is too large for many samples and outputs.
        coordinates: (r, m), of the weights in that basis.
        bias: (m,) the output at the mean subset.
        centre: (n,) the mean subset.
        penalty: the multiple of the mean eigenvalue that generalized cross-validation chose for all outputs.
        score: the linear datamodelling score, with its 95 % interval over networks.
        fitted: networks that they were fitted to.
    """

    basis: Doubles
    coordinates: Doubles
    bias: Doubles
    centre: Doubles
    penalty: float
    score: Estimate
    fitted: int

    @property
    def weights(self) -> Doubles:
        """(n, m), by how much an output rises when a sample joins the subset."""
        return self.weights_of(slice(None))

    def weights_of(self, outputs: slice) -> Doubles:
        """The weights of some of the outputs, (n, k)."""
        return self.basis @ self.coordinates[:, outputs]

    def predict(self, subsets: NDArray[np.generic]) -> Doubles:
        """The outputs (k, m) of networks trained on subsets (k, n)."""
        return (np.asarray(subsets, dtype=np.float64) - self.centre) @ self.basis @ self.coordinates + self.bias


def fit_datamodels(trained: Masks, outputs: NDArray[np.generic]) -> Datamodels:
    """Fit every output by ridge regression on who was trained on what, and score the fits on networks that were held out.

    Sources: Ilyas et al. 2022, "Datamodels" (arXiv 2202.00622), who take the lasso; ridge needs one decomposition for all outputs. The
    penalty is the one of `PENALTIES` with the smallest generalized cross-validation error summed over outputs (Golub, Heath and Wahba
    1979), each output scaled to variance 1. The score is Park et al. 2023 ("TRAK", arXiv 2303.14186), section 2: the rank correlation,
    over subsets, of predicted and actual outputs, its mean over outputs. Networks differ in their seeds too, which no function of the
    subset predicts: so 1 is out of reach. The interval is a delete-a-group jackknife over the held-out networks.

    Args:
        trained: (networks, n), whether a network was trained on a sample; the last tenth of the networks is held out.
        outputs: (networks, m), such as log-odds of labels.

    Raises:
        NothingToShow: there are fewer than 40 networks, or no output varies.
    """
    networks = len(trained)
    if networks < _FEWEST:
        raise NothingToShow(f"datamodels need {_FEWEST} networks or more, of which a tenth scores them: there are {networks}")
    fitted = networks - max(round(HELD_OUT * networks), 4)
    masks, values = trained.astype(np.float64), np.asarray(outputs, dtype=np.float64)
    centre, bias = masks[:fitted].mean(axis=0), values[:fitted].mean(axis=0)
    spread = values[:fitted].std(axis=0)
    varies = spread > 0
    if not varies.any():
        raise NothingToShow("no output differs between the networks: there is nothing for a datamodel to explain")
    centred = masks[:fitted] - centre
    basis, coordinates, penalty = _ridge(centred, (values[:fitted] - bias) / np.where(varies, spread, 1))
    coordinates *= np.where(varies, spread, 0)
    predicted = (masks[fitted:] - centre) @ basis @ coordinates + bias
    return Datamodels(basis, coordinates, bias, centre, penalty, _score(predicted[:, varies], values[fitted:][:, varies]), fitted)


def _ridge(inputs: Doubles, targets: Doubles) -> tuple[Doubles, Doubles, float]:
    """The weights of the penalty with the smallest generalized cross-validation error over all targets, and that penalty.

    The weights are the product of a basis (n, r) and coordinates (r, m).
    """
    rows = len(inputs)
    if rows <= inputs.shape[1]:
        eigenvalues, left = np.linalg.eigh(inputs @ inputs.T)
        rotated = left.T @ targets
    else:
        eigenvalues, right = np.linalg.eigh(inputs.T @ inputs)
        rotated = (right.T @ (inputs.T @ targets)) / np.sqrt(np.maximum(eigenvalues, 1e-12 * eigenvalues[-1]))[:, None]
    eigenvalues = np.maximum(eigenvalues, 1e-12 * eigenvalues[-1])
    outside = float((targets**2).sum() - (rotated**2).sum())  # of the targets, what no weights reach
    scale = eigenvalues.sum() / len(eigenvalues)
    energies = (rotated**2).sum(axis=1)

    def error(penalty: float) -> float:
        kept = eigenvalues / (eigenvalues + penalty * scale)
        # One degree of freedom has gone into the mean.
        left = outside + float(((1 - kept) ** 2 * energies).sum())
        return left / max(1 - (float(kept.sum()) + 1) / rows, 1e-9) ** 2

    penalty = float(min(PENALTIES, key=error))
    shrunk = rotated / (eigenvalues + penalty * scale)[:, None]
    if rows <= inputs.shape[1]:
        return inputs.T @ left, shrunk, penalty
    return right, shrunk * np.sqrt(eigenvalues)[:, None], penalty


def _score(predicted: Doubles, actual: Doubles) -> Estimate:
    """The mean rank correlation over outputs, (networks, m) each, with its jackknife interval over groups of networks."""
    from scipy.stats import t

    whole = _rank_correlation(predicted, actual)
    folds = min(FOLDS, len(predicted) // 2)
    places = np.arange(len(predicted)) % folds
    without = np.array([_rank_correlation(predicted[places != one], actual[places != one]) for one in range(folds)])
    error = float(np.sqrt((folds - 1) / folds * ((without - without.mean()) ** 2).sum()))
    reach = float(t.ppf(0.975, folds - 1)) * error
    return Estimate(whole, max(-1.0, whole - reach), min(1.0, whole + reach))


def _rank_correlation(first: Doubles, second: Doubles) -> float:
    """Spearman's correlation of each column, and its mean over the columns in which both vary."""
    from scipy.stats import rankdata

    ranks = [rankdata(values, axis=0) for values in (first, second)]
    ranks = [values - values.mean(axis=0) for values in ranks]
    norms = np.sqrt((ranks[0] ** 2).sum(axis=0) * (ranks[1] ** 2).sum(axis=0))
    vary = norms > 0
    if not vary.any():
        return 0.0
    return float(((ranks[0] * ranks[1]).sum(axis=0)[vary] / norms[vary]).mean())
