"""Executions side by side: what matched, what moved, what else changed, and what several have in common."""

from __future__ import annotations

import copy
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from engram.problems import StudyError
from engram.sweeps.results import compare, findings, joined, report, report_joined, side_by_side
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
    assert json.loads(side_by_side.to_json(joined.join([whole, lost])))["pairs"]
    assert "failed" in side_by_side.text(joined.join([whole, lost]))


def test_nothing_in_common_is_said():
    found = compare.compare(
        fake_records.evidence(DROPOUT), fake_records.evidence({"training.lr": [0.1, 0.2]})
    )
    assert found.verdict == "No configuration is in both: nothing can be compared."


# -- more than two ----------------------------------------------------------------------------------


def named(name: str, shift: float = 0.0, axes=DROPOUT, **sections):
    found = fake_records.evidence(
        axes, lambda p: 0.5 + shift + abs(p.get("model.dropout", 0) - 0.2), **sections
    )
    found.name = name
    return found


def test_each_is_held_against_the_first_and_the_trend_is_found():
    found = joined.join([named("a"), named("b", -0.02), named("c", -0.06)])
    assert found.axis == joined.EXECUTION
    assert [c.names for c in found.comparisons] == [("a", "b"), ("a", "c")]
    slopes = [t.change.mean for t in found.trends if t.measure == "test_error"]
    assert slopes == pytest.approx([-0.03] * 3)  # of 0, -0.02, -0.06: by least squares
    assert all(t.certain for t in found.trends)
    assert "The validation error is lowest with c" in side_by_side.text(found)


def test_repeated_executions_have_no_trend():
    found = joined.join([named("a"), named("b"), named("c")])
    assert not any(t.certain for t in found.trends)
    assert not any(
        "*" in cell for some in side_by_side.lines(found) for x in some for cell in x.cells
    )


def test_noise_is_seldom_a_trend():
    """Of 40 triples of executions that differ by chance alone, at 5 % for each triple as a whole."""
    generator = np.random.default_rng(3)
    alarms = 0
    for _ in range(40):
        some = [named("a"), named("b"), named("c")]
        for record in (r for e in some for r in e.records):
            for values in record["replica_values"].values():
                values[:] = list(0.5 + 0.01 * generator.normal(size=len(values)))
        alarms += any(t.certain for t in joined.join(some).trends)
    assert alarms <= 6


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("model.family", ["feedforward", "gru", "lstm"]),
        ("data.name", ["mnist1d", "digits", "csv:/somewhere/prices.csv"]),
        ("training.steps", [100, 200, 300]),
    ],
)
def test_the_one_setting_that_differs_is_the_axis(key, values):
    section, _, name = key.partition(".")
    some = [named(f"e{k}", -k / 50, **{section: {name: value}}) for k, value in enumerate(values)]
    found = joined.join(some)
    assert (found.axis, found.values, found.trends) == (key, values, [])
    whole = found.whole
    assert whole.axes == [key, "model.dropout"]
    assert len(whole.records) == 9
    assert whole.records[4]["params"] == {key: values[1], "model.dropout": 0.2}
    answer = findings.answers(whole)[0]
    assert str(values[2]).rpartition("/")[2] in answer
    assert findings.unfinished(whole) == []


def test_settings_that_differ_together_leave_the_execution_as_axis():
    found = joined.join([named("a"), named("b", model={"family": "gru"}, data={"name": "digits"})])
    assert found.axis == joined.EXECUTION


def test_an_execution_with_other_numbers_of_replicas_is_said_to_be_left_out_of_the_answer():
    """It is the best of the three, and has no partners to be compared with replica by replica."""
    fewer = named("b", -0.1, replicas={"count": 4})
    for record in fewer.records:
        record["replica_values"] = {k: v[:4] for k, v in record["replica_values"].items()}
    found = joined.join([named("a"), fewer, named("c", 0.1)])
    (told,) = [s for s in findings.answers(found.whole) if "lowest with" in s]
    assert "(without b: nothing to compare there)" in told
    assert all(m.certain for pair in found.comparisons[0].pairs for m in pair.moved)  # by Welch


def test_other_settings_in_no_order_have_no_trend():
    models = [{}, {"family": "gru", "width": 7}, {"family": "gru", "width": 9}]
    found = joined.join([named(f"e{k}", -k / 50, model=model) for k, model in enumerate(models)])
    assert (found.axis, found.trends) == (joined.EXECUTION, [])
    assert side_by_side.change_heading(found) == ""


