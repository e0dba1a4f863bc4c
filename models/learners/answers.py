"""What a predictor says, as the numbers that all measures are taken from.

Logits, probabilities, classes or values come out as float64 [N, C]: logarithms of probabilities, or values.
What cannot be told apart is refused rather than guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from engram.models.families import ModelError
from engram.models.learners.task import Said

PIECE = 4096  # examples predicted at once
# Of a probability, before its logarithm is taken: as sklearn.metrics.log_loss has it.
LEAST = float(np.finfo(np.float64).eps)
SUM = 1e-3  # that a row of probabilities may be off 1: half precision is
MARK = "task.logits(predict) or task.probabilities(predict)"


def ask(predictor: Any, inputs: Any, classification: bool) -> np.ndarray:
    """The raw answer of a predictor on examples: an array of numbers [N] or [N, C], as it gives them.

    inputs: an array, or several by their names."""
    call = _callable(predictor, classification)
    named = inputs if isinstance(inputs, Mapping) else {"": inputs}
    count = len(next(iter(named.values())))
    pieces = []
    for start in range(0, count, PIECE):
        some = {name: each[start : start + PIECE] for name, each in named.items()}
        piece = _array(call(some if isinstance(inputs, Mapping) else some[""]))
        expected = min(PIECE, count - start)
        if piece.ndim not in (1, 2) or len(piece) != expected:
            raise ModelError(
                f"the predictor returns shape {list(piece.shape)} for {expected} examples; return one row an example"
            )
        pieces.append(piece)
    return np.concatenate(pieces)


def _callable(predictor: Any, classification: bool) -> Callable[[Any], Any]:
    """How a predictor is asked: a function, a torch module, or an object with predict_proba or predict."""
    if isinstance(predictor, Said):
        return _callable(predictor.predict, classification)
    if _is_torch(predictor):
        return _of_torch(predictor)
    if classification and hasattr(predictor, "predict_proba"):
        return predictor.predict_proba
    if hasattr(predictor, "predict"):
        return predictor.predict
    if callable(predictor):
        return predictor
    raise ModelError(
        f"the training function returns {type(predictor).__name__}, no predictor: return a function "
        "of inputs, a torch module, or an object with predict"
    )


def _is_torch(predictor: Any) -> bool:
    import torch

    return isinstance(predictor, torch.nn.Module) and not hasattr(predictor, "predict_proba")


def _of_torch(module: Any) -> Callable[[Any], Any]:
    import torch

    from engram.models import several

    first = next(module.parameters(), None)
    device = torch.device("cpu") if first is None else first.device

    def call(inputs: Any) -> Any:
        module.eval()
        with torch.no_grad():
            return several.called(module, several.to_torch(inputs, device))

    return call


def _array(answer: Any) -> np.ndarray:
    answer = getattr(answer, "logits", answer)  # what Hugging Face's models return
    if hasattr(answer, "detach"):
        answer = answer.detach().float() if answer.is_floating_point() else answer.detach()
        answer = answer.cpu().numpy()
    found = np.asarray(answer)
    if found.dtype.kind not in "fiub":
        raise ModelError(
            f"the predictor returns {type(answer).__name__} of {found.dtype}: return numbers"
        )
    return found


def values(raw: np.ndarray, outputs: int) -> np.ndarray:
    """Predicted values [N, K] in float64. ModelError for another number of them."""
    found = raw[:, None] if raw.ndim == 1 else raw
    if found.shape[1] != outputs:
        raise ModelError(
            f"the predictor returns {found.shape[1]} values an example, and there are {outputs} to predict"
        )
    return found.astype(np.float64)


def gives(raws: Sequence[np.ndarray], classes: int, said: str | None = None) -> str:
    """What all of a predictor's answers are: "logits", "probabilities" or "classes".

    ModelError where they may be either; said: what the person says that they are."""
    if said is not None:
        return said
    every = np.concatenate([r.reshape(len(r), -1) for r in raws])
    finite = every[np.isfinite(every).all(1)]
    if not len(finite):
        return "logits"  # all of it is NaN or infinite: the replica diverged, whatever it is
    if finite.shape[1] == 1:
        return _gives_one(finite[:, 0], classes)
    if finite.shape[1] != classes:
        raise ModelError(
            f"the predictor returns {finite.shape[1]} numbers an example, and there are {classes} classes"
        )
    if (finite < 0).any() or (finite > 1 + SUM).any():
        return "logits"
    sums = finite.sum(1)
    if np.abs(sums - 1).max() <= SUM:
        return "probabilities"
    raise ModelError(
        f"the predictor returns numbers from 0 to 1 whose rows sum to {sums.min():.3g} to {sums.max():.3g}: they "
        f"may be logits or unscaled probabilities; say which, return {MARK}"
    )


def _gives_one(numbers: np.ndarray, classes: int) -> str:
    """The same for one number an example."""
    whole = (numbers == np.floor(numbers)).all()
    if whole and numbers.min() >= 0 and numbers.max() < classes:
        return "classes"
    if classes != 2:
        raise ModelError(
            f"the predictor returns one number an example that is no class of {classes}: return a row of "
            f"{classes} logits or probabilities"
        )
    return "probabilities" if numbers.min() >= 0 and numbers.max() <= 1 else "logits"


def gives_labels(raws: Sequence[np.ndarray], labels: int, said: str | None = None) -> str:
    """What all answers about several labels an example are: "classes" (0 and 1 alone), "probabilities" or "logits"."""
    for raw in raws:
        if raw.ndim != 2 or raw.shape[1] != labels:
            found = raw.shape[1] if raw.ndim == 2 else 1
            raise ModelError(
                f"the predictor returns {found} numbers an example, and there are {labels} labels"
            )
    every = np.concatenate(raws)
    finite = every[np.isfinite(every)]
    if said is not None:
        return said
    if len(finite) and finite.min() >= 0 and finite.max() <= 1:
        return "classes" if np.isin(finite, (0, 1)).all() else "probabilities"
    return "logits"


def label_logits(raw: np.ndarray, labels: int, what: str) -> np.ndarray:
    """Logits [N, L] in float64 of answers that are `what`; a probability lies within LEAST of 0 and 1 at most."""
    rows = raw.astype(np.float64)
    if what == "logits":
        return rows
    rows = np.clip(rows, LEAST, 1 - LEAST)  # NaN stays
    return np.log(rows) - np.log1p(-rows)


def log_probabilities(raw: np.ndarray, classes: int, what: str) -> np.ndarray:
    """Logarithms of probabilities [N, C] in float64, of answers that are `what`.

    A probability counts as at least LEAST; a row with NaN or infinity stays so."""
    rows = raw.reshape(len(raw), -1).astype(np.float64)
    if what == "classes":
        return np.log(np.maximum(np.eye(classes)[rows[:, 0].astype(np.int64)], LEAST))
    if rows.shape[1] == 1:  # of the second class of two
        rows = np.hstack(
            [1 - rows, rows] if what == "probabilities" else [np.zeros_like(rows), rows]
        )
    if rows.shape[1] != classes:
        raise ModelError(
            f"the predictor returns {rows.shape[1]} numbers an example, and there are {classes} classes"
        )
    if what == "probabilities":
        with np.errstate(invalid="ignore", divide="ignore"):
            rows = rows / rows.sum(1, keepdims=True)
            return np.log(np.where(np.isnan(rows), np.nan, np.maximum(rows, LEAST)))
    with np.errstate(invalid="ignore", over="ignore"):
        shifted = rows - rows.max(1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
