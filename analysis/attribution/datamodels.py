"""Datamodels: the outputs of a network as linear functions of the subset that it is trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from analysis.attribution.memory import parts
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
UNKNOWN = Estimate(float("nan"), float("nan"), float("nan"))
"""The score of predictions, or outputs, that do not vary between the networks that were held out."""
_FEWEST = 40
"""Networks, at least: a tenth of them are ranked."""


@dataclass(frozen=True)
class Datamodels:
    """Linear fits of m outputs.

    Attributes:
        duals: (fitted, m), what the transposed centred subsets take to the weights, where networks are fewer than samples; else the
            weights, (n, m). These are too many to be held for many samples and outputs.
        subsets: (fitted, n), what the networks were fitted to; None where `duals` are the weights.
        bias: (m,) the output at the mean subset.
        centre: (n,) the mean subset.
        penalty: the multiple of the mean eigenvalue that generalized cross-validation chose for all outputs.
        score: the linear datamodelling score, with its 95 % interval over networks.
        fitted: networks that they were fitted to.
    """

    duals: Doubles
    subsets: Masks | None
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
        duals = self.duals[:, outputs]
        if self.subsets is None:
            return duals
        found = np.empty((len(self.centre), duals.shape[1]))
        for part in parts(len(self.centre), len(self.subsets)):
            found[part] = (self.subsets[:, part] - self.centre[part]).T @ duals
        return found

    def predict(self, subsets: Masks) -> Doubles:
        """The outputs (k, m) of networks trained on subsets (k, n)."""
        inputs = subsets - self.centre if self.subsets is None else _products(subsets, self.subsets, self.centre)
        return np.asarray(inputs @ self.duals + self.bias)


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
    known, targets = trained[:fitted], np.array(outputs[:fitted], dtype=np.float64)
    centre, bias = known.mean(axis=0), targets.mean(axis=0)
    targets -= bias
    spread = np.sqrt(np.einsum("km,km->m", targets, targets) / fitted)
    varies = spread > 0
    if not varies.any():
        raise NothingToShow("no output differs between the networks: there is nothing for a datamodel to explain")
    targets /= np.where(varies, spread, 1)
    duals, penalty = _ridge(known, centre, targets)
    del targets
    duals *= np.where(varies, spread, 0)
    models = Datamodels(duals, known if len(known) <= len(centre) else None, bias, centre, penalty, UNKNOWN, fitted)
    predicted, actual = models.predict(trained[fitted:]), np.asarray(outputs[fitted:], dtype=np.float64)
    return replace(models, score=_score(predicted[:, varies], actual[:, varies]))


def _products(first: Masks, second: Masks, centre: Doubles) -> Doubles:
    """The scalar products of subsets, less the mean one."""
    found = np.zeros((len(first), len(second)))
    for part in parts(len(centre), len(first) + len(second)):
        found += (first[:, part] - centre[part]) @ (second[:, part] - centre[part]).T
    return found


def _ridge(subsets: Masks, centre: Doubles, targets: Doubles) -> tuple[Doubles, float]:
    """The duals, or the weights, of the penalty with the smallest generalized cross-validation error over all targets; that penalty.

    Args:
        subsets: (k, n): the inputs, less their centre.
        centre: (n,)
        targets: (k, m).
    """
    rows, columns = subsets.shape
    if rows <= columns:
        eigenvalues, vectors = np.linalg.eigh(_products(subsets, subsets, centre))
        rotated = vectors.T @ targets
    else:
        gram, correlations = np.zeros((columns, columns)), np.zeros((columns, targets.shape[1]))
        for part in parts(rows, columns):
            inputs = subsets[part] - centre
            gram += inputs.T @ inputs
            correlations += inputs.T @ targets[part]
        eigenvalues, vectors = np.linalg.eigh(gram)
        rotated = vectors.T @ correlations
        rotated /= np.sqrt(np.maximum(eigenvalues, 1e-12 * eigenvalues[-1]))[:, None]
    eigenvalues = np.maximum(eigenvalues, 1e-12 * eigenvalues[-1])
    energies = np.einsum("rm,rm->r", rotated, rotated)
    outside = float(np.einsum("km,km->", targets, targets) - energies.sum())  # of the targets, what no weights reach
    scale = eigenvalues.sum() / len(eigenvalues)

    def error(penalty: float) -> float:
        kept = eigenvalues / (eigenvalues + penalty * scale)
        # One degree of freedom has gone into the mean.
        left = outside + float(((1 - kept) ** 2 * energies).sum())
        return float(left / max(1 - (float(kept.sum()) + 1) / rows, 1e-9) ** 2)

    penalty = float(min(PENALTIES, key=error))
    rotated *= ((1 if rows <= columns else np.sqrt(eigenvalues)) / (eigenvalues + penalty * scale))[:, None]
    return vectors @ rotated, penalty


def _score(predicted: Doubles, actual: Doubles) -> Estimate:
    """The mean rank correlation over outputs, (networks, m) each, with its jackknife interval over groups of networks."""
    from scipy.stats import t

    whole = _rank_correlation(predicted, actual)
    if not np.isfinite(whole):
        return UNKNOWN
    folds = min(FOLDS, len(predicted) // 2)
    places = np.arange(len(predicted)) % folds
    without = np.array([_rank_correlation(predicted[places != one], actual[places != one]) for one in range(folds)])
    error = float(np.sqrt((folds - 1) / folds * ((without - without.mean()) ** 2).sum()))
    reach = float(t.ppf(0.975, folds - 1)) * error if np.isfinite(error) else 2.0
    return Estimate(whole, max(-1.0, whole - reach), min(1.0, whole + reach))


def _rank_correlation(first: Doubles, second: Doubles) -> float:
    """Spearman's correlation of each column, and its mean over the columns in which both vary; NaN where there is none."""
    from scipy.stats import rankdata

    ranks = [rankdata(values, axis=0) for values in (first, second)]
    ranks = [values - values.mean(axis=0) for values in ranks]
    norms = np.sqrt((ranks[0] ** 2).sum(axis=0) * (ranks[1] ** 2).sum(axis=0))
    vary = norms > 0
    if not vary.any():
        return float("nan")
    return float(((ranks[0] * ranks[1]).sum(axis=0)[vary] / norms[vary]).mean())
