"""The figures that the command line draws, by their names."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainables.point.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa
    from matplotlib.figure import Figure


class FigureKind(StrEnum):
    """What `plot` draws."""

    GAP = "gap-vs-capacity"
    LEARNING = "learning-curves"
    MEMORISATION = "memorisation"
    TIME = "time-to-fit"
    CORRUPTION = "error-vs-corruption"
    STOPPING = "early-stopping"
    DESCENT = "double-descent"
    EPOCHS = "epoch-double-descent"
    MAP = "capacity-corruption-map"
    SCATTER = "train-vs-test"
    PARALLEL = "parallel-coordinates"
    MEASURES = "measures-vs-gap"
    COUNTS = "counts-vs-gap"
    RADEMACHER = "rademacher"
    STABILITY = "stability"
    IMAGES = "memorised-images"
    RIDGELESS = "ridgeless-risk"
    BITS = "capacity-in-bits"
    BOUND = "bound-vs-corruption"


class TheoryName(StrEnum):
    """What `plot --theory` draws (see `trainables.predictions`)."""

    EIGEN = "eigen"
    GCV = "gcv"
    LOO = "loo"
    RF = "rf"
    NTK = "ntk"


def drawn(
    kind: FigureKind,
    table: pa.Table,
    curves: Callable[[], pa.Table],
    lines: dict[str, Any],
    axis: dict[str, Any],
    source: str = "",
    **gap: Any,
) -> Figure:
    """The figure of that kind.

    Args:
        curves: loads the learning curves, for those that need them.
        lines: `by`, if something else than the corruption tells lines apart.
        axis: `capacity`, if it is not the usual one.
        source: where the samples lie, for those that need them.
        gap: `panels` and `points` of gap-vs-capacity.
    """
    import analysis

    def samples() -> pa.Table:
        return analysis.load_samples(source, keys=table["key"])

    draw: dict[FigureKind, Callable[[], Figure]] = {
        FigureKind.GAP: lambda: analysis.gap_vs_capacity(table, **gap, **axis, **lines),
        FigureKind.LEARNING: lambda: analysis.learning_curves(table, curves(), **lines),
        FigureKind.MEMORISATION: lambda: analysis.memorisation(table, curves(), **lines),
        FigureKind.TIME: lambda: analysis.time_to_fit(table, **lines),
        FigureKind.CORRUPTION: lambda: analysis.error_vs_corruption(table, **lines),
        FigureKind.STOPPING: lambda: analysis.early_stopping(table, curves(), **lines),
        FigureKind.DESCENT: lambda: analysis.double_descent(table, over=axis.get("capacity", "model.width"), **lines),
        FigureKind.EPOCHS: lambda: analysis.epoch_double_descent(table, curves(), **lines),
        FigureKind.MAP: lambda: analysis.capacity_corruption_map(table, **axis),
        FigureKind.SCATTER: lambda: analysis.train_vs_test(table, **lines),
        FigureKind.PARALLEL: lambda: analysis.parallel_coordinates(table),
        FigureKind.MEASURES: lambda: analysis.measures_vs_gap(table),
        FigureKind.COUNTS: lambda: analysis.counts_vs_gap(table),
        FigureKind.RADEMACHER: lambda: analysis.rademacher(table),
        FigureKind.STABILITY: lambda: analysis.stability(table, samples()),
        FigureKind.IMAGES: lambda: analysis.memorised_images(table, samples()),
        FigureKind.RIDGELESS: lambda: analysis.ridgeless_risk(table),
        FigureKind.BITS: lambda: analysis.capacity_chart(table),
        FigureKind.BOUND: lambda: analysis.bound_vs_corruption(table, **lines),
    }
    return draw[kind]()


def write_figure(figure: Figure, stem: Path) -> None:
    """Write a figure as PNG and SVG where ``--output`` says, and say where.

    Raises:
        ConfigError: it cannot be written there, or that is a folder, beside which it would lie under the folder's name.
    """
    import analysis

    if stem.is_dir():
        raise ConfigError(f"--output: {stem} is a folder: give the path of the chart without its suffix, such as {stem / 'chart'}")
    try:
        charts = analysis.write_chart(figure, stem)
    except OSError as error:
        raise ConfigError(f"--output: {stem} cannot be written ({error}): give a path that can") from None
    for path in charts:
        print(f"wrote {path}")
