"""The table of measures: everything a record can hold, and what the rest of the house says of it.

Objectives, `--by`, column titles, reports, figures, the JSON Schema, MLflow's descriptions and docs/measures.md
are made from it. Light: imports no numerics.

Add a measure of predictions alone by one function (as in `metrics`) and one row here; where a record gets
any other measure is `sweeps/trial/measuring.py`. `python -m engram.measures.page` then rewrites the page.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from engram.measures.measure import (
    AGAIN,
    AROUND,
    FREE,
    HELD_OUT,
    LAYERS,
    LOOKS,
    POOL,
    SECRETS,
    TEST,
    Better,
    Measure,
)
from engram.problems import nearest

ERROR, LOSS = "error", "nats or squared error"
SQUARED, NATS, SHARE, ACCURACY = "squared error", "nats", "share", "accuracy"
IN_UNIT = "in [0, 1]"
EPOCHS, NUMBER, OWN_UNIT = "epochs", "number", "the target's own unit"
RANKS = "ranks"
METRICS = "engram.measures.metrics:"

# One row a measure, as a table is read: wrapped by hand.
# fmt: off
ALWAYS = (
    Measure("train_error", "train error", ERROR, "min", FREE,
            "error on the replica's own training subset, dropout off", objective=True, early=True,
            new_data=True),
    Measure("validation_error", "validation error", ERROR, "min", FREE,
            "error on examples held out once for the whole study; what is selected by",
            objective=True, early=True, short="validation", new_data=True),
    Measure("test_error", "test error", ERROR, "min", FREE,
            "error on the test set, which no choice was made by", new_data=True),
    Measure("train_loss", "train loss", LOSS, "min", FREE,
            "loss on the replica's own training subset, dropout off", objective=True, early=True,
            new_data=True),
    Measure("validation_loss", "validation loss", LOSS, "min", FREE,
            "loss on the validation set", objective=True, early=True, new_data=True),
    Measure("test_loss", "test loss", LOSS, "min", FREE, "loss on the test set", new_data=True),
    Measure("perplexity", "perplexity", NUMBER, "min", FREE,
            "e to the test loss of tokens: as many equally likely tokens to choose from",
            task="classification", switch="data of tokens"),
    Measure("generalization_gap", "generalization gap", ERROR, "min", FREE,
            "test error minus train error, mean over replicas; a search sees validation minus train",
            objective=True, early=True, short="gap", new_data=True),
    Measure("generalization_gap_loss", "generalization gap of the loss", LOSS, "min", FREE,
            "test loss minus train loss", new_data=True),
    Measure("bias2", "bias²", SQUARED, "min", TEST,
            "squared distance of the replicas' mean prediction from the truth; label noise included "
            "(ordered classes: of the probabilities of being above each rank)",
            objective=True, noun="bias", new_data=True, corrected=True),
    Measure("variance", "variance", SQUARED, "min", TEST,
            "how far replicas lie from their mean prediction; bias² + variance = risk",
            objective=True, noun="variance", new_data=True, corrected=True),
    Measure("variance_data", "variance from the data", SQUARED, "min", TEST,
            "the part of the variance that comes from the training subset",
            switch="replicas.inits above 1", new_data=True, corrected=True),
    Measure("variance_init", "variance from the initialization", SQUARED, "min", TEST,
            "the part of the variance that comes from the initialization and the order",
            switch="replicas.inits above 1", new_data=True, corrected=True),
    Measure("bias_ce", "bias of the cross-entropy", NATS, "min", TEST,
            "the part of the cross-entropy that the replicas' geometric mean has",
            task="classification", new_data=True, corrected=True),
    Measure("variance_ce", "variance of the cross-entropy", NATS, "min", TEST,
            "the part that is the replicas' distance from that mean; the two add up to the test loss",
            task="classification", new_data=True, corrected=True),
    Measure("bias_01", "bias of the 0-1 loss", ERROR, "min", TEST,
            "error of the replicas' vote (Domingos); does not add up with the variance",
            cohort=True, task="classification", new_data=True),
    Measure("variance_01", "variance of the 0-1 loss", SHARE, "min", TEST,
            "disagreement of the replicas with their vote", cohort=True, task="classification", new_data=True),
    Measure("ensemble_error", "ensemble error", ERROR, "min", TEST,
            "error of the replicas' mean prediction", objective=True, cohort=True, new_data=True),
    Measure("epochs_to_convergence", "epochs to convergence", EPOCHS, "min", FREE,
            "median epochs until the train error is at `measures.convergence_error`, or, without one, "
            "until the train loss is nine tenths of the way down its own curve; null where half of "
            "the replicas never arrived"),
    Measure("epochs_at_least", "epochs at least", EPOCHS, "min", FREE,
            "the mean with those that never arrived counted as the last epoch: a lower bound"),
)
EXAMPLES = (
    Measure("memorization", "memorization", ACCURACY, "min", POOL,
            "accuracy on an example when trained on it, minus when not; mean over the pool "
            "(regression: minus the squared error in place of accuracy)",
            noun="memorization", switch="measures.memorization"),
    Measure("memorized_share", "share memorized", SHARE, "min", POOL,
            "share of examples with a memorization of one half or more; from 24 replicas on",
            cohort=True, switch="measures.memorization", task="classification"),
    Measure("memorization_wrong", "memorization of wrong labels", ACCURACY, "min", POOL,
            "memorization of the examples with wrong labels, under `data.label_noise`",
            switch="measures.memorization", task="classification", short="wrong labels"),
    Measure("memorization_clean", "memorization of right labels", ACCURACY, "min", POOL,
            "memorization of the examples with right labels, under `data.label_noise`",
            switch="measures.memorization", task="classification", short="right labels"),
    Measure("membership_auc", "membership AUC", "AUC", "min", POOL,
            "how well an attacker tells training examples from others (LiRA, every replica attacked "
            "in turn with the others as shadows); 0.5 is guessing",
            cohort=True, noun="the membership attack's AUC", switch="measures.membership"),
    Measure("membership_tpr_1", "members found at 1 %", SHARE, "min", POOL,
            "share of the members found at 1 % false alarms; no interval",
            cohort=True, switch="measures.membership"),
    Measure("membership_tpr_01", "members found at 0.1 %", SHARE, "min", POOL,
            "share of the members found at 0.1 % false alarms; no interval",
            cohort=True, switch="measures.membership"),
)
PLANTED = (
    Measure("exposure_{k}", "exposure at {k}", "bits", "min", SECRETS,
            "log2 of the possible secrets minus log2 of the rank of the right one among them, of secrets that each "
            "epoch shows {k} times; 1.44 on average for one never seen, 9.97 at most (Carlini et al. 2019)",
            noun="the exposure of secrets seen {k} times an epoch", switch="data.canaries",
            task="classification"),
    Measure("extracted_{k}", "secrets extracted at {k}", SHARE, "min", SECRETS,
            "share of the secrets that each epoch shows {k} times which the network says by itself, by the likeliest "
            "token step by step, after what stands before them (Carlini et al. 2021)",
            noun="the share extracted of secrets seen {k} times an epoch", switch="data.canaries",
            task="classification"),
)
TRAINING = (
    Measure("forgetting_events", "forgetting events", "events per example", "min", LOOKS,
            "how often a training example goes from right to wrong, mean over examples; changes "
            "between two evaluations go unseen", switch="measures.forgetting"),
    Measure("unforgettable_share", "share never forgotten", SHARE, "max", LOOKS,
            "share of the examples that stay right once learned", switch="measures.forgetting"),
    Measure("epochs_to_fit_clean", "epochs to fit right labels", EPOCHS, "min", LOOKS,
            "median epochs until half of the right labels are predicted", switch="wrong labels"),
    Measure("epochs_to_fit_wrong", "epochs to fit wrong labels", EPOCHS, "", LOOKS,
            "median epochs until half of the wrong labels are predicted", switch="wrong labels"),
    Measure("noise_delay", "delay of wrong labels", EPOCHS, "max", LOOKS,
            "epochs by which wrong labels are fitted later than right ones, per replica",
            switch="wrong labels"),
    Measure("fitted_clean", "right labels fitted", SHARE, "", LOOKS,
            "share of the right labels predicted at the end", switch="wrong labels"),
    Measure("fitted_wrong", "wrong labels fitted", SHARE, "min", LOOKS,
            "share of the wrong labels predicted at the end", switch="wrong labels"),
)
LANDSCAPE = (
    Measure("weight_norm", "norm of the weights", "L2", "", FREE,
            "square root of the sum of squares of all weights at the end of training",
            switch="measures.flatness"),
    Measure("weight_distance", "distance from the start", "L2", "", FREE,
            "L2 distance of the weights from where they began", switch="measures.flatness"),
    Measure("sharpness", "sharpness", LOSS, "min", AROUND,
            "rise of the train loss, on average, where every weight moves at random by a tenth of its size",
            switch="measures.flatness"),
)
AFTER = tuple(
    measure
    for kind, done in (("reinit", "set back to its initial weights"), ("rerandom", "drawn anew"))
    for measure in (
        Measure(f"{kind}_layer{{k}}_clean", f"{kind} layer {{k}} on right labels", ACCURACY, "",
                LAYERS, f"accuracy on training examples with right labels lost when layer {{k}} "
                f"alone is {done}; counted from the input, the read-out is last",
                noun=f"the accuracy lost on right labels with layer {{k}} {done}", switch="measures.layers", task="classification"),
        Measure(f"{kind}_layer{{k}}_noisy", f"{kind} layer {{k}} on wrong labels", ACCURACY, "",
                LAYERS, f"the same on training examples with wrong labels, layer {{k}} {done}",
                noun=f"the accuracy lost on wrong labels with layer {{k}} {done}",
                switch="measures.layers", task="classification"),
        Measure(f"{kind}_layer{{k}}_excess", f"{kind} layer {{k}} excess", ACCURACY, "", LAYERS,
                f"lost on wrong labels minus lost on right ones, layer {{k}} {done}",
                switch="measures.layers", task="classification"),
        Measure(f"{kind}_trend", f"{kind} trend", ACCURACY, "", LAYERS,
                "excess of the later half of the layers minus that of the earlier half, each "
                f"{done}: above zero, earlier layers memorize less",
                noun=f"the excess of later layers over earlier ones, {done},",
                switch="measures.layers", task="classification"),
    )
) + tuple(
    measure
    for before, after, how in (
        ("", "", ""),
        ("rehearsed_", " with rehearsal", "; with the first task's examples among the second's"),
    )
    for measure in (
        Measure(f"{before}retention_drop", f"retention drop{after}", ACCURACY, "min", AGAIN,
                "accuracy on the task's test set lost by training as long on a second task, the "
                f"same one with the positions of its inputs in another order{how}",
                noun=f"the accuracy lost by training on another task{after}",
                switch="measures.retention", task="classification"),
        Measure(f"{before}retention_lost", f"retention lost{after}", SHARE, "min", AGAIN,
                f"share of what was right on the test set that is wrong after the second task{how}",
                switch="measures.retention", task="classification"),
        Measure(f"{before}second_task_error", f"second task's error{after}", ERROR, "min", AGAIN,
                f"test error on the second task{how}",
                switch="measures.retention", task="classification"),
    )
)
EACH = (
    Measure("target{k}_error", "error of target {k}", ERROR, "min", TEST,
            "of target {k}, counted from 1 in the order of `data.target`: the share of wrong answers "
            "of a label, the squared error of a value", noun="the error of target {k}",
            switch="several targets"),
    Measure("target{k}_bias2", "bias² of target {k}", SQUARED, "min", TEST,
            "squared distance of the replicas' mean prediction from target {k}; the mean over the "
            "targets is bias²", noun="the bias of target {k}", switch="several targets", corrected=True),
    Measure("target{k}_variance", "variance of target {k}", SQUARED, "min", TEST,
            "how far replicas lie from their mean prediction of target {k}; the mean over the targets "
            "is the variance", noun="the variance of target {k}", switch="several targets", corrected=True),
)
METRIC = (
    Measure("f1", "F1", IN_UNIT, "max", TEST,
            "macro F1: the mean over classes of the harmonic mean of precision and recall",
            True, task="classification", of=METRICS + "f1", asked=True, new_data=True),
    Measure("precision", "precision", IN_UNIT, "max", TEST,
            "share that is positive of what is called positive; 0 where nothing is",
            True, task="classification", of=METRICS + "precision", asked=True, positive=True, new_data=True,
            switch="data.positive"),
    Measure("recall", "recall", IN_UNIT, "max", TEST,
            "share of the positive class that is called positive",
            True, task="classification", of=METRICS + "recall", asked=True, positive=True, new_data=True,
            switch="data.positive"),
    Measure("positive_f1", "F1 of the positive class", IN_UNIT, "max", TEST,
            "harmonic mean of precision and recall of the positive class",
            True, task="classification", of=METRICS + "positive_f1", asked=True, positive=True, new_data=True,
            switch="data.positive", short="F1+"),
    Measure("balanced_error", "balanced error", ERROR, "min", TEST,
            "one minus the mean over classes of the share found of each",
            True, task="classification", of=METRICS + "balanced_error", asked=True, new_data=True),
    Measure("auroc", "AUROC", IN_UNIT, "max", TEST,
            "area under the ROC curve of each class against the rest, mean over classes; 0.5 is "
            "guessing", True, task="classification", of=METRICS + "auroc", asked=True, new_data=True),
    Measure("average_precision", "average precision", IN_UNIT, "max", TEST,
            "area under the precision-recall curve: of the second of two classes, or the mean over "
            "classes where there are more",
            True, task="classification", of=METRICS + "average_precision", asked=True, new_data=True),
    Measure("calibration_error", "calibration error", SHARE, "min", TEST,
            "expected calibration error: distance of the accuracy from the confidence in the answer, "
            "over 15 bins of equal width",
            True, task="classification", of=METRICS + "calibration_error", asked=True, new_data=True),
    Measure("log_loss", "log-loss", NATS, "min", TEST,
            "mean of minus the logarithm of the true class's probability",
            True, task="classification", of=METRICS + "log_loss", asked=True, new_data=True),
    Measure("subset_error", "subset error", ERROR, "min", TEST,
            "share of the examples of which any label is wrong",
            True, task="multilabel", of=METRICS + "subset_error", asked=True, new_data=True),
    Measure("rank_error", "rank error", RANKS, "min", TEST,
            "mean distance, in ranks, of the median of the predicted distribution from the true one of ordered "
            "classes; the record has beside it that of always the pool's median",
            True, task="ordinal", of=METRICS + "rank_error", new_data=True),
    Measure("ranked_probability_score", "ranked probability score", SQUARED, "min", TEST,
            "squared error of the probability of being above a rank, mean over all ranks but the last",
            True, task="ordinal", of=METRICS + "ranked_probability_score", asked=True, new_data=True,
            short="RPS"),
    Measure("r2", "R²", "at most 1", "max", TEST,
            "share of the target's variance that is explained; mean over targets",
            True, task="regression", of=METRICS + "r2", asked=True, new_data=True),
    Measure("mean_absolute_error", "mean absolute error", OWN_UNIT, "min", TEST,
            "mean distance of the prediction from the target, in the target's own unit",
            True, task="regression", of=METRICS + "mean_absolute_error", asked=True, new_data=True,
            short="MAE"),
)
SIZES = (
    Measure("parameters", "parameters", NUMBER, "min", FREE,
            "weights of one network", objective=True),
    Measure("seconds", "seconds", "s", "min", FREE,
            "time that training took, all replicas together", objective=True),
    Measure("epochs", "epochs", EPOCHS, "min", FREE, "passes over the training set"),
    Measure("steps", "steps", NUMBER, "min", FREE, "updates of the weights"),
)
# fmt: on

MEASURES: dict[str, Measure] = {
    measure.name: measure
    for group in (ALWAYS, EXAMPLES, PLANTED, TRAINING, LANDSCAPE, AFTER, EACH, METRIC, SIZES)
    for measure in group
}
HEADLINES = ("test_error", "generalization_gap", "bias2", "variance")  # in every table


class UnknownMeasure(LookupError):
    """No measure has this name."""


def bounds(measure: Measure, classification: bool) -> tuple[float, float]:
    """The least and the greatest that a measure can be: an interval is shown no farther."""
    if measure.unit in (SHARE, "AUC", IN_UNIT):
        return 0.0, 1.0
    if measure.unit == RANKS:
        return 0.0, math.inf
    if measure.unit not in (ERROR, ACCURACY):
        return -math.inf, math.inf
    differs = measure.unit == ACCURACY or measure.name == "generalization_gap"
    if classification:
        return (-1.0 if differs else 0.0), 1.0
    return (-math.inf if differs else 0.0), math.inf


def find(name: str) -> Measure | None:
    """The measure of this name, a numbered or a held-out one too; None where there is none."""
    if name in MEASURES:
        return MEASURES[name]
    of = MEASURES.get(name.removeprefix(HELD_OUT))
    if of is not None and of.of is not None:
        return of.held_out()
    return next((m for row in MEASURES.values() if (m := row.numbered(name))), None)


def get(name: str) -> Measure:
    """The measure of this name; UnknownMeasure, with the nearest one, where there is none."""
    found = find(name)
    if found is None:
        close = nearest(name, MEASURES)
        raise UnknownMeasure(
            f"'{name}' is no measure" + (f"; did you mean '{close}'?" if close else "")
        )
    return found


def objectives() -> list[str]:
    """Measures that a search may select by: each is read off training or validation examples."""
    return [measure.name for measure in MEASURES.values() if measure.objective]


def askable() -> list[str]:
    """Measures that are taken where `measures.own` names them."""
    return [measure.name for measure in MEASURES.values() if measure.asked]


def of_predictions(asked: Iterable[str]) -> list[Measure]:
    """The measures of predictions alone that a study takes; asked: what it names besides."""
    named = [own(name) if ":" in name else get(name) for name in asked]
    always = [m for m in MEASURES.values() if m.of is not None and not m.asked]
    return list({measure.name: measure for measure in [*always, *named]}.values())


def own(path: str) -> Measure:
    """A person's own function of predictions (`package.module:function`), as a measure of its name.

    By scikit-learn's convention, what ends in _error, _loss or _deviance is better low, all else high.
    """
    name = path.rpartition(":")[2].rpartition(".")[2]
    low = name.endswith(("_error", "_loss", "_deviance")) or name in ("error", "loss", "deviance")
    title = name.replace("_", " ")
    better: Better = "min" if low else "max"
    return Measure(
        name, title, "its own", better, TEST, f"{path}, a function of the person's own",
        objective=True, of=path, asked=True, own=True,
    )  # fmt: skip


def title(name: str) -> str:
    """What a column is called; a name that the table does not have (a person's own) in words."""
    found = find(name)
    return found.title if found else name.replace("_", " ")
