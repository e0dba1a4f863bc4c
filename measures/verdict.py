"""What is said of one trial in a word, by rule, with its reason in a sentence.

The judge sees intervals only, of one trial and of the best trial under the same conditions (dataset size, label
noise): more data or cleaner labels are never held against a configuration. RULES is the whole of it; docs/measures.md
shows it as a table. Nothing here is estimated."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from engram.measures import arrays
from engram.measures.intervals import Interval, Needed

Name = Literal[
    "unstable",
    "did not learn",
    "at the noise floor",
    "underfit",
    "overfit",
    "good",
    "data-limited",
    "inconclusive",
]

# Shares of what can be learned: the chance error (of always giving the commonest answer, or the mean, in
# regression) less the error that known wrong labels alone make.
LEARNS_SHARE = 0.25  # a configuration learns when it removes a quarter of it in training
NOT_LEARNED_SHARE = 0.9  # and has not learned when nine tenths are left
UNDERFIT_SHARE = 0.5  # train error is itself high when half of it is left
LARGE_GAP_SHARE = 0.1  # a gap is large when it is above a tenth of it
IMBALANCED_SHARE = 0.75  # classes are unbalanced where chance is below this share of (C - 1)/C
RESOLUTION_SHARE = 0.1  # a comparison is too blunt when its half-width is above a tenth
FLOOR_SHARE = 0.05  # a held-out error is at the noise floor when it is this close to it


@dataclass(frozen=True)
class Rule:
    """A word and when it is given; the first that applies counts."""

    word: Name
    when: str


RULES = (
    Rule(
        "unstable",
        f"some replicas learn in training and others do not (a share of {NOT_LEARNED_SHARE:.0%} of what can be "
        f"learned is left in some, less than {1 - LEARNS_SHARE:.0%} in others)",
    ),
    Rule(
        "did not learn",
        f"the train error's interval reaches {NOT_LEARNED_SHARE:.0%} of chance; or, where classes are unbalanced "
        f"(chance below {IMBALANCED_SHARE:.0%} of (C - 1)/C), the held-out error averaged over classes is above "
        f"{NOT_LEARNED_SHARE:.0%} of that of a constant answer",
    ),
    Rule(
        "at the noise floor",
        f"labels are random; or the held-out error is within {FLOOR_SHARE:.0%} of what can be learned of the "
        "error that known wrong labels alone make",
    ),
    Rule(
        "underfit",
        f"the train error's interval lies above {UNDERFIT_SHARE:.0%} of chance and bias dominates: bias² > "
        "variance, or, unmeasured, train error > gap",
    ),
    Rule(
        "overfit",
        "told from the best of its conditions, its gap is clearly above zero, and exceeds the best's by more than "
        "the train error does",
    ),
    Rule("underfit", "told from the best, and the train error clearly explains more of it"),
    Rule(
        "data-limited",
        f"not told from the best, and its gap's interval lies above {LARGE_GAP_SHARE:.0%} of chance. That more "
        "data would help is said only where larger sizes of the study, or a power law that passed its checks, show "
        "it; else that it is not known",
    ),
    Rule("good", f"not told from the best, and its gap is at most {LARGE_GAP_SHARE:.0%} of chance"),
    Rule(
        "inconclusive",
        "none of these, and the reason says what would decide: a single replica, a difference whose half-width "
        f"is above {RESOLUTION_SHARE:.0%} of chance, a gap not clearly above its limit, a large gap where more data is "
        "shown not to help, neither part of the error clearly to blame",
    ),
)


def rules_table() -> str:
    """RULES in Markdown."""
    rows = [f"| *{rule.word}* | {rule.when} |" for rule in RULES]
    return "\n".join(["| word | when; the first that applies |", "|---|---|", *rows])


@dataclass(frozen=True)
class Verdict:
    """One word, and the sentence with the numbers that led to it."""

    verdict: Name
    reason: str


@dataclass(frozen=True)
class Labels:
    """What is known of the labels. chance: error of the constant answer on the labels trained on; noise: error
    that known wrong labels alone make there, 0 where none are known; held_out_noise: the same where `error` was
    measured (0 on a clean test set); random: labels carry nothing; balanced_error and classes: held-out error
    averaged over so many classes, None where unknown."""

    chance: float
    noise: float = 0.0
    held_out_noise: float = 0.0
    random: bool = False
    balanced_error: float | None = None
    classes: int = 0

    @property
    def learnable(self) -> float:
        """What can be learned; all of chance where noise leaves nothing."""
        return self.chance - self.noise if self.noise < self.chance else self.chance


@dataclass(frozen=True)
class MoreData:
    """Whether more data would help this configuration (None: not known), and what shows it."""

    helps: bool | None
    evidence: str


@dataclass(frozen=True)
class Best:
    """The best trial under the same conditions, beside the one judged. tied: the judged one cannot be told from
    it; difference: its error minus the best's, paired, where selection looked; None where unknown."""

    tied: bool
    difference: Interval | None
    train_error: Interval
    gap: Interval


