"""Membership inference: reference attacks, leave-one-out against a plain loop, ROC with ties, stable phi."""

import math
import time

import numpy as np
import pytest
import torch
from scipy.special import log_softmax
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from engram.measures import membership


@pytest.mark.parametrize(
    ("key", "mode", "fixed"),
    [
        ("online", "online", False),
        ("online_fixed", "online", True),
        ("offline", "offline", False),
        ("offline_fixed", "offline", True),
        ("global_threshold", "global", None),
    ],
)
def test_reference_attacks(vector, key, mode, fixed):
    v = vector("v9_lira_synthetic")
    attack = membership.lira(v["scores"], v["keep"], mode, fixed_variance=fixed)
    expected = v["results"][key]
    # Scores that agree to their last digits change places with NumPy's version.
    assert attack.auc == pytest.approx(expected["auc"], abs=1e-6)
    assert attack.tpr(0.001) == pytest.approx(expected["tpr_at_0p1pct"], abs=1e-9)
    assert attack.tpr(0.01) == pytest.approx(expected["tpr_at_1pct"], abs=1e-9)
    assert attack.balanced_accuracy == pytest.approx(expected["best_balanced_acc"], abs=1e-9)


def test_roc_with_ties(vector):
    v = vector("v9b_tiny_roc")
    curve = membership.roc(v["scores"], v["member"])
    assert curve.auc == pytest.approx(v["auc"], abs=1e-9)
    assert curve.at(0) == pytest.approx(v["tpr_at_fpr_0"], abs=1e-9)
    assert curve.at(0.25) == pytest.approx(v["tpr_at_fpr_25pct"], abs=1e-9)


def synthetic(seed, replicas=12, examples=30, shift=1.0):
    generator = np.random.default_rng(seed)
    member = generator.random((replicas, examples)) < 0.5
    return generator.normal(size=member.shape) + shift * member, member


@pytest.mark.parametrize("center", ["median", "mean"])
@pytest.mark.parametrize("fixed", [True, False])
def test_leave_one_out_equals_the_plain_loop(center, fixed):
    scores, member = synthetic(0, replicas=9)
    middle = np.median if center == "median" else np.mean
    attack = membership.lira(scores, member, "online", fixed_variance=fixed, center=center)
    for r in range(9):
        others = np.arange(9) != r
        residuals = {True: [], False: []}
        for i in range(scores.shape[1]):
            for side in (True, False):
                s = scores[others & (member[:, i] == side), i]
                residuals[side] += list(s - s.mean()) if s.size else []
        for i in range(scores.shape[1]):
            ratio = 0.0
            for side in (True, False):
                s = scores[others & (member[:, i] == side), i]
                if not s.size:
                    ratio = math.nan
                    continue
                floor = 1e-3 * np.std(residuals[side])
                sd = np.std(residuals[side]) if fixed else max(np.std(s), floor)
                ratio += (1 if side else -1) * norm.logpdf(scores[r, i], middle(s), sd)
            assert attack.scores[r, i] == pytest.approx(ratio, abs=1e-8, rel=1e-8, nan_ok=True)


def test_scores_without_shadows_are_undefined():
    scores, member = synthetic(1, replicas=6)
    member[:, 0] = [True, False, False, False, False, False]
    online = membership.lira(scores, member, "online").scores
    assert np.isnan(online[0, 0])  # the only member has no member left to compare with
    assert not np.isnan(online[1:, 0]).any()
    assert not np.isnan(membership.lira(scores, member, "offline").scores[0, 0])
    member[:, 0] = True
    assert np.isnan(membership.lira(scores, member, "offline").scores[:, 0]).all()


def test_guessing_and_certainty():
    scores, member = synthetic(2, replicas=16, examples=400, shift=0.0)
    assert membership.lira(scores, member).auc == pytest.approx(0.5, abs=0.03)
    scores, member = synthetic(2, replicas=16, examples=400, shift=12.0)
    sure = membership.lira(scores, member)
    assert sure.auc == pytest.approx(1.0)
    assert sure.tpr(0.001) == pytest.approx(1.0)


def test_one_side_only_gives_no_auc():
    scores, _ = synthetic(3)
    attack = membership.lira(scores, np.ones_like(scores))
    assert math.isnan(attack.auc)
    assert math.isnan(attack.tpr(0.01))
    assert math.isnan(attack.auc_interval().low)
    assert math.isnan(attack.auc_bootstrap().low)
    assert math.isnan(attack.tpr_interval(0.01).low)
    assert np.isnan(attack.per_replica).all()


def test_replicas_may_be_permuted():
    scores, member = synthetic(4)
    order = np.random.default_rng(0).permutation(len(scores))
    before = membership.lira(scores, member)
    after = membership.lira(scores[order], member[order])
    np.testing.assert_allclose(after.scores, before.scores[order], atol=1e-9)
    np.testing.assert_allclose(after.per_replica, before.per_replica[order], atol=1e-9)
    assert after.auc == pytest.approx(before.auc, abs=1e-12)


