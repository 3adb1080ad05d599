"""Tables that scikit-learn bundles: `breast_cancer` (569 rows of 30 numbers, 2 classes), `wine` (178 rows of 13 numbers, 3 classes), and
`diabetes` (442 rows of 10 numbers, whose target is a number: the progression of the disease after a year, 25 to 346)."""

from __future__ import annotations

import numpy as np
import torch

from trainables.data.sets.dataset import Dataset
from trainables.data.sets.labels import read_targets
from trainables.point.errors import ConfigError

TABLES = ("breast_cancer", "wine", "diabetes")


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
    test = torch.arange(len(rows)) % 5 == 0
    if name == "diabetes":
        stored = {"train": bundle.target[~test.numpy()], "test": bundle.target[test.numpy()]}
        held, targets = read_targets(name, stored, "train", ["progression"])
        labels = {split: torch.from_numpy(values) for split, values in held.items()}
        return Dataset(rows[~test], labels["train"], rows[test], labels["test"], len(targets), targets=targets)
    classes = torch.from_numpy(bundle.target.astype(np.int64))
    names = tuple(str(label) for label in bundle.target_names)
    return Dataset(rows[~test], classes[~test], rows[test], classes[test], len(names), class_names=names)
