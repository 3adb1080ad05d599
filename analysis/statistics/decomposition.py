"""Which of the knobs explains the gap? A variance decomposition of a factorial or a random study.

Every factor is expanded into orthogonal contrasts: a column a level, or polynomials of its ranks up to the third degree where it has many
values (ranks, because a learning rate and its logarithm should explain as much). Least squares on these, not a forest: it is exact on a
balanced factorial (there it is the analysis of variance), has no settings to tune, is unbiased at few runs, and what it cannot explain
stays in the residual. Sums of squares are of type II: of a main effect beside all other main effects, of an interaction beside all else
of its order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pyarrow as pa
from numpy.typing import ArrayLike, NDArray

from analysis.errors import AnalysisError, NothingToShow
from analysis.statistics.comparison import holm
from analysis.statistics.intervals import LEVEL, Estimate
from analysis.statistics.selection import averaged_over, checked, completed, numeric, once_each, varying_fields
from analysis.statistics.tasks import own

Floats = NDArray[np.float64]

RESIDUAL = "seeds"
UNEXPLAINED = "higher interactions"
UNTOLD = f"{RESIDUAL} and {UNEXPLAINED}"
"""The rest of a study without seeds to tell the two apart."""
_LEVELS = 6
"""Numbers with more different values are expanded into polynomials."""
_DEGREE = 3
_RESAMPLES = 1000


@dataclass(frozen=True)
class Term:
    """What one factor, one pair, or the rest explains.

    Attributes:
        factors: one for a main effect, two for an interaction, none for the rest.
        name: their names, or "higher interactions" (settings differ by what pairs do not explain), or "seeds" (runs of one setting differ);
            "seeds and higher interactions" is the rest where too few settings have a second seed to tell the two apart.
        sum_of_squares: of type II.
        freedom: degrees of freedom.
        share: of the variance of the values, corrected for what noise alone would explain: (SS - freedom · noise) / total SS; with its
            interval. Of the seeds: the noise's own. Shares of a balanced study add up to 1; unbalanced factors share some variance,
            which no term then counts.
        p: of the F test that it explains nothing; NaN for the rest.
    """

    factors: tuple[str, ...]
    name: str
    sum_of_squares: float
    freedom: int
    share: Estimate
    p: float


def decompose(
    factors: Mapping[str, ArrayLike],
    values: ArrayLike,
    *,
    pairs: bool = True,
    level: float = LEVEL,
    resamples: int = _RESAMPLES,
    seed: int = 0,
) -> list[Term]:
    """Shares of the variance of values by factors, their pairs, and seeds.

    The intervals are a bootstrap over seeds: the deviations of runs from their settings' means (times √(k/(k - 1)) for k seeds) are drawn
    anew, those of all settings together, which a few seeds a setting need; where each setting was run once, the residuals of the fit
    are (divided by √(1 - leverage)). They say what other seeds would have given with these same settings, if all vary alike.

    Args:
        factors: name to the setting of each run, shape (runs,) each: numbers or text, at least two different ones.
        values: shape (runs,), finite.
        pairs: whether to fit interactions of two factors.
        level: confidence of intervals, in (0, 1).
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        Main effects in the order of ``factors``, pairs, "higher interactions" if settings have seeds to tell them from noise, and
        "seeds"; else "seeds and higher interactions".

    Raises:
        AnalysisError: a factor does not vary, two factors say the same, or there are too few runs for so many effects.
    """
    from scipy.special import fdtrc

    y = np.asarray(values, np.float64)
    main = {name: _contrasts(name, np.asarray(one)) for name, one in factors.items()}
    terms: dict[tuple[str, ...], Floats] = {(name,): block for name, block in main.items()}
    if pairs:
        for a, b in combinations(main, 2):
            terms[a, b] = (main[a][:, :, None] * main[b][:, None]).reshape(len(y), -1)
    _, setting = np.unique(
        np.stack([np.unique(np.asarray(one), return_inverse=True)[1] for one in factors.values()]), axis=1, return_inverse=True
    )
    setting = setting.ravel()
    projections, freedoms, whole = _projections(terms, len(y))
    count, settings = len(y), int(setting.max()) + 1
    explained = whole.shape[1]
    if explained >= count:
        raise AnalysisError(f"{count} runs cannot tell {explained - 1} effects from noise: leave out interactions, or factors")
    seeds = np.bincount(setting)
    replicated = count - settings >= max(settings // 2, 2)
    noise_freedom = count - settings if replicated else count - explained
    drawn = _bootstrap(y, setting, whole, replicated, resamples, seed)
    every = np.concatenate([y[None], drawn])
    every = every - every.mean(axis=1, keepdims=True)
    total = np.maximum((every**2).sum(axis=1), 1e-300)
    left = total - ((every @ whole) ** 2).sum(axis=1)
    total[1:] *= total[0] / total[1:].mean()  # settings that were drawn around hold their noise already: it counts once
    means = np.stack([np.bincount(setting, row, settings) for row in every]) / seeds
    pure = (every**2).sum(axis=1) - (means**2 * seeds).sum(axis=1) if replicated else left
    noise = pure / noise_freedom
    found = []
    for name, basis in projections.items():
        squares, freedom = ((every @ basis) ** 2).sum(axis=1), freedoms[name]
        p = float(fdtrc(freedom, noise_freedom, squares[0] / freedom / max(noise[0], 1e-300)))
        found.append(_term(name, ":".join(name), squares, freedom, (squares - freedom * noise) / total, p, level))
    if replicated and settings > explained:
        squares, freedom = left - pure, settings - explained
        p = float(fdtrc(freedom, noise_freedom, max(squares[0], 0) / freedom / max(noise[0], 1e-300)))
        found.append(_term((), UNEXPLAINED, squares, freedom, (squares - freedom * noise) / total, p, level))
    found.append(_term((), RESIDUAL if replicated else UNTOLD, pure, noise_freedom, noise * (count - 1) / total, float("nan"), level))
    return found


def decomposition_table(
    table: pa.Table,
    *,
    value: str = "generalization_gap",
    factors: Sequence[str] | None = None,
    equal_fit: bool = True,
    pairs: bool = True,
    level: float = LEVEL,
    resamples: int = _RESAMPLES,
) -> pa.Table:
    """`decompose` for records.

    Args:
        table: records; only completed ones count, and a point that was recorded again once, with its mean.
        value: a numeric column; of regression the gap stands for its own, `nmse_gap`.
        factors: columns; by default every config field that varies, seeds apart. The rest is then named for what it holds beside seeds:
            the fields that vary and were left out.
        equal_fit: count only runs that reached their train target, so that no factor is credited with a gap that it has by fitting less.
        pairs: as for `decompose`; so are ``level`` and ``resamples``.
        level: confidence of intervals.
        resamples: of the bootstrap.

    Returns:
        ``term``, ``share`` with ``.low`` and ``.high``, ``sum_of_squares``, ``freedom``, ``p`` of the F test that it explains nothing,
        ``p.holm`` (corrected for the number of terms) and ``runs`` (those that counted), the largest share first.

    Raises:
        NothingToShow: no completed record, or none that fit.
        AnalysisError: a column does not exist, nothing varies, or `decompose` refuses.
    """
    runs = completed(table)
    value = own(runs, value)
    numeric(checked(runs, factors or ()), [value])
    numbers = runs[value].cast(pa.float64()).to_numpy(zero_copy_only=False)
    kept = np.isfinite(numbers)
    if equal_fit:
        kept &= runs["interpolated"].fill_null(False).to_numpy()
    if not kept.any():
        raise NothingToShow("no run reached its train target with a value: at equal fit there is nothing to compare")
    runs, numbers = runs.filter(pa.array(kept)), numbers[kept]
    first, point = once_each(runs)
    runs, numbers = runs.take(pa.array(first)), np.bincount(point, numbers) / np.bincount(point)
    names = list(factors) if factors is not None else varying_fields(runs)
    if not names:
        raise AnalysisError("nothing but seeds varies: there is no factor that could explain anything")
    left_out = averaged_over(runs, names)
    columns = {name: np.array(["none" if one is None else one for one in runs[name].to_pylist()]) for name in names}
    found = sorted(decompose(columns, numbers, pairs=pairs, level=level, resamples=resamples), key=lambda term: -term.share.value)
    tested = np.array([one.p for one in found])
    corrected = np.full(len(found), np.nan)
    corrected[np.isfinite(tested)] = holm(tested[np.isfinite(tested)])
    rows = [
        {"term": ", ".join([one.name, *left_out]) if np.isnan(one.p) else one.name}
        | {"share": one.share.value, "share.low": one.share.low, "share.high": one.share.high}
        | {"sum_of_squares": one.sum_of_squares, "freedom": one.freedom, "p": None if np.isnan(one.p) else one.p, "runs": len(numbers)}
        | {"p.holm": None if np.isnan(p_holm) else float(p_holm)}
        for one, p_holm in zip(found, corrected, strict=True)
    ]
    kinds = [("term", pa.string()), *((name, pa.float64()) for name in ("share", "share.low", "share.high", "sum_of_squares"))]
    return pa.Table.from_pylist(
        rows, pa.schema([*kinds, ("freedom", pa.int64()), ("p", pa.float64()), ("p.holm", pa.float64()), ("runs", pa.int64())])
    )


def explained(table: pa.Table, value: str, *, equal_fit: bool = True, level: float = LEVEL) -> list[str]:
    """A table of `decomposition_table` in sentences: what explains the value, and what cannot be told from nothing.

    Args:
        table: the table.
        value: what it is of.
        equal_fit: whether only runs that fit were counted.
        level: a term is told from nothing if its corrected p is below 1 - level.
    """
    rows = table.to_pylist()
    told = [row for row in rows if row["p.holm"] is not None and row["p.holm"] < 1 - level]
    untold = [row["term"] for row in rows if row["p.holm"] is not None and row["p.holm"] >= 1 - level]
    of = f"the variance of {value} over {rows[0]['runs']:,} runs" + (" that reached their train target" if equal_fit else "")
    parts = [f"{_term_words(row['term'])} {_percent(row)}" for row in told]
    rest = [f"{row['term']} {_percent(row)}" for row in rows if row["p"] is None]
    said = f"Of {of}, {'; '.join(parts)}" if parts else f"No field is shown to explain any of {of}"
    sentences = [f"{said}; {rest[0]} ({100 * level:.0f} % intervals)."]
    shared = 1 - sum(row["share"] for row in rows)
    if shared > 0.005:
        sentences.append(f"The other {100 * shared:.2g} % are shared by fields that vary together among these runs: they count for none.")
    if untold:
        sentences.append(f"Not told from nothing: {', '.join(map(_term_words, untold))}.")
    return sentences


def _term_words(term: str) -> str:
    """Interactions with a times sign."""
    return term.replace(":", " \N{MULTIPLICATION SIGN} ")


def _percent(row: Mapping[str, float]) -> str:
    return f"{100 * row['share']:.3g} % ({100 * row['share.low']:.3g} to {100 * row['share.high']:.3g})"


def _contrasts(name: str, settings: NDArray[np.generic]) -> Floats:
    """Columns that sum to 0 over levels (or orthogonal polynomials of ranks), shape (runs, levels - 1)."""
    different, index = np.unique(settings, return_inverse=True)
    if len(different) < 2:
        raise AnalysisError(f"{name} does not vary: it cannot explain anything")
    if len(different) <= _LEVELS:
        return np.eye(len(different))[index][:, 1:] - np.eye(len(different))[index][:, :1]
    if different.dtype.kind not in "iuf":
        raise AnalysisError(f"{name} has {len(different)} different settings that are no numbers: only up to {_LEVELS} can be compared")
    ranks = index / (len(different) - 1) * 2 - 1
    powers = np.stack([ranks**degree for degree in range(_DEGREE + 1)], axis=1)
    return np.asarray(np.linalg.qr(powers)[0][:, 1:] * np.sqrt(len(index)))


def _projections(
    terms: Mapping[tuple[str, ...], Floats], count: int
) -> tuple[dict[tuple[str, ...], Floats], dict[tuple[str, ...], int], Floats]:
    """An orthonormal basis for each term of what it adds to all terms that do not contain it; and a basis of everything, with the mean."""
    one = np.full((count, 1), count**-0.5)
    projections, freedoms = {}, {}
    for name, block in terms.items():
        others = [other for key, other in terms.items() if not set(name) <= set(key) and len(key) <= max(len(name), 1)]
        base = _basis(np.concatenate([one, *others], axis=1)) if others else one
        rest = block - base @ (base.T @ block)
        projections[name] = _basis(rest, scale=float(np.linalg.norm(block, axis=0).max()))
        freedoms[name] = projections[name].shape[1]
        if not freedoms[name] and len(name) == 1:
            raise AnalysisError(f"{name[0]} cannot be told from the other factors: they vary together")
    empty = [name for name, freedom in freedoms.items() if not freedom]
    for name in empty:
        del projections[name], freedoms[name]
    return projections, freedoms, _basis(np.concatenate([one, *terms.values()], axis=1))


def _basis(columns: Floats, scale: float | None = None) -> Floats:
    """An orthonormal basis of the columns' span."""
    vectors, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    return np.asarray(vectors[:, sizes > 1e-8 * (sizes.max(initial=0) if scale is None else scale)])


