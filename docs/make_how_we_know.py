"""Make docs/how-we-know.md from the simulations' results: ``python -m tests.benchmarks coverage``, then ``make docs``."""

from __future__ import annotations

import json
from typing import Any

from docs.make import DOCS, NOTE
from tests.benchmarks.__main__ import RESULTS
from tests.benchmarks.bench_coverage import markdown

SEEDS = (3, 5, 10)
SHOWN = {"student": "Student", "logit": "**logit**", "BCa": "bootstrap (BCa)", "bootstrap-t": "bootstrap-t", "betting": "betting"}
HEAD = """# How we know

What each number rests on: its definition, the simulation that tries it on a known truth, and how often its 95 % interval held that truth.
Every table on this page but the last was made by `python -m tests.benchmarks coverage` ({date}, {cpu}) and stands in
`tests/benchmarks/results/coverage.json`; a simulated coverage of .95 has a standard error of .0015 for means and of .011 at most elsewhere.

## What is averaged

Seeds, and nothing else. Lines of tables and charts are told apart by every field that varies, but for seeds, the axis, and numbers that are
swept along with it (width with parameters per sample). Asked for less (`--by`), gaplab names what else varies and refuses; `--where`
keeps one value of it. `seeds` counts the different seeds that have a value in that very column. Runs that reached their train target
and runs that did not are in no mean together, in no map either: where only some did, the mean over those that did is of a selection,
and a run says so at its end. `tests/analysis/statistics/test_never_pooled.py` has a test for each of these. Three tables ask of networks as
they come out of training, fit or not: a search's ablation and `gaplab capacity`, which count how many fit beside each mean, and the gap on
true classes beside Rademacher's bound, which holds for both. A point that two studies share, their tables put together, is one run.

Seeds are taken for independent. Where `data.seed` or `corruption.seed` is crossed with `seed`, as 3 subsets by 3 initializations, the nine
runs are counted as nine, though those on one subset share its luck: let the three follow `seed`, as they do by default, or keep one fixed.

## Means over seeds

Coverage of 95 % intervals for the mean of k seeds, and in brackets their median width, by how errors are distributed:

"""
MEANS = """
**The method is `logit`**: Student's t on the scale log(x - low) - log(high - x) of the quantity's bounds (0 and 1 for an error, -1 and 1
for a gap), by the delta method. It holds its level where outcomes are normal, at Student's width; where they are skewed it loses less
than Student ({logit_skewed:.3f} at worst above, Student {student_skewed:.3f}); and it stays within the bounds. BCa is too narrow for so
few seeds; bootstrap-t holds better from five seeds on, at up to a third more width, but at three its interval is the whole range.

**No narrow interval survives rare failures**: k seeds without the one that fails 1 time in 10 say nothing of it, and any interval
made of their spread misses the mean ({logit_rare:.2f} instead of .95 at three seeds). k seeds without a failure leave a failure rate
of up to 1 - .05^(1/k) open: 63 % for three seeds, 26 % for ten. What gaplab does: runs that did not fit are rows of their own beside
the share that fit, so that the common failure is no outlier of a mean but a count; and `interval="betting"` (Waudby-Smith and
Ramdas 2023) holds for every distribution within the bounds, at the width that this takes.

## The interpolation threshold

One definition for triangles, tables and maps (`analysis.threshold_table`): a seed's threshold lies between the largest capacity at which it
did not fit and the smallest from which on it did; the threshold of a line is the geometric mean over its seeds. The likelihood sees
thresholds through the grid of capacities, so the grid's error is in the interval. On the 13 capacities of the preset
`gap-vs-capacity`, by the deviation between seeds in steps of that grid, and in brackets the median width in steps:

"""
THRESHOLDS = """
Where all seeds fall between the same two capacities the interval is that step of the grid and always holds.

## Times to fit

A run that did not fit in its epochs was watched in vain: leaving it out, or putting in its last epoch, is biased. Kaplan and Meier's curve
uses it as it is; figures show the mean of min(time, horizon), the area under the curve, with one horizon for all, above the share that fit
(Clopper and Pearson 1934). Runs that diverged count as never fitting. A time is known to one evaluation, and no interval is narrower than
that leaves open. In units of the mean on true labels the interval has the error of both (Zou and Donner 2008). Coverage for exponential
times of which one budget censors 22 %, and for budgets that differ:

"""
TIMES = """
## Which knob explains the gap

`gaplab explain STUDY` (`analysis.decomposition_table`): shares of the variance of the gap over runs that fit, by field and by pair of
fields, each corrected for what noise alone would explain; p by F tests, corrected by Holm. Without a second seed of most settings, what is
left over is said to be of seeds and of higher interactions, for nobody can tell them apart. Coverage of the shares of a factorial of
24 settings (3 by 2 by 4) with one interaction, the mean over all terms and in brackets the worst term, by the noise's deviation:

"""
COMPONENTS = """
## Comparisons and verdicts

`gaplab compare` pairs runs by seed within each setting of all else; runs of which only one fit are counted, not compared.
Where all differences of a comparison are equal, a t test has nothing to go by, and a sign test stands in: errors are counts over a test
set, and two or three seeds may well move by the same step. What changes along with a setting is named. Holm's
correction holds for all tests of a table together: in 60 simulated studies of eight true null hypotheses each the family-wise error stays
within its level (`tests/analysis/statistics/test_comparison.py`). Verdicts (*holds, does not hold, undecided*) rest on the same tests;
`tests/analysis/statistics/test_verdict.py` simulates how often they are wrong. At the end of a run, `found` has thresholds and means, with
an interval of 95 % each, and what is shown of orders and changes, at 95 % for all lines together; `open` has what is not shown
(`tests/analysis/report/test_findings.py`).
"""
FORECASTS = """
## Forecasts

How often a forecast at ten times the largest of 13 sizes from 100 to 100,000 (in the last row, of 7 by 7 of two sizes) holds what comes, by
`python -m tests.benchmarks forecasts` ({date}; {repeats} made-up studies a row, so that a row with 0.95 shows 0.91 to 0.99): how often the
95 % prediction interval held a new run, the interval for the expectation (with the form that was chosen) the law itself, how often the
form was the true one, and how often no law was said.

"""
FORECAST = {"covered": "new run inside", "law covered": "expectation inside", "right form": "right form", "no law": "no law"}
FORECASTS_SAY = """
Prediction intervals hold about what they say from three seeds on, in the steepest extrapolation (the rising law) a little less. The
interval for the expectation alone does not where noise hides which form it is, and with it the asymptote (second row; with one seed not
even the prediction interval), nor where most of the noise is the seeds' own: what a law says of more than one new run is worth less
than its interval.
"""


