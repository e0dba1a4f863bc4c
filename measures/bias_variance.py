"""Bias and variance of a cohort's predictions: squared, cross-entropy and 0-1, and variance split in two.

What varies is the replica: its training subset and its seeds. With subsets of one pool that overlap (m/n not
small) the variance is the one given the pool, and the part that is shared sits in the bias. Label noise in the
targets sits in the bias too. Values per example are never clipped: an unbiased bias² may be negative."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import logsumexp

from engram.measures import arrays
from engram.measures.arrays import Floats, PerExample


@dataclass(frozen=True)
class Squared:
    """risk = bias2 + variance, means over examples; `per_example` has these and `*_plugin` (divisor R)."""

    risk: float
    bias2: float
    variance: float
    per_example: PerExample


@dataclass(frozen=True)
class CrossEntropy:
    """risk = bias + variance in nats; `per_example` has these and `*_plugin`; `center` is [N, C]."""

    risk: float
    bias: float
    variance: float
    per_example: PerExample
    center: Floats


@dataclass(frozen=True)
class ZeroOne:
    """risk = bias + net_variance (Domingos) and = kw_bias2 + kw_variance (Kohavi & Wolpert).

    `variance` is mean P(h ≠ main), so (risk, bias, variance) is also the plain triple of mlxtend, which
    does not add up. `kw_*_unbiased` correct for finite R; `per_example` has all, and `main`, `effect`."""

    risk: float
    bias: float
    variance: float
    net_variance: float
    kw_bias2: float
    kw_variance: float
    kw_bias2_unbiased: float
    kw_variance_unbiased: float
    per_example: PerExample

    @property
    def plain(self) -> tuple[float, float, float]:
        """(loss, error of the main prediction, mean disagreement with it), as mlxtend reports them."""
        return self.risk, self.bias, self.variance


@dataclass(frozen=True)
class Components:
    """variance = variance_data + variance_init: that of one network on a fresh subset with a fresh seed."""

    variance_data: float
    variance_init: float
    variance: float
    per_example: PerExample


def squared(predictions: Any, targets: Any, inits: int = 1) -> Squared:
    """Squared error of one replica = squared error of the mean replica + variance between replicas.

    predictions: [R, N, C] probabilities or values, or [R, N]; targets: labels [N] for [R, N, C] (one-hot is
    made of them: the Brier score, summed over classes, in [0, 2]), else values of shape predictions.shape[1:].
    Finite-R corrected: variance = Σ(f_r - f̄)²/(R-1), bias2 = (f̄ - y)² - variance/R; both are NaN for R = 1.
    inits: replicas that share a subset, R = draws x inits. They are not independent, so the variance is the sum of
    the components of `components`, and what bias2 is corrected by is the variance between draws, MSB/R; NaN for
    one draw.
    Refuses NaN, labels outside [0, C), shapes that disagree.
    Source: Geman, Bienenstock & Doursat 1992, section 3.1; Brier form: Yang et al. 2020, arXiv:2002.11328."""
    values = arrays.floats(predictions, "predictions")
    if values.ndim < 2:
        raise ValueError(f"predictions has shape {values.shape}; it must be [R, N] or [R, N, C]")
    wanted = _targets(targets, values)
    count, axes = values.shape[0], tuple(range(1, values.ndim - 1))

    def total(x: Floats) -> Floats:  # [N, ...] -> [N]
        return x.sum(axis=axes) if axes else x

    mean = values.mean(axis=0)
    plugin = total(((values - mean) ** 2).mean(axis=0))
    center = total((mean - wanted) ** 2)
    risk = total(((values - wanted) ** 2).mean(axis=0))
    if inits > 1:
        if count % inits:
            raise ValueError(f"{count} replicas, inits = {inits}; replicas must be draws x inits")
        parts = components(values.reshape(-1, inits, *values.shape[1:])).per_example
        variance = parts["variance"]
        of_mean = (inits * parts["variance_data"] + parts["variance_init"]) / count  # MSB/R
    else:
        variance = plugin * count / (count - 1) if count > 1 else np.full_like(plugin, math.nan)
        of_mean = variance / count
    per_example = PerExample(
        risk=risk,
        bias2=center - of_mean,
        variance=variance,
        bias2_plugin=center,
        variance_plugin=plugin,
    )
    return Squared(**per_example.means("risk", "bias2", "variance"), per_example=per_example)


def cross_entropy(log_probabilities: Any, labels: Any) -> CrossEntropy:
    """Cross-entropy of one replica = that of the geometric-mean replica + mean KL(center ‖ replica).

    log_probabilities: [R, N, C] from log_softmax; labels: [N]; all in nats. center q ∝ exp(mean_r log p_r),
    bias = -log q_y, variance = -log Z with Z = Σ_c exp(mean_r log p_r,c). Finite-R: the variance is
    multiplied by R/(R-1) (exact to second order in the logits) and the increase taken off the bias, so that
    they still add up exactly; both are NaN for R = 1. Refuses -inf and rows that are not distributions.
    Source: Heskes 1998; Yang et al. 2020, arXiv:2002.11328."""
    values = arrays.floats(log_probabilities, "log_probabilities", ndim=3)
    count, examples, classes = values.shape
    index = arrays.labels(labels, "labels", examples=examples, classes=classes)
    with np.errstate(over="ignore"):
        mass = np.exp(values).sum(axis=2)
    worst = np.unravel_index(np.abs(mass - 1).argmax(), mass.shape)
    if abs(mass[worst] - 1) > 1e-3:
        raise ValueError(
            f"log_probabilities{[int(i) for i in worst]} sum to {mass[worst]:.4g} in "
            "probability; they must sum to 1 (pass log_softmax of the logits)"
        )
    mean = values.mean(axis=0)  # [N, C]
    log_z = logsumexp(mean, axis=1)
    rows = np.arange(examples)
    risk = -mean[rows, index]
    plugin = -log_z
    variance = plugin * count / (count - 1) if count > 1 else np.full_like(plugin, math.nan)
    per_example = PerExample(
        risk=risk,
        bias=risk - variance,
        variance=variance,
        bias_plugin=risk - plugin,
        variance_plugin=plugin,
    )
    center = np.exp(mean - log_z[:, None])
    return CrossEntropy(
        **per_example.means("risk", "bias", "variance"), per_example=per_example, center=center
    )


def zero_one(predicted: Any, labels: Any) -> ZeroOne:
    """0-1 loss of one replica from the vote's error (bias) and the disagreement with the vote (variance).

    predicted: [R, N] classes; labels: [N]. main = mode, ties to the lowest label; V = P(h ≠ main);
    effect = +1 where main = y, else -P(h = y | h ≠ main), -1 only with two classes; risk = bias + effect·V.
    Kohavi-Wolpert: bias² = ½ Σ_c (1[y = c] - p_c)², variance = ½ (1 - Σ p_c²); unbiased: variance·R/(R-1),
    the increase taken off bias². Domingos's V has no such correction and grows with R.
    Source: Domingos 2000, A Unified Bias-Variance Decomposition (multiclass zero-one loss); Kohavi & Wolpert 1996."""
    votes = arrays.integers(predicted, "predicted", ndim=2)
    count, examples = votes.shape
    target = arrays.labels(labels, "labels", examples=examples)
    if votes.min() < 0:
        raise ValueError(f"predicted holds {votes.min()}; a class is at least 0")
    classes = int(max(votes.max(), target.max())) + 1
    flat = np.bincount(
        (votes + np.arange(examples) * classes).ravel(), minlength=examples * classes
    )
    share = flat.reshape(examples, classes) / count  # [N, C]
    rows = np.arange(examples)
    main = share.argmax(axis=1)  # argmax takes the lowest of a tie
    right = share[rows, target]
    bias = (main != target).astype(np.float64)
    variance = 1 - share[rows, main]
    # Where nobody disagrees there is no conditional probability; the effect is immaterial and set to 0.
    given = np.divide(right, variance, out=np.zeros(examples), where=variance > 0)
    effect = np.where(bias == 0, 1.0, -given)
    kw_variance = (1 - (share**2).sum(axis=1)) / 2
    kw_bias2 = 1 - right - kw_variance
    unbiased = (
        kw_variance * count / (count - 1) if count > 1 else np.full_like(kw_variance, math.nan)
    )
    per_example = PerExample(
        risk=1 - right,
        bias=bias,
        variance=variance,
        net_variance=effect * variance,
        kw_bias2=kw_bias2,
        kw_variance=kw_variance,
        kw_bias2_unbiased=kw_bias2 - (unbiased - kw_variance),
        kw_variance_unbiased=unbiased,
        effect=effect,
        main=main.astype(np.float64),
    )
    names = [name for name in per_example if name not in ("effect", "main")]
    return ZeroOne(**per_example.means(*names), per_example=per_example)


def components(predictions: Any) -> Components:
    """Variance between subsets of the data and between initializations on one subset.

    predictions: [D, S, N, ...], D draws x S inits. One-way analysis of variance: variance_init = MSW,
    variance_data = (MSB - MSW)/S, summed over trailing dimensions, averaged over examples; may be negative.
    NaN where undefined: variance_init for S = 1, variance_data for D = 1 or S = 1.
    Their sum is the variance of one network, as `squared` with `inits` has it; over all D·S replicas as if they
    were independent it would be underestimated. Source: Searle et al. 1992, Variance Components; Neal et al. 2018,
    arXiv:1810.08591."""
    values = arrays.floats(predictions, "predictions")
    if values.ndim < 3:
        raise ValueError(f"predictions has shape {values.shape}; it must be [D, S, N, ...]")
    draws, inits = values.shape[:2]
    values = values.reshape(draws, inits, values.shape[2], -1)
    by_draw = values.mean(axis=1)  # [D, N, K]
    undefined = np.full(values.shape[2], math.nan)
    init = undefined
    data = undefined
    if inits > 1:
        init = ((values - by_draw[:, None]) ** 2).sum(axis=(0, 1, 3)) / (draws * (inits - 1))
    if inits > 1 and draws > 1:
        between = inits * ((by_draw - by_draw.mean(axis=0)) ** 2).sum(axis=(0, 2)) / (draws - 1)
        data = (between - init) / inits
    per_example = PerExample(variance_data=data, variance_init=init, variance=data + init)
    return Components(**per_example.means(*per_example), per_example=per_example)


def _targets(targets: Any, predictions: Floats) -> Floats:
    """Targets broadcast against [R, N, ...]: labels become one-hot rows."""
    array = arrays.plain(targets)
    examples = predictions.shape[1]
    if predictions.ndim == 3 and array.ndim == 1:
        classes = predictions.shape[2]
        return np.eye(classes)[
            arrays.labels(array, "targets (labels)", examples=examples, classes=classes)
        ]
    array = arrays.floats(array, "targets")
    arrays.same("targets", array.shape, "predictions after the replica axis", predictions.shape[1:])
    return array
