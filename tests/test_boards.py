"""Boards and verdicts beside what they are made of: the same differences, groups and numbers, and each edge of a rank."""

from __future__ import annotations

import math

import numpy as np
import pytest

from engram.measures import comparison, intervals
from engram.sweeps.results import boards, columns, verdicts
from engram.sweeps.results import record as records_of
from engram.sweeps.results.verdicts import Verdicts, learns
from tests.test_leaderboard import record

RANDOM = np.random.default_rng(0)


def with_values(number: int, values: list[float] | None, by: str = "test_error") -> dict:
    """A trial with these values of one measure."""
    made = record(number, 0.3)
    if values is None:
        made["replica_values"].pop(by)
        return made
    found = intervals.t_interval(values)
    made["replica_values"][by] = list(values)
    made["measures"][by] = {"mean": found.mean, "low": found.low, "high": found.high}
    return made


def test_a_difference_is_paired_where_it_can_be():
    a, b = [0.3, 0.4, 0.35], [0.2, 0.25, 0.3]
    first, second, fewer = with_values(0, a), with_values(1, b), with_values(2, b[:2])
    assert records_of.difference(first, second, "test_error") == intervals.paired(a, b)
    assert records_of.difference(first, fewer, "test_error") == intervals.welch(a, b[:2])
    assert records_of.difference(first, with_values(3, None), "test_error") is None
    assert records_of.difference(with_values(3, None), first, "test_error") is None


def test_an_interval_of_a_record_has_its_ends_and_how_many_are_behind_it():
    one = with_values(0, [0.3, 0.4, 0.35])
    found = records_of.interval_of(one, "test_error")
    wanted = intervals.t_interval([0.3, 0.4, 0.35])
    assert (found.mean, found.low, found.high, found.n) == (wanted.mean, wanted.low, wanted.high, 3)
    one["measures"]["test_error"] = {"mean": 0.3, "low": None, "high": None}
    del one["replica_values"]["test_error"]
    bare = records_of.interval_of(one, "test_error")
    assert (bare.mean, bare.n, bare.known) == (0.3, 0, False)


def test_tie_groups_are_those_of_the_comparison():
    table = np.sort(RANDOM.normal(size=6))[:, None] + 0.3 * RANDOM.normal(size=(6, 8))
    table = table[np.argsort(table.mean(axis=1))]
    rows = [with_values(k, list(v)) for k, v in enumerate(table)]
    wanted = comparison.groups(table).tolist()
    assert max(wanted) > 1
    assert records_of.tie_groups(rows, "test_error") == wanted
    turned = [with_values(k, list(-v)) for k, v in enumerate(table)]
    assert records_of.tie_groups(turned, "test_error", -1.0) == wanted
    swapped = [rows[1], rows[0], *rows[2:]]
    groups = records_of.tie_groups(swapped, "test_error")
    assert groups == [wanted[1], wanted[0], *wanted[2:]], "out of order by rounding"
    ragged = [*rows[:5], with_values(5, list(table[5][:6]))]
    some = [list(v) for v in table[:5]] + [list(table[5][:6])]
    assert records_of.tie_groups(ragged, "test_error") == comparison.groups_of_pairs(some).tolist()
    missing = [*rows[:5], with_values(5, None)]
    some[5] = None  # type: ignore[call-overload]
    assert records_of.tie_groups(missing, "test_error") == comparison.groups_of_pairs(some).tolist()
    assert records_of.tie_groups([], "test_error") == []


