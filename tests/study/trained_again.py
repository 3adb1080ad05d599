"""Train every point of a spec, without Ray, and record it: ``python -m tests.study.trained_again SPEC ROOT``."""

from __future__ import annotations

import sys

import torch

from study.plan.points import declared_points
from study.records.writer import FragmentWriter, Provenance
from study.spec.reading import read_spec
from trainables.training.loop import Training


def main(path: str, root: str) -> None:
    torch.set_num_threads(1)
    spec = read_spec(path)
    writer = FragmentWriter(root, Provenance(spec.study, None, "again"))
    for point in declared_points(spec):
        training = Training([point.config], torch.device("cpu"))
        while not training.finished:
            writer(training.epoch(), "cpu")


if __name__ == "__main__":
    main(*sys.argv[1:])
