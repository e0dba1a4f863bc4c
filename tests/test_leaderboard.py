"""Ranks, tie groups and exports, on records whose order is known."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest

from engram.measures.intervals import t_interval
from engram.sweeps.results import boards, explorer, tables
from tests import fake_records


def record(
    trial: int,
    error: float,
    gap: float = 0.2,
    noise: float = 0.01,
    status: str = "completed",
    size: int = 1000,
    train: float = 0.1,
    replicas: int = 8,
) -> dict:
    """A trial whose replicas share their noise with every other trial's, as paired replicas do."""
    shared = np.random.default_rng(0).normal(0, 0.05, replicas)
    own = np.random.default_rng(trial + 1).normal(0, noise, replicas)
    values = {
        "test_error": error + shared + own,
        "validation_error": error + shared + own,
        "generalization_gap": gap + own,
        "train_error": np.full(replicas, train) + own / 10,
        "bias2": error / 2 + own,
        "variance": error / 3 + own,
    }
    found = {
        "trial": trial,
        "params": {"model.dropout": trial / 10},
        "status": status,
        "replicas": replicas,
        "parameters": 100,
        "train_examples": size,
        "chance_error": 0.9,
        "measures": {},
        "replica_values": {},
        "run_id": f"run{trial}",
    }
    if status == "completed":
        for name, each in values.items():
            interval = t_interval(each)
            found["measures"][name] = {
                "mean": interval.mean,
                "low": interval.low,
                "high": interval.high,
            }
            found["replica_values"][name] = each.tolist()
    return found


def test_ranks_by_the_mean_and_ties_by_replica():
    records = [record(0, 0.50), record(1, 0.30), record(2, 0.308), record(3, 0.40)]
    board = boards.rank(records, "test_error")
    assert [row.record["trial"] for row in board.rows] == [1, 2, 3, 0]
    assert [row.rank for row in board.rows] == [1, 2, 3, 4]
    assert [row.tie_group for row in board.rows] == [1, 1, 2, 3]
    assert [row.place for row in board.rows] == ["1", "=1", "3", "4"]


def test_a_noisy_row_ties_with_the_first_past_a_steady_one_that_does_not():
    records = [record(n, 0.30 + 0.001 * n, noise=0.003) for n in range(6)]
    records.append(record(6, 0.37, noise=0.003))
    records.append(record(7, 0.39, noise=0.2))
    mean = np.mean(records[7]["replica_values"]["test_error"])
    shift = 0.39 + 0.014 - mean  # its mean lies behind the steady one's
    for values in (records[7]["replica_values"], records[7]["measures"]):
        values["test_error"] = (
            [v + shift for v in values["test_error"]]
            if isinstance(values["test_error"], list)
            else {k: v + shift for k, v in values["test_error"].items()}
        )
    board = boards.rank(records, "test_error")
    assert [row.record["trial"] for row in board.rows[-2:]] == [6, 7]
    assert [row.tie_group for row in board.rows] == [1] * 6 + [2, 1]
    assert [row.place for row in board.rows[-2:]] == ["7", "=1"]
    assert tables.footnotes(board, None)[0].startswith("=N cannot be told from row N, the first")


def test_pairing_separates_what_unpaired_intervals_cannot():
    """Replica noise of 0.05 is shared; a difference of 0.02 shows only when replicas are paired."""
    a, b = record(0, 0.30, noise=0.002), record(1, 0.32, noise=0.002)
    ends = [r["measures"]["test_error"] for r in (a, b)]
    assert ends[0]["high"] > ends[1]["low"], "the intervals overlap"
    board = boards.rank([a, b], "test_error")
    assert [row.tie_group for row in board.rows] == [1, 2]
    assert board.needed is None, "they are separated"


def pair(effect: float, others: int) -> list[dict]:
    """Two trials whose paired differences have this t, and others a little behind."""
    base, noise = record(0, 0.3), np.tile([-1.0, 1.0], 4)
    second = record(1, 0.3)
    scale = 0.01
    values = np.array(base["replica_values"]["test_error"])
    shift = effect * scale * noise.std(ddof=1) / np.sqrt(8)
    second["replica_values"]["test_error"] = (values + scale * noise + shift).tolist()
    second["measures"]["test_error"]["mean"] = float(values.mean() + shift)
    return [base, second, *(record(2 + k, 0.335 + 0.002 * k) for k in range(others))]


