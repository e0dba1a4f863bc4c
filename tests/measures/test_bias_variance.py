"""Bias and variance: reference values, closed forms by enumeration, exact sums, mlxtend's definitions."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mlxtend.evaluate import bias_variance_decomp
from scipy.special import log_softmax, softmax
from sklearn.base import BaseEstimator
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from engram.measures import bias_variance

quick = settings(max_examples=30, deadline=None, derandomize=True)
CLOSE = {"rtol": 0, "atol": 1e-9}


def cohort(seed, replicas=5, examples=7, classes=3, scale=2.0):
    generator = np.random.default_rng(seed)
    logits = generator.normal(scale=scale, size=(replicas, examples, classes))
    return logits, generator.integers(classes, size=examples)


def test_brier_reference(vector):
    v = vector("v6_onehot_mse_and_kl")
    result = bias_variance.squared(v["probs_RxNxC"], v["labels"])
    for name, key in {
        "risk": "brier_risk_pt",
        "variance": "var_unbiased_pt",
        "variance_plugin": "var_plugin_pt",
        "bias2": "bias2_unbiased_pt",
        "bias2_plugin": "bias2_plugin_pt",
    }.items():
        np.testing.assert_allclose(result.per_example[name], v[key], **CLOSE)
    assert result.risk == pytest.approx(np.mean(v["brier_risk_pt"]), abs=1e-9)
    assert result.per_example.bias2 is result.per_example["bias2"]


def test_cross_entropy_reference(vector):
    v = vector("v6_onehot_mse_and_kl")
    result = bias_variance.cross_entropy(np.log(v["probs_RxNxC"]), v["labels"])
    np.testing.assert_allclose(result.center, v["geo_center"], **CLOSE)
    np.testing.assert_allclose(result.per_example["risk"], v["ce_pt"], **CLOSE)
    np.testing.assert_allclose(result.per_example["bias_plugin"], v["kl_bias_pt"], **CLOSE)
    np.testing.assert_allclose(result.per_example["variance_plugin"], v["kl_var_pt"], **CLOSE)
    np.testing.assert_allclose(
        result.per_example["variance"], np.array(v["kl_var_pt"]) * 3 / 2, **CLOSE
    )


def test_zero_one_reference(vector):
    v = vector("v7_zero_one")
    result = bias_variance.zero_one(v["preds_RxN"], v["y"])
    keys = {
        "risk": "loss",
        "bias": "bias",
        "variance": "var",
        "effect": "c2",
        "main": "main",
        "kw_bias2": "KW_bias2",
        "kw_variance": "KW_var",
        "kw_bias2_unbiased": "KW_bias2_unbiased",
        "kw_variance_unbiased": "KW_var_unbiased",
    }
    for name, key in keys.items():
        np.testing.assert_allclose(result.per_example[name], [r[key] for r in v["rows"]], **CLOSE)
    total = v["aggregate"]
    assert result.plain == pytest.approx((total["loss"], total["bias"], total["var"]), abs=1e-9)
    assert result.net_variance == pytest.approx(total["net_variance"], abs=1e-9)
    assert result.bias + result.net_variance == pytest.approx(total["domingos_check"], abs=1e-9)
    assert result.kw_bias2_unbiased == pytest.approx(total["KW_bias2_unbiased"], abs=1e-9)
    assert result.kw_variance_unbiased == pytest.approx(total["KW_var_unbiased"], abs=1e-9)


def test_mean_predictor_over_all_subsets(vector):
    v = vector("v3_mean_predictor_designs")
    pool = np.array(v["pool"])
    for m in (2, 3, 4, 6):
        expected = v[f"subset_m{m}"]
        means = np.array([np.mean(s) for s in itertools.combinations(pool, m)])[:, None]
        assert len(means) == expected["n_subsets"]
        result = bias_variance.squared(means, [v["test_target"]])
        assert result.per_example["variance_plugin"] == pytest.approx(expected["closed_form_var"])
        assert result.per_example["bias2_plugin"] == pytest.approx(expected["bias2"])
        assert result.risk == pytest.approx(expected["risk"], abs=1e-9)
    draws = np.array(list(itertools.product(pool, repeat=6))).mean(axis=1)[:, None]
    result = bias_variance.squared(draws, [v["test_target"]])
    assert result.per_example["variance_plugin"] == pytest.approx(
        v["bootstrap_m6"]["closed_form_var"]
    )
    assert result.risk == pytest.approx(v["bootstrap_m6"]["risk"], abs=1e-9)


def test_disjoint_blocks_estimate_the_population(vector):
    v = vector("v3_mean_predictor_designs")
    pool = np.array(v["pool"])
    blocks = [pool[list(p)].reshape(3, 2).mean(axis=1) for p in itertools.permutations(range(6))]
    variances = [bias_variance.squared(b[:, None], [5.0]).variance for b in blocks]
    assert np.mean(variances) == pytest.approx(v["disjoint_3x2"]["exp_sample_var_ddof1"], abs=1e-9)


def test_constant_predictor_is_pure_bias(vector):
    v = vector("v3_mean_predictor_designs")
    c = v["constant_predictor"]
    result = bias_variance.squared(np.full((4, 1), c["c"]), [v["test_target"]])
    assert (result.bias2, result.variance, result.risk) == (c["bias2"], c["var"], c["risk"])


def signs(n, sigma):
    """All 2^n noise vectors of ±sigma: their mean and covariance are those of any noise of sd sigma."""
    return sigma * np.array(list(itertools.product((-1.0, 1.0), repeat=n)))


def test_linear_and_ridge_regression_by_enumeration(vector):
    v = vector("v1_linear_ridge_fixed_design")
    x, test, beta = np.array(v["X"]), np.array(v["X_test"]), np.array(v["beta"])
    noisy = x @ beta + signs(len(x), v["sigma"])  # [4096, 12]
    for case in v["cases"]:
        design = x[:, case["cols"]]
        inverse = np.linalg.inv(design.T @ design + case["lam"] * np.eye(design.shape[1]))
        predictions = noisy @ design @ inverse @ test[:, case["cols"]].T
        result = bias_variance.squared(predictions, test @ beta)
        np.testing.assert_allclose(result.per_example["bias2_plugin"], case["bias2_pt"], **CLOSE)
        np.testing.assert_allclose(result.per_example["variance_plugin"], case["var_pt"], **CLOSE)
        assert result.risk + v["sigma"] ** 2 == pytest.approx(case["risk"], abs=1e-9)


def test_polynomials_trade_bias_for_variance(vector):
    v = vector("v2_polynomial")
    x, test = np.array(v["x"]), np.array(v["x_test"])
    noisy = np.sin(np.pi * x) + signs(len(x), v["sigma"])  # [32768, 15]
    for case in v["cases"]:
        powers = np.arange(case["degree"] + 1)
        hat = test[:, None] ** powers @ np.linalg.pinv(x[:, None] ** powers)
        result = bias_variance.squared(noisy @ hat.T, np.sin(np.pi * test))
        np.testing.assert_allclose(result.per_example["bias2_plugin"], case["bias2_pt"], **CLOSE)
        np.testing.assert_allclose(result.per_example["variance_plugin"], case["var_pt"], **CLOSE)


def test_nearest_neighbours(vector):
    v = vector("v4_knn")
    x = np.linspace(0.1, 1.0, 10)
    noisy = x**2 + signs(10, 0.2)
    for case in v["cases"]:
        near = np.argsort(np.abs(x - 0.53))[: case["k"]]
        result = bias_variance.squared(noisy[:, near].mean(axis=1)[:, None], [0.53**2])
        assert result.per_example["bias2_plugin"][0] == pytest.approx(case["bias2"], abs=1e-9)
        assert result.per_example["variance_plugin"][0] == pytest.approx(case["var"], abs=1e-9)


@quick
@given(st.integers(0, 10_000), st.integers(2, 9), st.integers(1, 6), st.integers(2, 5))
def test_parts_add_up(seed, replicas, examples, classes):
    logits, labels = cohort(seed, replicas, examples, classes)
    brier = bias_variance.squared(softmax(logits, axis=2), labels)
    assert brier.risk == pytest.approx(brier.bias2 + brier.variance, abs=1e-9)
    entropy = bias_variance.cross_entropy(log_softmax(logits, axis=2), labels)
    assert entropy.risk == pytest.approx(entropy.bias + entropy.variance, abs=1e-9)
    assert (entropy.per_example["variance"] >= -1e-12).all()
    vote = bias_variance.zero_one(logits.argmax(axis=2), labels)
    assert vote.risk == pytest.approx(vote.bias + vote.net_variance, abs=1e-9)
    assert vote.risk == pytest.approx(vote.kw_bias2 + vote.kw_variance, abs=1e-9)
    assert vote.risk == pytest.approx(vote.kw_bias2_unbiased + vote.kw_variance_unbiased, abs=1e-9)


@quick
@given(st.integers(0, 10_000))
def test_order_of_replicas_is_immaterial(seed):
    logits, labels = cohort(seed)
    order = np.random.default_rng(seed).permutation(len(logits))
    for measure, values in (
        (bias_variance.squared, softmax(logits, axis=2)),
        (bias_variance.cross_entropy, log_softmax(logits, axis=2)),
        (bias_variance.zero_one, logits.argmax(axis=2)),
    ):
        first, second = measure(values, labels), measure(values[order], labels)
        for name, value in first.per_example.items():
            np.testing.assert_allclose(second.per_example[name], value, atol=1e-12)


def test_corrections_are_unbiased():
    generator = np.random.default_rng(1)
    predictions = generator.normal(1.0, 2.0, size=(4, 40_000))
    result = bias_variance.squared(predictions, np.zeros(40_000))
    assert result.variance == pytest.approx(4.0, abs=0.06)
    assert result.bias2 == pytest.approx(1.0, abs=0.06)
    assert result.per_example["bias2"].min() < 0  # never clipped


def test_labels_and_values_agree():
    logits, labels = cohort(3)
    p = softmax(logits, axis=2)
    one_hot = np.eye(3)[labels]
    assert bias_variance.squared(p, labels).risk == bias_variance.squared(p, one_hot).risk
    flat = bias_variance.squared(p[:, :, 0], one_hot[:, 0])
    columns = [bias_variance.squared(p[:, :, c], one_hot[:, c]).variance for c in range(3)]
    assert flat.variance == columns[0]
    assert bias_variance.squared(p, labels).variance == pytest.approx(sum(columns), abs=1e-12)


def test_torch_and_numpy_agree():
    logits, labels = cohort(4)
    tensor = torch.tensor(logits, requires_grad=True).log_softmax(dim=2)
    ours = bias_variance.cross_entropy(tensor, torch.tensor(labels))
    assert ours.risk == pytest.approx(
        bias_variance.cross_entropy(log_softmax(logits, axis=2), labels).risk, abs=1e-12
    )


def test_one_replica_has_a_risk_and_no_variance():
    logits, labels = cohort(5, replicas=1)
    result = bias_variance.squared(softmax(logits, axis=2), labels)
    assert result.risk > 0
    assert math.isnan(result.variance)
    assert math.isnan(result.bias2)
    assert math.isnan(bias_variance.zero_one(logits.argmax(axis=2), labels).kw_variance_unbiased)


class Replay(BaseEstimator):
    """Returns stored predictions, one row per fit: mlxtend then judges exactly the replicas we judge."""

    def __init__(self, rows=None):
        self.rows = rows

    def fit(self, inputs, targets):
        self.turn = getattr(self, "turn", -1) + 1
        return self

    def predict(self, inputs):
        return self.rows[self.turn]


@pytest.mark.parametrize("seed", range(5))
def test_agrees_with_mlxtend_on_replayed_predictions(seed):
    generator = np.random.default_rng(seed)
    labels, votes = generator.integers(3, size=40), generator.integers(3, size=(9, 40))
    inputs = np.zeros((40, 1))
    loss, bias, variance = bias_variance_decomp(
        Replay(votes), inputs, labels, inputs, labels, loss="0-1_loss", num_rounds=9
    )
    assert bias_variance.zero_one(votes, labels).plain == pytest.approx(
        (loss, bias, variance), abs=1e-12
    )
    values, wanted = generator.normal(size=(9, 40)), generator.normal(size=40)
    loss, bias, variance = bias_variance_decomp(
        Replay(values), inputs, wanted, inputs, wanted, loss="mse", num_rounds=9
    )
    ours = bias_variance.squared(values, wanted)
    plugin = ours.per_example.means("bias2_plugin", "variance_plugin")
    assert (ours.risk, *plugin.values()) == pytest.approx((loss, bias, variance), abs=1e-12)


@pytest.mark.parametrize("kind", ["0-1_loss", "mse"])
def test_agrees_with_mlxtend_on_bagged_trees(kind):
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(160, 2))
    targets = (
        (inputs[:, 0] * inputs[:, 1] > 0).astype(int) if kind == "0-1_loss" else inputs.prod(1)
    )
    make = DecisionTreeClassifier if kind == "0-1_loss" else DecisionTreeRegressor
    tree = make(max_depth=3, random_state=0)
    train, test = (inputs[:100], targets[:100]), (inputs[100:], targets[100:])
    theirs = bias_variance_decomp(tree, *train, *test, loss=kind, num_rounds=12, random_seed=7)
    state = np.random.RandomState(7)
    rows = []
    for _ in range(12):
        chosen = state.choice(100, size=100, replace=True)
        rows.append(tree.fit(train[0][chosen], train[1][chosen]).predict(test[0]))
    if kind == "0-1_loss":
        assert bias_variance.zero_one(rows, test[1]).plain == pytest.approx(theirs, abs=1e-12)
    else:
        ours = bias_variance.squared(rows, test[1])
        plugin = ours.per_example.means("bias2_plugin", "variance_plugin")
        assert (ours.risk, *plugin.values()) == pytest.approx(theirs, abs=1e-12)


def test_components_recover_both_variances():
    generator = np.random.default_rng(2)
    draws, inits, examples = 6, 3, 20_000
    data = generator.normal(0, 1.5, size=(draws, 1, examples))
    init = generator.normal(0, 0.5, size=(draws, inits, examples))
    result = bias_variance.components(data + init)
    assert result.variance_init == pytest.approx(0.25, abs=0.01)
    assert result.variance_data == pytest.approx(2.25, abs=0.05)
    assert result.variance == pytest.approx(result.variance_data + result.variance_init, abs=1e-12)


def test_components_by_hand_and_where_undefined():
    predictions = np.array([[[0.0], [2.0]], [[4.0], [8.0]]])  # MSW = (2 + 8)/2, MSB = 2·12.5
    result = bias_variance.components(predictions)
    assert (result.variance_init, result.variance_data) == (5.0, 10.0)
    alone = bias_variance.components(predictions[:1])
    assert alone.variance_init == 2.0
    assert math.isnan(alone.variance_data)
    assert math.isnan(bias_variance.components(predictions[:, :1]).variance_init)
    trailing = np.stack([predictions, predictions], axis=-1)
    assert bias_variance.components(trailing).variance_init == 10.0


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: bias_variance.squared(np.zeros((2, 3, 2)), [0, 1, 2]), "holds 2.*below 2"),
        (lambda: bias_variance.squared(np.zeros((2, 3)), [0, 1]), r"\(2,\).*\(3,\)"),
        (lambda: bias_variance.squared(np.full((2, 3), np.nan), [0, 1, 2]), "finite"),
        (lambda: bias_variance.squared(np.zeros(3), [0, 1, 2]), r"\[R, N\]"),
        (lambda: bias_variance.cross_entropy(np.zeros((2, 3, 2)), [0, 1, 1]), "sum to 1"),
        (lambda: bias_variance.zero_one([[0, 1.5]], [0, 1]), "1.5.*whole"),
        (lambda: bias_variance.zero_one([[0, -1]], [0, 1]), "-1.*at least 0"),
        (lambda: bias_variance.components(np.zeros((2, 3))), r"\[D, S, N"),
        (lambda: bias_variance.squared(np.zeros((0, 3)), [0, 1, 2]), "empty"),
    ],
)
def test_refusals_name_value_and_rule(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_networks_that_share_a_subset_are_not_independent():
    """Draws of variance 0.05, initializations of variance 0.03, bias² 0.09: unbiased with inits, biased without."""
    random = np.random.default_rng(0)
    found, plain = [], []
    for _ in range(400):
        draws = 0.05**0.5 * random.normal(size=(4, 1, 20))
        inits = 0.03**0.5 * random.normal(size=(4, 3, 20))
        predictions = (0.3 + draws + inits).reshape(12, 20)
        for kept, shared in ((found, 3), (plain, 1)):
            result = bias_variance.squared(predictions, np.zeros(20), shared)
            assert result.bias2 + result.variance == pytest.approx(result.risk)
            kept.append((result.bias2, result.variance))
    np.testing.assert_allclose(np.mean(found, axis=0), [0.09, 0.08], atol=0.003)
    assert np.mean(plain, axis=0)[1] < 0.072
    split = predictions.reshape(4, 3, 20)
    assert result.variance != bias_variance.components(split).variance
    same = bias_variance.squared(predictions, np.zeros(20), 3).variance
    assert same == pytest.approx(bias_variance.components(split).variance)


def test_inits_must_divide_the_replicas_and_one_draw_has_no_variance():
    with pytest.raises(ValueError, match="5 replicas, inits = 2"):
        bias_variance.squared(np.zeros((5, 3)), np.zeros(3), 2)
    assert np.isnan(bias_variance.squared(np.zeros((2, 3)), np.zeros(3), 2).bias2)
