"""Answers on memorization: what is memorized, when, where, how long it stays, what it costs and leaks."""

from __future__ import annotations

from collections.abc import Sequence

from engram.measures import cost, equivalence, intervals
from engram.measures.intervals import Interval
from engram.sweeps.claims.answer import (
    DROPOUT,
    NOISE,
    RANDOM,
    SIZE,
    WEIGHT_DECAY,
    WIDTH,
    Answer,
    Effect,
    Missing,
    Record,
    Word,
    by,
    change,
    falls,
    listed,
    margin_of,
    measure,
    of_values,
    pick,
    rises,
    signed,
    usable,
)

MOST = 0.5  # of the examples
FEWEST_SETTINGS = 5  # of which a rank correlation can be told from none at all


def signal_before_noise(records: Sequence[Record]) -> Answer:
    told, later = [], []
    for rate, record in by(records, NOISE).items():
        order, replicas = record["noise_order"], record["replicas"]
        delay = record["measures"].get("noise_delay")
        certain = order["p_value"] < 0.05 and order["later"] > order["sooner"]
        if delay is not None:
            certain = certain or rises(measure(record, "noise_delay"))
        wait = "" if delay is None else f", {signed(measure(record, 'noise_delay'))} epochs"
        told.append(
            f"{rate:.0%} wrong: later or never in {order['later']} of {replicas} replicas{wait}; "
            f"fitted at the end {measure(record, 'fitted_wrong').mean:.0%} of the wrong labels and "
            f"{measure(record, 'fitted_clean').mean:.0%} of the right ones"
        )
        later.append(certain)
    columns = (
        "epochs_to_fit_clean",
        "epochs_to_fit_wrong",
        "noise_delay",
        "fitted_clean",
        "fitted_wrong",
    )
    sentence = f"Half of the wrong labels fitted against half of the right ones: {'. '.join(told)}."
    effect = _delay(records)
    if all(later):
        return Answer("supported", sentence, "", columns, effect)
    word: Word = "depends" if any(later) else "not supported"
    on = "the share of wrong labels" if any(later) else ""
    return Answer(word, sentence, on, columns, effect)


def _delay(records: Sequence[Record]) -> Effect | None:
    """How much later wrong labels are fitted, at the first share of them where that is known."""
    for rate, record in by(records, NOISE).items():
        if record["replica_values"].get("noise_delay"):
            found = of_values(record, "noise_delay")
            return Effect(f"epochs that {rate:.0%} wrong labels are later", found, "higher")
    return None


def individual_examples(records: Sequence[Record]) -> Answer:
    clean = pick(records, data__label_noise=0.0)
    share = measure(clean, "memorized_share")
    noisy = [r for r in usable(records) if r["params"][NOISE] > 0]
    told = [
        f"With right labels, mean memorization is {measure(clean, 'memorization')}, and {share} of the "
        f"examples are memorized by half or more"
    ]
    if noisy:
        plain = next(r for r in noisy if not _regularized(r))
        wrong, right = measure(plain, "memorization_wrong"), measure(plain, "memorization_clean")
        told.append(
            f"with {plain['params'][NOISE]:.0%} wrong labels those have {wrong}, the others {right}"
        )
        for record in noisy:
            if record is not plain:
                drop = change(record, plain, "memorization_wrong")
                told.append(
                    f"{_named(record)} changes the memorization of the wrong ones by {signed(drop)}"
                )
    columns = (
        "memorization",
        "memorized_share",
        "memorization_wrong",
        "memorization_clean",
        "membership_auc",
        "test_error",
    )
    memorized = rises(measure(clean, "memorization")) and share.low > 0
    effect = Effect("memorization of right labels", of_values(clean, "memorization"), "higher")
    word: Word = "supported" if memorized else "not supported"
    return Answer(word, "; ".join(told) + ".", "", columns, effect)


def _regularized(record: Record) -> bool:
    return bool(record["params"].get(DROPOUT)) or bool(record["params"].get(WEIGHT_DECAY))


def _named(record: Record) -> str:
    params = record["params"]
    if params.get(DROPOUT):
        return f"dropout {params[DROPOUT]:g}"
    return f"weight decay {params.get(WEIGHT_DECAY, 0.0):g}"


