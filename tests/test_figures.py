"""Pictures: only those that make sense, with the numbers of the leaderboard, legible without colour."""

from __future__ import annotations

import struct
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.colors import to_rgb

from engram.sweeps.results import tables
from engram.sweeps.results.evidence import Evidence
from engram.sweeps.results.figures import draw, ranking, size, style
from tests import fake_records

DROPOUT, SIZES = [0.0, 0.2, 0.5], [100, 200, 400, 800, 1600, 3200]


def names(evidence: Evidence) -> list[str]:
    return [picture.name for picture in draw.draw(evidence)]


@pytest.fixture(scope="module")
def grid() -> Evidence:
    return fake_records.evidence(
        {"model.dropout": DROPOUT, "training.lr": [0.001, 0.01, 0.1, 1.0]},
        lambda p: 0.4 + abs(p["model.dropout"] - 0.2) + 0.1 * p["training.lr"],
        {11: "diverged"},
    )


@pytest.fixture(scope="module")
def pictures(grid: Evidence) -> dict[str, style.Picture]:
    return {picture.name: picture for picture in draw.draw(grid)}


def test_a_grid_gets_every_picture_but_those_of_sizes_and_schedulers(pictures):
    assert list(pictures) == [
        "leaderboard",
        "learning_curves",
        "axis_model.dropout",
        "axis_training.lr",
        "map",
        "importance",
        "pareto",
        "memorization",
        "most_memorized",
        "membership_roc",
    ]


def test_one_trial_gets_no_comparisons():
    alone = names(fake_records.evidence({"model.dropout": [0.2]}))
    assert alone == ["learning_curves", "memorization", "most_memorized", "membership_roc"]


def test_without_arrays_what_needs_them_is_left_out():
    found = names(fake_records.evidence({"model.dropout": DROPOUT}, with_arrays=False))
    assert found == ["leaderboard", "axis_model.dropout"]


def test_where_nothing_completed_nothing_is_drawn():
    statuses = {0: "failed", 1: "diverged", 2: "failed"}
    assert names(fake_records.evidence({"model.dropout": DROPOUT}, statuses=statuses)) == []


def test_files_are_pictures(pictures):
    for picture in pictures.values():
        assert picture.png.startswith(b"\x89PNG")
        width, height = struct.unpack(">II", picture.png[16:24])
        assert width == pytest.approx(style.WIDTH * 150, abs=2)
        root = ElementTree.fromstring(picture.svg)
        _, top, _, tall = map(float, root.attrib["viewBox"].split())
        assert top + tall == pytest.approx(
            height / 150 * 72, abs=1
        )  # the same picture, cut below its title
        assert len(picture.png) < 250_000
        assert len(picture.svg) < 250_000


def test_nothing_in_a_picture_is_fetched(pictures):
    for picture in pictures.values():
        root = ElementTree.fromstring(picture.svg)
        for element in root.iter():
            for name, value in element.attrib.items():
                if name.endswith("href"):
                    assert value.startswith(("#", "data:")), value


def test_titles_say_the_numbers_of_the_leaderboard(grid, pictures):
    best = grid.best
    assert tables.cell(best, "validation_error") in pictures["map"].title
    assert tables.cell(best, "generalization_gap") in pictures["learning_curves"].title
    assert tables.cell(best, "memorization") in pictures["memorization"].title
    assert "dropout 0.2 · lr 0.001" in pictures["leaderboard"].title
    assert "Dropout" in pictures["importance"].title
    assert "rises" in pictures["axis_training.lr"].title


def test_titles_admit_what_is_not_separated():
    even = fake_records.evidence({"model.dropout": DROPOUT})
    found = {p.name: p for p in draw.draw(even)}
    assert found["leaderboard"].title.startswith("3 of 3 configurations tie")
    assert "does not clearly change" in found["axis_model.dropout"].title


def test_a_dataset_size_curve_extrapolates_only_where_the_fit_is_identified():
    falling = fake_records.evidence(
        {"data.train_size": SIZES}, lambda p: 3 * p["data.train_size"] ** -0.4 + 0.05
    )
    few = fake_records.evidence(
        {"data.train_size": SIZES[:4]}, lambda p: 3 * p["data.train_size"] ** -0.4
    )
    whole, part = ({p.name: p for p in draw.draw(e)}["dataset_size"] for e in (falling, few))
    assert "predicts" in whole.title
    assert "n = 12800" in whole.title
    assert "not identified: 4 sizes" in part.title
    (_, _, fit), *_ = size.size_fits(falling)
    assert fit.beta == pytest.approx(-0.4, abs=0.1)


