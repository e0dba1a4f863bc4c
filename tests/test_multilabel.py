"""Examples with any number of labels: recognised, trained and measured as a plain loop and scikit-learn have it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, hamming_loss, log_loss

from engram.data import catalog, subsets
from engram.data.config import DataConfig
from engram.data.dataset import DataError, Dataset
from engram.measures import bias_variance, membership
from engram.models.families import ModelError
from engram.models.learners import kinds
from engram.sweeps.running import estimate
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.data_checks import check_data
from engram.sweeps.study.loading import load
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import measuring, preparing, trial

ROWS, NAMES = 240, ("red", "round", "big")
TRAINING = {"steps": 60, "batch_size": 20, "lr": 0.01}
WANTED = MeasuresConfig(own=("subset_error",))
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def table(tmp_path: Path, monkeypatch) -> Path:
    torch.set_num_threads(1)
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path / "runs"))
    generator = np.random.default_rng(0)
    x = generator.normal(size=(ROWS, 3))
    noisy = x + 0.5 * generator.normal(size=x.shape)
    labels = np.column_stack([noisy[:, 0] > 0, noisy[:, 1] > 0.8, generator.random(ROWS) < 0.3])
    rows = np.column_stack([x, labels]).tolist()
    path = tmp_path / "things.csv"
    lines = (f"{a},{b},{c},{int(r)},{int(o)},{int(g)}" for a, b, c, r, o, g in rows)
    path.write_text("\n".join(["a,b,c,red,round,big", *lines]) + "\n")
    return path


def things(path: Path, **keys) -> Dataset:
    return catalog.load(DataConfig(name=f"csv:{path}", **{"target": NAMES, **keys}))


def finish(dataset: Dataset, **sections) -> tuple[measuring.Result, trial.Trial]:
    sections = {"training": TRAINING, "replicas": {"count": 6}, **sections}
    sections["data"] = {"train_size": 80, **sections.get("data", {})}
    made = preparing.prepare(Configuration(**sections), dataset, CPU)
    while not made.trainer.finished:
        made.advance()
    return measuring.measure(made, WANTED), made


def mean(result: measuring.Result, name: str) -> float:
    return result.record["measures"][name]["mean"]


def test_several_columns_of_0_and_1_are_labels(table, tmp_path):
    made = things(table)
    assert (made.task, made.classes, made.labels) == ("multilabel", None, 3)
    assert (made.targets.dtype, made.value_names) == (np.bool_, NAMES)
    assert any("3 labels of which a row has any number" in note for note in made.notes)
    given = np.loadtxt(table, delimiter=",", skiprows=1)[:, 3:]
    np.testing.assert_array_equal(made.targets, given[made.ids] == 1)
    np.testing.assert_array_equal(made.test_targets, given[made.test_ids] == 1)
    assert made.facts.task == "multilabel"
    for dtype in (np.uint8, np.float32, bool):
        np.savez(tmp_path / "a.npz", x=np.zeros((ROWS, 2)), y=given.astype(dtype))
        found = catalog.load(DataConfig(name=f"npz:{tmp_path / 'a.npz'}"))
        np.testing.assert_array_equal(found.targets, given[found.ids] == 1)
    assert things(table, task="regression").targets.dtype == np.float32


def test_one_hot_columns_stay_classes_unless_labels_are_asked_for(tmp_path):
    y = np.eye(3)[np.arange(60) % 3]
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).normal(size=(60, 2)), y=y)
    name = f"npz:{tmp_path / 'a.npz'}"
    assert catalog.load(DataConfig(name=name)).classes == 3
    assert catalog.load(DataConfig(name=name, task="multilabel")).labels == 3


@pytest.mark.parametrize(
    ("keys", "rule"),
    [
        ({"target": "red", "task": "multilabel"}, "several labels are two columns or more"),
        ({"target": ("red", "a"), "task": "multilabel"}, "a label is 0 or 1"),
        ({"target": NAMES, "task": "classification"}, "labels are one per row"),
    ],
)
def test_targets_that_are_no_labels_are_refused(table, keys, rule):
    with pytest.raises(DataError, match=rule):
        things(table, **keys)


def test_a_label_that_never_changes_is_refused(tmp_path):
    y = np.column_stack([np.arange(60) % 2, np.arange(60) // 2 % 2, np.zeros(60)])
    np.savez(tmp_path / "a.npz", x=np.random.default_rng(0).normal(size=(60, 2)), y=y)
    with pytest.raises(DataError, match=r"label 2 .* is 0 in every row"):
        catalog.load(DataConfig(name=f"npz:{tmp_path / 'a.npz'}"))


def test_measures_are_those_of_scikit_learn_and_of_each_label_alone(table):
    dataset = things(table)
    result, made = finish(dataset)
    logits = made.outputs("test").double().numpy()
    p, y = 1 / (1 + np.exp(-logits)), dataset.test_targets
    assert result.record["task"] == "multilabel"
    errors = [hamming_loss(y, each > 0.5) for each in p]
    np.testing.assert_allclose(result.record["replica_values"]["test_error"], errors, atol=1e-6)
    losses = [np.mean([log_loss(y[:, k], each[:, k]) for k in range(3)]) for each in p]
    np.testing.assert_allclose(mean(result, "test_loss"), np.mean(losses), atol=1e-6)
    wrong = [1 - accuracy_score(y, each > 0.5) for each in p]
    assert mean(result, "subset_error") == pytest.approx(np.mean(wrong))
    whole = bias_variance.squared(p, y.astype(float))
    labels = y.shape[1]
    assert mean(result, "bias2") == pytest.approx(whole.bias2 / labels)
    assert mean(result, "variance") == pytest.approx(whole.variance / labels)
    assert mean(result, "ensemble_error") == pytest.approx(hamming_loss(y, p.mean(0) > 0.5))
    for k in range(3):
        alone = bias_variance.squared(p[..., k], y[:, k].astype(float))
        assert mean(result, f"target{k + 1}_bias2") == pytest.approx(alone.bias2)
        assert mean(result, f"target{k + 1}_variance") == pytest.approx(alone.variance)
        error = ((p[..., k] > 0.5) != y[:, k]).mean()
        assert mean(result, f"target{k + 1}_error") == pytest.approx(error)
    share = dataset.targets[made.pool_ids].mean(0)
    assert result.record["chance_error"] == pytest.approx(np.minimum(share, 1 - share).mean())


def test_memorization_is_of_labels_and_the_attacker_goes_by_their_log_odds(table):
    dataset = things(table)
    result, made = finish(dataset)
    logits, ids = made.outputs("measured").double().numpy(), made.measured_ids
    right = dataset.targets[ids]
    score = ((logits > 0) == right).mean(-1)
    member = subsets.members(made.members, len(dataset.targets))[:, ids]
    inside = (score * member).sum(0) / np.maximum(member.sum(0), 1)
    outside = (score * ~member).sum(0) / np.maximum((~member).sum(0), 1)
    defined = member.any(0) & ~member.all(0)
    kept = result.arrays["memorization"]
    np.testing.assert_allclose(kept[defined], (inside - outside)[defined], atol=1e-6)
    odds = np.where(right, logits, -logits).mean(-1)
    assert mean(result, "membership_auc") == pytest.approx(membership.lira(odds, member).auc)


def test_stacked_replicas_train_as_one_by_one(table):
    dataset = things(table)
    together, _ = finish(dataset, replicas={"count": 4})
    alone, _ = finish(dataset, replicas={"count": 4, "stack": 1})
    for name in ("test_loss", "bias2", "variance"):
        assert mean(together, name) == pytest.approx(mean(alone, name), rel=1e-3), name


def test_the_loss_is_the_plain_binary_cross_entropy():
    from engram.models.losses import example_losses

    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(2, 5, 3, generator=generator)
    targets = torch.rand(2, 5, 3, generator=generator) > 0.5
    p = outputs.sigmoid()
    plain = -(targets * p.log() + ~targets * (1 - p).log()).mean(-1)
    torch.testing.assert_close(example_losses(outputs, targets), plain)


@pytest.mark.parametrize("kind", [kinds.LIGHTNING, kinds.HUGGINGFACE, kinds.KERAS])
def test_learners_that_are_not_trained_on_labels_are_refused(kind):
    with pytest.raises(ModelError, match="several labels"):
        kinds.checked(kind, object, {}, None, 3)


def test_a_forest_is_that_of_a_plain_loop(table):
    dataset = things(table)
    family = "sklearn.ensemble:RandomForestClassifier"
    result, made = finish(dataset, model={"family": family, "options": {"n_estimators": 8}})
    plain = []
    for members, seed in zip(made.members, made.trainer.seeds, strict=True):
        rows = np.sort(members)
        forest = RandomForestClassifier(n_estimators=8, random_state=seed)
        forest.fit(dataset.inputs[rows], dataset.targets[rows].astype(int))
        found = forest.predict_proba(dataset.test_inputs)
        plain.append(np.column_stack([each[:, 1] for each in found]))
    p, y = np.stack(plain), dataset.test_targets
    np.testing.assert_allclose(result.arrays["test_predictions"], p, atol=1e-3)
    assert mean(result, "test_error") == pytest.approx(
        np.mean([hamming_loss(y, q > 0.5) for q in p])
    )
    assert mean(result, "variance") == pytest.approx(
        bias_variance.squared(p, y.astype(float)).variance / y.shape[1], abs=1e-6
    )


OWN = """
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.multioutput import MultiOutputClassifier


