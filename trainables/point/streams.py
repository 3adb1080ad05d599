"""Random streams: every draw of a point comes from one of its seeds and a name, never from what ran before it.

So a result does not depend on the pack, the worker or the order a point ran in, and a resumed run draws what an
uninterrupted one would have drawn. A point's data, corruption and start are drawn on the CPU, whatever it trains on; what training itself
draws on a GPU is drawn there (see `trainables.point.device_streams`).
"""

from __future__ import annotations

import hashlib

import torch


def derive(seed: int, stream: str, *index: int) -> int:
    """A 63-bit seed for the named stream, e.g. ``derive(seed, "batches", epoch)``.

    >>> derive(0, "batches", 1) == derive(0, "batches", 2)
    False
    """
    text = "/".join((str(seed), stream, *map(str, index)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1


def generator(seed: int, stream: str, *index: int) -> torch.Generator:
    """A CPU generator at the start of the named stream."""
    return torch.Generator().manual_seed(derive(seed, stream, *index))
