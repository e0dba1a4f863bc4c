"""Memorization and influence: reference values, balanced designs, what stays undefined, coverage."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from engram.measures import memorization

quick = settings(max_examples=30, deadline=None, derandomize=True)
CLOSE = {"rtol": 0, "atol": 1e-9}


def complementary(generator, pairs, examples):
    """Pairs of half-size subsets that cover the pool: every example is in half of the replicas."""
    rows = []
    for _ in range(pairs):
        half = np.zeros(examples, bool)
        half[generator.permutation(examples)[: examples // 2]] = True
        rows += [half, ~half]
    return np.array(rows)


def test_reference(vector):
    v = vector("v8_memorization")
    correct, member = v["correct_pool"], v["mask_runs_x_examples"]
    np.testing.assert_allclose(memorization.memorization(correct, member), v["mem"], **CLOSE)
    np.testing.assert_allclose(
        memorization.standard_error(correct, member), v["se_unbiased_nminus1"], **CLOSE
    )
    result = memorization.summary(correct, member)
    np.testing.assert_allclose(result.in_accuracy, v["acc_in"], **CLOSE)
    np.testing.assert_allclose(result.out_accuracy, v["acc_out"], **CLOSE)
    assert result.mean.mean == pytest.approx(v["mean_mem"], abs=1e-9)
    assert result.mean.mean == pytest.approx(v["mean_in_acc"] - v["mean_out_acc"], abs=1e-9)
    np.testing.assert_allclose(
        memorization.influence(v["correct_test"], member), v["infl_test_x_train"], **CLOSE
    )


def test_error_bound(vector):
    for row in vector("v8b_fz_lemma_bound"):
        bound = memorization.error_bound(row["p"], row["t"])
        assert bound == pytest.approx(row["rmse_bound"], abs=1e-9)
        worst = memorization.worst_standard_error(row["p"], row["t"])
        assert worst == pytest.approx(row["worst_binomial_se"], abs=1e-9)


@quick
@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 6))
def test_mean_is_in_minus_out_accuracy_in_balanced_designs(seed, pairs, half):
    generator = np.random.default_rng(seed)
    member = complementary(generator, pairs, 2 * half)
    correct = generator.random(member.shape) < 0.6
    mean = memorization.memorization(correct, member).mean()
    assert mean == pytest.approx(correct[member].mean() - correct[~member].mean(), abs=1e-9)
    assert memorization.summary(correct, member).mean.mean == pytest.approx(mean, abs=1e-9)


@quick
@given(st.integers(0, 10_000))
def test_undefined_stays_undefined(seed):
    generator = np.random.default_rng(seed)
    member = generator.random((4, 12)) < 0.5
    member[:, 0], member[:, 1] = True, False
    correct = generator.random(member.shape) < 0.5
    result = memorization.summary(correct, member)
    empty = member.all(axis=0) | ~member.any(axis=0)
    np.testing.assert_array_equal(np.isnan(result.per_example), empty)
    assert result.defined == (~empty).sum()
    assert np.isnan(memorization.influence(correct[:, :3], member)[:, :2]).all()
    if result.defined:
        assert result.mean.mean == pytest.approx(result.per_example[~empty].mean(), abs=1e-9)
        assert result.per_replica.mean() == pytest.approx(result.mean.mean, abs=1e-9)


def test_nothing_defined_is_not_zero():
    result = memorization.summary(np.ones((3, 2)), np.ones((3, 2)))
    assert result.defined == 0
    assert np.isnan(result.mean.mean)


@quick
@given(st.integers(0, 10_000))
def test_permutations(seed):
    generator = np.random.default_rng(seed)
    member, correct = generator.random((6, 9)) < 0.5, generator.random((6, 9)) < 0.7
    rows, columns = generator.permutation(6), generator.permutation(9)
    before = memorization.summary(correct, member)
    moved = memorization.summary(correct[rows], member[rows])
    np.testing.assert_allclose(moved.per_example, before.per_example, atol=1e-12)
    np.testing.assert_allclose(moved.per_replica, before.per_replica[rows], atol=1e-12)
    swapped = memorization.memorization(correct[:, columns], member[:, columns])
    np.testing.assert_allclose(swapped, before.per_example[columns], atol=1e-12)


@pytest.mark.parametrize("replicas", [8, 32])
def test_interval_of_the_mean_covers(replicas):
    """Networks differ in skill and in how much they memorize; examples differ in difficulty."""
    hard = np.random.default_rng(1).uniform(0.3, 0.8, 120)
    hits = 0
    for seed in range(400):
        generator = np.random.default_rng(seed)
        member = complementary(generator, replicas // 2, 120)
        extra = 0.25 + generator.normal(0, 0.04, (replicas, 1))
        correct = generator.random(member.shape) < hard - 0.1 + extra * member
        mean = memorization.summary(correct, member).mean
        hits += mean.low <= 0.25 <= mean.high
    assert 0.9 <= hits / 400 <= 0.99


def test_standard_errors_match_simulation():
    generator = np.random.default_rng(0)
    member = np.repeat(complementary(generator, 16, 10), 1, axis=0)
    found, errors, cross, cross_errors = [], [], [], []
    for _ in range(400):
        correct = generator.random(member.shape) < np.where(member, 0.8, 0.4)
        found.append(memorization.memorization(correct, member))
        errors.append(memorization.standard_error(correct, member) ** 2)
        cross.append(memorization.influence(correct[:, :3], member))
        cross_errors.append(memorization.influence_standard_error(correct[:, :3], member) ** 2)
    np.testing.assert_allclose(np.mean(errors, 0), np.var(found, 0), rtol=0.25)
    outside = np.ix_(range(3), range(3, 10))  # a column beside itself is memorization
    np.testing.assert_allclose(
        np.mean(cross_errors, 0)[outside], np.var(cross, 0)[outside], rtol=0.35
    )


def test_own_influence_is_memorization():
    generator = np.random.default_rng(0)
    member, correct = complementary(generator, 4, 6), generator.random((8, 6)) < 0.5
    diagonal = np.diag(memorization.influence(correct, member))
    np.testing.assert_allclose(diagonal, memorization.memorization(correct, member), **CLOSE)
    errors = np.diag(memorization.influence_standard_error(correct, member))
    np.testing.assert_allclose(errors, memorization.standard_error(correct, member), **CLOSE)


def test_torch_and_bootstrap_counts():
    correct = torch.tensor([[True, False], [False, True]])
    counts = torch.tensor([[2, 0], [0, 1]])
    np.testing.assert_array_equal(memorization.memorization(correct, counts), [1, 1])


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: memorization.memorization([[1, 0]], [[1]]), r"member has shape \(1, 1\)"),
        (lambda: memorization.memorization([[1, 0]], [[1, -2]]), "-2.*used"),
        (lambda: memorization.error_bound(1.0, 8), "p = 1.0 is outside"),
        (lambda: memorization.error_bound(0.5, 0), "replicas = 0"),
        (lambda: memorization.influence([[1], [0]], [[1]]), "member has shape"),
    ],
)
def test_refusals(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_two_replicas_do_not_know_their_spread():
    correct = np.array([[1, 0, 1, 0], [0, 1, 0, 1]], bool)
    member = np.array([[1, 0, 1, 0], [0, 1, 0, 1]], bool)
    assert not memorization.summary(correct, member).mean.known