def test_a_dataset_brings_other_settings_of_data_with_it():
    found = joined.join(
        [named("a"), named("b", data={"name": "csv:prices.csv", "target": "price"})]
    )
    assert found.axis == "data.name"


def test_what_one_fixes_matches_what_the_other_sweeps():
    """A sweeps dropout at lr 0.01; B sweeps both."""
    a = named("a", training={"lr": 0.01})
    b = named("b", axes={**DROPOUT, "training.lr": [0.01, 0.1]}, training={"steps": 5})
    found = joined.join([a, b])
    assert len(found.comparisons[0].pairs) == 3
    assert {r["params"]["training.lr"] for r in found.comparisons[0].only_second} == {0.1}
    whole = found.whole
    assert {r["params"]["training.lr"] for r in whole.records[:3]} == {0.01}


def test_whole_numbers_and_decimals_match():
    a = named("a", axes={"model.dropout": [0, 1]})
    b = named("b", axes={"model.dropout": [0.0, 1.0]}, training={"steps": 5})
    found = joined.join([a, b])
    assert len(found.comparisons[0].pairs) == 2
    assert len({repr(r["params"]["model.dropout"]) for r in found.whole.records}) == 2


def test_what_cannot_be_matched_is_refused_with_what_each_sweeps():
    with pytest.raises(StudyError) as refused:
        joined.join([named("a"), named("b"), named("c", axes={"training.lr": [0.1, 0.2]})])
    told = str(refused.value)
    assert told.startswith("c: has no configuration in common with a\n")
    assert "a has model.dropout 0, 0.2, 0.5; c has training.lr 0.1, 0.2" in told


def test_another_task_is_refused():
    other = named("b")
    for record in other.records:
        record["task"] = "regression"
    with pytest.raises(StudyError, match="b: is a regression and a a classification"):
        joined.join([named("a"), other])


def test_a_page_of_an_execution_and_itself_is_refused():
    with pytest.raises(StudyError, match="a: is named twice"):
        _ = joined.join([named("a"), named("a")]).whole


def test_the_page_tells_matched_settings_and_keeps_each_trial():
    some = [named("a"), named("b", -0.02, model={"family": "gru"})]
    found = joined.join(some)
    whole = found.whole
    page = report.page(whole, [], report_joined.parts(found))
    assert "What does the family change?" in page
    assert page.count('scope="rowgroup"') == 3
    assert "trial 1 of b" in page
    assert "engram next" not in page
    assert whole.arrays(whole.records[4]).keys() == some[1].arrays(some[1].records[1]).keys()
    assert "&lt;i&gt;no&lt;/i&gt;" in report.page(
        (lost := joined.join([named("a"), named("<i>no</i>")])).whole,
        [],
        report_joined.parts(lost),
    )


def test_what_a_table_leaves_out_is_said():
    axes = {"training.lr": [k / 1000 for k in range(1, 24)]}
    found = joined.join([named("a", axes=axes), named("b", axes=axes)])
    for told in (side_by_side.text(found), side_by_side.markdown(found)):
        assert "3 more configurations; --format json has all" in told
    few = side_by_side.markdown(joined.join([named("a"), named("b")]))
    assert "more configurations" not in few


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_the_table_fits(width):
    found = joined.join(
        [named("a"), named("b"), named("c"), named("an-execution-with-a-long-name")]
    )
    assert max(map(len, side_by_side.text(found, width).splitlines())) <= width


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


def test_real_executions_of_two_families_are_compared_and_make_one_page(finished_study, tmp_path):
    home = tmp_path / "runs"
    shutil.copytree(finished_study.home, home)
    other = ("--name", "gru", "--set", "model.family=gru", "--set", "training.epochs=2")
    done = engram("run", str(finished_study.study), *other, home=home)
    assert done.returncode == 0, done.stdout + done.stderr
    told = engram("compare", "small", "gru", home=home)
    assert told.returncode == 0, told.stderr
    assert re.search(r"configuration +measure +feedforward +gru +change", told.stdout)
    assert "study changed: model.family: feedforward → gru; training.epochs: 8 → 2" in told.stdout
    page = engram("report", "small", "gru", home=home)
    assert page.returncode == 0, page.stderr
    path = Path(page.stdout.strip())
    assert path == home / "comparisons" / "small+gru.html"
    assert "What does the family change?" in path.read_text()
    twice = engram("report", "small", "small", home=home)
    assert (twice.returncode, twice.stdout) == (2, "")
    assert "small: is named twice" in twice.stderr
