"""The claims: each answer on records where it holds and where it does not, and each study at its small size."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from engram import program
from engram.measures import catalog as measures_catalog
from engram.measures import intervals
from engram.sweeps.claims import catalog
from engram.sweeps.claims.answer import Answer, Effect, Record
from engram.sweeps.claims.claim import Claim, Tried
from engram.sweeps.commands import line
from engram.sweeps.results import across
from engram.sweeps.study import loading
from engram.sweeps.study.configuration import Study
from engram.sweeps.trial import datasets, measuring, preparing

ROOT = Path(__file__).parent.parent
SPREAD = np.array([-1.0, 1.0, -0.5, 0.5, 0.8, -0.8, 0.2, -0.2]) * 0.01  # eight replicas


def record(params: dict, number: int = 0, status: str = "completed", **measures) -> Record:
    """A record with these means, its replicas spread by about 0.01 (relative, above 1) around them."""
    made: Record = {
        "trial": number,
        "params": params,
        "status": status,
        "replicas": len(SPREAD),
        "parameters": 1000,
        "train_examples": params.get("data.train_size", 1000),
        "chance_error": 0.9,
        "censored_replicas": 0,
        "measures": {},
        "replica_values": {},
    }
    if "test_error" in measures:  # what is selected by, unless a case says otherwise
        measures = {"validation_error": measures["test_error"], **measures}
    for name, value in measures.items():
        if not isinstance(value, int | float):
            made[name] = value
            continue
        # Each measure has a spread of its own, or differences between trials would have none.
        shift = np.random.default_rng([number, *name.encode()]).permutation(SPREAD)
        values = value + shift * max(1.0, abs(value))
        found = intervals.t_interval(values)
        made["measures"][name] = {"mean": found.mean, "low": found.low, "high": found.high}
        made["replica_values"][name] = values.tolist()
    return made


def trials(key: str, rows: dict, *names: str, extra: dict | None = None) -> list[Record]:
    """Records by one parameter: {value: (measure, ...)} in the order of names."""
    return [
        record({**(extra or {}), key: value}, k, **dict(zip(names, row, strict=True)))
        for k, (value, row) in enumerate(rows.items())
    ]


FIT = ("train_error", "generalization_gap", "test_error")


def dropout(**rows) -> list[Record]:
    return trials("model.dropout", {float(k[1:]) / 10: row for k, row in rows.items()}, *FIT)


def decays(rows: list[tuple]) -> list[Record]:
    return [
        record(
            {"training.weight_decay": decay, "training.l1": l1},
            k,
            **dict(zip(FIT, row, strict=True)),
        )
        for k, (decay, l1, *row) in enumerate(rows)
    ]


def stopping(rows: dict) -> list[Record]:
    return trials("training.early_stopping", rows, *FIT, "test_loss")


def augmented(rows: dict) -> list[Record]:
    return trials("data.augmentation", rows, *FIT)


def sizes(rows: dict) -> list[Record]:
    return trials("data.train_size", rows, "test_error", "memorization")


def rates(rows: dict) -> list[Record]:
    found = []
    for k, ((optimizer, rate), epochs) in enumerate(rows.items()):
        params = {"training.optimizer": optimizer, "training.lr": rate}
        some = {} if epochs is None else {"epochs_to_convergence": float(epochs)}
        found.append(record(params, k, convergence_error=None, **some))
        found[-1]["convergence_error"] = 0.1
    return found


def kinds(key: str, rows: dict, **extra) -> list[Record]:
    return trials(key, rows, "test_error", "validation_error", extra=extra)


def widths(rows: dict) -> list[Record]:
    return trials("model.width", rows, "variance", "bias2", "test_error", "train_error")


def random_labels(limits: dict) -> list[Record]:
    """Widths that fit random labels up to a limit."""
    found = []
    for width, (parameters, limit) in limits.items():
        for size in (100, 200, 400, 800, 1600):
            error = 0.0 if size <= limit else 0.4
            one = record(
                {"model.width": width, "data.train_size": size}, len(found), train_error=0.0
            )
            one["replica_values"]["train_error"] = [error] * 8
            found.append({**one, "parameters": parameters})
    return found


def wrong_labels(later: int, delay: float | None) -> list[Record]:
    some = {} if delay is None else {"noise_delay": delay}
    made = record({"data.label_noise": 0.1}, fitted_wrong=0.9, fitted_clean=1.0, **some)
    p_value = intervals.sign_test(later, 8 - later)
    made["noise_order"] = {"later": later, "sooner": 8 - later, "p_value": p_value}
    return [made]


def individuals(share: float, memorization: float) -> list[Record]:
    rows = ((0.0, 0.0, 0.0), (0.1, 0.0, 0.0), (0.1, 0.5, 0.0), (0.1, 0.0, 0.1))
    keys = ("data.label_noise", "model.dropout", "training.weight_decay")
    return [
        record(
            dict(zip(keys, row, strict=True)),
            k,
            memorized_share=share,
            memorization=memorization,
            memorization_wrong=0.9 - row[1],
            memorization_clean=memorization,
        )
        for k, row in enumerate(rows)
    ]


def depths(*trends: float, control: float = 0.0) -> list[Record]:
    excess = {f"reinit_layer{k}_excess": 0.1 for k in (1, 2, 3)}
    return [
        record(
            {"model.depth": depth},
            depth,
            reinit_trend=trend,
            rerandom_trend=control,
            layers=["a", "b", "c"],
            **excess,
        )
        for depth, trend in enumerate(trends)
    ]


def tasks(drop: float, rehearsed: float, events: float) -> list[Record]:
    return [
        record(
            {"model.width": 50},
            retention_drop=drop,
            retention_lost=0.6,
            rehearsed_retention_drop=rehearsed,
            forgetting_events=events,
            unforgettable_share=0.9 if events < 1 else 0.4,
        )
    ]


def attacked(base: float, *others: float) -> list[Record]:
    keys = [(0.5, 0.0), (0.0, 1.0)]
    found = [record({"model.dropout": 0.0}, membership_auc=base, membership_tpr_1=0.3)]
    for k, (value, (rate, decay)) in enumerate(zip(others, keys, strict=True), 1):
        params = {"model.dropout": rate, "training.weight_decay": decay}
        found.append(record(params, k, membership_auc=value, membership_tpr_1=0.1))
    return found


def averaged(*gains: float) -> list[Record]:
    return [
        record(
            {"model.dropout": 0.0},
            k,
            test_error=0.5,
            ensemble_error=0.5 - gain,
            variance=0.2 + gain,
        )
        for k, gain in enumerate(gains)
    ]


def timed(*factors: float, random: float | None = None) -> list[Record]:
    noise = (0.0, 0.2, 0.4)[: len(factors)]
    found = [
        {
            **record(
                {"data.label_noise": rate, "data.random_labels": False}, k, epochs_at_least=20 * f
            ),
            "convergence_error": 0.05,
        }
        for k, (rate, f) in enumerate(zip(noise, factors, strict=True))
    ]
    if random is not None:
        params = {"data.label_noise": 0.0, "data.random_labels": True}
        found.append({**record(params, 9, epochs_at_least=20 * random), "convergence_error": 0.05})
    return found


def architectures(accuracies: dict) -> list[Record]:
    return [
        record({"model.family": family, "model.depth": depth}, k, test_error=1 - accuracy)
        for k, ((family, depth), accuracy) in enumerate(accuracies.items())
    ]


def reference(error: float) -> list[Record]:
    params = {"data.train_size": 4000, "model.dropout": 0.2}
    return [record(params, test_error=error)]


def epochs(rows: dict) -> list[Record]:
    return trials("training.epochs", rows, "bias2", "variance", "test_error")


def regularized(base: tuple, dropout: tuple, smoothing: tuple) -> list[Record]:
    """(calibration error, test error) without, with dropout and with label smoothing."""
    keys = ((0.0, 0.0), (0.5, 0.0), (0.0, 0.1))
    return [
        record(
            {
                "model.dropout": rate,
                "training.label_smoothing": smooth,
                "training.weight_decay": 0.0,
            },
            k,
            calibration_error=calibration,
            test_error=error,
        )
        for k, ((rate, smooth), (calibration, error)) in enumerate(
            zip(keys, (base, dropout, smoothing), strict=True)
        )
    ]


def secrets(plain: float, dropout: float, more: float) -> list[Record]:
    """Exposure of secrets seen once, without a remedy, with dropout and with more examples."""
    rows = [(0.0, 300, plain), (0.3, 300, dropout), (0.0, 1200, more)]
    return [
        record(
            {"model.family": "lstm", "model.dropout": rate, "data.train_size": size},
            k,
            exposure_0=1.4,
            exposure_1=bits,
            extracted_0=0.0,
            extracted_1=1.0,
        )
        for k, (rate, size, bits) in enumerate(rows)
    ]


def minima(sharp: float, norm: float) -> list[Record]:
    """Gaps that rise with the rate and the width, and what the two measures do meanwhile."""
    return [
        record(
            {"training.lr": lr, "model.width": width},
            k,
            train_error=0.0,
            generalization_gap=0.2 + 0.1 * k,
            sharpness=1 + sharp * k,
            weight_norm=5 + norm * k,
        )
        for k, (lr, width) in enumerate(((0.001, 50), (0.001, 100), (0.01, 50), (0.01, 100)))
    ]


# (claim, records, verdict, a word the answer or what it depends on must hold)
CASES = [
    ("dropout", dropout(r0=(0, 0.5, 0.5), r2=(0.1, 0.3, 0.4), r5=(0.2, 0.2, 0.4)), "supported", "0.5"),
    ("dropout", dropout(r0=(0, 0.5, 0.5), r2=(0.1, 0.3, 0.4), r5=(0.2, 0.5, 0.7)), "depends", "0.2 at no cost"),
    ("dropout", dropout(r0=(0, 0.5, 0.5), r2=(0.1, 0.3, 0.4), r10=(0.9, 0, 0.9)), "supported", "learns nothing"),
    ("dropout", dropout(r0=(0, 0.5, 0.5), r2=(0, 0.6, 0.6)), "not supported", "+0.1"),
    ("weight_decay", decays([(0.0, 0.0, 0, 0.5, 0.5), (1.0, 0.0, 0.1, 0.3, 0.4), (0.0, 1e-3, 0.1, 0.3, 0.4)]), "supported", "L1 0.001"),
    ("weight_decay", decays([(0.0, 0.0, 0, 0.5, 0.5), (1.0, 0.0, 0.1, 0.3, 0.4), (0.0, 1e-3, 0.1, 0.5, 0.6)]), "depends", "which of the two: weight decay 1"),
    ("weight_decay", decays([(0.0, 0.0, 0, 0.5, 0.5), (1.0, 0.0, 0.2, 0.5, 0.7), (0.0, 1e-3, 0.1, 0.5, 0.6)]), "not supported", ""),
    ("early_stopping", stopping({None: (0, 0.5, 0.5, 3.0), 3: (0.2, 0.2, 0.4, 1.0)}), "supported", "patience 3"),
    ("early_stopping", stopping({None: (0, 0.5, 0.5, 3.0), 3: (0.4, 0.2, 0.6, 1.0)}), "depends", "loss"),
    ("early_stopping", stopping({None: (0, 0.5, 0.5, 3.0), 3: (0.4, 0.5, 0.9, 5.0)}), "not supported", ""),
    ("augmentation", augmented({"none": (0, 0.5, 0.5), "shift": (0, 0.3, 0.3)}), "supported", "shift"),
    ("augmentation", augmented({"none": (0, 0.5, 0.5), "shift": (0, 0.3, 0.3), "scale": (0, 0.5, 0.5)}), "depends", "not with scale"),
    ("augmentation", augmented({"none": (0, 0.5, 0.5), "shift": (0, 0.7, 0.7)}), "not supported", ""),
    ("ten_million", sizes({10_000: (0.18, 0.3), 100_000: (0.13, 0.2), 1_000_000: (0.08, 0.1), 10_000_000: (0.05, 0.0)}), "supported", "10,000,000"),
    ("ten_million", sizes({10_000: (0.4, 0.3), 100_000: (0.3, 0.2), 1_000_000: (0.2, 0.1), 10_000_000: (0.1, 0.0)}), "depends", "the task"),
    ("ten_million", sizes({10_000: (0.2, 0.3), 100_000: (0.4, 0.2)}), "not supported", ""),
    ("ten_million", sizes({10_000: (0.4, 0.3), 100_000: (0.3, 0.2), 1_000_000: (0.3, 0.1)}), "depends", "the step to 1,000,000"),
    ("learning_rate", rates({("sgd", 1e-3): 50, ("sgd", 1e-2): 30, ("sgd", 1e-1): 15, ("sgd", 1.0): 5}), "supported", "50"),
    ("learning_rate", rates({("sgd", 1e-3): 50, ("sgd", 1e-2): 30, ("sgd", 1e-1): 15, ("sgd", 1.0): None}), "depends", "fastest at 0.1"),
    ("learning_rate", rates({("sgd", 1e-3): 5, ("sgd", 1e-2): 30, ("sgd", 1e-1): None}), "not supported", "never"),
    ("families", kinds("model.family", {"feedforward": (0.5, 0.5), "gru": (0.2, 0.2)}), "supported", "gru"),
    ("families", kinds("model.family", {"feedforward": (0.5, 0.5), "gru": (0.2, 0.2), "rnn": (0.5, 0.5)}), "depends", "rnn"),
    ("families", kinds("model.family", {"feedforward": (0.5, 0.5), "rnn": (0.5, 0.5)}), "not supported", ""),
    ("activations", kinds("model.activation", {"relu": (0.3, 0.3), "sigmoid": (0.5, 0.5)}, **{"training.lr": 0.01}), "supported", "sigmoid"),
    ("activations", kinds("model.activation", {"relu": (0.3, 0.3), "tanh": (0.3, 0.3), "sigmoid": (0.5, 0.5)}, **{"training.lr": 0.01}), "depends", "tanh"),
    ("activations", kinds("model.activation", {"relu": (0.3, 0.3), "sigmoid": (0.3, 0.3)}, **{"training.lr": 0.01}), "not supported", ""),
    ("double_descent", widths({12: (0.1, 0.5, 0.4, 0.3), 47: (0.5, 0.3, 0.6, 0.1), 300: (0.2, 0.2, 0.4, 0.0)}), "depends", "peaks at width 47"),
    ("double_descent", widths({12: (0.1, 0.5, 0.4, 0.3), 47: (0.2, 0.3, 0.5, 0.1), 300: (0.5, 0.2, 0.6, 0.0)}), "supported", ""),
    ("double_descent", widths({12: (0.5, 0.5, 0.4, 0.3), 47: (0.2, 0.3, 0.5, 0.1), 300: (0.1, 0.2, 0.6, 0.0)}), "not supported", ""),
    ("capacity", random_labels({8: (100, 100), 16: (200, 200), 32: (400, 400), 64: (800, 800)}), "supported", "power 1"),
    ("capacity", random_labels({8: (100, 400), 16: (200, 200), 32: (400, 200), 64: (800, 200)}), "not supported", ""),
    ("signal_before_noise", wrong_labels(8, 12.0), "supported", "8 of 8"),
    ("signal_before_noise", wrong_labels(8, None), "supported", "8 of 8"),
    ("signal_before_noise", wrong_labels(4, 0.0), "not supported", "4 of 8"),
    ("individual_examples", individuals(0.5, 0.5), "supported", "dropout 0.5"),
    ("individual_examples", individuals(0.0, 0.0), "not supported", ""),
    ("layers", depths(0.2, 0.3), "supported", "later minus earlier"),
    ("layers", depths(0.2, -0.3), "depends", "the depth"),
    ("layers", depths(0.2, 0.3, control=0.3), "not supported", "the control"),
    ("layers", depths(-0.2, -0.3), "not supported", ""),
    ("retention", tasks(0.4, 0.002, 0.1), "supported", "rehearsal"),
    ("retention", tasks(0.4, 0.002, 3.0), "depends", "come and go"),
    ("retention", tasks(0.4, 0.4, 0.1), "not supported", "not shown to be below"),
    ("retention", tasks(0.0, 0.0, 0.1), "not supported", "drops by 0.0"),
    ("leakage", attacked(0.9, 0.6, 0.7), "supported", "0.9"),
    ("leakage", attacked(0.9, 0.6, 0.95), "depends", "dropout 0.5 lower it"),
    ("leakage", attacked(0.5, 0.5, 0.5), "not supported", ""),
    ("ensembles", averaged(0.1, 0.2), "supported", "2 of 2"),
    ("ensembles", averaged(0.1, 0.0), "depends", "1 of 2"),
    ("ensembles", averaged(0.1, 0.15, 0.2, 0.25, 0.3), "supported", "rank correlation 1.00"),
    ("ensembles", averaged(-0.1), "not supported", ""),
    ("memorization_time", timed(1, 2, 3), "supported", "3."),
    ("memorization_time", timed(1, 2, 1), "depends", "share"),
    ("memorization_time", timed(1, 2, 3, random=4), "supported", "random labels"),
    ("memorization_time", timed(1, 2, 3, random=2), "depends", "40% wrong the longest"),
    ("memorization_time", timed(1, 1, 0.5), "not supported", ""),
    ("epochwise", epochs({1: (0.8, 0.1, 0.7), 10: (0.4, 0.2, 0.4), 100: (0.3, 0.4, 0.5)}), "supported", "lowest at 10"),
    ("epochwise", epochs({1: (0.8, 0.1, 0.8), 10: (0.4, 0.2, 0.4), 50: (0.3, 0.4, 0.6), 100: (0.3, 0.3, 0.5)}), "depends", "past 50"),
    ("epochwise", epochs({1: (0.8, 0.4, 0.8), 10: (0.4, 0.2, 0.4), 100: (0.3, 0.1, 0.3)}), "not supported", ""),
    ("samplewise", trials("data.train_size", {50: (0.8,), 100: (0.6,), 200: (0.4,)}, "test_error"), "supported", "100 -0.2"),
    ("samplewise", trials("data.train_size", {50: (0.6,), 100: (0.8,), 200: (0.4,)}, "test_error"), "depends", "the step to 100"),
    ("samplewise", trials("data.train_size", {50: (0.4,), 100: (0.6,)}, "test_error"), "not supported", ""),
    ("calibration", regularized((0.3, 0.4), (0.1, 0.35), (0.1, 0.35)), "supported", "dropout 0.5 -0.2"),
    ("calibration", regularized((0.3, 0.4), (0.1, 0.35), (0.1, 0.5)), "depends", "dropout at no cost"),
    ("calibration", regularized((0.3, 0.4), (0.5, 0.35), (0.1, 0.5)), "not supported", ""),
    ("flatness", minima(1.0, 1.0), "supported", "sharpness 1.0"),
    ("flatness", minima(1.0, -1.0), "depends", "sharpness only"),
    ("flatness", minima(-1.0, -1.0), "not supported", "4 of 4"),
    ("text_memorization", secrets(8.0, 5.0, 4.0), "supported", "dropout 0.3 -3."),
    ("text_memorization", secrets(8.0, 5.0, 8.0), "depends", "dropout 0.3 (lstm) lower it"),
    ("text_memorization", secrets(1.4, 1.4, 1.4), "not supported", "100% extracted"),
    ("architectures", architectures({("feedforward", 0): 0.32, ("gru", 1): 0.91}), "supported", "logistic"),
    ("architectures", architectures({("feedforward", 0): 0.32, ("gru", 1): 0.7}), "depends", "architecture"),
    ("architectures", architectures({("gru", 1): 0.7}), "not supported", "gru"),
    ("reference", reference(0.319), "supported", "0.681"),
    ("reference", reference(0.5), "not supported", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "records", "verdict", "word"), CASES, ids=[f"{c[0]}-{c[2]}" for c in CASES]
)
def test_each_answer_follows_its_records(name, records, verdict, word):
    answer = catalog.row(name).answer(records)
    assert answer.verdict == verdict, answer
    assert word in f"{answer.sentence} {answer.on}"
    assert bool(answer.on) == (verdict == "depends"), "what it depends on is said, and only then"
    assert answer.sentence[0].isupper() or answer.sentence[0].isdigit()
    assert "nan" not in answer.sentence


def test_every_answer_is_tried_where_its_claim_holds_and_where_it_does_not():
    for name in catalog.CLAIMS:
        tried = {verdict for case, _, verdict, _ in CASES if case == name}
        assert {"supported", "not supported"} <= tried, name


def test_every_claim_has_a_study_and_every_such_study_an_answer():
    assert sorted(catalog.CLAIMS) == sorted(catalog.shipped())
    for name in catalog.CLAIMS:
        claim = loading.load(name).claim
        assert claim.sentence, name
        assert claim.article, name
        assert claim.expects, name
        assert claim.small, name
        assert claim.measure, f"{name} does not say what decides"
        assert claim.comparison, f"{name} does not say what is compared"
        assert claim.refuted_by, f"{name} does not say what would refute it"
        assert claim.sentence.endswith("."), name


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> str:
    """One state folder for all: MNIST-1D is built once."""
    return str(tmp_path_factory.mktemp("home"))


def test_the_measures_that_decide_are_measures():
    known = set(measures_catalog.MEASURES)
    for name in catalog.CLAIMS:
        words = re.findall(r"[a-z]+2?_?[a-z_]*", loading.load(name).claim.measure)
        assert known & set(words), name


def test_an_arm_has_the_learning_rate_of_its_own_best_validation_error():
    """Rate 0 does best at 0.01 and dropout 0.5 at 0.001; what the test set says of the others counts for nothing."""
    rows = [
        (0.0, 0.01, 0.50, 0.50),
        (0.0, 0.001, 0.60, 0.10),  # better on the test set, which nothing is chosen by
        (0.5, 0.01, 0.60, 0.20),
        (0.5, 0.001, 0.40, 0.40),
    ]
    records = [
        record(
            {"model.dropout": rate, "training.lr": lr},
            k,
            validation_error=validation,
            test_error=error,
            train_error=0.1,
            generalization_gap=error - 0.1,
        )
        for k, (rate, lr, validation, error) in enumerate(rows)
    ]
    answer = catalog.row("dropout").answer(records)
    assert [r["params"]["training.lr"] for r in answer.arms] == [0.01, 0.001]
    assert answer.verdict == "supported"
    assert answer.effect.found.mean == pytest.approx(-0.1, abs=0.01)
    assert "dropout 0.5 (lr 0.001)" in answer.sentence


def over(*effects: float, verdicts: tuple[str, ...] = ()) -> Claim:
    """A claim put to as many datasets, with these effects; claimed: a lower one."""
    study = loading.load("dropout")
    tried = []
    for k, mean in enumerate(effects):
        found = intervals.t_interval(mean + 0.01 * np.random.default_rng(k).normal(size=8))
        word = verdicts[k] if verdicts else "supported"
        answer = Answer(word, "Told.", "", (), Effect("change of the gap", found, "lower"))
        tried.append(Tried(f"set{k}", study, [{}], answer))
    return Claim("dropout", tried)


def test_fewer_than_three_datasets_are_no_verdict_about_the_world():
    assert over(-0.2).word == "supported here"
    assert over(-0.2).verdict == "on set0: supported"
    assert over(-0.2, -0.1).word == "supported here"
    assert over(-0.2, -0.1).verdict == "supported on set0 and set1"
    assert over(-0.2, -0.1).pooled is None


def test_three_datasets_answer_together():
    claim = over(-0.2, -0.25, -0.22)
    assert claim.word == "supported"
    assert claim.verdict == "supported on all 3 datasets"
    assert claim.pooled.mean.high < 0
    assert "on another dataset" in claim.over_datasets
    assert claim.entry()["pooled"]["datasets"] == 3
    # One dataset says no: the claim depends on the dataset.
    mixed = over(-0.2, -0.25, 0.0, verdicts=("supported", "supported", "not supported"))
    assert mixed.word == "depends"
    assert (
        mixed.verdict == "depends on the dataset: supported on set0 and set1, not supported on set2"
    )
    unsure = over(-0.2, -0.1, verdicts=("supported", "depends"))
    assert unsure.word == "depends here"
    assert unsure.verdict == "depends on the dataset: supported on set0, on set1 it depends"
    # Each says yes, but what they say together cannot be told from nothing.
    wide = over(-0.02, -0.9, -0.03)
    assert not wide.pooled.mean.excludes(0)
    assert wide.word == "depends"
    assert wide.verdict.startswith("supported on all 3 datasets, but the effect over datasets")
    assert over(-0.2, -0.1, verdicts=("depends",) * 2).verdict == "on set0 and set1 it depends"


def test_every_dataset_of_a_claim_fits_its_study(monkeypatch, home):
    monkeypatch.setenv("ENGRAM_HOME", home)
    for name in catalog.CLAIMS:
        first, *others = catalog.studies(name)
        assert len(others) == len(first.claim.datasets)
        for study in others:
            assert study.data.name != first.data.name
            assert study.name.startswith(f"{name}-on-")


def measured(tested: Study) -> list[Record]:
    """The records that a run would commit, without Ray."""
    found = datasets.load(tested)
    records = []
    for number, params in enumerate(tested.grid()):
        configuration = tested.configure(params)
        dataset = found[datasets.key(configuration.data)]
        running = preparing.prepare(
            configuration, dataset, torch.device("cpu"), wanted=tested.measures
        )
        while not running.trainer.finished:
            running.advance()
        done = measuring.measure(running, tested.measures).record
        json.dumps(done, allow_nan=False)
        records.append(
            {"trial": number, "params": params, "config_hash": configuration.hash, **done}
        )
    return records


@pytest.mark.parametrize("name", catalog.CLAIMS)
def test_each_study_runs_at_its_small_size_and_is_answered(name: str, monkeypatch, home):
    monkeypatch.setenv("ENGRAM_HOME", home)
    tested = loading.load(name, small=True, data=True)
    assert tested.name == f"{name}-small"
    records = measured(tested)
    answer = catalog.row(name).answer(records)
    assert isinstance(answer, Answer)
    known = {column for r in records for column in r["measures"]}
    assert set(answer.columns) <= known, "the gallery shows columns that no trial has"


def test_claims_run_through_the_command_line(monkeypatch, home, capsys):
    monkeypatch.setenv("ENGRAM_HOME", home)
    assert line.main(["claims", "ensembles", "--small"]) == 0
    said = capsys.readouterr().out
    assert "not run" in said
    assert f"{program.name()} claims ensembles --run --small" in said
    assert line.main(["claims", "ensembles", "--small", "--run", "--on", "again=mnist1d"]) == 0
    capsys.readouterr()
    assert line.main(["claims", "ensembles", "--small", "--format", "json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["claim"] == "ensembles"
    assert entry["verdict"] in ("supported", "not supported", "depends")
    assert entry["answer"]
    assert [one["dataset"] for one in entry["datasets"]] == ["mnist1d", "digits", "again"]
    assert [one["trials"] for one in entry["datasets"]] == [2, 2, 2]
    assert entry["pooled"]["datasets"] == 3

    page = Path(home) / "docs" / "gallery.md"
    assert line.main(["claims", "ensembles", "--small", "--gallery", str(page)]) == 0
    text = page.read_text()
    assert "> Ensembles generalize better than their members." in text
    assert "| configuration | test error | ensemble error |" in text
    assert f"{program.name()} claims ensembles --run" in text
    picture = page.parent / "images" / "gallery" / "ensembles.png"
    assert f"({picture.relative_to(page.parent)})" in text
    assert picture.stat().st_size < 60_000

    # Another claim's section and row stay as they are, and so does one that has no run here.
    other = "## dropout\n\n> Kept.\n\n    claims dropout --run\n"
    head, section = text.split("\n## ")
    row = "| [Kept.](#dropout) | supported |\n"
    page.write_text(f"{head.rstrip()}\n{row}\n{other}\n## {section}")
    for names in (["ensembles"], ["ensembles", "dropout"]):
        assert line.main(["claims", *names, "--small", "--gallery", str(page)]) == 0
        again = page.read_text()
        assert row in again
        assert other in again
        assert again.count("\n## ") == 2
        assert again.index("## dropout") < again.index("## ensembles")


def test_an_unknown_claim_is_refused_with_the_nearest(capsys):
    assert line.main(["claims", "drop_out"]) == 2
    assert "did you mean 'dropout'?" in capsys.readouterr().err
    assert line.main(["claims", "dropout", "--on", "digits"]) == 2
    assert "no effect without --run" in capsys.readouterr().err


def test_trials_of_other_settings_are_no_evidence(monkeypatch):
    other = record(
        {"data.train_size": 500, "model.dropout": 0.0}, test_error=0.5, ensemble_error=0.4
    )
    other["config_hash"] = "elsewhere"
    found = type("Execution", (), {"records": [other]})
    monkeypatch.setattr(catalog.executions, "find", lambda name: found)
    claim = catalog.read("ensembles")
    assert claim.word is None
    assert "other settings" in claim.problems[0]


# -- what several trials tell ------------------------------------------------------------------------


def curve(name: float, alpha: float, beta: float, gamma: float) -> list[Record]:
    found = []
    for k, size in enumerate((100, 200, 400, 800, 1600, 3200)):
        value = alpha * size**beta + gamma
        made = record({"training.weight_decay": name, "data.train_size": size}, k, test_error=value)
        values = value * (1 + 0.2 * SPREAD)
        made["replica_values"]["test_error"] = values.tolist()
        found.append(made)
    return found


def test_crossings_of_dataset_size_curves_are_found():
    records = curve(0.0, 8.0, -0.6, 0.05) + curve(0.1, 3.0, -0.4, 0.05)
    expected = (8 / 3) ** (1 / 0.2)
    first = across.findings(records)[0]
    assert "wins below n =" in first
    assert "wd 0.1" in first.split("wins")[0], "the flatter curve is lower where examples are few"
    crossing = across.crossings(across.size_curves(records))[0]
    assert crossing.n == pytest.approx(expected, rel=0.05)


def test_capacity_is_found_across_sizes_and_widths():
    records = random_labels({8: (100, 200), 32: (400, 800)})
    for one in records:
        one["random_labels"] = True
        one["measures"]["test_error"] = {"mean": 0.9, "low": 0.9, "high": 0.9}
    assert across.growth(across.held(records)).exponent.mean == pytest.approx(1.0)
    assert "power 1" in across.findings(records)[0]


def test_findings_of_few_trials_are_empty():
    assert across.findings([]) == []
    assert across.findings([record({"model.dropout": 0.0}, test_error=0.5)]) == []