def page() -> str:
    """The page."""
    stored = json.loads((RESULTS / "coverage.json").read_text())
    measured: dict[str, list[dict[str, Any]]] = stored["measured"]
    means = [row | {"method": SHOWN[row["method"]]} for row in measured["means"] if row["method"] in SHOWN and row["seeds"] in SEEDS]
    dates = "".join(f", {name} {date}" for name, date in stored.get("dates", {}).items())
    text = NOTE + HEAD.format(date=stored["date"] + dates, cpu=f"{stored['machine']['cores']} cores of an {stored['machine']['cpu']}")
    text += markdown(means, ("outcome", "seeds"), "method", _with_width)

    def worst(method: str, outcome: str) -> float:
        return min(row["coverage"] for row in means if row["method"] == SHOWN[method] and row["outcome"].startswith(outcome))

    text += "\n" + MEANS.format(
        logit_skewed=worst("logit", "skewed"), student_skewed=worst("student", "skewed"), logit_rare=worst("logit", "rare")
    )
    text += markdown(measured["thresholds"], ("outcomes", "deviation between seeds, in steps"), "seeds", _with_width)
    text += "\n" + THRESHOLDS + markdown(measured["times"], ("times", "of"), "seeds", lambda row: f"{row['coverage']:.3f}")
    text += "\n" + TIMES
    text += markdown(measured["components"], ("noise",), "seeds", lambda row: f"{row['coverage']:.3f} ({row['worst']:.3f})")
    text += "\n" + COMPONENTS
    forecasts = RESULTS / "forecasts.json"
    if forecasts.is_file():
        found = json.loads(forecasts.read_text())
        flat = [row | {"what": what, "share": row[column]} for row in found["measured"]["forecasts"] for column, what in FORECAST.items()]
        text += FORECASTS.format(date=found["date"], repeats=found["measured"]["repeats"])
        text += markdown(flat, ("law", "seeds"), "what", lambda row: f"{row['share']:.2f}") + "\n" + FORECASTS_SAY
    return text


def _with_width(row: dict[str, Any]) -> str:
    return f"{row['coverage']:.3f} ({row['width']:.2g})"


if __name__ == "__main__":
    (DOCS / "how-we-know.md").write_text(page())
    print("wrote docs/how-we-know.md")
