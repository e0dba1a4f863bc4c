"""Advice: only separated differences, the price named, the context stated."""

import numpy as np
import pytest

from engram.measures import advice
from engram.measures.advice import Record


def trial(params, seed=0, **means):
    """Replicas share their luck across trials, as in a study: the differences are much steadier."""
    shared = np.random.default_rng(0).normal(0, 0.05, 8)
    own = np.random.default_rng(seed).normal(0, 0.01, (len(means), 8))
    return Record(
        {"data.train_size": 1000, **params},
        {name: mean + shared + o for (name, mean), o in zip(means.items(), own, strict=True)},
    )


def test_the_sentence():
    found = advice.sentences(
        [
            trial({"model.dropout": 0.0}, 1, variance=0.44, bias2=0.51),
            trial({"model.dropout": 0.2}, 2, variance=0.35, bias2=0.44),
        ]
    )
    assert len(found) == 2
    assert any(
        s.startswith(
            "at data.train_size 1000, model.dropout 0.2 instead of 0 lowers variance by 0.09"
        )
        for s in found
    )
    assert all("and lowers" in s for s in found)  # each is the other's price


def test_costs_nothing_raises_or_is_not_resolved():
    base = trial({"a": 1}, 1, variance=0.4, bias2=0.3)
    free = trial({"a": 2}, 2, variance=0.2, bias2=0.3)
    (sentence,) = advice.sentences([base, free])
    assert sentence.endswith("and costs no bias beyond 0.05")
    dear = trial({"a": 2}, 3, variance=0.2, bias2=0.4)
    first = next(a for a in advice.advise([base, dear]) if a.measure == "variance")
    assert "and raises bias by 0.099 ± 0.012" in first.sentence
    vague = Record(free.params, {**free.measures, "bias2": np.linspace(-1, 1.6, 8)})
    (sentence,) = advice.sentences([base, vague])
    assert "not resolved" in sentence


def test_nothing_without_separation():
    records = [trial({"a": k}, 100 + k, variance=0.4, test_error=0.3, bias2=0.2) for k in range(4)]
    assert advice.sentences(records) == []


def test_false_advice_is_rare():
    """No setting matters here; with the level divided among comparisons, few studies advise anything."""
    told = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        records = [
            Record({"a": a, "b": b}, {"test_error": generator.normal(size=8)})
            for a in range(3)
            for b in range(3)
        ]
        told += bool(advice.sentences(records))
    assert told / 200 <= 0.06


def test_pairs_differ_in_one_key_and_never_in_size():
    records = [
        trial({"a": 1, "b": 1}, 1, test_error=0.5),
        trial({"a": 2, "b": 2}, 2, test_error=0.1),
        Record({"data.train_size": 9, "a": 1, "b": 1}, {"test_error": np.full(8, 0.01)}),
    ]
    assert advice.sentences(records) == []


def test_context_names_what_else_varies():
    records = [
        trial({"a": a, "b": b, "same": 7}, 10 * a + b, test_error=0.5 - 0.1 * a)
        for a in (0, 1)
        for b in (0, 1)
    ]
    found = advice.advise(records)
    assert len(found) == 2
    assert all((f.key, f.value, f.instead) == ("a", 1, 0) for f in found)
    assert {f.context["b"] for f in found} == {0, 1}
    assert all(
        "same" not in f.sentence and f.sentence.startswith("at data.train_size 1000, b ")
        for f in found
    )
    assert len(advice.advise(records, most=1)) == 1


def test_undefined_or_unpaired_measures_are_passed_over():
    a = Record({"a": 1}, {"test_error": np.full(8, 0.5), "variance": None})
    b = Record({"a": 2}, {"test_error": np.full(6, 0.1), "variance": np.full(8, np.nan)})
    assert advice.sentences([a, b]) == []


def test_refuses_records_without_parameters():
    with pytest.raises(ValueError, match="record 0 has no params"):
        advice.advise([Record({}, {})])
