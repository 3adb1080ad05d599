"""The tangent kernel: against Jacobians by brute force, against gradient descent on the linear network, and where it refuses."""

from __future__ import annotations

import pytest
import torch
from torch.func import functional_call, jacrev

from trainables.models import build
from trainables.point.config import Model, TrialConfig, with_fields
from trainables.predictions import OutOfRegime
from trainables.predictions.tangent_kernel import Jacobians, Tangents, predict
from trainables.resolution import resolve
from trainables.training.loop import Training


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_the_kernel_is_the_product_of_jacobians(depth: int) -> None:
    module = build(Model(name="mlp", width=5, depth=depth, batch_norm=False), 0.0, (1, 2, 2), 3, seed=0).double().eval()
    inputs = torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = jacrev(lambda values: functional_call(module, values, (inputs,)))({n: p.detach() for n, p in module.named_parameters()})
    jacobian = torch.cat([each.reshape(12, -1) for each in found.values()], 1)
    tangents = Tangents.of(module, inputs)
    torch.testing.assert_close(tangents.kernel(tangents), jacobian @ jacobian.T)
    torch.testing.assert_close(tangents.kernel(Tangents.of(module, inputs[:1])), jacobian @ jacobian[:3].T)
    blocks = Jacobians.of(module, inputs.repeat(10, 1, 1, 1))
    torch.testing.assert_close(blocks.matrix[-12:] @ blocks.matrix[:12].T, jacobian @ jacobian.T)
    torch.testing.assert_close(blocks.outputs[-4:], tangents.outputs)


def point(**fields: object) -> TrialConfig:
    same = {"data.name": "digits", "data.train_size": 50, "model.width": 1024, "optimizer.loss": "squared", "optimizer.learning_rate": 0.01}
    budget = {
        "optimizer.momentum": 0.0,
        "optimizer.batch_size": 50,
        "budget.epochs": 40,
        "budget.stop_at_train_error": None,
        "budget.evaluate_every": 40,
    }
    return resolve(with_fields(TrialConfig(), same | budget | {name.replace("__", "."): value for name, value in fields.items()}))


def test_a_network_that_is_linear_in_its_weights_goes_where_the_kernel_says() -> None:
    """Regression on the pixels is, and so nearly is a wide network: trained by full-batch gradient descent."""
    for model, tolerance in (("linear", 0.01), ("mlp", 0.05), ("cnn5", 0.05)):
        one = (
            point(model__name=model)
            if model != "cnn5"
            else point(model__name=model, model__width=4, model__batch_norm=False, data__train_size=10)
        )
        training, results = Training([one], torch.device("cpu")), []
        while not training.finished:
            results += training.epoch()
        found = predict(one, results[0].outcome)
        assert found["test_loss"] == pytest.approx(results[0].outcome["test_loss"], rel=tolerance)
        assert found["test_error"] == pytest.approx(results[0].outcome["test_error"], abs=0.05)


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"optimizer__loss": "cross_entropy"}, "optimizer.loss is cross_entropy"),
        ({"optimizer__name": "adam"}, "optimizer.name is adam"),
        ({"regularizers__weight_decay": 0.1}, "regularizers.weight_decay is on"),
        ({"optimizer__schedule": "cosine"}, "one learning rate for all steps"),
        ({"data__train_size": 500}, "up to 4,096, and here are 5,000"),
        ({"model__batch_norm": True}, "mlp normalizes batches"),
        ({"optimizer__learning_rate": 50.0}, "would not diverge"),
        ({"model__width": 8, "budget__epochs": 4000}, "at width 8 it is not as far as these labels take it"),
    ],
)
def test_it_refuses_outside_its_regime(fields: dict[str, object], sentence: str) -> None:
    one = point(**fields)
    with pytest.raises(OutOfRegime, match=sentence):
        predict(one, {"epochs": one.budget.epochs})
