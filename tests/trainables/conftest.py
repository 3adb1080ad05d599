"""One thread, whose bits the promises are about; examples that repeat; a small data set on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from hypothesis import settings

from trainables.engines import choice
from trainables.models import custom as custom
from trainables.models import registry as models

settings.register_profile("gaplab", derandomize=True, database=None, deadline=None)
settings.load_profile("gaplab")


@pytest.fixture(scope="module", autouse=True)
def one_thread_a_worker() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    torch.set_flush_denormal(False)  # training sets it for the process; hypothesis's floats elsewhere do without


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """`data.name` of a set of 90 training and 45 test images, 4x5 with two channels, whose three classes overlap a little."""
    draw = np.random.default_rng(0)
    means = draw.integers(60, 196, (3, 4, 5, 2))

    def images(labels: np.ndarray) -> np.ndarray:
        return np.clip(means[labels] + 60 * draw.standard_normal((len(labels), 4, 5, 2)), 0, 255).astype(np.uint8)

    train, test = np.arange(90) % 3, np.arange(45) % 3
    path = tmp_path_factory.mktemp("data") / "blobs.npz"
    np.savez(path, x_train=images(train), y_train=train, x_test=images(test), y_test=test)
    return f"npz:{path}"


@pytest.fixture
def register() -> Iterator[Callable[[str, str], None]]:
    """Register sources, and forget their families afterwards."""
    before = models.families()
    yield custom.register
    for name in set(models.families()) - set(before):
        del models._FAMILIES[name]


@pytest.fixture
def forget_engines() -> Iterator[None]:
    """The choice of an engine is made anew, before the test and after it."""
    choice._dense_engine.cache_clear()
    yield
    choice._dense_engine.cache_clear()