def test_replicas_are_asked_for_where_something_shows_that_two_trials_differ():
    """Told apart alone (t = 2.6), but not on a board of seven; with t = 1 nothing shows it, and no number is given."""
    board = boards.rank(pair(2.6, 5), "test_error")
    assert board.rows[1].tie_group == 1
    assert board.needed is not None
    assert 0 < board.needed.low < board.needed.estimate < board.needed.high
    assert f"{board.needed} more replicas" in tables.footnotes(board, None)[0]
    assert boards.rank(pair(1.0, 5), "test_error").needed is None


def test_what_did_not_complete_comes_last_and_is_not_compared():
    records = [
        record(0, 0.1, status="failed"),
        record(1, 0.1, status="diverged"),
        record(2, 0.1, status="pruned"),
        record(3, 0.9),
    ]
    board = boards.rank(records, "test_error")
    assert [row.record["status"] for row in board.rows] == [
        "completed",
        "pruned",
        "diverged",
        "failed",
    ]
    assert [row.tie_group for row in board.rows] == [1, None, None, None]
    assert [row.verdict is None for row in board.rows] == [False, True, True, True]


def test_a_network_that_learned_nothing_does_not_win_by_its_gap():
    records = [record(0, 0.5, gap=0.4), record(1, 0.9, gap=0.0, train=0.89)]
    board = boards.rank(records, "generalization_gap")
    assert [row.record["trial"] for row in board.rows] == [0, 1]
    assert board.rows[1].tie_group is None
    assert boards.rank(records, "variance").rows[1].tie_group is not None


def test_verdicts_compare_within_one_dataset_size():
    records = [record(0, 0.5, gap=0.4), record(1, 0.15, gap=0.05, size=4000)]
    words = {r.record["trial"]: r.verdict for r in boards.rank(records, "test_error").rows}
    assert words[0] == "data-limited", "the best of its own size, whatever more data does"
    assert words[1] == "good"


def test_a_swept_noise_level_is_no_setting_to_be_worse_by():
    records = [record(0, 0.15, gap=0.05), record(1, 0.5, gap=0.4, train=0.4)]
    for one, noise in zip(records, (0.0, 0.4), strict=True):
        one["params"] = {"data.label_noise": noise}
        one["noise_error"] = noise
    assert [r.verdict for r in boards.rank(records, "test_error").rows] == [
        "good",
        "data-limited",  # beside the clean one it would be overfit
    ]
    augmented = [record(0, 0.15, gap=0.05), record(1, 0.5, gap=0.4)]
    for one, how in zip(augmented, ("none", "jitter"), strict=True):
        one["params"] = {"data.augmentation": how}
    assert [r.verdict for r in boards.rank(augmented, "test_error").rows] == ["good", "overfit"]


def sizes(errors: dict[int, float], **fixed: float) -> dict[int, tuple[str | None, str]]:
    """Verdicts and reasons of one configuration at several sizes."""
    records = []
    for n, (size, error) in enumerate(errors.items()):
        one = record(n, error, size=size, noise=0.003)
        one["params"] = {"data.train_size": size, **fixed}
        records.append(one)
    rows = boards.rank(records, "test_error").rows
    return {row.record["train_examples"]: (row.verdict, row.reason) for row in rows}


def test_a_verdict_says_which_gap_it_means():
    """Judged on validation, beside a gap of the test error with another value."""
    row = boards.rank([fake_records.record(0, {}, 0.5)], "validation_error").rows[0]
    assert "gap on validation 0.25" in row.reason


def test_more_data_is_said_to_help_only_where_larger_sizes_show_it():
    """Sample-wise double descent (Nakkiran 2019): the error peaks where examples equal parameters."""
    said = sizes({10: 0.60, 20: 0.55, 30: 0.70, 40: 0.85, 60: 0.55, 120: 0.30})
    assert {n: "more data helps" in reason for n, (_, reason) in said.items()} == {
        10: True,
        20: False,
        30: False,
        40: True,
        60: True,
        120: False,
    }
    assert said[30][0] == "inconclusive"
    assert "at n = 40 the same configuration has an error" in said[30][1]
    assert "is not known: n = 120 is the most that was tried" in said[120][1]
    assert "is not known: sweep data.train_size" in sizes({120: 0.30})[120][1]


