"""Membership inference: can one tell from a network's confidence whether it was trained on an example?

Every replica is attacked in turn, the others serving as shadow models; the target never shadows itself."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
from scipy.integrate import trapezoid
from scipy.special import log_ndtr

from engram.measures import arrays, intervals
from engram.measures.arrays import Bools, Floats
from engram.measures.intervals import Interval
from engram.measures.left_out import Groups
from engram.measures.shadows import Side

Mode = Literal["online", "offline", "global"]
Center = Literal["median", "mean"]

# Below this many models the variance per example is noise: Carlini et al. 2022, arXiv:2112.03570.
POOLED_BELOW = 64


@dataclass(frozen=True)
class Roc:
    """A receiver operating characteristic: fpr, tpr at every distinct score, from (0, 0) to (1, 1)."""

    fpr: Floats
    tpr: Floats
    auc: float

    def at(self, fpr: float) -> float:
        """The largest true-positive rate whose false-positive rate is at most `fpr`; no interpolation."""
        arrays.within("fpr", fpr, 0, 1, ends=True)
        return float(self.tpr[self.fpr <= fpr].max()) if self.fpr.size else math.nan

    @property
    def balanced_accuracy(self) -> float:
        """The best mean of true-positive and true-negative rate over thresholds."""
        return float(((self.tpr + 1 - self.fpr) / 2).max()) if self.fpr.size else math.nan


@dataclass(frozen=True)
class Attack:
    """The outcome of an attack on R models.

    scores: [R, N], larger = more likely a member, NaN where an example lacks shadows; member: [R, N]; roc
    pools all defined (model, example) pairs; auc: 0.5 is guessing; the rest is how it was run."""

    scores: Floats
    member: Bools
    roc: Roc
    confidence: Floats = field(repr=False)
    mode: Mode
    pooled: bool
    center: Center

    @property
    def auc(self) -> float:
        """Area under the pooled ROC: P(a member's score > a non-member's), ties counting half."""
        return self.roc.auc

    @property
    def balanced_accuracy(self) -> float:
        """The best balanced accuracy of any one threshold."""
        return self.roc.balanced_accuracy

    def tpr(self, fpr: float) -> float:
        """True-positive rate at a false-positive rate of at most `fpr`."""
        return self.roc.at(fpr)

    def auc_interval(self, level: float = 0.95, *, inits: int = 1) -> Interval:
        """Interval of the AUC over models: each is left out in turn, as target and as shadow.

        Unknown below three models, or where leaving one out leaves nothing to attack. In simulations it
        covers 93 to 99 % of the time, where the bootstrap of fixed scores covers 75 to 90 % online."""
        values = self.pseudo_values(inits=inits)
        if np.isnan(values).any():
            return Interval(self.auc, math.nan, math.nan, math.nan, values.size, level)
        return intervals.t_interval(values, level)

    def pseudo_values(self, groups: int = 32, *, inits: int = 1) -> Floats:
        """Jackknife pseudo-values of the AUC, their mean: to pair with another trial's of the same R.

        The attack is run again without each model (each of `groups` groups of them when there are more),
        since a model is also everyone else's shadow. NaN [R] where that is impossible."""
        models = self.scores.shape[0]
        if models // max(inits, 1) < 3 or math.isnan(self.auc):
            return np.full(models, math.nan)

        made = _Scores(self.confidence, self.member, self.mode, self.center, self.pooled)
        apart = Groups.of(models, inits, groups)
        rows = [self.auc]
        for some in apart.slices():
            kept = np.ones(models, bool)
            kept[some] = False
            rows.append(_area(made.of(kept), self.member.T[:, kept]))
        return apart.pseudo_values(np.array(rows))

    def auc_bootstrap(self, level: float = 0.95, *, samples: int = 1000, seed: int = 0) -> Interval:
        """Bootstrap by model: whole models are resampled, their scores kept as they are.

        Right for scores that owe nothing to other models (mode "global"). Scores of an attack do: they share
        shadows, and this interval is then too narrow; take `auc_interval`."""
        wins, positive, negative = self._pairs
        count = len(positive)
        weight = np.random.default_rng(seed).multinomial(
            count, np.full(count, 1 / count), size=samples
        )
        pairs = (weight @ positive) * (weight @ negative)
        with np.errstate(invalid="ignore", divide="ignore"):
            draws = ((weight @ wins) * weight).sum(axis=1) / np.where(pairs > 0, pairs, math.nan)
        return intervals.percentile_interval(self.auc, draws, count, level)

    def tpr_interval(
        self, fpr: float, level: float = 0.95, *, samples: int = 300, seed: int = 0
    ) -> Interval:
        """Bootstrap by model of `tpr(fpr)`, scores kept as they are: too narrow, as `auc_bootstrap` says."""
        arrays.within("fpr", fpr, 0, 1, ends=True)
        model, inside, ends = self._order
        count = self.scores.shape[0]
        if not ends.size:
            return Interval(math.nan, math.nan, math.nan, math.nan, count, level)
        generator = np.random.default_rng(seed)
        draws = np.full(samples, math.nan)
        for s in range(samples):
            weight = np.bincount(generator.integers(count, size=count), minlength=count)[model]
            hits = np.cumsum(weight * inside)
            alarms = np.cumsum(weight) - hits
            if hits[-1] and alarms[-1]:
                at = np.searchsorted(alarms[ends], fpr * alarms[-1], side="right")
                draws[s] = hits[ends][at - 1] / hits[-1] if at else 0.0
        return intervals.percentile_interval(self.tpr(fpr), draws, count, level)

    @cached_property
    def per_replica(self) -> Floats:
        """`pseudo_values()`: the AUC's share of each model, or of each of 32 groups of models."""
        return self.pseudo_values()

    @cached_property
    def _pairs(self) -> tuple[Floats, Floats, Floats]:
        """wins[a, b]: (member of model a, non-member of model b) pairs won; and both counts per model."""
        known = ~np.isnan(self.scores)
        inside, outside = known & self.member, known & ~self.member
        positive = np.sort(self.scores[inside])
        owner = np.nonzero(inside)[0][np.argsort(self.scores[inside], kind="stable")]
        count = self.scores.shape[0]
        wins = np.zeros((count, count))
        for b in range(count):
            rivals = np.sort(self.scores[b, outside[b]])
            below = np.searchsorted(rivals, positive, side="left")
            equal = np.searchsorted(rivals, positive, side="right")
            wins[:, b] = np.bincount(owner, weights=(below + equal) / 2, minlength=count)
        return (
            wins,
            inside.sum(axis=1).astype(np.float64),
            outside.sum(axis=1).astype(np.float64),
        )

    @cached_property
    def _order(self) -> tuple[Any, Any, Any]:
        """Pairs from the largest score down: model, member, and the last index of each tie."""
        known = ~np.isnan(self.scores)
        score = self.scores[known]
        order = np.argsort(-score, kind="stable")
        ends = np.nonzero(np.append(np.diff(score[order]) != 0, True))[0] if score.size else order
        return np.nonzero(known)[0][order], self.member[known][order], ends


