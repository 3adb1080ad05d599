"""Tables that scikit-learn bundles: `breast_cancer` (569 rows of 30 numbers, 2 classes) and `wine` (178 rows of 13 numbers, 3 classes)."""

from __future__ import annotations

import numpy as np
import torch

from trainables.data.sets.dataset import Dataset
from trainables.point.errors import ConfigError

TABLES = ("breast_cancer", "wine")


def bundled_table(name: str) -> Dataset:
    """One of `TABLES`; every fifth row is a test row, as of the digits.

    Raises:
        ConfigError: scikit-learn is not installed.
    """
    try:
        from sklearn import datasets
    except ImportError:
        raise ConfigError(f"data.name is {name!r}, which scikit-learn bundles: pip install scikit-learn") from None
    bundle = getattr(datasets, f"load_{name}")()
    rows = torch.from_numpy(bundle.data.astype(np.float32))[:, :, None, None]
    labels = torch.from_numpy(bundle.target.astype(np.int64))
    test = torch.arange(len(labels)) % 5 == 0
    names = tuple(str(label) for label in bundle.target_names)
    return Dataset(rows[~test], labels[~test], rows[test], labels[test], len(names), class_names=names)
