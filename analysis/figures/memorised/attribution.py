"""Figures of attribution: the membership attack, memorisation, exact influences, and the images that matter to a prediction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from analysis.attribution.membership import membership_attack
from analysis.attribution.subsets import Source, Subsets, subsets_of
from analysis.attribution.table import attribution_table, influence_table
from analysis.figures.drawing.canvas import explain
from analysis.figures.drawing.images import draw_image, images_of
from analysis.figures.drawing.lines import Line, label_of, split, title_of
from analysis.figures.drawing.style import drawing
from analysis.words import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]
_NOTE = (
    "ROC: true over false positive rate of guessing what a network was trained on from its log-odds (half of the networks attack the "
    "other half); dotted: a guess. Memorisation: how much more often networks are right on a sample that they were trained on. The area "
    "under the ROC curve and the gap: means over networks with 95 % intervals."
)
_LEFT_OUT_NOTE = (
    " Left out: the fall of the log-odds of a test sample's label when its strongest supporters (filled) or as many random samples of the "
    "same classes (hollow) are left out and networks are trained again, against what its datamodel says; 95 % intervals over seeds."
)
_LOWEST_RATE = 1e-4
_RATES = np.geomspace(_LOWEST_RATE, 1, 200)
_SHOWN = 4
"""Helpful, and hurtful, images shown a test image."""


@dataclass(frozen=True)
class _PanelsOf:
    """What is drawn of one setting: its values, true positive rates at `_RATES`, and memorisation scores, ascending."""

    values: tuple[Any, ...]
    caught: Floats
    scores: Floats

    @classmethod
    def of(cls, one: Subsets) -> _PanelsOf:
        from trainables.measures.bundled.memorisation import memorisation_scores

        scores = memorisation_scores(one.trained, one.correct).scores
        caught = membership_attack(one.trained, one.outputs).caught_at(_RATES)
        return cls(tuple(one.setting.values()), caught, np.sort(scores[np.isfinite(scores)]))


def attribution_chart(
    table: pa.Table, samples: Source, *, cells: pa.Table | None = None, left_out: pa.Table | None = None, title: str | None = None
) -> Figure:
    """Draw the attack's ROC curves, the distribution of memorisation scores, the attack against the gap, and exact influences if given.

    Args:
        table: records, as for `analysis.attribution_table`.
        samples: of these points, as for `analysis.attribution_table`.
        cells: as that returns it; made here if it is not given.
        left_out: as `analysis.left_out_table` returns it.
        title: stands above the figure.

    Raises:
        NothingToShow: as for `analysis.attribution_table`.
    """
    cells = cells or attribution_table(table, samples)
    by = cells.column_names[: cells.column_names.index("networks")]
    settings = {one.values: one for one in map(_PanelsOf.of, subsets_of(table, samples))}
    lines, _ = split(cells, by)
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10.4, 8.6 if left_out else 4.6), layout="constrained")
        panels = figure.subplots(*((2, 2) if left_out else (1, 3))).flat
        for line in lines:
            one = settings[line.values]
            panels[0].plot(_RATES, np.maximum(one.caught, 1e-12), color=line.colour, gid="roc")
            shares = 1 - np.arange(len(one.scores)) / len(one.scores)
            panels[1].plot(one.scores, shares, color=line.colour, drawstyle="steps-post", gid="memorisation")
            _draw_gap(panels[2], line)
        _label(panels[0], "membership attack (ROC)", "false positive rate", "true positive rate")
        _label(panels[1], "memorisation", "memorisation score", "share of training samples above")
        _label(panels[2], "attack and gap", words("generalization_gap"), "area under the attack's ROC curve")
        rates = np.geomspace(_LOWEST_RATE, 1, 50)
        panels[0].plot(rates, rates, ":", color="#777777", linewidth=1)
        panels[0].set_xscale("log")
        panels[0].set_yscale("log")
        panels[0].set_xlim(_LOWEST_RATE, 1)
        panels[0].set_ylim(_LOWEST_RATE, 1.3)
        if left_out:
            for line in lines:
                _draw_left_out(panels[3], line, line.among(left_out))
            _label(panels[3], "samples left out", "fall predicted by the datamodel, nats", "fall when trained again, nats")
            _diagonal(panels[3], left_out)
        explain(figure, lines, title_of(by, table) if by else "", title, _NOTE + (_LEFT_OUT_NOTE if left_out else ""))
    return figure


def _label(panel: Axes, title: str, across: str, up: str) -> None:
    panel.set_title(title)
    panel.set_xlabel(across)
    panel.set_ylabel(up)


def _draw_gap(panel: Axes, line: Line) -> None:
    (gap, low, high), (area, area_low, area_high) = (
        [line.numbers(name + end)[0] for end in ("", ".low", ".high")] for name in ("generalization_gap", "attack")
    )
    errors: dict[str, Any] = {"xerr": [[gap - low], [high - gap]], "yerr": [[area - area_low], [area_high - area]]}
    panel.errorbar([gap], [area], **errors, fmt=line.marker, color=line.colour, capsize=2)


def _draw_left_out(panel: Axes, line: Line, rows: pa.Table) -> None:
    for row in rows.to_pylist():
        bars = [[row["fall"] - row["fall.low"]], [row["fall.high"] - row["fall"]]] if row["seeds"] > 1 else None
        face = line.colour if row["which"] == "supporters" else "white"
        panel.errorbar([row["predicted"]], [row["fall"]], yerr=bars, fmt=line.marker, color=line.colour, markerfacecolor=face, capsize=2)


def _diagonal(panel: Axes, rows: pa.Table) -> None:
    ends = np.array([*rows["predicted"].to_pylist(), 0.0])
    panel.plot([ends.min(), ends.max()], [ends.min(), ends.max()], ":", color="#777777", linewidth=1)


def influential_images(
    table: pa.Table, samples: Source, *, test_samples: list[int] | None = None, most: int = 6, title: str | None = None
) -> Figure:
    """Draw test images, each with the training images that help and that hurt its prediction most.

    Args:
        table: records of one data set and one setting, as for `analysis.influence_table`; of several settings the first is shown.
        samples: of these points.
        test_samples: positions in the test set; by default those on which one training sample has the most significant influence.
        most: test images shown.
        title: stands above the figure.

    Raises:
        NothingToShow: as for `analysis.influence_table`, or the data set is not to be had here, or has no images.
    """
    rows = influence_table(table, samples, test_samples=test_samples, most=max(_SHOWN, most))
    by = rows.column_names[: rows.column_names.index("test")]
    first = split(rows, by)[0][0]
    tests = list(dict.fromkeys(first.rows["test"].to_pylist()))[:most]
    train_images, train_labels = images_of(table, "train")
    test_images, test_labels = images_of(table, "test")
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(9.6, 0.9 + 1.4 * len(tests)), layout="constrained")
        panels = figure.subplots(len(tests), 1 + 2 * _SHOWN, squeeze=False)
        for panel in panels.flat:
            panel.set_axis_off()
        for line, test in zip(panels, tests, strict=True):
            ranked = [row for row in first.rows.to_pylist() if row["test"] == test]
            draw_image(line[0], test_images[test], f"test {test}: {test_labels[test]}")
            hurtful = ranked[max(_SHOWN, len(ranked) - _SHOWN) :]
            for panel, row in [*zip(line[1:], ranked[:_SHOWN], strict=False), *zip(line[: -_SHOWN - 1 : -1], hurtful[::-1], strict=False)]:
                draw_image(panel, train_images[row["index"]], _caption(row, train_labels))
        where = f" ({title_of(by, table)} {label_of(by, first.values)})" if by else ""
        note = (
            f"First a test image with its label; then the {_SHOWN} training images that help its prediction most, and the {_SHOWN} that "
            f"hurt it most{where}: the label trained on, and by how much the log-odds of the test image's label are higher in networks "
            "trained on the image, in nats, ± the standard error."
        )
        explain(figure, [], "", title, note)
    return figure


def _caption(row: dict[str, Any], labels: NDArray[np.int64]) -> str:
    true = int(labels[row["index"]])
    label = f"{row['label']}" + (f" (is {true})" if row["label"] != true else "")
    return f"{label}\n{row['influence']:+.2f} ± {row['standard_error']:.2f}"
