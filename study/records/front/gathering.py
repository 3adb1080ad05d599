"""What MLflow's pages show of a study first, gathered from its records, its spec and its data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import analysis
from analysis.records.declared import declared_rows, undeclared
from study.records.front.overview import overview_of
from study.records.front.writing import DataSet, Front
from trainables.data.sets.sources import load
from trainables.point.config import Data
from trainables.redaction import redacted

_PICTURES = (".png", ".svg")


def front_of(root: str, study: str, spec: str, charts: Sequence[Path] = (), data: Iterable[Data] = ()) -> Front:
    """The front of a study.

    Args:
        root: ``STORAGE/STUDY``.
        study: its name.
        spec: the YAML that declares it.
        charts: files.
        data: what its points are trained on, which this process has loaded.
    """
    records, _ = declared_rows(analysis.load(root), undeclared(root))
    text = redacted(spec)
    return Front(overview_of(study, records, text), charts, {"spec.yaml": text}, data_sets(data))


def data_sets(data: Iterable[Data]) -> list[DataSet]:
    """The different data sets among those that points name, each with the digest of its content."""
    different = {(one.name, one.digest, one.dimension, one.classes, one.separation): one for one in data}
    found = []
    for one in different.values():
        dataset = load(one)
        channels, height, width = dataset.image_shape
        about = {
            "training_samples": len(dataset.train_labels),
            "test_samples": len(dataset.test_labels),
            "targets" if dataset.is_regression else "classes": dataset.classes,
            "shape": [channels, height, width],
        }
        found.append(DataSet(one.name, dataset.fingerprint(), about))
    return found


def charts_of(root: str) -> list[Path]:
    """The charts that lie with a study, if its storage is local."""
    folder = Path(root) / "charts"
    return sorted(path for path in folder.iterdir() if path.suffix in _PICTURES) if "://" not in root and folder.is_dir() else []