def phi(log_probabilities: Any, labels: Any) -> Floats:
    """Logit-scaled confidence: log p_y - log Σ_{c≠y} p_c, about normal where p itself piles up at 1.

    log_probabilities: [..., N, C] from log_softmax (any constant may be added per row); labels: [N]
    -> [..., N]. Sums the other classes in log space, where 1 - p would lose every digit.
    Source: Carlini et al. 2022, arXiv:2112.03570."""
    values = arrays.floats(log_probabilities, "log_probabilities")
    if values.ndim < 2 or values.shape[-1] < 2:
        raise ValueError(
            f"log_probabilities has shape {values.shape}; it must be [..., N, C] with 2 classes or more"
        )
    examples, classes = values.shape[-2:]
    target = arrays.labels(labels, "labels", examples=examples, classes=classes)
    rows = np.arange(examples)
    apart = np.moveaxis(values, -1, 0).copy()  # [C, ..., N]: long rows are quicker than rows of C
    apart[target, ..., rows] = -np.inf
    top = apart.max(axis=0)
    np.exp(np.subtract(apart, top, out=apart), out=apart)
    return values[..., rows, target] - np.log(apart.sum(axis=0)) - top


def lira(
    confidence: Any,
    member: Any,
    mode: Mode = "online",
    *,
    fixed_variance: bool | None = None,
    center: Center = "median",
) -> Attack:
    """Likelihood-ratio attack on each model, the other models being its shadows.

    confidence: [R, N], `phi` of each model on each example (regression: minus the log squared error);
    member: [R, N]. online: log N(s; in) - log N(s; out), Gaussians per example over the shadows that did
    and did not train on it; offline: log Φ((s - out)/sd_out), without the in side; global: the
    confidence itself, one threshold for all. fixed_variance: one sd per side, pooled over examples (the
    residuals about each example's mean); None pools below 64 models. A pair is undefined (NaN) when the
    target's example has no shadow on a side that is needed. No sd falls below a thousandth of the pooled
    one. A departure from the paper: shadows are the cohort itself, one model left out at a time.
    Source: Carlini et al. 2022, arXiv:2112.03570, algorithm 1."""
    values = arrays.floats(confidence, "confidence", ndim=2)
    inside = arrays.members(member, "member", values.shape)
    if mode not in ("online", "offline", "global"):
        raise ValueError(f"mode = {mode!r}; it must be 'online', 'offline' or 'global'")
    if center not in ("median", "mean"):
        raise ValueError(f"center = {center!r}; it must be 'median' or 'mean'")
    pooled = values.shape[0] < POOLED_BELOW if fixed_variance is None else fixed_variance
    made = _Scores(values, inside, mode, center, pooled)
    scores = np.ascontiguousarray(made.of(np.ones(len(values), bool)).T)
    return Attack(scores, inside, roc(scores, inside), values, mode, pooled, center)


