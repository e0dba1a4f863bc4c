"""A small run of the simulations whose tables stand in the docs: every part works, and nothing is far off."""

from __future__ import annotations

import math

from scipy import stats

from benchmarks import null_studies, statistics


def most(rate: float, rounds: int) -> float:
    """A share that a true rate exceeds once in a thousand runs."""
    return float(stats.binom.ppf(0.999, rounds, rate)) / rounds


def test_boards_nights_laws_and_coverage_at_a_small_scale(monkeypatch):
    boards = statistics.boards(0.02)
    for row in boards:
        assert row["split, variances alike"] <= most(0.05, row["boards"])
        assert row["power"] >= 0.6 * row["power of Tukey's"]
    (row, *_) = statistics.nights(0.02)
    assert row["nothing"] <= most(0.01, 20)
    assert row["all, 3 se"] >= 0.5
    monkeypatch.setattr(
        statistics, "LAWS", {k: statistics.LAWS[k] for k in ("power law", "broken")}
    )
    law, broken = statistics.laws(0.1)
    assert law["identified"] > broken["identified"] == 0
    assert broken["covered"] is None


def test_coverage_of_both_intervals_at_a_small_scale(monkeypatch):
    monkeypatch.setattr(statistics, "DESIGNS", {"disjoint": statistics.DESIGNS["disjoint"]})
    for name, value in (
        ("SIMULATED_REPLICAS", (8,)),
        ("TEST_EXAMPLES", 150),
        ("ALL_REPLICAS", 640),
    ):
        monkeypatch.setattr(statistics, name, value)
    (row,) = statistics.coverage(0.1)
    for measure in statistics.MEASURES:
        assert row[f"{measure}, new data"] >= 1 - most(0.07, 40)
        assert row[f"{measure}, retraining"] >= 1 - most(0.07, 60)


def test_tables_are_markdown():
    text = statistics.table([{"a": 1, "b": 0.5}, {"a": 2, "b": None}])
    assert text == "| a | b |\n|---|---|\n| 1 | 0.500 |\n| 2 | – |"
    assert math.isclose(most(0.05, 1000), 0.072, abs_tol=0.003)


def test_studies_in_which_nothing_matters_claim_next_to_nothing():
    (row,) = null_studies.null(0.0, ("grid",))
    for name in ("board", "answer", "finding", "null setting"):
        assert row[name] <= most(0.05, row["studies"])
    assert row["other found"] > 0
