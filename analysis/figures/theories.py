"""Figures of the theories that Zhang et al. 2017 confront, of the images that networks memorise, and of theory beside measurement."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from analysis.errors import NothingToShow
from analysis.figures.drawing.canvas import DASHES, FIT_NOTE, bare_figure, error_axis, explain, log_axis, note, parts_of
from analysis.figures.drawing.images import draw_image, images_of
from analysis.figures.drawing.lines import Line, label_of, numbers, split, title_of
from analysis.figures.drawing.style import colours, drawing
from analysis.statistics.aggregate import over_seeds
from analysis.statistics.intervals import DEFAULT
from analysis.statistics.questions.predictions import PREDICTED, Beside, beside_theory
from analysis.statistics.questions.theories import memorisation_table, rademacher_table, stability_table
from analysis.statistics.selection import completed
from analysis.words import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

RISK, FORMULA = "measure.excess_risk", "measure.asymptotic_risk"
MOST_IMAGES = 24
RADEMACHER_NOTE = (
    "Left: mean correlation 1 - 2 x train error reached on labels drawn by fair coins, and the gap on the two true classes; bands: 95 % "
    "intervals over draws. Right: bounds of that gap at confidence 95 %; above 1 they say nothing. A gap of 0 or less is not drawn "
    "there."
)
STABILITY_NOTE = (
    "The change of 1 - (probability of the label) when one training sample is replaced: the largest at any place, its mean at the samples "
    "taken away, and its mean over all places. The bound of the gap needs a largest change below 1/sqrt(n)."
)


def rademacher(table: pa.Table, *, title: str | None = None) -> Figure:
    """Draw the empirical Rademacher complexity against capacity, beside the bounds of the gap and the gap itself.

    Raises:
        NothingToShow: as for `analysis.statistics.questions.theories.rademacher_table`.
    """
    cells = rademacher_table(table)
    sizes = numbers(cells, "parameters_per_sample")
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.6, 4.4), layout="constrained")
        left, right = figure.subplots(1, 2)
        for name, label, look in (("complexity", "random signs: correlation", "o"), ("generalization_gap", "true classes: gap", "s")):
            colour = "#D55E00" if name == "complexity" else "#0072B2"
            left.fill_between(sizes, numbers(cells, f"{name}.low"), numbers(cells, f"{name}.high"), color=colour, alpha=0.16, linewidth=0)
            left.plot(sizes, numbers(cells, name), look, linestyle="-", color=colour, label=label)
        left.set_ylim(-0.06, 1.06)
        left.set_title("correlation reached, and gap")
        for name, label, colour in (
            ("vc_bound", "VC bound", "#000000"),
            ("rademacher_bound", "Rademacher bound", "#D55E00"),
            ("generalization_gap", "measured gap", "#0072B2"),
        ):
            values = numbers(cells, name)
            shown = values > 0
            if shown.any():
                right.plot(sizes[shown], values[shown], marker="o", color=colour, label=label)
        right.axhline(1, color="#777777", linestyle=":")
        right.set_yscale("log")
        right.set_title("bounds of the gap")
        for panel in (left, right):
            log_axis(panel, sizes)
            panel.set_xlabel(words("parameters_per_sample"))
            panel.legend()
        explain(figure, [], "", title, RADEMACHER_NOTE)
    return figure


def stability(table: pa.Table, samples: pa.Table, *, title: str | None = None) -> Figure:
    """Draw how far the loss moves when one training sample is replaced, against the number of samples.

    Raises:
        NothingToShow: as for `analysis.statistics.questions.theories.stability_table`.
    """
    cells = stability_table(table, samples).sort_by("data.train_size")
    by = [name for name in cells.column_names[: cells.column_names.index("largest")] if name != "data.train_size"]
    sizes = numbers(cells, "data.train_size")
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10.4, 4.0), layout="constrained")
        panels = figure.subplots(1, 3)
        lines, _ = split(cells, by)
        titles = (("largest", "largest change"), ("at_replaced", "mean at the samples taken away"), ("mean", "mean over all places"))
        for panel, (name, text) in zip(panels, titles, strict=True):
            for line in lines:
                panel.plot(line.numbers("data.train_size"), line.numbers(name), line.marker, linestyle="-", color=line.colour)
            log_axis(panel, sizes)
            error_axis(panel, numbers(cells, name))
            panel.set_title(text)
            panel.set_xlabel(words("data.train_size"))
        panels[0].plot(sizes, 1 / np.sqrt(sizes), ":", color="#777777", label="1/√n: a bound needs less")
        panels[0].legend(loc="center right")
        explain(figure, lines, title_of(by, table), title, STABILITY_NOTE)
    return figure


def memorised_images(table: pa.Table, samples: pa.Table, *, title: str | None = None) -> Figure:
    """Draw the training images with the highest memorisation scores, each with the label trained on and its score.

    Args:
        table: records of one data set, as for `analysis.statistics.questions.theories.memorisation_table`; so are the samples.
        samples: of these points.
        title: stands above the figure.

    Raises:
        NothingToShow: there are no scores, or the data set is not to be had here.
    """
    groups = most_memorised(table, samples)
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.6, 0.6 + 3.7 * len(groups)), layout="constrained")
        for part, (label, rows, images, _) in zip(figure.subfigures(len(groups), 1, squeeze=False)[:, 0], groups, strict=True):
            part.suptitle(label or "highest memorisation scores", x=0.01, ha="left", fontsize=10)
            panels = part.subplots(3, MOST_IMAGES // 3)
            for panel in panels.flat:
                panel.set_axis_off()
            for panel, row, image in zip(panels.flat, rows, images, strict=False):
                draw_image(panel, image, caption(row))
        explain(figure, [], "", title, memorisation_note(groups))
    return figure


Group = tuple[str, list[dict[str, Any]], NDArray[np.uint8], pa.Table]


def most_memorised(table: pa.Table, samples: pa.Table) -> list[Group]:
    """Each setting's name, the rows of the highest scores with `true_label`, their images (k, H, W, 3), and all its scores."""
    scores = memorisation_table(table, samples)
    images, labels = images_of(table, "train")
    by = scores.column_names[: scores.column_names.index("index")]
    groups = []
    for line in split(scores, by)[0]:
        rows = line.rows.slice(0, MOST_IMAGES).to_pylist()
        index = [row["index"] for row in rows]
        for row, true in zip(rows, labels[index].tolist(), strict=True):
            row["true_label"] = true
        groups.append((_named(by, line.values), rows, images[index], line.rows))
    return groups


