"""CUDA graphs on a CPU: what torch was asked to do while recording is done again, on the same memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as tree
from torch.utils._python_dispatch import TorchDispatchMode


class Unsafe(AssertionError):
    """What no CUDA graph can record: the host wants to see a number."""


class Recording(TorchDispatchMode):
    """Notes each operation with its arguments: tensors by the memory that they have, numbers as they are.

    The operations are carried out meanwhile, and `restore` puts back the memory that they changed: a real recording
    calculates nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, list[Tensor]]] = []
        self.before: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            raise Unsafe(f"{func} while steps are recorded")
        for tensor in tree.tree_leaves((args, kwargs)):
            if isinstance(tensor, Tensor):
                storage = tensor.untyped_storage()
                whole = torch.empty(0, dtype=tensor.dtype).set_(storage)
                self.before.setdefault(storage.data_ptr(), (whole, whole.clone()))
        out = func(*args, **kwargs)
        results = [x for x in tree.tree_leaves(out) if isinstance(x, Tensor)]
        self.operations.append((func, args, kwargs, results))
        return out

    def restore(self) -> None:
        for whole, kept in self.before.values():
            whole.copy_(kept)


def record(work: Callable[[], None], device: torch.device) -> Callable[[], None]:
    """In place of captured.record."""
    with Recording() as recording:
        work()
    recording.restore()

    @torch.no_grad()
    def replay() -> None:
        for func, args, kwargs, results in recording.operations:
            again = [x for x in tree.tree_leaves(func(*args, **kwargs)) if isinstance(x, Tensor)]
            for old, new in zip(results, again, strict=True):
                if old.data_ptr() != new.data_ptr():
                    old.copy_(new)

    return replay
