"""The figures of an atlas: medians and quartiles over its settings, which are a design and no sample, so that no band is an error's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from analysis.atlas.benign import benign_map
from analysis.atlas.measures import best_measures
from analysis.atlas.population import CAPACITY
from analysis.atlas.thresholds import capacity_ranks, shift_summary
from analysis.errors import NothingToShow
from analysis.figures.drawing.canvas import explain, log_axis
from analysis.figures.drawing.lines import Line
from analysis.figures.drawing.style import MARKERS, colours, drawing
from analysis.statistics.selection import groups
from analysis.words import words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COST = "share of skill lost, over share of labels lost"


def benign_figure(costs: pa.Table) -> Figure:
    """Draw what memorised wrong labels cost against capacity, a panel a data set, a line a noise.

    Args:
        costs: as from `analysis.atlas.benign.benign_table`.

    Raises:
        NothingToShow: no cell has a pair that fit.
    """
    summary = benign_map(costs)
    summary = summary.filter(pc.is_valid(summary["median"]))
    if not summary.num_rows:
        raise NothingToShow("no network fit wrong labels beside its twin that fit true ones: there is no cost to draw")
    lines = _lines(summary, "noise")
    with drawing():
        from matplotlib.ticker import LogLocator

        figure, panels = _panels(summary, 4.3, 4.9)
        for panel, (group, some) in zip(panels, groups(summary, ["data_set"]), strict=True):
            for line in lines:
                own = line.among(some).sort_by(CAPACITY)
                xs, low, middle, high = (own[name].to_numpy() for name in (CAPACITY, "lower", "median", "upper"))
                panel.fill_between(xs, low, high, color=line.colour, alpha=0.12, linewidth=0)
                panel.plot(xs, middle, color=line.colour, marker=line.marker, markersize=4)
            panel.axhline(1, color="#777777", linewidth=0.9, linestyle=":")
            log_axis(panel, summary[CAPACITY].to_numpy())
            panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.set_xlabel("parameters per sample aimed at, p/n")
            panel.set_title(group["data_set"])
        panels[0].set_ylabel(_COST)
        panels[0].set_ylim(min(0.0, float(np.min(summary["lower"].to_numpy()))) - 0.03, None)
        text = (
            "Networks that memorised wrong labels, against twins of the same seed on true labels; both fit all their labels. Lines: "
            "median over depths, optimizers and regularizers; bands: quartiles over them, which tell the design and no error. Skill: "
            "1 without error, 0 at chance. 0: benign. Dotted, 1: skill goes with the labels that the noise takes."
        )
        explain(figure, lines, "noise", "What a memorised wrong label costs", text)
    return figure


def measures_figure(ranked: pa.Table) -> Figure:
    """Draw the psi of every measure over the strata, best first, beside that of a random measure.

    Args:
        ranked: as from `analysis.atlas.measures.measure_table`.

    Raises:
        NothingToShow: no measure could be ranked.
    """
    order = best_measures(ranked)
    if not order.num_rows:
        raise NothingToShow("in no stratum do two networks that fit differ in one hyperparameter: no measure can be ranked")
    names = order["measure"].to_pylist()[::-1]
    rows = [row for row in ranked.to_pylist() if np.isfinite(row["psi"])]
    lines = _lines(ranked, "data_set")
    floor = [row[end] for row in rows if row["measure"] == "random" for end in ("psi.low", "psi.high")]
    with drawing():
        from matplotlib.figure import Figure

        figure = Figure(figsize=(10.4, 1.9 + 0.26 * len(names)), layout="constrained")
        panel = figure.subplots()
        panel.axvspan(min(floor), max(floor), color="#eeeeee", zorder=0)
        panel.axvline(0, color="#999999", linewidth=0.8)
        for number, line in enumerate(lines):
            own = [row for row in rows if row["data_set"] == line.label and row["measure"] != "random"]
            heights = [names.index(row["measure"]) + (number - (len(lines) - 1) / 2) * 0.2 for row in own]
            panel.plot([row["psi"] for row in own], heights, line.marker, color=line.colour, markersize=4, alpha=0.75, linestyle="none")
        panel.plot(order["median"].to_pylist()[::-1], range(len(names)), "|", color="black", markersize=13, markeredgewidth=1.8)
        panel.set_yticks(range(len(names)), names, fontsize=8)
        panel.set_ylim(-0.7, len(names) - 0.3)
        panel.set_xlabel("psi: 1 if the measure rises wherever the gap does, one hyperparameter changed at a time; -1 if it falls")
        text = (
            "A mark: one data set and one noise, so that no measure gains by telling corruption apart; networks that fit. Bar: median "
            "over all strata. Grey: within the 95 % intervals of a random measure."
        )
        explain(figure, lines, "data set", "Which measure predicts the gap at fixed corruption", text)
    return figure


def shifts_figure(shifts: pa.Table) -> Figure:
    """Draw how far each regularizer moves the interpolation threshold, setting by setting.

    Args:
        shifts: as from `analysis.atlas.thresholds.regularizer_shifts`.

    Raises:
        NothingToShow: no shift is known.
    """
    known = shifts.filter(pc.is_valid(shifts["shift"]))
    if not known.num_rows:
        raise NothingToShow("no setting has a threshold with a regularizer and without: there is no shift to draw")
    names = sorted(shifts["regularizer"].unique().to_pylist())[::-1]
    noises = _lines(known, "noise")
    with drawing():
        figure, panels = _panels(shifts, 4.3, 2.2 + 0.5 * len(names))
        for panel, (group, some) in zip(panels, groups(shift_summary(shifts), ["data_set"]), strict=True):
            own = known.filter(pc.equal(known["data_set"], group["data_set"])).to_pylist()
            for number, line in enumerate(noises):
                mine = [row for row in own if row["noise"] == line.label]
                heights = [names.index(row["regularizer"]) + (number - (len(noises) - 1) / 2) * 0.08 for row in mine]
                panel.plot(
                    [row["shift"] for row in mine], heights, line.marker, color=line.colour, markersize=3.2, alpha=0.7, linestyle="none"
                )
            for row in some.to_pylist():
                if row["median"] is not None:
                    panel.plot(row["median"], names.index(row["regularizer"]), "|", color="black", markersize=22, markeredgewidth=1.8)
                panel.annotate(
                    f"{row['up']} up, {row['down']} down of {row['settings']}",
                    (1, names.index(row["regularizer"]) + 0.42),
                    xycoords=("axes fraction", "data"),
                    ha="right",
                    fontsize=6.8,
                    color="#555555",
                )
            panel.axvline(0, color="#999999", linewidth=0.8)
            panel.set_xlabel(r"$\log_2$ of threshold with over without")
            panel.set_title(group["data_set"])
        panels[0].set_yticks(range(len(names)), names)  # for all of them: they share it
        panels[0].set_ylim(-0.6, len(names) - 0.35)
        text = (
            "A mark: a setting of noise, depth and optimizer; bar: their median. Only settings whose thresholds lie within the "
            "capacities have a mark; up, down: settings where the 95 % intervals of the two thresholds are disjoint, or one fits at no "
            "capacity."
        )
        explain(figure, noises, "noise", "What moves the interpolation threshold", text)
    return figure


def capacity_figure(capacities: pa.Table) -> Figure:
    """Draw the gap on true labels against how many more parameters random labels take to fit.

    Args:
        capacities: as from `analysis.atlas.thresholds.label_capacities`.
    """
    ranks = {row["data_set"]: row for row in capacity_ranks(capacities)}
    regularizers = _lines(capacities, "regularizer")
    with drawing():
        figure, panels = _panels(capacities, 4.3, 4.7, share=False)
        for panel, (group, some) in zip(panels, groups(capacities, ["data_set"]), strict=True):
            for line in regularizers:
                for row in line.among(some).to_pylist():
                    if row["gap.low"] is not None:
                        panel.vlines(row["more"], row["gap.low"], row["gap.high"], color=line.colour, linewidth=0.8, alpha=0.6)
                    face = "white" if row["least"] else line.colour
                    panel.plot(
                        row["more"], row["gap"], line.marker, color=line.colour, markerfacecolor=face, markersize=5, linestyle="none"
                    )
            rank = ranks.get(group["data_set"])
            told = f"\nrank correlation {rank['rho']:.2f}, p = {rank['p']:.2g}" if rank else ""
            panel.set_title(group["data_set"] + told)
            panel.set_xlabel(r"$\log_2$ of threshold of random over true labels")
        panels[0].set_ylabel(f"{words('generalization_gap')}, true labels")
        text = (
            "A mark: a setting of depth, optimizer and regularizer; gap: mean over seeds that fit at the largest capacity, with its 95 % "
            "interval. Hollow: random labels fit at no capacity, so that the ratio is at least that. p: permutations of the settings."
        )
        explain(figure, regularizers, "regularizer", "Does the room between true and random labels predict the gap?", text)
    return figure


def _panels(table: pa.Table, wide: float, high: float, share: bool = True) -> tuple[Figure, Sequence[Axes]]:
    """A panel a data set, side by side, on one vertical axis or each on its own."""
    from matplotlib.figure import Figure

    count = len(table["data_set"].unique())
    figure = Figure(figsize=(max(wide * count, 6.4) + 0.6, high), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False, sharey=share)[0])


def _lines(table: pa.Table, column: str) -> list[Line]:
    """A line a value of the column."""
    names = sorted(table[column].unique().to_pylist())
    found = zip(names, colours(names), strict=True)
    return [
        Line((column,), (name,), name, colour, MARKERS[number % len(MARKERS)], table.filter(pc.equal(table[column], name)))
        for number, (name, colour) in enumerate(found)
    ]
