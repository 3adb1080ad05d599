"""A stand-in for a GPU: tensors that lie in ordinary memory and say, of their device, cuda:0.

Which memory is the card's is noted by its storage, so that views and a tensor whose ``data`` is exchanged follow by themselves. PyTorch's
calls are intercepted twice. As they are made: devices that they name, transfers, and what reads values on the host. And as operations,
those of a backward pass too: tensors of both devices in one operation are an error, as on a GPU, but for numbers (0 dimensions) of the
host.

Everything is really computed, so that results can be compared. What is counted is what makes a host wait for a GPU (see `Counts`).
"""

from __future__ import annotations

import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from trainables.data import inputs

CARD = torch.device("cuda", 0)
HOST = torch.device("cpu")
GIB = 2**30

_READ_BY_THE_HOST = {
    "_local_scalar_dense", "nonzero", "masked_select", "unique_dim", "_unique", "_unique2", "unique_consecutive", "equal", "bincount",
    "is_nonzero", "_assert_async_host",
}  # fmt: skip
"""Operations whose result the host needs, as a number or for its size."""
_OF_BOTH = {"copy_", "_to_copy", "index", "index_put_", "_index_put_impl_", "_foreach_copy_", "set_"}
"""Operations that a GPU does with tensors of both devices, or that change nothing but where a tensor lies."""
_NO_KERNEL = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "detach", "_unsafe_view", "set_", "resize_"}


@dataclass
class Counts:
    """What has happened on the card since the counts were made.

    Attributes:
        waits: times that the host waited until the card was done: it read a value, or a blocking copy ended, by where and why.
        uploads: copies from the host to the card, blocking or not.
        downloads: copies from the card to the host.
        kernels: operations on the card that are not views; about one launch each.
    """

    waits: Counter[str] = field(default_factory=Counter)
    uploads: int = 0
    downloads: int = 0
    kernels: int = 0


class _Storages:
    """A set of storages that keeps none of them alive."""

    def __init__(self) -> None:
        self._known: dict[int, StorageWeakRef] = {}

    def add(self, tensor: Tensor) -> None:
        storage = self._storage(tensor)
        self._known[storage._cdata] = StorageWeakRef(storage)  # as long as this stands no other storage has the number

    @staticmethod
    def _storage(tensor: Tensor) -> torch.UntypedStorage:
        while torch._C._functorch.is_functorch_wrapped_tensor(tensor):  # what vmap hands to the functions of one member
            tensor = torch._C._functorch.get_unwrapped(tensor)
        return tensor.untyped_storage()

    def __contains__(self, tensor: Tensor) -> bool:
        return self._storage(tensor)._cdata in self._known


class Card:
    """The stand-in, in force inside of `fake_card`."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.resident, self.pinned = _Storages(), _Storages()
        self.asked = False  # for something with a tensor of the card: what PyTorch makes for itself meanwhile lies there, too

    def holds(self, tensor: Tensor) -> bool:
        """Whether the tensor lies on the card."""
        return tensor in self.resident

    def taken_over(self, host: Tensor, blocking: bool) -> Tensor:
        """A copy of a host's tensor on the card."""
        copy = host.detach().clone().requires_grad_(host.requires_grad)
        self.resident.add(copy)
        self.upload(blocking)
        return copy

    def upload(self, blocking: bool) -> None:
        self.counts.uploads += 1
        if blocking:
            self.wait("a blocking copy to the card")

    def download(self) -> None:
        self.counts.downloads += 1
        self.wait("a copy from the card")

    def wait(self, why: str) -> None:
        ours = [one for one in traceback.extract_stack() if "/trainables/" in one.filename and "/tests/" not in one.filename]
        where = f"{ours[-1].filename.rsplit('/trainables/', 1)[1]}:{ours[-1].lineno}" if ours else "a test"
        self.counts.waits[f"{why} at {where}"] += 1