def test_the_scheduler_gets_a_picture_where_there_is_one():
    statuses = {0: "pruned", 2: "pruned", 3: "diverged"}
    axes = {"training.lr": [0.001, 0.01, 0.1, 1.0]}
    with_asha = fake_records.evidence(
        axes, statuses=statuses, scheduler={"name": "asha"}, training={"epochs": 10}
    )
    found = {p.name: p for p in draw.draw(with_asha)}
    # 3 + 10 + 3 + 2 of 40 epochs were trained.
    assert found["stopping"].title.startswith(
        "2 of 4 trials were stopped by the scheduler and 1 diverged: 55 %"
    )
    assert "stopping" not in names(fake_records.evidence(axes, statuses=statuses))


def test_many_trials_are_drawn_as_one_curve_of_survivors():
    many = {"training.lr": np.geomspace(1e-4, 1, 60).tolist()}
    statuses = dict.fromkeys(range(0, 60, 2), "pruned")
    found = fake_records.evidence(
        many, statuses=statuses, scheduler={"name": "median"}, training={"epochs": 10}
    )
    drawn = {p.name: p for p in draw.draw(found)}
    assert drawn["stopping"].title.startswith("30 of 60 trials")
    assert {"leaderboard", "axis_training.lr"} <= set(drawn)


def test_several_objectives_get_their_own_pareto_front():
    sections = {
        "search": {"sampler": "nsga2", "objective": {"validation_error": "min", "seconds": "min"}}
    }
    found = fake_records.evidence(
        {"model.dropout": [0.0, 0.1, 0.2, 0.3]}, lambda p: 0.4 + p["model.dropout"], **sections
    )
    for record in found.records:
        record["selection"]["seconds"] = 5 - 10 * record["params"]["model.dropout"]
    drawn = {p.name: p for p in draw.draw(found)}
    assert (
        drawn["pareto"].title
        == "4 of 4 configurations are not beaten on both validation error and seconds"
    )


def test_the_front_is_what_no_point_beats():
    generator = np.random.default_rng(0)
    points = generator.random((40, 2)).tolist()
    front = ranking.pareto_front(points)
    for k, point in enumerate(points):
        beaten = any(q != point and q[0] <= point[0] and q[1] <= point[1] for q in points)
        assert (k in front) is not beaten


def test_points_too_many_to_be_told_apart_are_pixels_among_vectors():
    """A page of thousands of trials stays small enough for mail."""
    rates = [float(rate) for rate in np.geomspace(1e-4, 1e-1, 1200)]
    many = fake_records.evidence(
        {"training.lr": rates}, lambda p: 0.4 + p["training.lr"], with_arrays=False
    )
    svg = next(p.svg for p in draw.draw(many) if p.name == "axis_training.lr")
    assert len(svg) < 300_000
    assert b"<image" in svg
    assert svg.count(b"<text") + svg.count(b'<g id="text_') > 8  # axes and labels are not
    few = fake_records.evidence({"training.lr": rates[::100]}, with_arrays=False)
    assert all(b"<image" not in p.svg for p in draw.draw(few) if p.name.startswith("axis_"))


def test_a_picture_that_fails_is_left_out(grid, monkeypatch):
    def broken(evidence: Evidence) -> None:
        raise RuntimeError("no picture")

    monkeypatch.setattr(draw, "PICTURES", (broken, ranking.leaderboard))
    assert names(grid) == ["leaderboard"]


def test_neighbours_differ_without_colour():
    def grey(colour: str) -> float:
        red, green, blue = to_rgb(colour)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    for first, second in (
        (style.TRAIN, style.TEST),
        (style.BIAS, style.VARIANCE),
        (style.BIAS, style.MUTED),
    ):
        assert abs(grey(first) - grey(second)) > 0.04, (first, second)
    assert len(set(style.DASHES)) == len(set(style.MARKERS)) == len(style.SERIES)


def test_pictures_are_saved_as_files(pictures, tmp_path):
    paths = draw.save(list(pictures.values()), tmp_path / "figures")
    assert all(path.exists() and path.with_suffix(".svg").exists() for path in paths)


def test_a_finished_study_left_its_pictures(finished_study):
    folder = finished_study.home / "studies" / finished_study.name / "figures"
    assert {"leaderboard.png", "learning_curves.png", "axis_model.dropout.png", "map.svg"} <= {
        path.name for path in folder.iterdir()
    }