def test_of_many_equal_trials_the_leader_is_never_and_hardly_any_overfit():
    overfit = 0
    for board in range(30):
        random = np.random.default_rng(board)
        records = [record(n, 0.3, gap=0.2, noise=0.0) for n in range(40)]
        for one in records:
            for name in ("validation_error", "test_error"):
                values = 0.3 + 0.05 * random.normal(size=8)
                one["replica_values"][name] = values.tolist()
                one["measures"][name]["mean"] = float(values.mean())
        rows = boards.rank(records, "validation_error").rows
        assert rows[0].verdict == "data-limited"
        overfit += any(row.verdict == "overfit" for row in rows)
    assert overfit <= 5  # 5 % of 30 are 1.5


def test_verdicts_look_where_selection_looked():
    """Best on validation, worse on test: the board's leader is not judged by what nobody chose by."""
    records = [record(0, 0.30), record(1, 0.33)]
    for one, error in zip(records, (0.40, 0.20), strict=True):
        shifted = np.array(one["replica_values"]["test_error"])
        shifted += error - shifted.mean()
        one["replica_values"]["test_error"] = shifted.tolist()
        one["measures"]["test_error"]["mean"] = error
    rows = boards.rank(records, "validation_error").rows
    assert [row.record["trial"] for row in rows] == [0, 1]
    assert [row.verdict for row in rows] == ["data-limited", "overfit"]
    assert [r.verdict for r in boards.rank(records, "test_error").rows] == [
        "overfit",
        "data-limited",
    ]


def test_order_of_records_does_not_matter():
    records = [record(n, 0.3 + 0.01 * (n % 4)) for n in range(8)]
    forward = boards.rank(records, "test_error").entries()
    backward = boards.rank(records[::-1], "test_error").entries()
    assert forward == backward


def test_json_has_the_keys_of_the_contract():
    board = boards.rank([record(0, 0.3), record(1, 0.4, status="diverged")], "test_error")
    entries = json.loads(tables.to_json(board))
    keys = {
        "rank",
        "tie_group",
        "trial",
        "run_id",
        "status",
        "verdict",
        "params",
        "replicas",
        "parameters",
        "measures",
    }
    assert all(set(entry) == keys for entry in entries)
    assert set(entries[0]["measures"]["test_error"]) == {"mean", "low", "high"}
    assert entries[1]["measures"] == {}


def test_csv_and_markdown_show_the_same_numbers_as_json():
    board = boards.rank([record(0, 0.3), record(1, 0.4)], "variance")
    rows = list(csv.DictReader(io.StringIO(tables.to_csv(board))))
    for row, entry in zip(rows, board.entries(), strict=True):
        assert float(row["variance"]) == entry["measures"]["variance"]["mean"]
        assert float(row["variance_high"]) == entry["measures"]["variance"]["high"]
        assert int(row["trial"]) == entry["trial"]
    lines = tables.markdown(board).splitlines()
    assert len(lines) == 4
    for line, entry in zip(lines[2:], board.entries(), strict=True):
        assert f"{entry['measures']['variance']['mean']:.3f} ±" in line


def test_single_replicas_are_shown_without_intervals_and_nobody_is_separated():
    records = [record(n, 0.3 + n / 10, replicas=1) for n in range(2)]
    for r in records:
        for measure in r["measures"].values():
            measure["low"] = measure["high"] = None
    board = boards.rank(records, "test_error")
    assert [row.tie_group for row in board.rows] == [1, 1]
    assert {row.verdict for row in board.rows} <= {"inconclusive", "underfit", "overfit"}


@pytest.mark.parametrize("column", ["parameters", "seconds"])
def test_plain_columns_can_be_ranked_by(column):
    records = [{**record(n, 0.3), column: 10 - n} for n in range(3)]
    assert [row.value for row in boards.rank(records, column).rows] == [8, 9, 10]