def caption(row: dict[str, Any]) -> str:
    """The text above an image: the label trained on, the true one if it differs, and the score."""
    label = f"{row['label']}" + (f" (is {row['true_label']})" if row["label"] != row["true_label"] else "")
    return f"{label}: {row['score']:.2f}"


def memorisation_note(groups: Sequence[Group]) -> str:
    """The sentences that say how to read the images, and how many are memorised."""
    parts = [
        "Label trained on, and memorisation score: how much more often networks are right that were trained on the image.",
        f"{groups[0][3]['models'][0].as_py():,} networks a setting.",
    ]
    for label, _, _, rows in groups:
        high = int((numbers(rows, "score") > 0.5).sum())
        parts.append(f"{label + ': ' if label else ''}{high:,} of {rows.num_rows:,} training images have a score above 0.5.")
    return " ".join(parts)


def _named(by: Sequence[str], values: Sequence[Any]) -> str:
    return "" if not by else ", ".join(f"{words(name)} {label_of([name], [value])}" for name, value in zip(by, values, strict=True))


def ridgeless_risk(table: pa.Table, *, title: str | None = None) -> Figure:
    """Draw the mean excess risk over d/n with its 95 % interval, and the formula (Hastie et al. 2019) as a dashed line, broken at 1.

    Args:
        table: records of the model `ridgeless`.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record has such a risk.
    """
    runs = completed(table)
    if RISK not in runs.column_names or FORMULA not in runs.column_names:
        raise NothingToShow(f"no completed record has a {words(RISK)} and a {words(FORMULA)}: run a study of the model ridgeless")
    runs = runs.filter(pc.is_valid(runs[RISK]))
    cells = over_seeds(runs, ["parameters_per_sample"], [RISK, FORMULA]).sort_by("parameters_per_sample")
    aspect, mean, low, high, formula = (
        cells[name].cast(pa.float64()).to_numpy() for name in ("parameters_per_sample", RISK, f"{RISK}.low", f"{RISK}.high", FORMULA)
    )
    with drawing():
        figure, panel = bare_figure(7.4, 4.4)
        colour = colours([""])[0]
        panel.errorbar(aspect, mean, np.stack([mean - low, high - mean]), fmt="o", color=colour, capsize=3, label="Monte Carlo")
        for index, side in enumerate((aspect < 1, aspect > 1)):
            panel.plot(
                aspect[side], formula[side], color="#555555", linestyle=DASHES, label=None if index else "formula, d and n to infinity"
            )
        panel.axvline(1, color="#999999", linewidth=0.9, linestyle=":")
        log_axis(panel, aspect)
        panel.set_yscale("log")
        panel.set_xlabel("d / n")
        panel.set_title("excess risk of minimum-norm least squares")
        panel.legend()
        explain(figure, [], "", title, note(table, cells, [RISK], interval=DEFAULT, drawn="bars"))
    return figure