def layers(records: Sequence[Record]) -> Answer:
    told, signs = [], []
    for depth, record in by(records, "model.depth").items():
        trend, control = of_values(record, "reinit_trend"), of_values(record, "rerandom_trend")
        beyond = of_values(record, "reinit_trend", minus="rerandom_trend")
        count = len(record["layers"])
        excess = [measure(record, f"reinit_layer{k + 1}_excess").mean for k in range(count)]
        shown = ", ".join(f"{value:+.3f}" for value in excess)
        told.append(
            f"{depth} hidden layers: excess loss on wrong labels {shown} from the first layer to the "
            f"read-out, later minus earlier half {signed(trend)}; {signed(control)} where it is drawn anew "
            f"instead, the control, and {signed(beyond)} beyond that"
        )
        sure = rises(trend) and rises(beyond)
        signs.append(1 if sure else -1 if falls(trend) else 0)
        effect = Effect("trend over the layers beyond the control's", beyond, "higher")
    if not told:
        raise Missing("a completed trial")
    columns = ("reinit_trend", "rerandom_trend", "train_error", "test_error")
    sentence = f"Set back to the start one at a time: {'; '.join(told)}."
    if all(sign > 0 for sign in signs):
        return Answer("supported", sentence, "", columns, effect)
    if not any(sign > 0 for sign in signs):
        return Answer("not supported", sentence, "", columns, effect)
    return Answer("depends", sentence, "the depth", columns, effect)


def retention(records: Sequence[Record], margin: float | None = None) -> Answer:
    told, forgets, kept, steady = [], [], [], []
    for width, record in by(records, WIDTH).items():
        drop, control = (of_values(record, f"{p}retention_drop") for p in ("", "rehearsed_"))
        within = margin_of(record, margin)
        held = equivalence.not_higher(record["replica_values"]["rehearsed_retention_drop"], within)
        never = measure(record, "unforgettable_share")
        told.append(
            f"width {width}: accuracy on the first task's test set drops by {drop} after the second, "
            f"{measure(record, 'retention_lost')} of what was right is lost; by {control} with rehearsal "
            f"({'' if held.shown else 'not '}shown to be below {within:.2g}); while training on the first alone, "
            f"{measure(record, 'forgetting_events')} events an example, {never} never forgotten once learned"
        )
        forgets.append(rises(drop))
        kept.append(held.shown)
        steady.append(never.low > MOST)
        effect = Effect("accuracy on the first task lost to the second", drop, "higher")
    if not told:
        raise Missing("a completed trial")
    columns = (
        "retention_drop",
        "retention_lost",
        "rehearsed_retention_drop",
        "rehearsed_retention_lost",
        "forgetting_events",
        "unforgettable_share",
    )
    sentence = "; ".join(told) + "."
    sentence = sentence[0].upper() + sentence[1:]
    if not all(forgets) or not any(kept):
        return Answer("not supported", sentence, "", columns, effect)
    if not all(kept):
        return Answer(
            "depends", sentence, "the width: rehearsal does not keep it at each", columns, effect
        )
    if not all(steady):
        on = (
            "what is meant: a task stays until another comes, single examples come and go meanwhile"
        )
        return Answer("depends", sentence, on, columns, effect)
    return Answer("supported", sentence, "", columns, effect)


def leakage(records: Sequence[Record]) -> Answer:
    base = next(r for r in usable(records) if not _regularized(r))
    auc = measure(base, "membership_auc")
    others = [r for r in usable(records) if r is not base]
    changes = {_named(r): change(r, base, "membership_auc") for r in others}
    told = "; ".join(f"{name} {signed(found)}" for name, found in changes.items())
    tpr = measure(base, "membership_tpr_1").mean
    sentence = (
        f"The attack's AUC is {auc} without regularization (true positives at 1 % false ones: {tpr:.0%}). "
        f"Against that: {told}."
    )
    columns = ("membership_auc", "membership_tpr_1", "memorization", "test_error", "train_error")
    effect = Effect(
        "AUC of the attack above guessing", of_values(base, "membership_auc", 0.5), "higher"
    )
    if not auc.low > 0.5:
        return Answer("not supported", sentence, "", columns, effect)
    lower = [name for name, found in changes.items() if falls(found)]
    if len(lower) == len(changes):
        return Answer("supported", sentence, "", columns, effect)
    help_ = f"{listed(lower)} lower it" if lower else "none lowers it"
    return Answer("depends", sentence, f"the regularizer: it leaks, and {help_}", columns, effect)