def learns(
    train_error: Interval, chance: float, share: float = LEARNS_SHARE, noise: float = 0.0
) -> bool:
    """Whether a configuration learns at all, so that its gap may be ranked.

    A network that learns nothing has no gap; ranking gaps without this floor crowns it. It learns when the
    upper end of its train error (its mean, if the interval is unknown) is below (1 - share)·chance; with known
    wrong labels, whose error is `noise`, below noise + (1 - share)·(chance - noise).
    chance: error of the constant answer, (C - 1)/C for C balanced classes, the target's variance for
    squared error. Refuses chance ≤ 0 and share outside (0, 1)."""
    _chance(chance)
    arrays.within("share", share, 0, 1)
    left = Labels(chance, noise).learnable
    return bool(_top(train_error) - noise < (1 - share) * left)


def verdict(
    train_error: Interval,
    gap: Interval,
    labels: Labels,
    *,
    best: Best | None = None,
    error: Interval | None = None,
    train_errors: Any = None,
    bias2: Interval | None = None,
    variance: Interval | None = None,
    data: MoreData | None = None,
    needed: Needed | None = None,
    held_out: str = "",
) -> Verdict:
    """The verdict on one trial, by RULES, from intervals within one dataset size and one level of label noise.

    train_error, gap: of the trial (gap = error where selection looked - train error); best: None for the best
    itself; error: held-out error where selection looked; train_errors: [R], to see replicas that did not learn;
    bias2, variance: of the trial, if measured; data: None where nothing is known; needed: replicas that would
    separate it from the best; held_out: where selection looked, in words.
    Refuses a train error or gap that is not finite (diverged trials have a status, not a verdict).
    Source: the rules of this project; the decomposition error = train + gap decides who is to blame."""
    _chance(labels.chance)
    for name, interval in (("train_error", train_error), ("gap", gap)):
        if not math.isfinite(interval.mean):
            raise ValueError(f"{name} = {interval.mean}; a verdict needs a finite mean")
    found = (
        _unstable(train_errors, labels)
        or _not_learned(train_error, labels)
        or _noise_floor(error, labels, best)
        or _underfit(train_error, gap, labels, bias2, variance)
    )
    if found:
        return found
    if best is not None and not best.tied:
        return _worse(train_error, gap, best)
    return _tied(gap, labels, best, data, needed, f"gap on {held_out}" if held_out else "gap")


def _unstable(train_errors: Any, labels: Labels) -> Verdict | None:
    if train_errors is None or len(train_errors) < 2:
        return None
    left = (arrays.floats(train_errors, "train_errors", ndim=1) - labels.noise) / labels.learnable
    stuck = int((left >= NOT_LEARNED_SHARE).sum())
    if not stuck or not (left < 1 - LEARNS_SHARE).any():
        return None
    return Verdict(
        "unstable",
        f"{stuck} of {len(left)} replicas did not learn (train error {np.max(train_errors):.3g}, chance "
        f"{labels.chance:.3g}) while others reach {np.min(train_errors):.3g}: means say little",
    )


def _not_learned(train_error: Interval, labels: Labels) -> Verdict | None:
    if _top(train_error) - labels.noise >= NOT_LEARNED_SHARE * labels.learnable and _above(
        train_error, labels.noise + UNDERFIT_SHARE * labels.learnable
    ):
        return Verdict(
            "did not learn",
            f"train error {train_error} is hardly below chance ({labels.chance:.3g})",
        )
    if labels.balanced_error is None or labels.classes < 2:
        return None
    constant = 1 - 1 / labels.classes
    if labels.chance >= IMBALANCED_SHARE * constant:  # classes alike: the error itself says it
        return None
    if labels.balanced_error >= NOT_LEARNED_SHARE * constant:
        return Verdict(
            "did not learn",
            f"averaged over classes its held-out error is {labels.balanced_error:.3g}, that of a constant "
            f"answer {constant:.3g}: the rarer classes are not found",
        )
    return None


def _noise_floor(error: Interval | None, labels: Labels, best: Best | None) -> Verdict | None:
    if labels.random:
        return Verdict(
            "at the noise floor",
            "the labels are random: nothing can generalize, whatever is fitted in training",
        )
    floor = labels.held_out_noise
    if not floor or error is None or (best is not None and not best.tied):
        return None
    limit = floor + FLOOR_SHARE * labels.learnable
    if _top(error) > limit:
        return None
    return Verdict(
        "at the noise floor",
        f"its held-out error {error} is that of the wrong labels alone ({floor:.3g}): nothing is left to learn",
    )