def theory_lines(
    table: pa.Table, theory: str, *, over: str | None = None, by: Sequence[str] | None = None, title: str | None = None
) -> Figure:
    """Draw what a theory predicts as lines through what was measured.

    Args:
        table: records.
        theory: ``eigen``, ``gcv``, ``rf`` or ``ntk`` (see `trainables.predictions`); computed for the data of the records.
        over: the column of the horizontal axis; by default the first that varies of those that the theory is about.
        by: what tells lines apart; by default whatever else varies, seeds apart.
        title: stands above the figure.

    Raises:
        NothingToShow: no completed record has a test loss.
        AnalysisError: the theory does not hold for some of the points: the message says why.
        ConfigError: there is no such theory, or a point's data cannot be had.
    """
    found = beside_theory(table, theory, over, by)
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7.4, 2.2 + 2.4 * len(found.values)), layout="constrained")
        panels = figure.subplots(len(found.values), 1, sharex=True, squeeze=False)[:, 0]
        lines, of = split(found.cells, found.by)
        for value, panel in zip(found.values, panels, strict=True):
            for line in lines:
                _measured(panel, line, found.over, value)
                rows = line.among(found.line)
                predicted = np.minimum(numbers(rows, PREDICTED + value), 1e6)  # an infinite peak leaves the figure, and is not left out
                panel.plot(numbers(rows, found.over), predicted, "-", color=line.colour, linewidth=1.4, gid="theory")
            _theory_axes(panel, found, value)
        panels[-1].set_xlabel(title_of([found.over], table))
        also = [f"Marks: measured; lines: {found.theory.title}, computed from the data. {FIT_NOTE}", agreement(found)]
        text = note(table, found.cells, found.values, interval=DEFAULT, lines=(len(lines), of), also=also, drawn="bars")
        explain(figure, lines, title_of(found.by, table), title, text)
    return figure


def agreement(found: Beside) -> str:
    """The sentence that says how far predictions are from what was measured."""
    parts = []
    for value in found.values:
        ratios = numbers(found.cells, PREDICTED + value) / numbers(found.cells, value)
        ratios = ratios[np.isfinite(ratios)]
        if len(ratios):
            parts.append(f"{words(value)} {np.median(ratios):.2f} ({ratios.min():.2f} to {ratios.max():.2f})")
    return f"Predicted over measured, median and range: {', '.join(parts)}." if parts else ""


def _measured(panel: Axes, line: Line, x: str, y: str) -> None:
    """The means of a line as marks with their intervals, filled where seeds fit."""
    for (rows, _), face in zip(parts_of(line), (line.colour, "white"), strict=True):
        low, mean, high = (np.nan_to_num(line.numbers(name, rows), nan=0.0) for name in (f"{y}.low", y, f"{y}.high"))
        known = pc.is_valid(rows[f"{y}.low"]).to_numpy(zero_copy_only=False) if rows.num_rows else np.zeros(0, bool)
        bars = np.where(known, [mean - low, high - mean], 0.0)
        look = {"color": line.colour, "markerfacecolor": face, "capsize": 2, "elinewidth": 1.0, "gid": "means"}
        panel.errorbar(line.numbers(x, rows), mean, bars, fmt=line.marker, **look)


def _theory_axes(panel: Axes, found: Beside, value: str) -> None:
    places, measured = numbers(found.cells, found.over), numbers(found.cells, value)
    if places.min() > 0 and places.max() > 3 * places.min():
        log_axis(panel, places)
    if measured.min() > 0 and measured.max() > 5 * measured.min():
        panel.set_yscale("log")
        panel.set_ylim(measured.min() / 1.5, measured.max() * 2)
    else:
        error_axis(panel, np.append(measured, np.minimum(numbers(found.line, PREDICTED + value), 1.5 * measured.max())))
    panel.set_title(words(value))
