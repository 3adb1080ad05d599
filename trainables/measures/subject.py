"""The subject of a measure: a trained network with its data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainables.measures.layers import Layer

_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained network with its data. All tensors and modules live on one device; neither module is changed.

    Args:
        module: the trained network.
        initial: the same network at initialization.
        inputs: (n, C, H, W) float32, the preprocessed training inputs.
        labels: (n,) int64 in [0, classes), the labels trained on.
        classes: number of classes.
        seed: seed of Monte Carlo draws.
        curve: rows with `epoch`, `train_loss` and `train_error`; empty if there is none.
        after_first_epoch: makes the network as it was after one epoch of training; None where nobody can.
        right: whether each training sample was classified as its label, (n,) bool, at each evaluation; empty where that was not noted.
        on_a_half: trains the same network once more, as it was trained, on half of its samples: gives it, and which samples it did not see,
            (n,) bool; None where nobody can.
    """

    module: nn.Module
    initial: nn.Module
    inputs: Tensor
    labels: Tensor
    classes: int
    seed: int = 0
    curve: Sequence[Mapping[str, Any]] = ()
    after_first_epoch: Callable[[], nn.Module] | None = None
    right: Sequence[Tensor] = ()
    on_a_half: Callable[[], tuple[nn.Module, Tensor]] | None = None
    _found: dict[Callable[[Subject], Any], Any] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def folded(self) -> nn.Module:
        """The trained network in evaluation mode, batch norm folded away (see `trainables.measures.folding`). Do not change it."""
        from trainables.measures.folding import fold_batch_norm

        return fold_batch_norm(self.module)

    @cached_property
    def folded_initial(self) -> nn.Module:
        """The network at initialization, folded likewise."""
        from trainables.measures.folding import fold_batch_norm

        return fold_batch_norm(self.initial)

    @cached_property
    def layers(self) -> list[Layer]:
        """Convolutions and linear layers of `folded`, in the order in which they run."""
        from trainables.measures.layers import weight_layers

        return weight_layers(self.folded, self.folded_initial, self.inputs[:1])

    @property
    def samples(self) -> int:
        """Number of training samples, n."""
        return len(self.labels)

    def once(self, compute: Callable[[Subject], _T]) -> _T:
        """Return ``compute(self)``, computed at the first call only: measures share logits, spectral norms, noise levels."""
        if compute not in self._found:
            self._found[compute] = compute(self)
        found: _T = self._found[compute]
        return found