def ensembles(records: Sequence[Record]) -> Answer:
    gains = []
    for record in usable(records):
        member, whole = (record["replica_values"].get(n) for n in ("test_error", "ensemble_error"))
        if not member or not whole or len(member) != len(whole):
            raise Missing(f"ensemble_error of trial {record.get('trial')}, replica by replica")
        gains.append((record, intervals.paired(member, whole)))
    if not gains:
        raise Missing("a completed trial")
    best, worst = max(gains, key=lambda g: g[1].mean), min(gains, key=lambda g: g[1].mean)
    count = sum(rises(gain) for _, gain in gains)
    sentence = (
        f"The average of {best[0]['replicas']} networks is clearly better than its average member in {count} of "
        f"{len(gains)} settings: by {worst[1]} ({_setting(worst[0])}) to {best[1]} ({_setting(best[0])}).{_diversity(gains)}"
    )
    columns = ("test_error", "ensemble_error", "variance", "bias2")
    where = f"error that the average saves ({_setting(gains[0][0])})"
    effect = Effect(where, gains[0][1], "higher")
    if count == len(gains):
        return Answer("supported", sentence, "", columns, effect)
    word: Word = "depends" if count else "not supported"
    return Answer(word, sentence, "the setting" if count else "", columns, effect)


def _diversity(gains: Sequence[tuple[Record, Interval]]) -> str:
    """Whether the average saves more where members differ more. Of the Brier score it saves exactly that, (R - 1)/R of the
    variance (Wood et al. 2023, arXiv:2301.03962); of the error it need not."""
    from scipy import stats

    if len(gains) < FEWEST_SETTINGS:
        return ""
    apart, saved = [measure(r, "variance").mean for r, _ in gains], [g.mean for _, g in gains]
    tau = stats.kendalltau(apart, saved)
    return (
        f" What members differ by (variance) orders what the average saves of the error: rank correlation "
        f"{tau.statistic:.2f} (p = {tau.pvalue:.2g})."
    )


def _setting(record: Record) -> str:
    params = record["params"]
    return f"n = {params.get(SIZE, record['train_examples'])}, dropout {params.get(DROPOUT, 0.0):g}"


def memorization_time(records: Sequence[Record]) -> Answer:
    base = pick(records, data__label_noise=0.0, data__random_labels=False)
    told, slower, effect, ratios = [], [], None, {}
    for record in usable(records):
        if record is base:
            continue
        random = record["params"].get(RANDOM)
        name = "random labels" if random else f"{record['params'][NOISE]:.0%} wrong"
        values = (r["replica_values"]["epochs_at_least"] for r in (record, base))
        found = cost.ratio(*values)
        least = "at least " if record["censored_replicas"] else ""
        told.append(f"{name} {least}{found.mean:.2f} times ({found.low:.2f} to {found.high:.2f})")
        slower.append(found.known and found.low > 1)
        ratios[name] = found.mean
        longer = change(record, base, "epochs_at_least")
        effect = Effect(f"more epochs with {name}", longer, "higher")
    if not told:
        raise Missing("a trial with wrong labels")
    sentence = (
        f"Right labels take {measure(base, 'epochs_at_least')} epochs to {base['convergence_error']:.0%} "
        f"train error; against that: {'; '.join(told)}."
    )
    columns = ("epochs_to_convergence", "epochs_at_least", "train_error", "memorization")
    if not any(slower):
        return Answer("not supported", sentence, "", columns, effect)
    if not all(slower):
        return Answer("depends", sentence, "the share of wrong labels", columns, effect)
    most = max(ratios, key=lambda name: ratios[name])
    if "random labels" in ratios and most != "random labels":
        on = f"what is expected: all wrong labels take longer, but {most} the longest, not random ones"
        return Answer("depends", sentence, on, columns, effect)
    return Answer("supported", sentence, "", columns, effect)