def test_per_replica_values_are_leave_one_out_of_the_auc():
    scores, member = synthetic(5)
    attack = membership.lira(scores, member, "global")
    left = [
        roc_auc_score(np.delete(member, r, 0).ravel(), np.delete(scores, r, 0).ravel())
        for r in range(len(scores))
    ]
    pseudo = len(left) * attack.auc - (len(left) - 1) * np.array(left)
    np.testing.assert_allclose(attack.per_replica, pseudo - pseudo.mean() + attack.auc, atol=1e-9)
    assert attack.pseudo_values(inits=2).shape == (6,)
    assert np.isnan(membership.lira(scores[:2], member[:2]).pseudo_values()).all()


def test_bootstrap_by_model_resamples_models():
    """The closed form equals recomputing the pooled AUC on repeated models."""
    scores, member = synthetic(6, replicas=5)
    attack = membership.lira(scores, member, "global")
    weight = np.random.default_rng(0).multinomial(5, np.full(5, 0.2), size=50)
    draws = []
    for w in weight:
        rows = np.repeat(np.arange(5), w)
        draws.append(roc_auc_score(member[rows].ravel(), scores[rows].ravel()))
    interval = attack.auc_bootstrap(samples=50, seed=0)
    assert interval.se == pytest.approx(np.std(draws, ddof=1), abs=1e-9)


@pytest.mark.parametrize("replicas", [8, 24])
def test_bootstrap_covers_when_scores_are_fixed(replicas):
    """Models leak to different degrees; members' scores are normal with shift d: AUC = E Φ(d/√2)."""
    shifts = np.random.default_rng(0).normal(1.0, 0.4, 100_000)
    truth = norm.cdf(shifts / math.sqrt(2)).mean()
    hits, tpr_hits = 0, 0
    tpr_truth = norm.cdf(norm.ppf(0.05) + shifts).mean()
    for seed in range(400):
        generator = np.random.default_rng(seed)
        member = generator.random((replicas, 100)) < 0.5
        shift = generator.normal(1.0, 0.4, (replicas, 1))
        scores = generator.normal(size=member.shape) + shift * member
        attack = membership.lira(scores, member, "global")
        interval = attack.auc_bootstrap(samples=200)
        hits += interval.low <= truth <= interval.high
        if seed < 100:
            interval = attack.tpr_interval(0.05, samples=100)
            tpr_hits += interval.low <= tpr_truth <= interval.high
    assert 0.9 <= hits / 400 <= 0.99
    assert tpr_hits / 100 >= 0.85


@pytest.mark.parametrize("mode", ["online", "offline"])
def test_interval_covers_though_models_share_shadows(mode):
    """As above, attacked. The truth is the mean AUC with this many models, from other simulations."""
    attacks = []
    easy = np.random.default_rng(5).normal(size=60)
    for seed in range(400):
        generator = np.random.default_rng(seed)
        member = generator.random((8, 60)) < 0.5
        shift = generator.normal(1.0, 0.4, (8, 1))
        scores = generator.normal(size=member.shape) + shift * member + easy
        attacks.append(membership.lira(scores, member, mode))
    truth = np.mean([a.auc for a in attacks])
    found = [a.auc_interval() for a in attacks[:150]]
    assert 0.9 <= np.mean([i.low <= truth <= i.high for i in found]) <= 1.0
    assert found[0].mean == pytest.approx(attacks[0].auc, abs=1e-12)


def test_large_cohorts_are_quick():
    scores, member = synthetic(7, replicas=64, examples=2000)
    start = time.perf_counter()
    attack = membership.lira(scores, member)
    assert time.perf_counter() - start < 10.0  # 0.06 s on one core
    attack.auc_bootstrap()
    assert attack.auc_interval().known
    assert time.perf_counter() - start < 60.0  # 2 s: 32 attacks


def test_phi_is_the_logit_and_survives_certainty():
    logits = np.random.default_rng(0).normal(size=(2, 4, 3))
    labels = np.array([0, 1, 2, 0])
    p = np.take_along_axis(
        np.exp(log_softmax(logits, axis=2)), np.tile(labels, (2, 1))[..., None], axis=2
    )[..., 0]
    np.testing.assert_allclose(
        membership.phi(log_softmax(logits, axis=2), labels), np.log(p / (1 - p)), atol=1e-12
    )
    np.testing.assert_allclose(
        membership.phi(torch.tensor(logits).log_softmax(2), labels), np.log(p / (1 - p)), atol=1e-12
    )
    sure = log_softmax(np.array([[200.0, 0.0, 0.0]]), axis=1)  # here 1 - p = 0
    assert membership.phi(sure, [0])[0] == pytest.approx(200 - math.log(2))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: membership.lira(np.zeros((2, 3)), np.zeros((2, 2))), r"\(2, 2\).*\(2, 3\)"),
        (lambda: membership.lira(np.zeros((2, 3)), np.zeros((2, 3)), "both"), "mode = 'both'"),
        (lambda: membership.lira(np.zeros((2, 3)), np.zeros((2, 3)), center="mode"), "center"),
        (lambda: membership.lira(np.full((2, 3), np.inf), np.zeros((2, 3))), "finite"),
        (lambda: membership.phi(np.zeros((2, 1)), [0, 0]), "2 classes or more"),
        (lambda: membership.phi(np.zeros((2, 3)), [0, 3]), "holds 3.*below 3"),
        (lambda: membership.lira(*synthetic(0)).tpr(1.5), "fpr = 1.5 is outside"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()
