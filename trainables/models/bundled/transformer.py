"""A small transformer on a sequence's tokens: two layers of width 128 with 4 heads are those that grok in Power et al. 2022.

Blocks are normalized before attention and before the MLP (Xiong et al. 2020, "On layer normalization in the transformer architecture"), so
that they train without warm-up. A sequence of fixed length has one label: every token attends to every other, and the mean over
them is read out.
"""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor, nn

from trainables.models.registry import model_family
from trainables.point.config import ImageShape, Model

HEADS = 4
EXPANSION = 4
"""Hidden units of a block's MLP, in widths (Vaswani et al. 2017)."""


class Attention(nn.Module):
    """Attention of every token to every token (Vaswani et al. 2017, section 3.2), by `HEADS` heads of width/4 numbers, rounded up."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.size = ceil(width / HEADS)
        self.inputs = nn.Linear(width, 3 * HEADS * self.size)
        self.outputs = nn.Linear(HEADS * self.size, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """B x T x width to the same shape."""
        query, key, value = self.inputs(tokens).unflatten(-1, (3, HEADS, self.size)).permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(-2, -1) * self.size**-0.5).softmax(-1)
        mixed: Tensor = self.outputs((weights @ value).transpose(1, 2).flatten(2))
        return mixed


class Block(nn.Module):
    """Attention, then an MLP, each added to what it takes."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.before_attention, self.attention, self.before_mlp = nn.LayerNorm(width), Attention(width), nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, EXPANSION * width), nn.ReLU(), nn.Linear(EXPANSION * width, width))
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """B x T x width to the same shape."""
        tokens = tokens + self.dropout(self.attention(self.before_attention(tokens)))
        mixed: Tensor = tokens + self.dropout(self.mlp(self.before_mlp(tokens)))
        return mixed


class Transformer(nn.Module):
    """B x T x 1 x V one-hot tokens to a number a class."""

    def __init__(self, places: int, vocabulary: int, width: int, depth: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.embedding = nn.Linear(vocabulary, width, bias=False)
        self.places = nn.Parameter(torch.randn(places, width) * 0.02)  # small beside the embeddings
        self.blocks = nn.Sequential(*(Block(width, dropout) for _ in range(depth)))
        self.before_output, self.output = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """B x T x R x V to B x classes."""
        tokens = self.blocks(self.embedding(images.flatten(1, 2)) + self.places)
        logits: Tensor = self.output(self.before_output(tokens).mean(1))
        return logits


@model_family("transformer", default_width=128, default_depth=2, reads=("width", "depth"), has_hidden_units=lambda model: bool(model.depth))
def transformer(model: Model, dropout: float, image_shape: ImageShape, classes: int) -> nn.Module:
    """Build embeddings of `width` numbers a token and a place, `depth` blocks of attention and an MLP, and a linear layer on their mean.

    Of an image it takes each row of pixels of a channel for a token.
    """
    tokens, rows, vocabulary = image_shape
    return Transformer(tokens * rows, vocabulary, model.width or 0, model.depth or 0, classes, dropout)
