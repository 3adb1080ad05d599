"""Engines: how K points of equal shapes go through the network at once.

`base` is the protocol that training speaks; `choice` picks, by what measured fastest, one of its implementations: `stacked` multiplies
all members in batched products, `compiled` runs them as machine code on a CPU (`kernels`, made by `machine_code`, which needs Numba),
`modules` runs any ``nn.Module`` member by member, `graphs` does so in one CUDA graph, and `fused` takes all members in one pass.
`optimizers` steps stacked parameters (an engine may bring a faster one, so they stand here and not in the training loop), `rows` lays these
into one piece of memory, and `speed` measures a device for estimates of cost.
"""

from trainables.engines.base import Engine, State, Stream
from trainables.engines.choice import Way, Workload, fastest, make_engine, members_at_once, rows_at_once
from trainables.engines.optimizers import StackedOptimizer, rate_at, warmed_up
from trainables.engines.speed import CORE, Speed

__all__ = [
    "CORE",
    "Engine",
    "Speed",
    "StackedOptimizer",
    "State",
    "Stream",
    "Way",
    "Workload",
    "fastest",
    "make_engine",
    "members_at_once",
    "rate_at",
    "rows_at_once",
    "warmed_up",
]
