"""Under-, over- or good fit of one trial, by rule, with its reason in a sentence.

The judge sees intervals only, of one trial and of the best trial with the same dataset size; more data is never
held against a configuration. Nothing here is estimated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from engram.measures import arrays
from engram.measures.intervals import Interval

Name = Literal["underfit", "overfit", "good", "data-limited", "inconclusive"]

# Shares of the chance error, the error of always giving the commonest answer (or the mean, in regression).
LEARNS_SHARE = (
    0.25  # a configuration learns when it removes a quarter of the chance error in training
)
UNDERFIT_SHARE = 0.5  # train error is itself high when it is above half of the chance error
LARGE_GAP_SHARE = 0.1  # a gap is large when it is above a tenth of the chance error
RESOLUTION_SHARE = (
    0.1  # a comparison with the best is too blunt when its half-width is above a tenth
)


@dataclass(frozen=True)
class Verdict:
    """One word, and the sentence with the numbers that led to it."""

    verdict: Name
    reason: str


def learns(train_error: Interval, chance: float, share: float = LEARNS_SHARE) -> bool:
    """Whether a configuration learns at all, so that its gap may be ranked.

    A network that learns nothing has no gap; ranking gaps without this floor crowns it. It learns when the
    upper end of its train error (its mean, if the interval is unknown) is below (1 - share)·chance.
    chance: error of the constant answer, (C - 1)/C for C balanced classes, the target's variance for
    squared error. Refuses chance ≤ 0 and share outside (0, 1)."""
    _chance(chance)
    arrays.within("share", share, 0, 1)
    top = train_error.high if train_error.known else train_error.mean
    return bool(top < (1 - share) * chance)


def verdict(
    train_error: Interval,
    gap: Interval,
    *,
    chance: float,
    difference: Interval | None = None,
    best_train_error: Interval | None = None,
    best_gap: Interval | None = None,
    bias2: Interval | None = None,
    variance: Interval | None = None,
    more_replicas: int | None = None,
) -> Verdict:
    """The verdict on one trial, from intervals within one dataset size.

    train_error, gap: of the trial (gap = test - train error); difference: its error minus the best
    trial's, paired, None for the best itself; best_train_error, best_gap: of that best trial; bias2,
    variance: of the trial, if measured; chance: as in `learns`; more_replicas: how many would separate it
    from the best, if known. In this order:
    1. underfit, if the train error is not clearly below chance, or is high (above half of chance) while
       bias dominates: bias2 > variance, or, unmeasured, train error > gap;
    2. tied with the best (the difference's interval reaches zero, or there is none): data-limited if the
       gap is clearly above a tenth of chance; inconclusive if the tie is only bluntness (half-width above
       a tenth of chance, or unknown) or the gap is above that tenth, but not clearly; else good;
    3. worse than the best: overfit if the gap is clearly above zero and above the best's by more than the
       train error is above the best's; underfit if the train error explains more; inconclusive if
       neither clearly does. Without the best's parts, a gap clearly above zero is overfit.
    Refuses a train error or gap that is not finite (diverged trials have a status, not a verdict).
    Source: the rules of this project; the decomposition test = train + gap decides who is to blame."""
    _chance(chance)
    for name, interval in (("train_error", train_error), ("gap", gap)):
        if not math.isfinite(interval.mean):
            raise ValueError(f"{name} = {interval.mean}; a verdict needs a finite mean")
    # Step 1
    if not learns(train_error, chance, 0.1) and _above(train_error, UNDERFIT_SHARE * chance):
        return Verdict(
            "underfit",
            f"train error {train_error} is hardly below chance ({chance:.3g}): it has not learned",
        )
    if _above(train_error, UNDERFIT_SHARE * chance):
        blame = _bias_dominates(train_error, gap, bias2, variance)
        if blame:
            return Verdict(
                "underfit",
                f"train error {train_error} is itself above {UNDERFIT_SHARE:.0%} of chance "
                f"({chance:.3g}), and {blame}",
            )
    if difference is not None and difference.excludes(0) and difference.mean > 0:
        return _worse(train_error, gap, difference, best_train_error, best_gap)
    return _tied(gap, difference, chance, more_replicas)


def _tied(
    gap: Interval, difference: Interval | None, chance: float, more_replicas: int | None
) -> Verdict:
    """Step 2: the best of its size, or not separated from it."""
    limit = LARGE_GAP_SHARE * chance
    place = "it is the best of its dataset size"
    if difference is not None:
        if not difference.known:
            return Verdict(
                "inconclusive",
                f"{difference.mean:+.3g} from the best, but from a single replica: run at least 3",
            )
        if difference.half_width > RESOLUTION_SHARE * chance:
            return Verdict(
                "inconclusive",
                f"its difference from the best, {difference}, is too wide to call a tie; "
                + _would_decide(more_replicas),
            )
        place = f"it is tied with the best of its dataset size (difference {difference})"
    if not gap.known:
        return Verdict(
            "inconclusive",
            f"{place}, but its gap {gap.mean:.3g} comes from a single replica: run at least 3",
        )
    if gap.low > limit:
        return Verdict(
            "data-limited",
            f"{place}, yet its gap {gap} is above {limit:.3g}: more data would help, no other "
            "configuration tried does",
        )
    if gap.mean > limit:
        return Verdict(
            "inconclusive",
            f"{place}, but its gap {gap} is not clearly above {limit:.3g}, the limit of a large one; more replicas "
            "would decide between good and data-limited",
        )
    return Verdict("good", f"{place}, and its gap {gap} is not large (limit {limit:.3g})")


def _worse(
    train_error: Interval,
    gap: Interval,
    difference: Interval,
    best_train_error: Interval | None,
    best_gap: Interval | None,
) -> Verdict:
    """Step 3: clearly worse than the best; which part of the error is to blame?"""
    place = f"{difference} worse than the best of its dataset size"
    positive = _above(gap, 0)
    if best_train_error is None or best_gap is None:
        if positive:
            return Verdict("overfit", f"{place}, with a gap of {gap} clearly above zero")
        return Verdict(
            "inconclusive",
            f"{place}, with a gap of {gap} not clearly above zero; the best trial's train error would decide",
        )
    from_train = train_error.mean - best_train_error.mean
    from_gap = gap.mean - best_gap.mean
    parts = f"train error {from_train:+.3g}, gap {from_gap:+.3g} against the best"
    if from_gap >= from_train and positive:
        return Verdict("overfit", f"{place}, and the gap explains it: gap {gap} ({parts})")
    if from_train > from_gap and _separate(train_error, best_train_error):
        return Verdict(
            "underfit",
            f"{place}, and the train error explains it: train error {train_error} ({parts})",
        )
    return Verdict(
        "inconclusive",
        f"{place}, but neither part clearly explains it ({parts}); more replicas would decide",
    )


def _bias_dominates(
    train_error: Interval, gap: Interval, bias2: Interval | None, variance: Interval | None
) -> str:
    """Why bias dominates, or nothing."""
    if bias2 is not None and variance is not None:
        if bias2.mean > variance.mean:
            return f"bias² {bias2} outweighs variance {variance}"
        return ""
    return f"it outweighs the gap {gap}" if train_error.mean > gap.mean else ""


def _above(interval: Interval, limit: float) -> bool:
    """Clearly above: by the lower end, or by the mean where the interval is unknown."""
    return (interval.low if interval.known else interval.mean) > limit


def _separate(high: Interval, low: Interval) -> bool:
    """Whether `high` lies above `low`, by the combined standard error."""
    if not (high.known and low.known):
        return False
    half = math.hypot(high.half_width, low.half_width)
    return high.mean - low.mean > half


def _would_decide(more_replicas: int | None) -> str:
    if more_replicas:
        return f"about {more_replicas} more replicas would decide"
    return "more replicas would decide"


def _chance(chance: float) -> None:
    if not (chance > 0 and math.isfinite(chance)):
        raise ValueError(f"chance = {chance}; it must be a positive error, (C - 1)/C for C classes")
