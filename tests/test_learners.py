"""Learners: estimators and training functions give what a plain loop gives, and every board takes them.

The frameworks themselves are in test_frameworks.py.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mlxtend.evaluate import bias_variance_decomp
from sklearn.base import BaseEstimator
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import log_loss
from sklearn.tree import DecisionTreeRegressor

from engram.data import catalog, subsets
from engram.data.config import DataConfig
from engram.data.dataset import Dataset
from engram.models.families import ModelError
from engram.models.learners import answers, kinds
from engram.models.learners.running import Run
from engram.models.learners.task import Said, Stopped
from engram.problems import StudyError
from engram.sweeps.study.configuration import Configuration, label
from engram.sweeps.study.loading import load
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import checkpoint, measuring, preparing, trial
from tests.gpu.actors import actor

CPU = torch.device("cpu")
CODE = """
import numpy as np
from pathlib import Path
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

pipeline = make_pipeline(StandardScaler(), DecisionTreeClassifier())


def forest(depth=3):
    return DecisionTreeClassifier(max_depth=depth)


def prior(task):
    "The shares of the classes, and one class off on purpose: a predictor whose error is known."
    with open(task.options["log"], "a") as log:
        print(task.replica, len(task.train), task.seed, file=log)
    assert task.config["training.epochs"] == 3 and task.device == "cpu"
    assert len(set(task.train.ids)) == len(task.train)
    (task.folder / "mine.txt").write_text("kept")
    shares = np.bincount(task.train.targets, minlength=task.classes) / len(task.train)
    for epoch in (1, 2, 3):
        error = (task.validation.targets != shares.argmax()).mean()
        task.report(epoch, validation_error=error, train_loss=3.0 - epoch, mine=epoch)
    return lambda inputs: np.tile(shares, (len(inputs), 1))


def nothing(task):
    task.report(1, validation_error=0.5)


def breaks(task):
    return task.train.inputs @ np.zeros(3)


def unscaled(task):
    return lambda inputs: np.full((len(inputs), task.classes), 0.3)


def stacked(a, b):
    pass
