"""Engines: how K points of equal shapes go through the network at once.

An engine holds the parameters of K members stacked along the first axis and offers the gradient of the mean loss on a batch, and the
loss of samples. `base` is the protocol; `stacked` multiplies all members in one batched product, with a hand-written backward pass;
`compiled` does the same as machine code on a CPU (`kernels`); `modules` runs any ``nn.Module`` member by member; `choice` says which
family gets which. `optimizers` steps the stacked parameters, and `speed` measures a device.
"""

from trainables.engines.base import Engine, State, Stream
from trainables.engines.choice import make_engine, members_at_once
from trainables.engines.optimizers import StackedOptimizer

__all__ = ["Engine", "StackedOptimizer", "State", "Stream", "make_engine", "members_at_once"]
