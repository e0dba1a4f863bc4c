"""Metrics of predictions: scikit-learn's numbers, undefined where they are, and a person's function called right."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from engram.measures import catalog, metrics

REPLICAS, EXAMPLES = 3, 300


def drawn(classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities [R, N, C] that know something, and rare labels [N]."""
    generator = np.random.default_rng(seed)
    share = np.arange(1, classes + 1) / np.arange(1, classes + 1).sum()
    labels = generator.permutation(
        np.repeat(np.arange(classes), np.ceil(share * EXAMPLES).astype(int))
    )
    scores = generator.normal(size=(REPLICAS, len(labels), classes)) + 1.5 * np.eye(classes)[labels]
    probabilities = np.exp(scores)
    return probabilities / probabilities.sum(-1, keepdims=True), labels


@pytest.mark.parametrize("classes", [2, 5])
def test_metrics_are_scikit_learns(classes: int):
    p, y = drawn(classes)
    votes = p.argmax(-1)
    expected = {
        "f1": [sk.f1_score(y, v, average="macro") for v in votes],
        "balanced_error": [1 - sk.balanced_accuracy_score(y, v) for v in votes],
        "auroc": [
            sk.roc_auc_score(y, q[:, 1] if classes == 2 else q, multi_class="ovr") for q in p
        ],
        "average_precision": [
            sk.average_precision_score(
                y if classes == 2 else np.eye(classes)[y], q[:, 1] if classes == 2 else q
            )
            for q in p
        ],
        "log_loss": [sk.log_loss(y, q) for q in p],
    }
    for name, values in expected.items():
        assert catalog.get(name).function()(p, y) == pytest.approx(values, abs=1e-12), name


def test_calibration_error_of_known_bins():
    # Confidence .9, right 7 of 10; confidence .6, right 6 of 10: half of |.7-.9| + half of 0.
    p = np.array([[0.9, 0.1]] * 10 + [[0.6, 0.4]] * 10)[None]
    y = np.array([0] * 7 + [1] * 3 + [0] * 6 + [1] * 4)
    assert metrics.calibration_error(p, y) == pytest.approx([0.1], abs=1e-12)
    certain = np.eye(2)[y][None]
    assert metrics.calibration_error(certain, y) == pytest.approx([0.0])


def test_regression_metrics():
    values = np.array([[[1.0], [2.0], [4.0]], [[1.0], [3.0], [5.0]]])
    targets = np.array([[1.0], [3.0], [5.0]])
    assert metrics.mean_absolute_error(values, targets) == pytest.approx([2 / 3, 0])
    assert metrics.r2(values, targets) == pytest.approx([1 - 2 / 8, 1])
    assert metrics.r2(values, targets[:, 0]) == pytest.approx([1 - 2 / 8, 1])


def test_areas_are_undefined_with_one_class_and_leave_out_absent_ones():
    p, y = drawn(3)
    for metric in (metrics.auroc, metrics.average_precision):
        assert np.isnan(metric(p, np.zeros_like(y))).all()
        kept = y < 2
        assert np.isfinite(metric(p[:, kept], y[kept])).all()
    kept = y < 2
    areas = [sk.roc_auc_score(y[kept] == k, p[0, kept, k]) for k in (0, 1)]
    assert metrics.auroc(p[:, kept], y[kept])[0] == pytest.approx(np.mean(areas))


@pytest.mark.parametrize("name", ["rank_error", *catalog.askable()])
def test_replicas_are_measured_one_by_one(name: str):
    """Permuting replicas permutes values, and a replica alone has the value it has in company."""
    measure = catalog.get(name)
    p, y = (
        drawn(2 if measure.positive else 3)
        if measure.task in ("classification", "ordinal")
        else (drawn(3)[0][..., :1], drawn(3)[0][0, :, :1])
    )
    found = measure.function()(p, y)
    assert found.shape == (REPLICAS,)
    assert measure.function()(p[::-1], y) == pytest.approx(found[::-1])
    assert measure.function()(p[1:2], y) == pytest.approx(found[1:2])


def test_wrong_shapes_are_refused():
    with pytest.raises(ValueError, match=r"give \[R, N, C\]"):
        metrics.f1(np.ones((3, 10, 2)), np.ones(9, int))


def accuracy(predictions, targets):
    assert predictions.shape == (len(targets), 3)
    predictions[:] = predictions  # writable, and a copy
    right = predictions.argmax(-1) == targets
    targets[:] = 0
    return right.mean()


def raises(predictions, targets):
    return predictions["probability"]


def test_own_functions_get_one_replica_at_a_time():
    p, y = drawn(3)
    kept = y.copy()
    assert metrics.own(accuracy, p, y) == pytest.approx((p.argmax(-1) == y).mean(-1))
    assert (y == kept).all(), "what is theirs changed what is ours"
    values, targets = np.ones((2, 4, 1)), np.zeros((4, 1))
    assert metrics.own(lambda v, t: (v - t).shape == (4,), values, targets) == pytest.approx([1, 1])


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (raises, r"test_metrics:raises raised IndexError: .*test_metrics\.py, line \d+\)"),
        (lambda p, y: p, r"returned an array of shape \(\d+, 3\), not one number"),
        (lambda p, y: None, "returned NoneType, not one number"),
        (lambda p, y: float("inf"), "returned inf, which is no finite number"),
        (lambda p, y: "0.5", "returned str"),
    ],
)
def test_own_functions_that_fail_are_named(function, said: str):
    with pytest.raises(metrics.OwnMetricError, match=said):
        metrics.own(function, *drawn(3))