class _Scores:
    """The scores of an attack on R models, whichever of them are kept: as targets, and as shadows of the others."""

    def __init__(self, values: Floats, inside: Bools, mode: Mode, center: Center, pooled: bool):
        self.values = np.ascontiguousarray(values.T)  # [N, R]: what is sorted lies together
        members = np.ascontiguousarray(inside.T)
        sides = {"online": (members, ~members), "offline": (~members,), "global": ()}[mode]
        self.sides = [Side(self.values, side, center, pooled) for side in sides]

    def of(self, kept: Bools) -> Floats:
        """[N, kept], larger = more likely a member, NaN where a shadow is missing."""
        values = self.values[:, kept]
        if not self.sides:
            return values
        if len(self.sides) == 1:
            center, sd = self.sides[0].seen_by(kept)
            return log_ndtr((values - center) / sd)
        ours, others = (_log_density(values, *side.seen_by(kept)) for side in self.sides)
        return ours - others


def _log_density(values: Floats, center: Floats, sd: Floats) -> Floats:
    found = (values - center) / sd
    found *= found
    found /= -2
    found -= np.log(sd)
    found -= math.log(2 * math.pi) / 2
    return found


def _area(scores: Floats, inside: Bools) -> float:
    """`roc(scores, inside).auc` by ranks alone: P(a member's score > another's) + ½ P(equal)."""
    known = ~np.isnan(scores)
    ours, others = np.sort(scores[inside & known]), np.sort(scores[~inside & known])
    if not ours.size or not others.size:
        return math.nan
    below = np.searchsorted(others, ours)
    wins = float(below.sum())
    if (others[np.minimum(below, others.size - 1)] == ours).any():  # ties count half
        wins = (wins + float(np.searchsorted(others, ours, side="right").sum())) / 2
    return wins / (ours.size * others.size)


def roc(scores: Any, member: Any) -> Roc:
    """ROC of scores against membership, any equal shapes; ties move together; NaN scores are left out.

    The area is the trapezoid's, which equals P(member > non-member) + ½ P(equal). NaN if a side is empty."""
    score = arrays.floats(scores, "scores", nan=True)
    inside = arrays.members(member, "member", score.shape)
    known = ~np.isnan(score)
    score, inside = score[known], inside[known]
    if not inside.any() or inside.all():
        return Roc(np.empty(0), np.empty(0), math.nan)
    order = np.argsort(-score)  # ties move together, whatever their order
    ends = np.append(np.diff(score[order]) != 0, True)
    hits = np.cumsum(inside[order])
    alarms = np.cumsum(~inside[order])
    tpr = np.concatenate([[0.0], hits[ends] / hits[-1]])
    fpr = np.concatenate([[0.0], alarms[ends] / alarms[-1]])
    return Roc(fpr, tpr, float(trapezoid(tpr, fpr)))