def _underfit(
    train_error: Interval,
    gap: Interval,
    labels: Labels,
    bias2: Interval | None,
    variance: Interval | None,
) -> Verdict | None:
    limit = labels.noise + UNDERFIT_SHARE * labels.learnable
    if not _above(train_error, limit):
        return None
    blame = _bias_dominates(train_error, gap, labels, bias2, variance)
    if not blame:
        return None
    beside = f" beside {labels.noise:.3g} of wrong labels" if labels.noise else ""
    return Verdict(
        "underfit",
        f"train error {train_error} is itself above {UNDERFIT_SHARE:.0%} of chance "
        f"({labels.chance:.3g}){beside}, and {blame}",
    )


def _tied(
    gap: Interval,
    labels: Labels,
    best: Best | None,
    data: MoreData | None,
    needed: Needed | None,
    named: str,
) -> Verdict:
    """The best of its conditions, or not told from it."""
    limit = LARGE_GAP_SHARE * labels.learnable
    place = "it is the best of its conditions"
    if best is not None:
        difference = best.difference
        if difference is None or not difference.known:
            behind = "" if difference is None else f"{difference.mean:+.3g} from the best, but "
            return Verdict("inconclusive", f"{behind}from a single replica: run at least 3")
        if difference.half_width > RESOLUTION_SHARE * labels.learnable:
            return Verdict(
                "inconclusive",
                f"its difference from the best, {difference}, is too wide to call a tie; "
                + _would_decide(needed),
            )
        place = f"it cannot be told from the best of its conditions (difference {difference})"
    if not gap.known:
        return Verdict(
            "inconclusive",
            f"{place}, but its {named} {gap.mean:.3g} comes from a single replica: run at least 3",
        )
    if gap.low > limit:
        return _large_gap(f"{place}, yet its {named} {gap} is above {limit:.3g}", data)
    if gap.mean > limit:
        return Verdict(
            "inconclusive",
            f"{place}, but its {named} {gap} is not clearly above {limit:.3g}, the limit of a large one; more replicas "
            "would decide between good and data-limited",
        )
    return Verdict("good", f"{place}, and its {named} {gap} is not large (limit {limit:.3g})")


def _large_gap(place: str, data: MoreData | None) -> Verdict:
    if data is None or data.helps is None:
        why = data.evidence if data else "sweep data.train_size"
        return Verdict(
            "data-limited",
            f"{place}, and no other configuration tried does better; whether more data would is not known: {why}",
        )
    if data.helps:
        return Verdict("data-limited", f"{place}; more data helps: {data.evidence}")
    return Verdict("inconclusive", f"{place}, but more data is not what it lacks: {data.evidence}")


def _worse(train_error: Interval, gap: Interval, best: Best) -> Verdict:
    """Told from the best; which part of the error is to blame?"""
    difference = best.difference
    place = f"{difference} worse than the best of its conditions"
    from_train = train_error.mean - best.train_error.mean
    from_gap = gap.mean - best.gap.mean
    parts = f"train error {from_train:+.3g}, gap {from_gap:+.3g} against the best"
    if from_gap >= from_train and _above(gap, 0):
        return Verdict("overfit", f"{place}, and the gap explains it: gap {gap} ({parts})")
    if from_train > from_gap and _separate(train_error, best.train_error):
        return Verdict(
            "underfit",
            f"{place}, and the train error explains it: train error {train_error} ({parts})",
        )
    return Verdict(
        "inconclusive",
        f"{place}, but neither part clearly explains it ({parts}); more replicas would decide",
    )


def _bias_dominates(
    train_error: Interval,
    gap: Interval,
    labels: Labels,
    bias2: Interval | None,
    variance: Interval | None,
) -> str:
    """Why bias dominates, or nothing."""
    if bias2 is not None and variance is not None:
        if bias2.mean > variance.mean:
            return f"bias² {bias2} outweighs variance {variance}"
        return ""
    return f"it outweighs the gap {gap}" if train_error.mean - labels.noise > gap.mean else ""


def _above(interval: Interval, limit: float) -> bool:
    """Clearly above: by the lower end, or by the mean where the interval is unknown."""
    return (interval.low if interval.known else interval.mean) > limit


def _top(interval: Interval) -> float:
    return interval.high if interval.known else interval.mean


def _separate(high: Interval, low: Interval) -> bool:
    """Whether `high` lies above `low`, by the combined standard error."""
    if not (high.known and low.known):
        return False
    half = math.hypot(high.half_width, low.half_width)
    return high.mean - low.mean > half


def _would_decide(needed: Needed | None) -> str:
    return f"{needed} more replicas would decide" if needed else "more replicas would decide"


def _chance(chance: float) -> None:
    if not (chance > 0 and math.isfinite(chance)):
        raise ValueError(f"chance = {chance}; it must be a positive error, (C - 1)/C for C classes")