def test_the_table_names_its_interval_and_tells_the_other():
    records = [record(0, 0.3), record(1, 0.4)]
    told = "± is a 95 % interval for retraining"
    assert any(told in note for note in tables.footnotes(boards.rank(records, "test_error"), None))
    records[0]["new_data"] = {"test_error": {"low": 0.25, "high": 0.35}}
    board = boards.rank(records, "test_error")
    assert any(
        "row 1 has a test error of 0.250 to 0.350" in n for n in tables.footnotes(board, None)
    )
    row, other = csv.DictReader(io.StringIO(tables.to_csv(board)))
    assert (row["test_error_new_data_low"], row["test_error_new_data_high"]) == ("0.25", "0.35")
    assert other["test_error_new_data_low"] == ""


def test_a_board_of_a_measure_that_depends_on_replicas_says_for_how_many():
    records = [record(0, 0.3), record(1, 0.4)]
    for each, count in zip(records, (8, 4), strict=True):
        each["replicas"] = count
        each["measures"]["ensemble_error"] = each["measures"]["test_error"]
    notes = " ".join(tables.footnotes(boards.rank(records, "ensemble_error"), None))
    assert "the ensemble error depends on how many replicas there are: given for 4 and 8" in notes
    assert "cannot be compared by it" in notes


@pytest.mark.parametrize(
    ("task", "name", "ends", "told"),
    [
        ("classification", "test_error", (-0.125, 0.5), "0.000 to 0.500"),
        ("classification", "test_error", (0.25, 1.5), "0.250 to 1.000"),
        ("classification", "generalization_gap", (-1.5, 0.5), "-1.000 to 0.500"),
        ("classification", "membership_auc", (0.5, 1.25), "0.500 to 1.000"),
        ("classification", "f1", (-1.0, 2.0), "0.000 to 1.000"),
        ("classification", "bias2", (-0.125, 1.5), "-0.125 to 1.500"),  # an estimate that may be
        ("classification", "test_loss", (0.5, 2.5), "0.500 to 2.500"),
        ("regression", "test_error", (-3.0, 40.0), "0.000 to 40.000"),
        ("regression", "mean_absolute_error", (3.0, 40.0), "3.000 to 40.000"),
    ],
)
def test_an_interval_is_shown_no_farther_than_a_measure_can_be(task, name, ends, told):
    low, high = ends
    found = record(0, 0.2) | {"task": task, "new_data": {name: {"low": low, "high": high}}}
    found["measures"].setdefault(name, {"mean": sum(ends) / 2, "low": low, "high": high})
    assert tables.new_data(found, name) == told
    (row,) = boards.rank([found], "test_error").rows
    columns, (values,) = tables.flat(boards.Board("test_error", [row], None))
    there = dict(zip(columns, values, strict=True))
    assert (there[f"{name}_new_data_low"], there[f"{name}_new_data_high"]) == ends  # for arithmetic


def test_bars_and_whiskers_end_where_a_measure_does():
    from engram.sweeps.results.figures import style

    found = record(0, 0.02) | {"task": "classification"}
    found["measures"]["test_error"] = {"mean": 0.02, "low": -0.03, "high": 0.07}
    assert style.bars([found], "test_error")[:, 0] == pytest.approx([0.02, 0.05])
    assert explorer._interval(found, "test_error", found["measures"]["test_error"]) == [
        *(0.02, 0.0, 0.07),
        0.05,
    ]
    assert tables.cell(found, "test_error") == "0.020 ± 0.050"


def test_mlflow_gets_the_best_rows_of_a_large_board_and_all_of_a_small_one(tmp_path, monkeypatch):
    board = boards.rank([record(n, 0.1 + n / 10) for n in range(5)], "validation_error")
    for most, expected in ((3, [0, 1, 2]), (5, [0, 1, 2, 3, 4])):
        monkeypatch.setattr(tables, "IN_MLFLOW", most)
        (path,) = tables.write_tables([board], tmp_path)
        table = json.loads(path.read_text())
        trial = table["columns"].index("trial")
        assert [row[trial] for row in table["data"]] == expected
    assert len(tables.to_csv(board).splitlines()) == 1 + 5
