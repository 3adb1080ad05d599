"""``python -m trainables.probe``: answers from a process of their own, which the user's own models may end or hold up.

Reads JSON from standard input, ``{"wanted": [[FIELD, POINTS], ...], "sources": {PATH: TEXT}}`` with points as `trainables.point.text`
writes them; prints a line of JSON for each of the wanted answers, in their order, as soon as it is there: the `Choice` of a field, or,
where ``fits`` stands for one, the `Fit`.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace

import torch

from trainables.data.sets.sources import load, share
from trainables.models import custom as custom
from trainables.point.config import Data
from trainables.point.text import loads
from trainables.probe.fitting import fit
from trainables.probe.left_open import best_device, choose
from trainables.reproducibility import keep_bits

FITS = "fits"
_TESTED = 1
"""Test samples kept: a probe looks at train losses, and evaluating thousands of others would take as long as training does."""


def main() -> None:
    """Answer what is asked."""
    keep_bits()
    answers, sys.stdout = sys.stdout, sys.stderr  # what the user's own models print is no answer
    torch.set_num_threads(1)  # as a worker: one thread's bits
    asked = json.load(sys.stdin)
    for path, text in asked["sources"].items():
        custom.register(path, text)
    for field, text in asked["wanted"]:
        points = loads(text)
        for data in {point.data.name: point.data for point in points}.values():
            _trim(data)
        found = fit(points[0], best_device()) if field == FITS else choose(field, points)
        print(json.dumps(asdict(found)), file=answers, flush=True)


def _trim(data: Data) -> None:
    """Keep the test set of this process small."""
    if data.name != "synthetic":
        dataset = load(data)
        share(data.name, replace(dataset, test_images=dataset.test_images[:_TESTED], test_labels=dataset.test_labels[:_TESTED]))


if __name__ == "__main__":
    main()