def _bootstrap(y: Floats, setting: NDArray[np.int64], whole: Floats, replicated: bool, resamples: int, seed: int) -> Floats:
    """Values as other seeds would have given them, shape (resamples, runs)."""
    rng, count = np.random.default_rng(seed), len(y)
    if not replicated:
        fitted = whole @ (whole.T @ y)
        left = (y - fitted) / np.sqrt(np.maximum(1 - (whole**2).sum(axis=1), 1e-3))
        return np.asarray(fitted + (left - left.mean())[rng.integers(0, count, (resamples, count))])
    seeds = np.bincount(setting)
    means = (np.bincount(setting, y) / seeds)[setting]
    away = ((y - means) * np.sqrt(seeds / np.maximum(seeds - 1, 1))[setting])[seeds[setting] > 1]
    return np.asarray(means + away[rng.integers(0, len(away), (resamples, count))])


def _term(factors: tuple[str, ...], name: str, squares: Floats, freedom: int, shares: Floats, p: float, level: float) -> Term:
    """A term whose first entries are of the values themselves, the others of the bootstrap, which counts around its own mean."""
    value = float(np.clip(shares[0], 0, 1))
    away = np.quantile(shares[1:] - shares[1:].mean(), [(1 - level) / 2, (1 + level) / 2])
    low, high = (float(np.clip(shares[0] + one, 0, 1)) for one in away)
    return Term(factors, name, float(max(squares[0], 0)), freedom, Estimate(value, min(low, value), max(high, value)), p)