class _Calls(TorchFunctionMode):
    """What Python asks of PyTorch."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self._card = card

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, card = kwargs or {}, self._card
        name = getattr(func, "__name__", "")
        owner = getattr(func, "__self__", None)
        if name == "__get__" and args and isinstance(args[0], Tensor) and card.holds(args[0]):
            if owner is Tensor.device:
                return CARD
            if owner is Tensor.is_cuda:
                return True
            if owner is Tensor.is_cpu:
                return False
        if name in ("to", "cpu", "cuda") and args and isinstance(args[0], Tensor):
            return self._moved(func, name, args, kwargs)
        if name == "pin_memory":
            pinned = args[0].clone()
            card.pinned.add(pinned)
            return pinned
        if name in ("numpy", "__array__", "data_ptr") and card.holds(args[0]):
            raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory first.")
        if name == "tolist" and card.holds(args[0]):
            card.download()
        if _is_card(kwargs.get("device")):
            return self._made(func, args, dict(kwargs))
        leaves = tree_leaves((args, kwargs))
        before, card.asked = card.asked, any(isinstance(one, Tensor) and card.holds(one) for one in leaves)
        try:
            return func(*args, **kwargs)
        finally:
            card.asked = before

    def _moved(self, func: Callable[..., Any], name: str, args: Any, kwargs: Any) -> Any:
        tensor, *named = args
        target = {"cpu": HOST, "cuda": CARD}.get(name)
        blocking = not kwargs.get("non_blocking", False)
        rest = []
        for one in named:
            if isinstance(one, Tensor):
                target = CARD if self._card.holds(one) else HOST
                rest.append(one.dtype)
            elif isinstance(one, torch.device | str):
                target = torch.device(one)
            elif isinstance(one, bool):  # the first of two; the other one asks for a copy
                blocking = not one if one is named[-1] or not isinstance(named[-1], bool) else blocking
            elif one is not None:
                rest.append(one)
        if kwargs.get("device") is not None:
            target = torch.device(kwargs["device"])
        kept = {key: value for key, value in kwargs.items() if key not in ("device", "non_blocking")}
        held = self._card.holds(tensor)
        if target is None or target.type == "meta":
            return func(*args, **kwargs)
        if _is_card(target) and not held:
            source_is_pinned = tensor in self._card.pinned
            tensor = self._card.taken_over(tensor, blocking or not source_is_pinned)
        elif target.type == "cpu" and held:
            self._card.download()
            with torch._C.DisableTorchFunction(), torch.utils._python_dispatch._disable_current_modes():
                tensor = tensor.detach().clone()
        return Tensor.to(tensor, *rest, **kept) if rest or kept else tensor

    def _made(self, func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
        if kwargs.get("generator") is not None and kwargs["generator"].device.type == "cpu":
            raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
        kwargs["device"] = HOST
        if kwargs.pop("pin_memory", False):
            raise RuntimeError("only a host's memory can be pinned")
        found = func(*args, **kwargs)
        if func in (torch.tensor, torch.as_tensor, torch.asarray):
            return self._card.taken_over(found, blocking=True)
        if isinstance(found, Tensor):
            self._card.resident.add(found)
        return found


class _Operations(TorchDispatchMode):
    """What PyTorch computes, backward passes included."""

    def __init__(self, card: Card) -> None:
        super().__init__()
        self._card = card

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Nothing here is compiled, and PyTorch's compiler takes seconds to import."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs, card = kwargs or {}, self._card
        name = func.name().removeprefix("aten::").split(".")[0]
        given = [one for one in tree_leaves((args, kwargs)) if isinstance(one, Tensor) and one.device.type == "cpu"]
        held = [one for one in given if card.holds(one)]
        if not held:
            made = func(*args, **kwargs)
            if not given and self._card.asked and isinstance(made, Tensor):
                card.resident.add(made)
            return made
        hosts = [one for one in given if not card.holds(one) and (one.dim() or name in ("cat", "stack"))]
        if hosts and name not in _OF_BOTH:
            raise RuntimeError(f"Expected all tensors to be on the same device, but found cuda:0 and cpu, in {func.name()}")
        self._note(name, args, held, hosts)
        found = func(*args, **kwargs)
        if name == "copy_" and not card.holds(args[0]):
            return found
        for one in tree_leaves(found):
            if isinstance(one, Tensor) and one.device.type == "cpu":
                card.resident.add(one)
        changes_nothing = all(one.alias_info is not None and not one.alias_info.is_write for one in func._schema.returns)
        if not changes_nothing and name not in _NO_KERNEL:
            card.counts.kernels += 1
        return found

    def _note(self, name: str, args: Any, held: list[Tensor], hosts: list[Tensor]) -> None:
        card = self._card
        if name in _READ_BY_THE_HOST:
            card.wait(f"the host reads {name}")
        if name in ("index", "index_put_", "_index_put_impl_"):
            where = [one for one in args[1] if one is not None]
            if any(one.dtype in (torch.bool, torch.uint8) for one in where):
                card.wait("the host asks which are chosen by a mask")
            for one in where:
                if not card.holds(one):
                    card.upload(blocking=True)
        if name == "repeat_interleave" and not (len(args) > 2):
            card.wait("the host asks how many are repeated")
        if name == "copy_" and hosts:
            to_card = card.holds(args[0])
            asynchronous = len(args) > 2 and args[2]
            if to_card:
                card.upload(blocking=not (asynchronous and args[1] in card.pinned))
            else:
                card.download()


def _is_card(device: Any) -> bool:
    return device is not None and torch.device(device).type == "cuda"


@contextmanager
def fake_card() -> Iterator[Card]:
    """Have a machine with a GPU of 80 GiB, for what runs inside."""
    card = Card()
    with ExitStack() as stack:
        for kept in (inputs._point_data, inputs._subset, inputs._shared_images):
            stack.callback(kept.cache_clear)  # what lies on this card is of no use afterwards
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        for name, stand_in in {
            "is_available": lambda: True,
            "mem_get_info": lambda device=None: (80 * GIB, 80 * GIB),
            "get_per_process_memory_fraction": lambda device=None: 1.0,
            "empty_cache": lambda: None,
            "synchronize": lambda device=None: card.wait("synchronize"),
            "manual_seed": lambda seed: None,
        }.items():
            patch.setattr(torch.cuda, name, stand_in)
        patch.setattr(torch, "autocast", _autocast_of(torch.autocast))
        stack.enter_context(_Operations(card))
        stack.enter_context(_Calls(card))
        yield card


def _autocast_of(autocast: Any) -> Callable[..., Any]:
    def chosen(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return autocast("cpu" if device_type == "cuda" else device_type, *args, **kwargs)

    return chosen
