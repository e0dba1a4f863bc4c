"""Measures that people name in papers, of predictions alone: one value for each replica.

Each function takes predictions [R, N, C] (probabilities of classes, or values [R, N, K] in the target's own
unit) and targets [N] or [N, K], and returns [R]; NaN where it is undefined. scikit-learn does the arithmetic,
and its conventions hold. Rows of `catalog` name these functions; knows nothing of networks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from engram.measures.arrays import Floats

BINS = 15  # of the calibration error


def f1(probabilities: Any, labels: Any) -> Floats:
    """Macro F1 of the likeliest class, in [0, 1]: sklearn.metrics.f1_score(average="macro")."""
    from sklearn.metrics import f1_score

    return _each(
        lambda p, y: f1_score(y, p.argmax(-1), average="macro", zero_division=0),
        probabilities,
        labels,
    )


def precision(probabilities: Any, labels: Any) -> Floats:
    """Share of class 1 among what is called class 1 of two, in [0, 1]; 0 where nothing is: sklearn.metrics.precision_score."""
    from sklearn.metrics import precision_score

    return _each(
        lambda p, y: precision_score(y, p.argmax(-1), zero_division=0), probabilities, labels
    )


def recall(probabilities: Any, labels: Any) -> Floats:
    """Share of class 1 of two that is called so, in [0, 1]: sklearn.metrics.recall_score; NaN without examples of it."""
    from sklearn.metrics import recall_score

    return _each(
        lambda p, y: recall_score(y, p.argmax(-1), zero_division=np.nan), probabilities, labels
    )


def positive_f1(probabilities: Any, labels: Any) -> Floats:
    """Harmonic mean of `precision` and `recall`, in [0, 1]: sklearn.metrics.f1_score of class 1 of two."""
    from sklearn.metrics import f1_score

    return _each(lambda p, y: f1_score(y, p.argmax(-1), zero_division=0), probabilities, labels)


def balanced_error(probabilities: Any, labels: Any) -> Floats:
    """1 - balanced accuracy, in [0, 1]: the mean over the classes in `labels` of the share missed."""
    from sklearn.metrics import recall_score

    present = np.unique(labels)
    return _each(
        lambda p, y: 1 - recall_score(y, p.argmax(-1), labels=present, average="macro"),
        probabilities,
        labels,
    )


def auroc(probabilities: Any, labels: Any) -> Floats:
    """Area under the ROC curve, each class against the rest, mean over the classes in `labels`.

    In [0, 1], 0.5 for guessing; NaN where `labels` has one class alone. With every class present it is
    sklearn.metrics.roc_auc_score(multi_class="ovr"), whose binary case it is for two classes."""
    from sklearn.metrics import roc_auc_score

    def areas(p: Floats, y: np.ndarray) -> float:
        present = np.unique(y)
        if len(present) < 2:
            return float("nan")
        return float(np.mean([roc_auc_score(y == k, p[:, k]) for k in present]))

    return _each(areas, probabilities, labels)


def average_precision(probabilities: Any, labels: Any) -> Floats:
    """Area under the precision-recall curve, in [0, 1]: sklearn.metrics.average_precision_score.

    With two classes that of the second (the positive one, as scikit-learn sorts them), else the mean over
    the classes in `labels`; NaN where `labels` has one class alone."""
    from sklearn.metrics import average_precision_score

    def areas(p: Floats, y: np.ndarray) -> float:
        present = np.unique(y)
        if len(present) < 2:
            return float("nan")
        counted = [1] if p.shape[1] == 2 else present
        return float(np.mean([average_precision_score(y == k, p[:, k]) for k in counted]))

    return _each(areas, probabilities, labels)


def calibration_error(probabilities: Any, labels: Any) -> Floats:
    """Expected calibration error, in [0, 1]: Σ n_b/N · |accuracy_b - confidence_b| over 15 equal bins.

    Confidence is the probability of the likeliest class; a bin holds confidences in (b/15, (b+1)/15].
    Source: Guo et al. 2017, arXiv:1706.04599, eq. 3."""

    def distance(p: Floats, y: np.ndarray) -> float:
        confidence, right = p.max(-1), p.argmax(-1) == y
        bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
        # n_b · (accuracy_b - confidence_b) is the sum of the differences in the bin.
        return float(np.abs(np.bincount(bins, right - confidence)).sum() / len(y))

    return _each(distance, probabilities, labels)


def log_loss(probabilities: Any, labels: Any) -> Floats:
    """Mean of -log of the true class's probability, in nats: sklearn.metrics.log_loss."""
    from sklearn.metrics import log_loss as of_sklearn

    return _each(
        lambda p, y: of_sklearn(y, p, labels=np.arange(p.shape[-1])), probabilities, labels
    )


