"""Ordered classes: read in their order, trained and measured as plain loops and closed forms have it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from engram.data import catalog
from engram.data.config import DataConfig
from engram.data.dataset import DataError, Dataset
from engram.measures import bias_variance, metrics
from engram.measures import catalog as measures
from engram.models.config import TrainingConfig
from engram.models.families import ModelError
from engram.models.losses import mean_loss, ordinal_losses, training_loss
from engram.sweeps.results import boards, tables
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.data_checks import check_data
from engram.sweeps.study.loading import load
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import measuring, preparing, trial

GRADES = ("low", "middle", "high", "top")
ROWS = 400
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def table(tmp_path: Path, monkeypatch) -> Path:
    torch.set_num_threads(1)
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path / "runs"))
    random = np.random.default_rng(0)
    x = random.normal(size=(ROWS, 2))
    ranks = np.digitize(x @ [1.5, -1] + 0.7 * random.normal(size=ROWS), [-1.5, 0, 1.5])
    path = tmp_path / "grades.csv"
    lines = (f"{a},{b},{r},{GRADES[r]}" for (a, b), r in zip(x, ranks, strict=True))
    path.write_text("\n".join(["a,b,rank,grade", *lines]) + "\n")
    return path


def grades(path: Path, **keys) -> Dataset:
    words = path.with_name("words.csv")
    words.write_text(
        "\n".join(",".join(np.delete(r.split(","), 2)) for r in path.read_text().split()) + "\n"
    )
    return catalog.load(DataConfig(name=f"csv:{words}", **{"levels": GRADES, **keys}))


def finish(dataset: Dataset, **sections) -> tuple[measuring.Result, trial.Trial]:
    base = {
        "data": {"train_size": 120},
        "training": {"steps": 80, "batch_size": 20, "lr": 0.02},
        "replicas": {"count": 6},
        "model": {"width": 8, "depth": 1},
    }
    made = preparing.prepare(Configuration(**{**base, **sections}), dataset, CPU)
    while not made.trainer.finished:
        made.advance()
    return measuring.measure(made, MeasuresConfig(own=("ranked_probability_score",))), made


def test_words_stand_in_the_order_that_is_said_and_numbers_go_up(table, tmp_path):
    made = grades(table)
    assert (made.task, made.classes, made.class_names) == ("ordinal", 4, GRADES)
    assert "ordered classes: low < middle < high < top" in made.notes
    given = [row.split(",") for row in table.read_text().splitlines()[1:]]
    np.testing.assert_array_equal(made.targets, [int(given[i][2]) for i in made.ids])
    np.testing.assert_array_equal(made.test_targets, [int(given[i][2]) for i in made.test_ids])
    assert made.facts.task == "ordinal"
    steps = np.array([10.0, -1, 5.5, 3])[[int(row[2]) for row in given]]
    np.savez(tmp_path / "a.npz", x=np.zeros((ROWS, 1)) + np.arange(ROWS)[:, None], y=steps)
    numbers = catalog.load(DataConfig(name=f"npz:{tmp_path / 'a.npz'}", task="ordinal"))
    assert numbers.class_names == ("-1.0", "3.0", "5.5", "10.0")
    np.testing.assert_array_equal(np.sort(np.unique(steps))[numbers.targets], steps[numbers.ids])


def test_a_second_file_has_the_same_ranks(table, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("a,b,grade\n1,2,top\n3,4,low\n5,6,middle\n")
    made = grades(table, test=str(other))
    ranks = dict(zip(made.test_ids, made.test_targets, strict=True))
    assert [ranks[i] for i in range(3)] == [3, 0, 1]


@pytest.mark.parametrize(
    ("keys", "rule"),
    [
        ({"levels": None, "task": "ordinal"}, "the classes are words .high, low, middle, top"),
        ({"levels": GRADES[1:]}, "lacks the class 'low'"),
        ({"levels": (*GRADES, "best")}, "names 'best', and no row is of that class"),
        ({"levels": (*GRADES, "top")}, "names 'top' twice"),
        ({"task": "classification"}, "names ordered classes, and data.task is classification"),
    ],
)
def test_orders_that_are_none_are_refused(table, keys, rule):
    with pytest.raises(DataError, match=rule):
        grades(table, **keys)


def test_measures_are_those_of_a_plain_loop():
    random = np.random.default_rng(1)
    p, y = random.dirichlet(np.ones(4), size=(3, 50)), random.integers(0, 4, 50)
    ranks, scores = np.zeros(3), np.zeros(3)
    for r in range(3):
        for i in range(50):
            total, answer = 0.0, 0
            while total + p[r, i, answer] < 0.5:
                total, answer = total + p[r, i, answer], answer + 1
            ranks[r] += abs(answer - y[i]) / 50
            for k in range(3):
                scores[r] += (p[r, i, k + 1 :].sum() - (y[i] > k)) ** 2 / 150
    np.testing.assert_allclose(metrics.rank_error(p, y), ranks)
    np.testing.assert_allclose(metrics.ranked_probability_score(p, y), scores)
    best = min(range(4), key=lambda a: sum(p[0, 0, k] * abs(a - k) for k in range(4)))
    assert metrics.rank_error(p[:1, :1], np.array([best]))[0] == 0  # the median is the best answer
    certain = np.eye(4)[y][None]
    assert metrics.rank_error(certain, y) == metrics.ranked_probability_score(certain, y) == 0


def test_the_loss_is_that_of_a_plain_loop_and_of_two_classes_the_cross_entropy():
    torch.manual_seed(0)
    outputs, targets = torch.randn(2, 5, 4, dtype=torch.float64), torch.randint(4, (2, 5))
    found = ordinal_losses(outputs, targets)
    for r in range(2):
        for i in range(5):
            p = outputs[r, i].softmax(0)
            each = [
                -torch.log(p[k + 1 :].sum() if targets[r, i] > k else p[: k + 1].sum())
                for k in range(3)
            ]
            assert found[r, i] == pytest.approx(float(sum(each) / 3))
    pair = torch.randn(1, 6, 2)
    two = torch.randint(2, (1, 6))
    torch.testing.assert_close(
        ordinal_losses(pair, two), F.cross_entropy(pair[0], two[0], reduction="none")[None]
    )
    sure = torch.tensor([[[0.0, 0, 0, 300]]], requires_grad=True)
    ordinal_losses(sure, torch.tensor([[0]])).sum().backward()
    assert torch.isfinite(sure.grad).all()


def test_class_weights_weigh_and_smoothing_is_refused():
    torch.manual_seed(0)
    outputs, targets = torch.randn(1, 6, 3), torch.tensor([[0, 1, 2, 2, 1, 0]])
    weights = torch.tensor([1.0, 2.0, 5.0])
    config = TrainingConfig(loss="ordinal", class_weights=(1.0, 2.0, 5.0))
    loss = training_loss(config, targets[0], torch.arange(6)[None])
    found = mean_loss(loss, outputs, targets, slice(0, 1))
    each, own = ordinal_losses(outputs, targets)[0], weights[targets[0]]
    assert float(found) == pytest.approx(float((own * each).sum() / own.sum()))
    smooth = TrainingConfig(loss="ordinal", label_smoothing=0.1)
    with pytest.raises(ModelError, match="label_smoothing spreads evenly"):
        training_loss(smooth, targets[0], torch.arange(6)[None])


@pytest.mark.parametrize("loss", ["auto", "ordinal"])
def test_a_trial_of_ordered_classes(table, loss):
    dataset = grades(table)
    steps = {"steps": 80, "batch_size": 20, "lr": 0.02, "loss": loss}
    result, made = finish(dataset, training=steps)
    record = result.record
    values = {name: found and found["mean"] for name, found in record["measures"].items()}
    p, y = made.outputs("test").double().softmax(-1).numpy(), dataset.test_targets
    assert record["task"] == "ordinal"
    assert values["rank_error"] == pytest.approx(metrics.rank_error(p, y).mean())
    assert values["test_error"] == pytest.approx((p.argmax(-1) != y).mean(), abs=1e-6)
    above = np.stack([p[..., k + 1 :].sum(-1) for k in range(3)], -1)
    parts = bias_variance.squared(above, (y[:, None] > np.arange(3)).astype(float))
    assert values["bias2"] == pytest.approx(parts.bias2 / 3)
    assert values["variance"] == pytest.approx(parts.variance / 3)
    assert values["bias2"] + values["variance"] == pytest.approx(values["ranked_probability_score"])
    assert values["ensemble_error"] == pytest.approx((p.mean(0).argmax(-1) != y).mean())
    pool = made.targets[made.pool_ids]
    always = min(np.abs(pool - k).mean() for k in range(4))
    assert record["chance_rank_error"] == pytest.approx(always)
    assert values["rank_error"] < 0.7 * always
    assert record["selection"]["rank_error"] > 0
    assert {"variance_ce", "bias_01", "memorization", "membership_auc"} <= set(values)
    assert "rank_error" in record["new_data"]
    assert measures.bounds(measures.get("rank_error"), True) == (0, np.inf)
    assert not [w for w in record["warnings"] if "not taken" in w]
    record |= {"trial": 0, "params": {}}
    notes = " ".join(tables.footnotes(boards.rank([record], "rank_error"), 5))
    assert f"always answering the pool's median errs by {always:.3f} ranks" in notes


def test_learners_answer_with_classes_as_ever(table):
    family = "sklearn.linear_model:LogisticRegression"
    result, made = finish(grades(table), model={"family": family})
    dataset = made.dataset
    own = made.members[0]
    alone = LogisticRegression(random_state=0).fit(dataset.inputs[own], dataset.targets[own])
    expected = metrics.rank_error(
        alone.predict_proba(dataset.test_inputs)[None], dataset.test_targets
    )
    assert result.record["replica_values"]["rank_error"][0] == pytest.approx(expected[0], abs=1e-6)


@pytest.mark.parametrize(
    ("data", "rest", "rule"),
    [
        ("task: classification", "training: {loss: ordinal}", "these have no order"),
        ("task: classification", "search: {objective: {rank_error: min}}", "means nothing for classification"),
        ("task: ordinal", "measures: {own: [r2]}", "means nothing for ordinal"),
    ],
)  # fmt: skip
def test_what_needs_an_order_is_refused_without_one(table, tmp_path, data, rest, rule):
    study = tmp_path / "study.yaml"
    study.write_text(
        f"name: grades\ndata: {{name: 'csv:{table}', target: rank, train_size: 80, {data}}}\n{rest}\n"
    )
    assert any(rule in str(problem) for problem in check_data(load(study)))


def test_a_study_of_ordered_classes_may_sweep_the_loss(table, tmp_path):
    study = tmp_path / "study.yaml"
    study.write_text(
        f"name: grades\ndata: {{name: 'csv:{table}', target: rank, train_size: 80, task: ordinal}}\n"
        "sweep: {training.loss: [cross_entropy, ordinal]}\nsearch: {objective: {rank_error: min}}\n"
    )
    assert check_data(load(study)) == []
