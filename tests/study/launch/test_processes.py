"""A study on image files, each point trained by two processes joined by DistributedDataParallel (gloo) through Ray Train."""

from pathlib import Path
from typing import Any

import pytest

import analysis
import study
from tests.study.disturbances import rows
from tests.study.in_this_process import rows_without_ray
from tests.trainables.made_up_images import data_folder_of_the_tests as data_folder_of_the_tests
from tests.trainables.made_up_images import write_tree
from trainables.point.errors import ConfigError

DISTRIBUTED = {"processes": 2, "cpus": 0.5, "workers": 1}


def declared(tree: Path, **sections: Any) -> study.Spec:
    return study.understand(
        {
            "study": "two",
            "trial": {
                "data": {"name": f"imagefolder:{tree}", "side": 8},
                "model": {"name": "mlp", "width": 16},
                "optimizer": {"learning_rate": 0.05, "batch_size": 13},  # 40 = 13 + 13 + 13 + 1: a last batch for one process alone
                "budget": {"epochs": 3, "stop_at_train_error": None},
            },
            "space": {"corruption.level": {"values": [1]}},
            "tracking": {"mlflow": False},
        }
        | sections
    )


def test_two_processes_give_the_records_of_one(tmp_path: Path, one_ray: None) -> None:
    tree = write_tree(tmp_path / "tree")
    alone = rows_without_ray(declared(tree), tmp_path / "alone")
    summary = study.run(declared(tree, resources=DISTRIBUTED), storage=str(tmp_path / "together"))
    assert dict(summary.counts) == {"completed": 1}
    assert analysis.load_curves(summary.root).num_rows == analysis.load_curves(str(tmp_path / "alone" / "two")).num_rows == 3
    for one, other in zip(alone, rows(summary.root), strict=True):
        assert one["key"] == other["key"]
        assert one["wrong_label_rate"] == other["wrong_label_rate"]
        for column in ("train_loss", "test_loss", "train_error", "test_error", "measure.test_top5_error"):
            assert other[column] == pytest.approx(one[column], rel=1e-4, abs=1e-9)


def test_processes_and_measures_are_refused_where_they_do_not_go(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"resources.processes is for data from image files"):
        study.run(study.understand({"study": "s", "resources": DISTRIBUTED, "tracking": {"mlflow": False}}), storage=str(tmp_path))
    with pytest.raises(ConfigError, match=r"measures need the training images in memory"):
        study.run(declared(write_tree(tmp_path / "tree"), measures=["l2_norm"]), storage=str(tmp_path))