"""


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch):
    torch.set_num_threads(1)
    (tmp_path / "own_learners.py").write_text(CODE)
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path / "runs"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    sys.modules.pop("own_learners", None)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return catalog.load(DataConfig(name="digits"))


def asked(family: str, train_size: int = 150, **more) -> Configuration:
    return Configuration(
        data={"name": "digits", "train_size": train_size},
        model={"family": family, "options": more.pop("options", {})},
        training={"epochs": 3},
        replicas={"count": more.pop("count", 4), **more},
    )


def trained(configuration: Configuration, dataset: Dataset) -> trial.Trial:
    running = preparing.prepare(configuration, dataset, CPU, wanted=MeasuresConfig())
    while not running.trainer.finished:
        running.advance()
    return running


def mean(record: dict, name: str) -> float:
    return record["measures"][name]["mean"]


def test_a_random_forest_has_the_numbers_of_a_plain_loop(digits):
    running = trained(
        asked("sklearn.ensemble:RandomForestClassifier", options={"n_estimators": 8}), digits
    )
    record = measuring.measure(running, MeasuresConfig()).record
    inputs, test = (x.reshape(len(x), -1) for x in (digits.inputs, digits.test_inputs))
    pool, _ = subsets.holdout(len(digits.targets), 0.2, 0)
    errors, losses, gaps, probabilities = [], [], [], []
    for seed, rows in zip(running.trainer.seeds, running.members, strict=True):
        assert set(rows) <= set(pool)
        own = np.sort(rows)
        forest = RandomForestClassifier(n_estimators=8, random_state=seed)
        forest.fit(inputs[own], digits.targets[own])
        p = forest.predict_proba(test)
        probabilities.append(p)
        errors.append(1 - forest.score(test, digits.test_targets))
        gaps.append(errors[-1] - 1 + forest.score(inputs[own], digits.targets[own]))
        losses.append(log_loss(digits.test_targets, p))
    assert record["replica_values"]["test_error"] == pytest.approx(errors, abs=1e-7)
    assert record["replica_values"]["generalization_gap"] == pytest.approx(gaps, abs=1e-7)
    assert record["replica_values"]["test_loss"] == pytest.approx(losses, rel=1e-6)
    p, one = np.array(probabilities), np.eye(10)[digits.test_targets]
    variance = p.var(axis=0, ddof=1).sum(-1).mean()
    bias2 = np.square(p.mean(0) - one).sum(-1).mean() - variance / len(p)
    assert mean(record, "variance") == pytest.approx(variance, rel=1e-6)
    assert mean(record, "bias2") == pytest.approx(bias2, rel=1e-6)
    assert record["parameters"] is record["epochs"] is record["steps"] is None
    assert record["measures"]["epochs_to_convergence"] is None
    assert record["built_with"]["n_estimators"] == 8


class Replay(BaseEstimator):
    """Returns stored predictions, one row a fit: mlxtend then judges exactly the replicas that we judge."""

    def __init__(self, rows=None):
        self.rows = rows

    def fit(self, inputs, targets):
        self.turn = getattr(self, "turn", -1) + 1
        return self

    def predict(self, inputs):
        return self.rows[self.turn]


def test_bias_and_variance_are_mlxtends(digits):
    record_of = lambda x: measuring.measure(x, MeasuresConfig()).record  # noqa: E731
    tree = trained(asked("sklearn.tree:DecisionTreeClassifier", options={"max_depth": 6}), digits)
    votes = tree.outputs("test").argmax(-1).numpy()
    blank = np.zeros((len(digits.test_targets), 1))
    judged = blank, digits.test_targets, blank, digits.test_targets
    loss, bias, variance = bias_variance_decomp(
        Replay(votes), *judged, loss="0-1_loss", num_rounds=4
    )
    record = record_of(tree)
    assert mean(record, "test_error") == pytest.approx(loss, abs=1e-7)
    found = [np.mean(record["measures"][name]["mean"]) for name in ("bias_01", "variance_01")]
    assert found[0] == pytest.approx(bias, abs=1e-7)
    assert found[1] == pytest.approx(variance, abs=1e-7)


def test_a_regression_tree_decomposes_as_mlxtends_does(home):
    generator = np.random.default_rng(0)
    x = generator.normal(size=(400, 3)).astype(np.float32)
    y = (x[:, 0] ** 2 + generator.normal(size=400) / 5).astype(np.float32)
    np.savez(home / "values.npz", x=x, y=y)
    data = {"name": "npz:values.npz", "train_size": 80, "task": "regression"}
    configuration = Configuration(
        data=data,
        model={"family": "sklearn.tree:DecisionTreeRegressor", "options": {"max_depth": 5}},
        replicas={"count": 5, "draw": "bootstrap"},
    )
    dataset = catalog.load(DataConfig(**data))
    running = trained(configuration, dataset)
    values = []
    for seed, rows in zip(running.trainer.seeds, running.members, strict=True):
        own = np.sort(rows)
        tree = DecisionTreeRegressor(max_depth=5, random_state=seed)
        values.append(
            tree.fit(dataset.inputs[own], dataset.targets[own]).predict(dataset.test_inputs)
        )
    assert running.outputs("test")[..., 0].numpy() == pytest.approx(np.array(values), abs=1e-12)
    wanted = dataset.test_targets.reshape(-1)
    judged = dataset.test_inputs, wanted, dataset.test_inputs, wanted
    loss, bias, variance = bias_variance_decomp(
        Replay(np.array(values)), *judged, loss="mse", num_rounds=5
    )
    record = measuring.measure(running, MeasuresConfig()).record
    assert mean(record, "test_error") == pytest.approx(loss, rel=1e-6)
    # mlxtend's parts are of these five trees; ours estimate those of all trees, without bias.
    assert mean(record, "variance") == pytest.approx(variance * 5 / 4, rel=1e-6)
    assert mean(record, "bias2") == pytest.approx(bias - variance / 4, rel=1e-5)


def test_a_class_that_a_subset_lacks_has_no_probability(digits):
    running = trained(asked("sklearn.tree:DecisionTreeClassifier", train_size=8, count=2), digits)
    assert running.outputs("test").shape == (2, len(digits.test_targets), 10)
    assert len(set(digits.targets[running.members[0]])) < 10
    assert torch.isfinite(running.outputs("test")).all()


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("own_learners:pipeline", {"decisiontreeclassifier__max_depth": 2}),
        ("own_learners:forest", {"depth": 2}),
    ],
)
def test_a_pipeline_and_a_function_that_makes_an_estimator(digits, family, options):
    running = trained(asked(family, options=options, count=3), digits)
    assert kinds.of(family) is kinds.ESTIMATOR
    again = trained(asked(family, options=options, count=2), digits)
    assert torch.equal(
        running.outputs("test")[:2], again.outputs("test")
    )  # prefixes, as networks have
    assert (
        len(running.outputs("test")[0].unique()) <= 4 * 10 + 1
    )  # four leaves: the option was taken


def test_classes_without_probabilities_have_no_loss(digits):
    hard = trained(asked("sklearn.svm:LinearSVC", count=3), digits)
    record = measuring.measure(hard, MeasuresConfig()).record
    assert "test_loss" not in record["measures"]
    assert "bias_ce" not in record["measures"]
    assert mean(record, "test_error") < 0.5
    assert any("no probabilities" in warning for warning in record["warnings"])


def test_a_training_function_is_told_everything_and_draws_curves(digits, home):
    options = {"log": str(home / "log")}
    running = trained(asked("own_learners:prior", options=options), digits)
    result = measuring.measure(running, MeasuresConfig())
    assert result.record["epochs"] == 3
    assert list(result.arrays["epochs"]) == [1, 2, 3]
    assert result.arrays["validation_error_curve"].shape == (3, 4)
    assert "train_loss_curve" in result.arrays
    lines = [line.split() for line in (home / "log").read_text().splitlines()]
    assert [line[:2] for line in lines] == [[str(r), "150"] for r in range(4)]
    assert len({line[2] for line in lines}) == 4  # each its own seed
    reports = running.history[:-1]
    assert [trial.summary(report)["mine"] for report in reports] == [1, 2, 3]
    shares = np.bincount(digits.targets[running.members[0]], minlength=10) / 150
    assert running.outputs("test")[0, 0].exp().numpy() == pytest.approx(np.maximum(shares, 2e-16))


def test_an_interrupted_trial_repeats_at_most_the_replica_it_was_in(digits, home, monkeypatch):
    options = {"log": str(home / "log")}
    sections = asked("own_learners:prior", options=options).model_dump()
    first = actor(digits, home, **sections)
    saved, told = [], []
    while len(saved) < 2:
        result = first.step()
        told += [progress.epoch for progress in result["progress"]]
        saved += [result["saved"]] if "saved" in result else []
    assert told == [1, 2, 3]  # of the first replica, which a scheduler may stop
    first.step()  # the third is under way or done, and is lost
    kept = home / "scratch" / "replica-0" / "mine.txt"
    assert kept.read_text() == "kept"
    first.cleanup()
    second = actor(digits, home, **sections)
    second.safe = saved[-1]
    while not (result := second.step()).get("done"):
        pass
    replicas = [line.split()[0] for line in (home / "log").read_text().splitlines()]
    assert replicas in (["0", "1", "2", "2", "3"], ["0", "1", "2", "3"])
    record = result["finished"].record
    plain = measuring.measure(
        trained(asked("own_learners:prior", options=options), digits),
        MeasuresConfig(memorization=False),
    ).record
    assert record["replica_values"] == plain["replica_values"]
    assert not kept.exists()


def test_more_replicas_are_added_to_those_that_are_there(digits, home):
    few = trained(asked("sklearn.tree:DecisionTreeClassifier", count=2), digits)
    state = checkpoint.encode({**few.state_dict()}, {})
    assert checkpoint.joinable(state, None) == 2
    sections = asked("sklearn.tree:DecisionTreeClassifier", count=5).model_dump()
    more = actor(digits, home, **sections)
    more.earlier = checkpoint.decode(state)[0]
    while not (result := more.step()).get("done"):
        assert "failure" not in result
    whole = trained(asked("sklearn.tree:DecisionTreeClassifier", count=5), digits)
    wanted = MeasuresConfig(memorization=False)
    found = result["finished"].record["replica_values"]
    assert found == measuring.measure(whole, wanted).record["replica_values"]


def test_a_trial_that_is_stopped_ends_its_function():
    seen = []

    def call(report):
        try:
            report(1, {"validation_error": 0.5})
            report(2, {})
        except Stopped:
            seen.append("stopped")
            raise

    run = Run(call)
    assert run.go(None).epoch == 1
    run.stop()
    assert seen == ["stopped"]


def test_epochs_go_forward():
    run = Run(lambda report: [report(2, {}), report(2, {})])
    assert run.go(None).epoch == 2
    with pytest.raises(ValueError, match="epoch 2 comes after epoch 2"):
        run.go(None)


@pytest.mark.parametrize(
    ("family", "said"),
    [
        ("own_learners:nothing", "returns nothing"),
        ("own_learners:breaks", r"own_learners.py:\d+: return task.train.inputs"),
        ("own_learners:unscaled", "may be logits or unscaled probabilities"),
    ],
)
def test_what_goes_wrong_in_a_function_is_said(digits, family, said):
    with pytest.raises(ModelError, match=said):
        trained(asked(family), digits)


def test_what_a_predictor_gives_is_told_apart():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(20, 3)) * 3
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert answers.gives([logits], 3) == "logits"
    assert answers.gives([p.astype(np.float16)], 3) == "probabilities"
    assert answers.gives([np.array([0, 2, 1])], 3) == "classes"
    assert answers.gives([np.array([0.2, 0.9])], 2) == "probabilities"
    assert answers.gives([np.array([-0.2, 0.9])], 2) == "logits"
    for what, raw in (("logits", logits), ("probabilities", p)):
        assert np.exp(answers.log_probabilities(raw, 3, what)) == pytest.approx(p)
    one = answers.log_probabilities(np.array([0.2, 0.9]), 2, "probabilities")
    assert np.exp(one) == pytest.approx(np.array([[0.8, 0.2], [0.1, 0.9]]))
    module = torch.nn.Linear(2, 3)
    given = answers.ask(module, np.ones((5, 2), np.float32), True)
    assert given == pytest.approx(module(torch.ones(5, 2)).detach().numpy())
    assert answers.ask(Said(lambda x: x, "logits"), np.ones((5, 2)), True).shape == (5, 2)
    with pytest.raises(ModelError, match="returns shape"):
        answers.ask(lambda x: x[:1], np.ones((5, 2)), True)
    with pytest.raises(ModelError, match="4 numbers an example, and there are 3 classes"):
        answers.gives([np.ones((5, 4))], 3)
    with pytest.raises(ModelError, match="no class of 3"):
        answers.gives([np.array([0.5, 1.5])], 3)


STUDY = """\
name: learners
data: {name: digits, train_size: 100}
replicas: {count: 3}
"""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "model: {family: 'sklearn.ensemble:RandomForestClassifier', options: {trees: 3}}",
            "no parameter of",
        ),
        ("model: {family: 'sklearn.ensemble:RandomForestRegressor'}", "is for values"),
        ("model: {family: 'own_learners:stacked'}", r"takes \(a, b\)"),
        (
            "model: {family: 'sklearn.tree:DecisionTreeClassifier'}\nsweep: {training.lr: [0.1, 0.2]}",
            "changes nothing",
        ),
        ("model: {family: 'own_learners:prior', start: w.pt}", "given weights"),
    ],
)
def test_a_study_that_cannot_be_is_refused(home, text, said):
    (home / "w.pt").write_bytes(b"")
    (home / "study.yaml").write_text(STUDY + text + "\n")
    with pytest.raises(StudyError, match=said):
        load("study.yaml", data=True)


def test_an_option_of_one_case_is_no_other_ones(home):
    cases = "[{model.family: feedforward}, {model.family: 'own_learners:forest', model.options.depth: 2}]"
    (home / "study.yaml").write_text(STUDY + f"sweep: {{cases: {cases}}}\n")
    study = load("study.yaml", data=True)
    assert study.grid()[0] == {"model.family": "feedforward", "model.options.depth": None}
    assert study.configure(study.grid()[0]).model.options == {}
    assert label(study.grid()[0]) == "feedforward"
    assert study.configure(study.grid()[1]).model.options == {"depth": 2}
    assert study.combinations() == 2