def logistic():
    return MultiOutputClassifier(LogisticRegression())


def ridge():
    return MultiOutputClassifier(RidgeClassifier())


def trained(task):
    assert task.labels and task.train.targets.shape[1] == task.outputs
    found = LogisticRegression().fit(task.train.inputs, task.train.targets[:, 0])

    def predict(inputs):
        import numpy as np

        return np.repeat(found.predict_proba(inputs)[:, 1:], task.outputs, 1)

    return predict
"""


@pytest.mark.parametrize(
    "family",
    [
        "own_labels:logistic",
        "own_labels:ridge",
        "own_labels:trained",
        "sklearn.neural_network:MLPClassifier",
        "sklearn.neighbors:KNeighborsClassifier",
        "sklearn.tree:DecisionTreeClassifier",
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_learners_of_every_interface_are_taken(table, tmp_path, monkeypatch, family):
    (tmp_path / "own_labels.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    dataset = things(table)
    result, made = finish(dataset, model={"family": family}, replicas={"count": 3})
    errors = [hamming_loss(dataset.test_targets, each > 0) for each in made.outputs("test").numpy()]
    assert mean(result, "test_error") == pytest.approx(np.mean(errors))
    if family != "own_labels:trained":
        assert mean(result, "target1_error") < 0.3
    assert ("test_loss" in result.record["measures"]) == (family != "own_labels:ridge")


def test_a_label_that_a_subset_lacks_has_probability_0(tmp_path):
    x = np.random.default_rng(0).normal(size=(120, 2))
    y = np.column_stack([x[:, 0] > 0, np.arange(120) < 2])
    np.savez(tmp_path / "a.npz", x=x, y=y)
    dataset = catalog.load(DataConfig(name=f"npz:{tmp_path / 'a.npz'}"))
    family = "sklearn.ensemble:RandomForestClassifier"
    _, made = finish(dataset, model={"family": family}, data={"train_size": 20})
    lacking = [not dataset.targets[own, 1].any() for own in made.members]
    assert any(lacking)
    said = made.outputs("test")[torch.tensor(lacking)][..., 1]
    assert (said.sigmoid() < 1e-9).all()


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("data.label_noise", 0.1, "may have several labels"),
        ("data.random_labels", True, "may have several labels"),
        ("measures.forgetting", True, "may have several labels"),
        ("measures.layers", True, "may have several labels"),
        ("measures.own", ["f1"], "means nothing for multilabel"),
        ("training.class_weights", "balanced", "several labels"),
        ("training.label_smoothing", 0.1, "several labels"),
        ("training.loss", "cross_entropy", "several labels"),
        ("model.family", "sklearn.ensemble:RandomForestRegressor", "the targets are 3 labels"),
    ],
)
def test_what_means_nothing_for_labels_is_refused_before_training(table, key, value, words):
    section, _, name = key.partition(".")
    data = {"name": f"csv:{table}", "target": list(NAMES), "train_size": 80}
    study = {"name": "labels", "data": data}
    study[section] = {**study.get(section, {}), name: value}
    problems = "\n".join(map(str, check_data(load(study))))
    assert words in problems


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_a_plan_counts_every_output(table, tmp_path, task):
    study = tmp_path / "study.yaml"
    study.write_text(
        f"name: things\ndata: {{name: 'csv:{table}', target: [red, round, big], task: {task}, train_size: 80}}\n"
        "replicas: {count: 6}\nmodel: {width: 7, depth: 1}\n"
    )
    made, facts = estimate.make(load(study)), things(table, task=task).facts
    assert facts.outputs == 3
    assert made.loads[0].parameters == (3 + 1) * 7 + (7 + 1) * 3
    assert made.artifact_bytes == 2 * 6 * facts.test * 3 + 100_000  # half precision
    dataset = things(table, task=task)
    assert facts.bytes_each == (dataset.inputs.nbytes + dataset.targets.nbytes) / len(dataset.ids)