def test_replicas_needed_are_those_of_the_board():
    own = np.tile([-0.01, 0.01], 4)
    first, second = with_values(0, [0.3] * 8), with_values(1, list(0.3 + 0.0099 + own))
    for compared in (1, 2, 5):
        level = 1 - 0.05 / max(1, compared * (compared - 1) // 2)
        wanted = intervals.replicas_needed(0.0099 + own, level)
        assert records_of.needed(second, first, "test_error", compared) == wanted
    assert records_of.needed(second, first, "test_error", 5) is not None
    assert records_of.needed(second, with_values(2, [0.3] * 7), "test_error", 5) is None
    assert records_of.needed(second, with_values(2, None), "test_error", 5) is None
    board = boards.rank([first, second, *(record(k, 0.4) for k in (2, 3, 4))], "test_error")
    assert board.needed == records_of.needed(second, first, "test_error", 5)
    assert board.more_replicas == (board.needed.estimate if board.needed else None)
    assert boards.rank([first], "test_error").more_replicas is None


def test_what_has_no_value_is_ranked_last_of_its_kind_and_not_compared():
    bare = record(0, 0.1)
    bare["measures"]["test_error"] = None
    endless = record(1, 0.2)
    endless["measures"]["test_error"]["mean"] = math.inf
    lost = record(4, 0.1, status="pruned")
    strange = record(5, 0.1, status="stopped by hand")
    board = boards.rank(
        [strange, lost, bare, endless, record(2, 0.4), record(3, 0.3)], "test_error"
    )
    assert [row.record["trial"] for row in board.rows] == [3, 2, 0, 1, 4, 5]
    assert [row.value is None for row in board.rows] == [False, False, True, True, True, True]
    assert [row.tie_group is None for row in board.rows] == [False, False, True, True, True, True]
    assert [row.place for row in board.rows[2:]] == ["3", "4", "5", "6"]
    assert [row.rank for row in board.rows] == [1, 2, 3, 4, 5, 6]
    assert boards.best_metrics([board]) == {"best_test_error": board.rows[0].value}
    assert boards.best_metrics([boards.rank([bare], "test_error"), boards.rank([], "bias2")]) == {}


def test_equal_trials_keep_their_numbers_order():
    same = [with_values(k, [0.3, 0.4, 0.35]) for k in (2, 0, 1)]
    assert [row.record["trial"] for row in boards.rank(same, "test_error").rows] == [0, 1, 2]


def test_where_the_highest_is_best_it_comes_first_and_groups_follow():
    rows = [with_values(k, list(0.1 * k + 0.001 * RANDOM.normal(size=6)), "f1") for k in range(3)]
    board = boards.rank(rows, "f1")
    assert [row.record["trial"] for row in board.rows] == [2, 1, 0]
    assert [row.tie_group for row in board.rows] == [1, 2, 3]
    assert (columns.superlative("f1", rows), columns.superlative("bias2", rows)) == (
        "highest",
        "lowest",
    )


def test_only_gaps_ask_whether_anything_was_learned():
    dull = record(0, 0.9, train=0.89)
    assert not learns(dull)
    for by in boards.GAPS:
        assert boards.class_of(dull, by) == 1
    assert boards.class_of(dull, "test_error") == 0
    assert boards.class_of({**dull, "status": "pruned"}, boards.GAPS[0]) == 2
    assert boards.class_of({**dull, "status": "no such"}, boards.GAPS[0]) == 5
    del dull["measures"]["train_error"]
    assert not learns(dull)
    noisy = {**record(0, 0.9, train=0.5), "noise_error": 0.3}
    assert learns(noisy)
    assert learns({**record(0, 0.9, train=0.65), "noise_error": 0.3})
    assert not learns(record(0, 0.9, train=0.7)), "0.7 is above three quarters of 0.9"
    assert learns({**record(0, 0.9, train=0.7), "noise_error": 0.3}), (
        "of which 0.3 are not to be learned"
    )
    random = {**record(0, 0.9, train=0.7), "noise_error": 0.3, "random_labels": True}
    assert not learns(random), "random labels can all be fitted"


def test_boards_of_a_study_and_the_column_that_selects():
    rows = [record(0, 0.3), record(1, 0.4)]
    for one in rows:
        one["measures"]["f1"] = one["measures"]["validation_f1"] = {
            "mean": 0.5,
            "low": None,
            "high": None,
        }
    names = [board.by for board in boards.boards_of(rows)]
    assert names == ["validation_error", "generalization_gap", "bias2", "variance", "f1"]
    assert boards.default_column(rows) == "validation_error"
    assert boards.default_column(rows, "f1") == "validation_f1"
    assert boards.default_column(rows, "auroc") == "validation_error"
    selected = [board.by for board in boards.boards_of(rows, "f1")]
    assert selected == ["validation_f1", "generalization_gap", "bias2", "variance"], (
        "f1 is beside it"
    )
    for one in rows:
        for name in ("validation_error", "validation_f1", "bias2"):
            one["measures"][name] = None
    assert boards.default_column(rows) == "test_error"
    assert "bias2" not in [board.by for board in boards.boards_of(rows)]
    known = boards.available([{**rows[0], "seconds": 1.0}])
    assert known[-2:] == ["parameters", "seconds"]
    assert "bias2" not in known


def test_the_front_is_of_completed_trials_with_all_objectives():
    def made(number: int, status: str = "completed", **selection: float) -> dict:
        return {**record(number, 0.3, status=status), "selection": selection}

    rows = [
        made(0, a=1.0, b=1.0),
        made(1, a=2.0, b=2.0),
        made(2, a=0.5, b=0.5),
        made(3, "diverged", a=0.0, b=9.0),
        made(4, a=0.0),
    ]
    found = boards.front(rows, {"a": "min", "b": "max"})
    assert [one["trial"] for one in found] == [2, 0, 1]
    assert [one["trial"] for one in boards.front(rows, {"a": "min"})] == [4]
    assert boards.front(rows[3:], {"b": "max"}) == []


def test_columns_are_known_from_the_table_or_from_records():
    facts = {"own_measures": {"mine": {"path": "metrics:mine", "better": "max"}}}
    assert columns.column("test_error").unit == "error"
    assert columns.column("nobody's").better == "min"
    assert columns.column("mine", [{}, {"own_measures": None}, facts]).better == "max"
    held = columns.column("validation_mine", [facts])
    assert (held.name, held.better) == ("validation_mine", "max")
    assert columns.higher_is_better("mine", [facts])
    assert not columns.higher_is_better("mine", [])
    assert columns.asked_for(["test_error", "f1", "validation_f1", "mine"], [facts]) == [
        "f1",
        "mine",
    ]
    assert columns.beside("bias2", []) == "bias2"
    assert columns.beside("validation_error", []) == "test_error"
    assert columns.beside("validation_loss", []) == "test_loss"
    assert columns.beside("validation_f1", []) == "f1"
    assert columns.beside("validation_mine", [facts]) == "mine"
    usual = columns.shown("test_error")
    assert [name for name, _ in columns.shown("bias2")] == [name for name, _ in usual]
    assert [name for name, _ in columns.shown("validation_f1")][:2] == ["validation_f1", "f1"]
    assert columns.shown("validation_f1")[2:] == usual
    assert columns.shown("f1")[0][1] == columns.column("f1").heading


def test_verdicts_are_given_where_selection_looked():
    rows = [record(0, 0.30), record(1, 0.33)]
    assert Verdicts(rows).by == "validation_error"
    rows[1]["replica_values"].pop("validation_error")
    assert Verdicts(rows).by == "test_error", "one has no values there"
    assert Verdicts([]).by == "test_error"
    assert Verdicts([record(0, 0.3, status="failed")]).of(record(0, 0.3, status="failed")) == (
        None,
        "",
    )
    bare = record(0, 0.3)
    bare["measures"]["test_error"] = None
    assert Verdicts([bare]).of(bare) == (None, "")
    alone = Verdicts([record(0, 0.30)])
    assert alone.of(record(0, 0.30))[1].endswith("(the only configuration under its conditions)")
    assert "the only" not in Verdicts(rows).of(rows[0])[1]


def test_conditions_are_the_data_but_for_augmentation():
    rows = [record(k, 0.3 + 0.1 * k) for k in range(4)]
    rows[0]["params"] = {"data.label_noise": 0.1}
    rows[1]["params"] = {"data.label_noise": 0.1, "model.width": 3, "data.train_size": 1000}
    rows[2]["params"] = {"data.label_noise": 0.1, "data.augmentation": "jitter"}
    rows[3]["params"] = {"data.label_noise": 0.2}
    judged = Verdicts(rows)
    assert [r["trial"] for r in judged.group(rows[0])] == [0, 1, 2]
    assert [r["trial"] for r in judged.group(rows[3])] == [3]
    assert judged.tied(rows[0])
    assert not judged.tied(rows[2])


def sizes(law, counts=(100, 200, 400, 800, 1600, 3200), replicas: int = 8, noise: float = 0.002):
    """One configuration at several sizes, with errors by a law of the size."""
    random = np.random.default_rng(3)
    found = []
    for k, n in enumerate(counts):
        values = law(n) * (1 + noise * random.normal(size=replicas))
        one = record(k, 0.3, size=n)
        one["params"] = {"data.train_size": n}
        for by in ("test_error", "validation_error"):
            one["replica_values"][by] = values.tolist()
            one["measures"][by]["mean"] = float(values.mean())
        found.append(one)
    return found


def test_beyond_the_largest_size_only_a_law_that_passed_says_that_more_helps():
    rows = sizes(lambda n: 3 * n**-0.5 + 0.1)
    last = Verdicts(rows).more_data(rows[-1])
    assert last is not None
    assert last.helps
    assert "its errors follow n to the power -0.49" in last.evidence
    assert last.evidence.endswith("at n = 6400")
    most = "is the most that was tried"
    assert untold(rows[:5], rows[4]) == f"n = 1,600 {most}", "five sizes are no law"
    rising = sizes(lambda n: 0.3 + 0.1 * math.log(n / 100))
    assert untold(rising, rising[-1]) == f"n = 3,200 {most}"
    twice = [*rows, {**rows[-1], "trial": 9, "params": {**rows[-1]["params"]}}]
    assert untold(twice, rows[-1]) == f"n = 3,200 {most}", "a size with two trials is no curve"


def untold(rows: list[dict], one: dict) -> str:
    """The evidence where nothing says whether more examples would help."""
    found = Verdicts(rows).more_data(one)
    assert found is not None
    assert found.helps is None
    return found.evidence


def test_a_larger_size_says_that_more_helps_where_the_error_is_clearly_lower():
    rows = sizes(lambda n: {100: 0.5, 200: 0.4, 400: 0.4}[n], (100, 200, 400), noise=0.02)
    judged = Verdicts(rows)
    first, second = judged.more_data(rows[0]), judged.more_data(rows[1])
    assert first is not None
    assert second is not None
    change = intervals.paired(
        rows[1]["replica_values"]["validation_error"],
        rows[0]["replica_values"]["validation_error"],
        1 - 0.05 / 2,
    )
    assert first.helps
    assert str(change) in first.evidence
    assert "at n = 200 the same configuration" in first.evidence
    assert not second.helps
    assert second.evidence.endswith("not clearly lower")
    fewer = {**rows[1], "replica_values": {**rows[1]["replica_values"]}}
    fewer["replica_values"]["validation_error"] = rows[1]["replica_values"]["validation_error"][:5]
    unpaired = Verdicts([rows[0], fewer]).more_data(rows[0])
    assert unpaired is not None
    change = intervals.welch(
        fewer["replica_values"]["validation_error"], rows[0]["replica_values"]["validation_error"]
    )
    assert str(change) in unpaired.evidence
    single = {**fewer, "replica_values": {**fewer["replica_values"]}}
    single["replica_values"]["validation_error"] = [0.4]
    assert Verdicts([rows[0], single]).more_data(rows[0]) is None


@pytest.mark.parametrize("recall", [[0.9, 0.1, None], [1.0, 0.0]])
def test_recall_of_classes_is_averaged_where_selection_looked(recall):
    one = record(0, 0.05, train=0.01)
    one["chance_error"] = 0.05
    one["class_recall"] = {"validation": recall, "test": [1.0, 1.0]}
    word, reason = Verdicts([one]).of(one)
    assert word == "did not learn"
    assert (
        "averaged over classes its held-out error is 0.5, that of a constant answer 0.5" in reason
    )


def test_noise_is_a_floor_of_validation_alone():
    def word(by: str) -> str | None:
        one = record(0, 0.41, train=0.4, noise=0.001)
        one["noise_error"] = 0.4
        for values in (one["replica_values"], one["measures"]):
            if by == "test_error":
                values.pop("validation_error")
        values = np.full(8, 0.41) + 0.001 * np.random.default_rng(0).normal(size=8)
        one["replica_values"][by] = values.tolist()
        one["measures"][by] = {"mean": 0.41, "low": 0.409, "high": 0.411}
        return Verdicts([one]).of(one)[0]

    assert word("validation_error") == "at the noise floor"
    assert word("test_error") != "at the noise floor"


def test_the_gap_where_replicas_cannot_be_paired():
    one = record(0, 0.3)
    paired = intervals.paired(
        one["replica_values"]["test_error"], one["replica_values"]["train_error"]
    )
    assert verdicts._gap(one, "test_error") == paired
    del one["replica_values"]["train_error"]
    gap = one["measures"]["generalization_gap"]
    found = verdicts._gap(one, "test_error")
    assert (found.mean, found.low, found.high) == (gap["mean"], gap["low"], gap["high"])
    means = [one["measures"][name]["mean"] for name in ("validation_error", "train_error")]
    bare = verdicts._gap(one, "validation_error")
    assert (bare.mean, bare.n, bare.known) == (pytest.approx(means[0] - means[1]), 1, False)


def test_sizes_with_unequal_replicas_are_no_law():
    rows = sizes(lambda n: 3 * n**-0.5 + 0.1)
    for by in ("validation_error", "test_error"):
        rows[2]["replica_values"][by] = rows[2]["replica_values"][by][:5]
    found = Verdicts(rows).more_data(rows[-1])
    assert found is not None
    assert (found.helps, found.evidence) == (None, "n = 3,200 is the most that was tried")


def test_an_entry_without_a_run_and_groups_that_are_whole_numbers():
    one = record(0, 0.3)
    del one["run_id"], one["parameters"], one["replicas"]
    (entry,) = boards.rank([one], "test_error").entries()
    assert (entry["run_id"], entry["parameters"], entry["replicas"]) == (None, None, None)
    assert (entry["rank"], entry["tie_group"], entry["trial"]) == (1, 1, 0)
    assert type(entry["tie_group"]) is int
    assert entry["params"] == one["params"]
    assert entry["measures"] == one["measures"]