def rank_error(probabilities: Any, labels: Any) -> Floats:
    """Mean of |rank of the answer - rank of the true class|, in [0, C - 1]; labels are ranks of ordered classes.

    The answer is the median of the predicted distribution, the lowest class with half of the probability at or below it:
    no other answer has a smaller expected distance. Source: Gneiting 2011, arXiv:0912.0902, section 3."""

    def distance(p: Floats, y: np.ndarray) -> float:
        answer = (p.cumsum(-1)[:, :-1] < 0.5).sum(-1)
        return float(np.abs(answer - y).mean())

    return _each(distance, probabilities, labels)


def ranked_probability_score(probabilities: Any, labels: Any) -> Floats:
    """Mean over examples and the C - 1 ranks k of (P(rank > k) - [y > k])², in [0, 1].

    Source: Epstein 1969; Gneiting & Raftery 2007, section 4.2. Its mean over replicas is bias² + variance."""

    def score(p: Floats, y: np.ndarray) -> float:
        above = 1 - p.cumsum(-1)[:, :-1]
        return float(((above - (y[:, None] > np.arange(above.shape[1]))) ** 2).mean())

    return _each(score, probabilities, labels)


def subset_error(probabilities: Any, labels: Any) -> Floats:
    """Share of the examples of which any label is wrong, in [0, 1]: 1 - sklearn.metrics.accuracy_score.

    probabilities [R, N, L] of each label, labels [N, L] of 0 and 1; a label is given above one half."""
    return _each(lambda p, y: float(((p > 0.5) != y).any(-1).mean()), probabilities, labels)


def r2(values: Any, targets: Any) -> Floats:
    """1 - squared error over the variance of the targets, at most 1; mean over K targets."""
    from sklearn.metrics import r2_score

    return _each(lambda p, y: r2_score(y, p), values, targets)


def mean_absolute_error(values: Any, targets: Any) -> Floats:
    """Mean of |prediction - target|, in the unit in which both are given; mean over K targets."""
    from sklearn.metrics import mean_absolute_error as of_sklearn

    return _each(lambda p, y: of_sklearn(y, p), values, targets)


def _each(metric: Callable[[Floats, np.ndarray], float], predictions: Any, targets: Any) -> Floats:
    """One number for each replica: [R, N, ...] -> [R]."""
    predictions, targets = np.asarray(predictions, np.float64), np.asarray(targets)
    if predictions.ndim != 3 or predictions.shape[1] != len(targets):
        raise ValueError(
            f"predictions of shape {predictions.shape} for {len(targets)} targets: give [R, N, C]"
        )
    if targets.dtype.kind == "f":  # [N, K], as predictions are
        targets = targets.reshape(len(targets), -1)
    return np.array([metric(p, targets) for p in predictions], dtype=np.float64)


def own(function: Callable[..., Any], predictions: Any, targets: Any) -> Floats:
    """A person's function of one replica's predictions [N, C] and targets [N], for each replica: [R].

    Values with one target are given as [N], as the targets are. Raises OwnMetricError, which names the
    function and the line, where it raises or returns anything but one finite number."""
    predictions, targets = np.asarray(predictions), np.asarray(targets)
    if targets.ndim == 2 and targets.shape[1] == 1:
        predictions, targets = predictions[..., 0], targets[:, 0]
    # Copies: what is theirs may change what it gets.
    values = [_number(function, one.copy(), targets.copy()) for one in predictions]
    return np.array(values, dtype=np.float64)


class OwnMetricError(ValueError):
    """A person's metric that raised, or returned no finite number."""


def _number(function: Callable[..., Any], predictions: np.ndarray, targets: np.ndarray) -> float:
    name = f"{function.__module__}:{getattr(function, '__qualname__', function)}"
    try:
        found = function(predictions, targets)
    except Exception as error:  # whatever it raises
        said = f"{type(error).__name__}: {error}{_line(error, function)}"
        raise OwnMetricError(f"{name} raised {said}") from error
    try:
        array = np.asarray(found)
        number = float(array.reshape(())) if array.dtype.kind in "biuf" else None
    except (TypeError, ValueError):
        number = None
    if number is None:
        shape = f"an array of shape {np.shape(found)}" if np.ndim(found) else type(found).__name__
        raise OwnMetricError(f"{name} returned {shape}, not one number for the replica")
    if not np.isfinite(number):
        raise OwnMetricError(f"{name} returned {number}, which is no finite number")
    return number


def _line(error: BaseException, function: Callable[..., Any]) -> str:
    """Where in the person's own file it was raised."""
    code = getattr(function, "__code__", None)
    place, trace = "", error.__traceback__
    while trace is not None:
        if code is not None and trace.tb_frame.f_code.co_filename == code.co_filename:
            place = f" ({code.co_filename}, line {trace.tb_lineno})"
        trace = trace.tb_next
    return place
