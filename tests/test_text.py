"""The next token from a study to its record: per-token measures by hand, refusals, and a trigram model to beat."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from engram.data import catalog, subsets
from engram.sweeps.commands import line
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import measuring, preparing, tokens
from engram.sweeps.trial.trial import Trial

PLAYS = Path("../shared/data/shakespeare/input.txt.gz")


def trained(data: dict, model: dict, training: dict, replicas: int) -> Trial:
    configuration = Configuration(
        data=data, model=model, training=training, replicas={"count": replicas}
    )
    dataset = catalog.load(configuration.data)
    trial = preparing.prepare(configuration, dataset, torch.device("cpu"))
    while not trial.trainer.finished:
        trial.advance()
    return trial


@pytest.fixture(scope="module")
def trial() -> Trial:
    return trained(
        {"name": "sentences", "window": 12, "train_size": 100, "pool_size": 250, "test_size": 40},
        {"family": "lstm", "width": 16, "depth": 1},
        {"lr": 0.02, "batch_size": 20, "epochs": 8},
        4,
    )


@pytest.fixture(scope="module")
def result(trial) -> measuring.Result:
    return measuring.measure(trial, MeasuresConfig())


def mean(result: measuring.Result, name: str) -> float:
    return result.record["measures"][name]["mean"]


def test_error_loss_and_perplexity_are_those_of_tokens(trial, result):
    logs = torch.log_softmax(trial.outputs("test").double(), -1).numpy()  # [R, N, T, C]
    targets = trial.dataset.test_targets
    assert logs.shape == (4, 40, 12, trial.dataset.classes)
    wrong = logs.argmax(-1) != targets
    assert mean(result, "test_error") == pytest.approx(wrong.mean(), abs=1e-6)
    each = -np.take_along_axis(logs, np.broadcast_to(targets, wrong.shape)[..., None], -1)
    losses = each.mean(axis=(1, 2, 3))
    assert mean(result, "test_loss") == pytest.approx(losses.mean(), rel=1e-5)
    assert mean(result, "perplexity") == pytest.approx(np.exp(losses).mean(), rel=1e-5)


def test_bias_and_variance_are_over_tokens(trial, result):
    probabilities = trial.outputs("test").double().softmax(-1).flatten(1, 2).numpy()
    targets = trial.dataset.test_targets.reshape(-1)
    brier = ((probabilities - np.eye(trial.dataset.classes)[targets]) ** 2).sum(-1).mean()
    assert mean(result, "bias2") + mean(result, "variance") == pytest.approx(brier, rel=1e-5)
    entropy = mean(result, "bias_ce") + mean(result, "variance_ce")
    assert entropy == pytest.approx(mean(result, "test_loss"), rel=1e-4)
    assert result.arrays["test_predictions"].shape == (4, 480, trial.dataset.classes)
    assert result.record["chance_error"] == pytest.approx(
        1 - np.bincount(trial.targets[trial.pool_ids].ravel()).max() / (200 * 12)
    )


def test_memorization_asks_of_a_window_how_many_of_its_tokens_are_right(trial, result):
    inputs = torch.from_numpy(trial.dataset.inputs[trial.pool_ids])
    right = (trial.trainer.classes(inputs).numpy() == trial.targets[trial.pool_ids]).mean(-1)
    member = subsets.members(trial.members, len(trial.targets))[:, trial.pool_ids]
    both = member.any(axis=0) & ~member.all(axis=0)
    inside = (right * member).sum(0)[both] / member.sum(0)[both]
    outside = (right * ~member).sum(0)[both] / (~member).sum(0)[both]
    found = result.arrays["memorization"]
    np.testing.assert_allclose(found[both], inside - outside, atol=1e-5)
    assert 0.5 < mean(result, "membership_auc") <= 1
    texts = result.arrays["most_memorized_inputs"]
    assert texts.dtype.kind == "U"
    assert all(len(text) == 12 for text in texts)


def test_tokens_of_a_window_are_not_independent_so_nothing_is_said_of_new_data(result):
    assert not result.record.get("new_data")


def test_a_large_set_is_measured_on_windows_chosen_at_random(trial, monkeypatch):
    monkeypatch.setattr(tokens, "MOST_NUMBERS", 10 * 12 * trial.dataset.classes * 4)
    found = measuring.measure(trial, MeasuresConfig())
    assert found.arrays["test_predictions"].shape[1] == 120
    assert any("look at 120 of its 480 tokens" in said for said in found.record["warnings"])
    targets, places = tokens.answers(trial.dataset, trial.configuration.replicas)
    outputs, wanted = tokens.by_token(trial, "test")
    assert np.array_equal(targets, wanted)
    assert outputs.shape[1] == len(places) == 120


STUDY = """\
name: refused
data: {name: sentences, train_size: 100, pool_size: 300, window: 12}
model: {family: lstm, width: 8, depth: 1}
"""


@pytest.mark.parametrize(
    ("text", "number", "words"),
    [
        (
            STUDY.replace("lstm", "feedforward"),
            3,
            ("model.family = 'feedforward'", "reads numbers", "take one of transformer"),
        ),
        (
            STUDY + "sweep:\n  model.family: [lstm, residual]\n",
            5,
            ("model.family = 'residual'", "reads numbers"),
        ),
        (
            STUDY.replace("lstm", "transformer").replace("depth: 1", "depth: 1, options: {causal: false}"),
            3,
            ("model.options.causal = false", "leave it out"),
        ),
        (STUDY.replace("lstm", '"sklearn.tree:DecisionTreeClassifier"'), 3, ("take a network",)),
        (STUDY + "measures: {forgetting: true}\n", 4, ("measures.forgetting", "set it to false")),
        (STUDY.replace("window: 12", "window: 12, label_noise: 0.1"), 2, ("data.label_noise", "leave it out")),
        (STUDY.replace("window: 12", "window: 0"), 2, ("data.window = 0",)),
        (STUDY.replace("window: 12", "tokens: letters"), 2, ("data.tokens = 'letters'", "characters")),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_before_anything_runs(
    text, number, words, tmp_path, monkeypatch, capsys
):
    (tmp_path / "refused.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    assert line.main(["run", "refused.yaml"]) == 2
    said = capsys.readouterr().err
    assert f"refused.yaml:{number}:" in said
    for word in words:
        assert word in said


def trigram(pool: np.ndarray, test: np.ndarray, words: int) -> float:
    """Loss in nats a token of the best trigram model: counts, with those of one token less as their prior.

    pool, test [n, T + 1]. The strength of the prior is the best of several on the test set itself."""
    one, two, three = np.zeros(words), np.zeros((words,) * 2), np.zeros((words,) * 3)
    np.add.at(one, pool, 1)
    np.add.at(two, (pool[:, :-1], pool[:, 1:]), 1)
    np.add.at(three, (pool[:, :-2], pool[:, 1:-1], pool[:, 2:]), 1)
    losses = []
    for strength in (0.5, 1, 2, 4, 8, 16):
        likely = (one + 1) / (one.sum() + words)
        by_one = (two + strength * likely) / (two.sum(-1, keepdims=True) + strength)
        by_two = (three + strength * by_one) / (three.sum(-1, keepdims=True) + strength)
        first = by_one[test[:, 0], test[:, 1]]
        rest = by_two[test[:, :-2], test[:, 1:-1], test[:, 2:]]
        losses.append(-np.log(np.concatenate([first, rest.ravel()])).mean())
    return min(losses)


@pytest.mark.skipif(not PLAYS.exists(), reason="needs the plays in ../shared/data")
@pytest.mark.parametrize(
    ("model", "training", "pool"),
    [
        ({"family": "lstm", "width": 64, "depth": 1}, {"lr": 0.02, "epochs": 12}, 500),
        (
            {"family": "transformer", "width": 64, "depth": 2, "options": {"heads": 4}},
            {"lr": 0.005, "epochs": 8},
            2000,
        ),
    ],
    ids=["lstm", "transformer"],
)
def test_the_next_character_is_told_better_than_by_a_trigram_model(model, training, pool):
    trial = trained(
        {"name": f"text:{PLAYS}", "window": 32, "pool_size": pool, "validation": 0.1, "train_size": pool * 9 // 10},
        model,
        {**training, "batch_size": 25, "schedule": "one_cycle", "evaluate_every": training["epochs"]},
        1,
    )  # fmt: skip
    data, ids = trial.dataset, trial.pool_ids
    seen = np.concatenate([data.inputs[ids], data.targets[ids, -1:]], axis=1)
    test = np.concatenate([data.test_inputs, data.test_targets[:, -1:]], axis=1)
    loss = float(trial.history[-1].loss["test"][0])
    assert loss < trigram(seen, test, data.classes) - 0.02
