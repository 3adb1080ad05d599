"""What `trainables` needs: torch and NumPy, and for some points a package more, as the README says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

import trainables

REFUSED = (
    "filelock", "jinja2", "llvmlite", "matplotlib", "mlflow", "numba", "optuna", "pandas", "PIL", "plotly", "pyarrow", "pydantic",
    "ray", "requests", "rich", "ruamel", "scipy", "sklearn", "sqlalchemy", "timm", "torchvision", "typer",
)  # fmt: skip
HEAD = """
import importlib.abc, sys

class Bare(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)

sys.meta_path.insert(0, Bare())
"""
TRAIN = """
import torch
from trainables.point.config import TrialConfig, with_fields
from trainables.resolution import resolve
from trainables.training.loop import Training

torch.set_num_threads(1)
for fields, measures in {points!r}:
    point = resolve(with_fields(TrialConfig(), {{"data.train_size": 30, "model.width": 4, "budget.epochs": 2, **fields}}))
    training = Training([point], torch.device("cpu"), measures=measures)
    while not training.finished:
        for result in training.epoch():
            print(result.status)
"""


def in_a_new_process(program: str, refused: tuple[str, ...]) -> str:
    """What the program prints where these packages are not."""
    code = HEAD.format(refused=refused) + program
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_torch_and_numpy_are_enough(tmp_path: Path) -> None:
    images, labels = np.random.default_rng(0).integers(0, 256, (60, 8, 8), dtype=np.uint8), np.arange(60) % 3
    np.savez(tmp_path / "noise.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    data = {"data.name": f"npz:{tmp_path}/noise.npz"}
    points: list[tuple[dict[str, object], list[str]]] = [
        ({"data.name": "synthetic", "corruption.level": 0.5}, ["path_norm"]),
        (data | {"model.name": "mlp", "regularizers.mixup": 0.4, "regularizers.dropout": 0.1}, []),
        (data | {"model.name": "cnn5", "regularizers.crop": 1}, []),
        (data | {"model.name": "linear", "optimizer.name": "closed_form"}, []),
    ]
    assert in_a_new_process(TRAIN.format(points=points), REFUSED).split() == ["completed"] * len(points)


def test_digits_are_read_from_scikit_learns_file_without_importing_it() -> None:
    program = TRAIN.format(points=[({"data.name": "digits", "data.train_size": 100}, [])]) + "\nprint('sklearn' in sys.modules)"
    installed = tuple(name for name in REFUSED if name != "sklearn")
    assert in_a_new_process(program, installed).split() == ["completed", "False"]


def test_every_module_but_the_door_to_ray_and_the_compiled_engine_loads() -> None:
    home = Path(trainables.__file__).parent
    apart = {"tune.py", "training/distributed.py", "engines/machine_code.py", "engines/kernels.py", "engines/compiled.py"}
    modules = [path.relative_to(home).as_posix() for path in sorted(home.rglob("*.py"))]
    names = ["trainables." + name.removesuffix(".py").replace("/", ".").removesuffix(".__init__") for name in modules if name not in apart]
    in_a_new_process("import importlib\n" + "\n".join(f"importlib.import_module({name!r})" for name in names), REFUSED)
