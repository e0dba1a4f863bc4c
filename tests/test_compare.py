"""Two executions side by side: what matched, what moved, and what else changed."""

from __future__ import annotations

import copy
import json

import pytest

from engram.sweeps.results import compare
from tests import fake_records
from tests.command_line import engram

DROPOUT = {"model.dropout": [0.0, 0.2, 0.5]}


def shifted(evidence, trial: int, by: float):
    """The same execution with one trial's errors moved."""
    other = copy.deepcopy(evidence)
    record = other.records[trial]
    for name in ("test_error", "generalization_gap"):
        for end in ("mean", "low", "high"):
            record["measures"][name][end] += by
        record["replica_values"][name] = [v + by for v in record["replica_values"][name]]
    return other


@pytest.fixture
def first():
    return fake_records.evidence(DROPOUT, lambda p: 0.4 + p["model.dropout"])


def moved(found: compare.Comparison) -> set[tuple[str, str]]:
    return {
        (str(p.params["model.dropout"]), m.measure)
        for p in found.pairs
        for m in p.moved
        if m.certain
    }


def test_an_execution_against_itself_is_identical(first):
    found = compare.compare(first, copy.deepcopy(first))
    assert found.verdict == "All 3 matched trials are identical, digit for digit."
    assert found.changed == {}
    assert moved(found) == set()


def test_what_moved_is_found_and_nothing_else(first):
    found = compare.compare(first, shifted(first, 1, 0.02))
    assert moved(found) == {("0.2", "test_error"), ("0.2", "generalization_gap")}
    change = next(m for p in found.pairs for m in p.moved if m.certain)
    assert change.change == pytest.approx(0.02)
    assert all(pair.paired for pair in found.pairs)
    # Paired by replica a common shift is exact; each trial's own interval is far wider.
    assert change.high - change.low < 1e-9


def test_noise_is_no_movement(first):
    other = copy.deepcopy(first)
    for record in other.records:
        values = record["replica_values"]["test_error"]
        record["replica_values"]["test_error"] = values[1:] + values[:1]
    found = compare.compare(first, other)
    assert moved(found) == set()
    assert found.verdict.startswith(
        "Nothing moved beyond chance in 3 matched trials, though numbers differ"
    )
    assert "noise of the machine alone" in found.verdict


def test_other_seeds_are_not_paired(first):
    other = fake_records.evidence(DROPOUT, lambda p: 0.4 + p["model.dropout"], replicas={"seed": 1})
    found = compare.compare(first, other)
    assert found.matched_by.startswith("the same swept values")
    assert not any(pair.paired for pair in found.pairs)
    assert "replicas.seed: 0 → 1" in found.changed["study"]


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("git.commit", "fedcba9", "code"),
        ("data.digest.mnist1d", "beef", "data"),
        ("version.torch", "9.9", "versions"),
        ("machine.cores", 64, "machine"),
    ],
)
def test_what_changed_besides_is_told(first, key, value, kind):
    other = shifted(first, 0, 0.02)
    other.provenance[key] = value
    found = compare.compare(first, other)
    assert list(found.changed) == [kind]
    assert found.verdict.endswith(f"what changed: {kind}.")
    assert all(pair.paired for pair in found.pairs) is (kind != "data")


def test_other_settings_and_other_trials_are_told(first):
    other = fake_records.evidence(
        {"model.dropout": [0.0, 0.2, 0.7]}, lambda p: 0.4, training={"epochs": 7}
    )
    found = compare.compare(first, other)
    assert "training.epochs: 40 → 7" in found.changed["study"]
    assert [r["params"]["model.dropout"] for r in found.only_first] == [0.5]
    assert [r["params"]["model.dropout"] for r in found.only_second] == [0.7]
    assert "the study's settings" in found.verdict


def test_lost_trials_are_matched_by_status():
    whole = fake_records.evidence(DROPOUT)
    lost = fake_records.evidence(DROPOUT, statuses={0: "failed", 1: "diverged"})
    found = compare.compare(whole, lost)
    assert [pair.statuses for pair in found.pairs] == [
        ("completed", "failed"),
        ("completed", "diverged"),
        ("completed", "completed"),
    ]
    assert found.pairs[0].moved == []
    json.loads(compare.to_json(found))


def test_nothing_in_common_is_said():
    found = compare.compare(
        fake_records.evidence(DROPOUT), fake_records.evidence({"training.lr": [0.1, 0.2]})
    )
    assert found.verdict == "No configuration is in both: nothing can be compared."


def test_the_command_prints_table_json_and_markdown(finished_study):
    output = {}
    for form in ("table", "json", "markdown"):
        done = engram("compare", "small", "small", "--format", form, home=finished_study.home)
        assert done.returncode == 0, done.stderr
        output[form] = done.stdout
    assert "identical, digit for digit" in output["table"]
    assert "the same: code, data, versions, machine, study" in output["table"]
    assert len(json.loads(output["json"])["pairs"]) == 4
    assert output["markdown"].startswith("**All 4 matched trials")
    unknown = engram("compare", "small", "smaller", home=finished_study.home)
    assert unknown.returncode == 2
