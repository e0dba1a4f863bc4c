"""Groups in a study: intervals for new data count groups, of the test set, of validation and of the pool."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from engram.data import catalog
from engram.data.config import DataConfig
from engram.measures import intervals, new_data
from engram.sweeps.results import boards, tables
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import measuring, preparing

ROWS, GROUPS = 600, 40
CPU = torch.device("cpu")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Patients whose own way decides half of the label."""
    random = np.random.default_rng(0)
    patient = np.repeat(np.arange(GROUPS), ROWS // GROUPS)
    x = random.normal(size=(ROWS, 3))
    y = (x[:, 0] + 1.5 * random.normal(size=GROUPS)[patient] > 0).astype(int)
    rows = [f"{a},{b},{c},p{p},{label}" for (a, b, c), p, label in zip(x, patient, y, strict=True)]
    path = tmp_path / "visits.csv"
    path.write_text("\n".join(["a,b,c,patient,y", *rows]) + "\n")
    return path


def finish(path: Path, draw: str = "subset", **data) -> tuple[measuring.Result, preparing.Trial]:
    torch.set_num_threads(1)
    config = {"name": f"csv:{path}", "groups": "patient", "train_size": 120, **data}
    configuration = Configuration(
        data=config,
        training={"steps": 40, "batch_size": 20},
        replicas={"count": 4, "draw": draw},
        model={"width": 8, "depth": 1},
    )
    made = preparing.prepare(configuration, catalog.load(configuration.data), CPU)
    while not made.trainer.finished:
        made.advance()
    return measuring.measure(made, MeasuresConfig(own=("f1",))), made


@pytest.mark.parametrize("draw", ["subset", "bootstrap", "disjoint"])
def test_the_interval_for_new_data_counts_groups(table, draw):
    size = 90 if draw == "disjoint" else 120
    result, made = finish(table, draw, train_size=size)
    record, dataset = result.record, made.dataset
    patients = np.array([row.split(",")[3] for row in table.read_text().splitlines()[1:]])
    tested = patients[dataset.test_ids]
    assert record["test_groups"] == len(set(tested)) == len(np.unique(dataset.test_groups))
    wrong = made.outputs("test").argmax(-1).numpy() != dataset.test_targets
    pool = patients[dataset.ids[made.pool_ids]]
    taken = np.mean([len(set(patients[dataset.ids[own]])) for own in made.members])
    if draw == "bootstrap":
        taken = new_data.clusters_taken(made.members, dataset.division.groups)
        assert taken >= size / 15
    found = new_data.interval(
        intervals.t_interval(wrong.mean(axis=1)),
        new_data.pool_share(draw, taken, len(set(pool))),
        new_data.crossed(wrong, clusters=np.unique(tested, return_inverse=True)[1]),
        4,
    )
    ends = record["new_data"]["test_error"]
    assert (ends["low"], ends["high"]) == pytest.approx((found.low, found.high), abs=1e-6)
    one = wrong[:1]  # a patient's visits are alike
    by_rows, by_groups = new_data.crossed(one), new_data.crossed(one, clusters=dataset.test_groups)
    assert by_groups.variance > 1.5 * by_rows.variance
    for name in ("validation_error", "bias2", "variance_ce", "f1"):
        assert name in record["new_data"]
    held = np.setdiff1d(np.arange(len(dataset.targets)), made.pool_ids)
    np.testing.assert_array_equal(made.clusters_of("validation"), dataset.division.groups[held])
    np.testing.assert_array_equal(
        made.trainer.sets["validation"].targets.numpy(), dataset.targets[held]
    )


def test_groups_of_a_second_file_are_counted_and_a_cut_keeps_them(table, tmp_path):
    lines = table.read_text().splitlines()
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text("\n".join(lines[:451]) + "\n")
    second.write_text("\n".join([lines[0], *lines[451:]]) + "\n")
    config = DataConfig(name=f"csv:{first}", test=str(second), groups="patient", test_size=50)
    dataset = catalog.load(config)
    tested = np.array([line.split(",")[3] for line in lines[451:]])[dataset.test_ids]
    assert len(dataset.test_groups) == 50
    for name in set(tested):
        assert len(set(dataset.test_groups[tested == name])) == 1
    assert len(set(dataset.test_groups)) == len(set(tested))
    assert dataset.without_pool().test_groups is dataset.test_groups


def test_a_board_says_that_groups_were_counted(table):
    record = finish(table)[0].record
    record |= {"trial": 0, "params": {}}
    said = " ".join(tables.footnotes(boards.rank([record], "test_error"), 5))
    assert f"by the {record['test_groups']} groups of the test set, not its rows" in said
    plain = finish(table, groups=None)[0].record
    assert "test_groups" not in plain
    se = [r["test_sampling_se"]["squared_risk"] for r in (record, plain)]
    assert se[0] > 1.5 * se[1]
    assert all(map(math.isfinite, se))


def test_unknown_where_nobody_knows_the_groups_of_the_test_set(tmp_path):
    random = np.random.default_rng(1)
    x, y = random.normal(size=(120, 3)), np.arange(120) % 2
    path = tmp_path / "a.npz"
    np.savez(path, x=x, y=y, x_test=x[:40], y_test=y[:40], patient=np.arange(120) // 5)
    result, made = finish(path, train_size=40, name=f"npz:{path}")
    assert made.dataset.test_groups is None
    assert "new_data" not in result.record
