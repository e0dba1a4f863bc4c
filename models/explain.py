"""What went wrong in a person's code, said so that they can mend it: class, call, line in their file, remedy.

Our own frames and torch's are left out: they tell the person nothing about their network.
"""

from __future__ import annotations

import contextlib
import re
import sysconfig
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engram.models.families import ModelError
from engram.models.trouble import kind

# What torch says -> what to do about it.
REMEDIES: tuple[tuple[str, str], ...] = (
    (
        r"argument #1 'indices'.*scalar types?: Long|tensors used as indices must be long",
        "inputs come as float32: write x.long() before the embedding",
    ),
    (
        r"Expected \d-?D? ?\(unbatched\) or \d-?D? ?\(batched\) input|expected \d+D? or \d+D? input|expected \d+D input",
        "give the layer the axes that it wants: x.unsqueeze(1) adds a channel axis, x.flatten(1) removes axes",
    ),
    (
        r"expected input\[.*\] to have (\d+) channels, but got (\d+) channels",
        "channels come first in torch: x.permute(0, 3, 1, 2) where they are last, x.unsqueeze(1) where there are none, and "
        "shape[0] for their number",
    ),
    (
        r"mat1 and mat2 shapes cannot be multiplied|size mismatch",
        "take the number of inputs from `shape`, and write x.flatten(1) before the first linear layer",
    ),
    (
        r"Expected more than 1 value per channel when training",
        "batch statistics need two examples, and the last batch of an epoch has one: choose training.batch_size so that "
        "data.train_size does not leave one over",
    ),
    (
        r"does not require grad and does not have a grad_fn",
        "nothing is left to train: every parameter is frozen, or forward detaches (no_grad, .data, .detach(), .item())",
    ),
    (
        r"backward through the graph a second time|modified by an inplace operation",
        "a state that is kept from one call to the next wants .detach(), and one that is used twice must not be changed in place",
    ),
    (
        r"on the same device|Expected all tensors to be on",
        "register tensors with register_buffer, or make them on x.device: a plain attribute stays where it was made",
    ),
    (r"Can't call numpy\(\)", "stay within torch, or write .detach() where no gradient is wanted"),
    (
        r"missing \d+ required positional argument|takes \d+ positional arguments? but",
        "forward is called with the inputs alone, and the class with (shape, outputs) and what the study sets",
    ),
    (
        r"unexpected keyword argument",
        "name the argument in __init__, or take the key out of the study",
    ),
    (
        r"out of bounds|index out of range",
        "an index is larger than the table that it looks up: check num_embeddings, and that targets start at 0",
    ),
    (
        r"not support sparse gradients|sparse gradients? .*not|not compatible with sparse|add\(sparse, dense\)",
        "build the layer with sparse=False, or choose sgd or adagrad without weight decay, which take them",
    ),
    (
        r"does not support dense gradients",
        "it is for networks whose every gradient is sparse: training.optimizer: adam, and layers with sparse=False",
    ),
    (r"Target \d+ is out of bounds", "the network has fewer outputs than there are classes"),
)
OURS = Path(__file__).resolve().parent.parent
FOREIGN = tuple(
    str(Path(sysconfig.get_path(name)).resolve()) for name in ("purelib", "platlib", "stdlib")
)


class CodeError(ModelError):
    """An error raised in a person's own code, already explained."""


@contextlib.contextmanager
def in_their_code(subject: Any, call: str) -> Iterator[None]:
    """Turn what a person's code raises into a CodeError that explains it. Memory and interrupts pass as they are."""
    try:
        yield
    except (ModelError, MemoryError):
        raise
    except Exception as error:
        if kind(error) != "trial":
            raise  # of memory or a device: the caller knows what to do about it
        raise CodeError(explained(error, subject, call)) from None


def explained(error: BaseException, subject: Any, call: str) -> str:
    """One error of a person's class or function as text for that person."""
    name = (
        f"{subject.__module__}:{subject.__qualname__}"
        if hasattr(subject, "__qualname__")
        else str(subject)
    )
    frame = _their_frame(error)
    said = str(error).strip().splitlines()
    first = f"{type(error).__name__}: {said[0] if said else 'without a message'}"
    lines = [f"{name} fails in {call}: {first}"]
    if frame is not None:
        lines.append(f"    {frame.filename}:{frame.lineno}: {(frame.line or '').strip()}")
    remedy = next((fix for pattern, fix in REMEDIES if re.search(pattern, str(error))), None)
    if remedy:
        lines.append(f"    {remedy}")
    return "\n".join(lines)


def _their_frame(error: BaseException) -> traceback.FrameSummary | None:
    """The innermost frame in a file that is neither ours nor installed."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if frame.filename.startswith("<"):
            continue
        path = Path(frame.filename).resolve()
        ours = any(
            OURS / room in path.parents
            for room in ("models", "sweeps", "data", "measures", "engram")
        )
        if not ours and not str(path).startswith(FOREIGN):
            return frame
    return None
