"""Trials on a CUDA device that computes nothing. A process of its own: the device has to be there before torch is.

    python -m tests.gpu.fake_device LIBRARY FOLDER [CASE ...]      # prints what happened in each case, a line of JSON each

Tensors on the host are real; tensors on the device are fake: they have a shape, a type and a place, and torch
checks all three. Every operation and every copy between the two is counted.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import sys
import traceback
from collections import Counter
from types import SimpleNamespace
from typing import Any

if __name__ == "__main__":
    ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils import _pytree as tree
from torch.utils._python_dispatch import TorchDispatchMode

from engram.models import captured
from engram.models.training import Examples
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import checkpoint, measuring, preparing
from tests.gpu import cases

CUDA = torch.device("cuda", 0)
aten = torch.ops.aten
# In place, and without a fake form: their devices are checked here.
WITHOUT_FAKE = {
    aten._fused_sgd_.default,
    aten._fused_sgd_.tensor_lr,
    aten._fused_adam_.tensor_lr,
    aten._fused_adamw_.tensor_lr,
}


FAKE = FakeTensorMode(allow_non_fake_inputs=True)


class Synchronised(AssertionError):
    """The host waited for the device where it must not."""


class Device(TorchDispatchMode):
    """The device: what is done on it, what is copied to and from it, and what waits for it."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = FAKE
        self.counts: Counter[str] = Counter()
        self.stepping = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        tensors = [x for x in tree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        on_device = any(isinstance(x, FakeTensor) for x in tensors)
        asked = kwargs.get("device")
        if not on_device and (asked is None or torch.device(asked).type != "cuda"):
            return func(*args, **kwargs)
        if func is torch.ops.prim.device.default:
            return args[0].fake_device  # a question, not an operation
        if func is aten._local_scalar_dense.default or func is aten.equal.default:
            return self._waits(func, 0.5)
        if func in WITHOUT_FAKE:
            places = {x.device for x in tensors}
            assert places == {CUDA}, f"{func} on {places}"
            self.counts["operations"] += 1
            return None
        if func is aten.copy_.default and not isinstance(args[0], FakeTensor):
            self._waits(func, None)
            return args[0]
        with self.fake:
            args, kwargs = tree.tree_map_only(torch.Tensor, self._faked, (args, kwargs))
            out = func(*args, **kwargs)
        self._count(func, tensors, out)
        return tree.tree_map_only(FakeTensor, self._landed, out)

    def _count(self, func: Any, tensors: list[Any], out: Any) -> None:
        places = {x.device.type for x in tree.tree_leaves(out) if isinstance(x, torch.Tensor)}
        if "cpu" in places:
            self._waits(func, None)
        elif any(x.device.type == "cpu" and x.dim() for x in tensors):
            self.counts["copies in"] += 1
        elif not _is_view(func):
            self.counts["operations"] += 1

    def _waits(self, func: Any, answer: Any) -> Any:
        if self.stepping:
            raise Synchronised(f"{func} waits for the device within a step")
        self.counts["copies out"] += 1
        return answer

    def _faked(self, tensor: Any) -> Any:
        return tensor if isinstance(tensor, FakeTensor) else self.fake.from_tensor(tensor)

    def _landed(self, tensor: FakeTensor) -> Any:
        """What has been copied to the host is real from there on: some numbers."""
        if tensor.device.type != "cpu":
            return tensor
        made = torch.full(tuple(tensor.shape), 0.5)
        return made.to(tensor.dtype)


def _is_view(func: Any) -> bool:
    """Whether an operation only looks at memory in another way: it starts nothing on the device."""
    returns = func._schema.returns
    return bool(returns) and all(
        r.alias_info is not None and not r.alias_info.is_write for r in returns
    )


# What is wrong on purpose, to see that it is noticed.
FAULTS: dict[str, dict[str, Any]] = {
    "a mask on the host": {"fault": lambda losses: losses * torch.ones(losses.shape)},
    "a loss that is read": {"fault": lambda losses: losses * float(losses.detach().mean())},
}


def run(case: dict[str, Any], device: Device) -> dict[str, Any]:
    """A trial with a checkpoint in the middle, to its record; counts of a step, an evaluation and an epoch's order."""
    asked, data = cases.configuration(case, sys.argv[2]), cases.dataset(case)
    wanted = MeasuresConfig(**case.get("wanted", {}))
    first = preparing.prepare(asked, data, CUDA, wanted=wanted, capture=True)
    trainer = first.trainer
    if "fault" in case:
        right, wrong = trainer.loss, case["fault"]
        trainer.loss = lambda *words: (wrong(right(*words)[0]), None)
    assert {p.device for p in trainer.cohort.parameters.values()} == {CUDA}
    assert trainer.cohort.way == case.get("way", "stacked"), trainer.cohort.reason
    trainer.predict(Examples(trainer.pool.inputs[:2], trainer.pool.targets[:2]))
    trainer.cohort.train(True)
    trainer.train_epoch(0, 0, 1)  # the state of the optimizer is made here
    counts: dict[str, Any] = {"step": _counted(device, lambda: trainer.train_epoch(0, 1, 2), True)}
    trainer.train_epoch(0, 2, trainer.steps_per_epoch)
    counts["evaluation"] = _counted(device, trainer.evaluate)
    recorded: list[dict[str, int]] = []
    captured.record = lambda work, place: _recorded(device, work, recorded)
    first.advance()
    if trainer.captured:
        counts["recorded"] = recorded[0]
    counts["epoch"] = _counted(device, lambda: trainer.orders.of(0))
    saved = checkpoint.encode(first.state_dict(), {})
    second = preparing.prepare(asked, data, CUDA, wanted=wanted)
    second.load_state_dict(checkpoint.decode(saved)[0])
    while not second.trainer.finished:
        second.advance()
    record, _ = measuring.measure(second, wanted)
    counts["status"] = record["status"]
    return counts


def _recorded(device: Device, work: Any, counts: list[dict[str, int]]) -> Any:
    """What stands for a graph: the steps are gone through once, as while a graph is recorded, and never again."""
    counts.append(_counted(device, work, True))
    return lambda: None


def _counted(device: Device, work: Any, stepping: bool = False) -> dict[str, int]:
    device.counts.clear()
    device.stepping = stepping
    try:
        work()
    finally:
        device.stepping = False
    return dict(device.counts)


def main() -> None:
    # autocast asks whether CUDA can be had, which a build for CPUs denies.
    captured.aside = lambda device: contextlib.nullcontext()
    torch.Tensor.pin_memory = lambda tensor: tensor
    torch.cuda.amp.common.amp_definitely_not_available = lambda: False
    torch.cuda._lazy_init = lambda: None
    torch._C._set_only_lift_cpu_tensors(
        True
    )  # torch.tensor(..., device=) copies where it can be seen
    torch.cuda.is_available = lambda: True
    torch.cuda.get_device_properties = lambda device: SimpleNamespace(total_memory=2**34)
    torch.cuda.is_bf16_supported = lambda *words, **options: True
    torch.manual_seed(0)
    known = cases.CASES | FAULTS
    for name in sys.argv[3:] or known:
        with Device() as device:
            try:
                found = run(known[name], device)
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                found = {"failed": said, "where": traceback.format_exc()}
        print(json.dumps({"case": name, **found}), flush=True)


if __name__ == "__main__":
    main()
