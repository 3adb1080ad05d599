"""An MLP on the embeddings of a sequence's tokens: the small network that groks modular addition (Power et al. 2022; Gromov 2023).

Tokens come one-hot, T x 1 x V for a sequence of T tokens out of V, as `modular_addition` and `parity` give them; their embedding is then a
linear layer without a bias, the same at each place.
"""

from __future__ import annotations

from torch import nn

from trainables.models.bundled.dense import dense_stack
from trainables.models.registry import model_family
from trainables.point.config import ImageShape, Model


@model_family(
    "embedding_mlp",
    default_width=128,
    default_depth=1,
    reads=("width", "depth"),
    has_hidden_units=lambda model: bool(model.depth),
    has_mup=True,
)
def embedding_mlp(model: Model, dropout: float, image_shape: ImageShape, classes: int) -> nn.Module:
    """Build embeddings of `width` numbers a token, put side by side, then `depth` hidden layers of `width` units each.

    Of an image it takes each row of pixels for a token.
    """
    tokens, rows, vocabulary = image_shape
    width = model.width or 0
    sizes = [tokens * rows * width, *[width] * (model.depth or 0), classes]
    return nn.Sequential(nn.Linear(vocabulary, width, bias=False), dense_stack(sizes, dropout, batch_norm=False))
