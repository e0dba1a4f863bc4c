"""No picture has texts over each other or series that look alike, at 6, 60 and 200 trials, with long names."""

from __future__ import annotations

import itertools

import pytest
from matplotlib import rc_context
from matplotlib.figure import Figure

from engram.sweeps.claims import catalog, pictures
from engram.sweeps.results.evidence import Evidence
from engram.sweeps.results.figures import draw
from engram.sweeps.results.figures.style import RC, Drawing, lay_out
from engram.sweeps.study.loading import load
from tests import fake_records
from tests.drawn import faults
from tests.test_answers import planted

LONG = [f"my_own_package.networks.residual:ResidualNetworkWithAttention{k}" for k in range(5)]


def few() -> Evidence:
    return fake_records.evidence(
        {"model.dropout": [0.0, 0.2, 0.5], "data.train_size": [1000, 2500]},
        lambda p: 0.4 + abs(p["model.dropout"] - 0.2) - p["data.train_size"] / 1e4,
    )


def sizes() -> Evidence:
    return fake_records.evidence(
        {
            "training.weight_decay": [0.0, 0.1, 1.0],
            "data.train_size": [100, 200, 400, 800, 1200, 1600, 2400, 3200],
        },
        lambda p: 3 * p["data.train_size"] ** -0.4 + 0.05 + p["training.weight_decay"] / 50,
    )


def sixty() -> Evidence:
    return fake_records.evidence(
        {
            "model.family": LONG[:3],
            "model.dropout": [0.0, 0.1, 0.2, 0.3, 0.5],
            "training.optimizer": ["torch.optim:Adadelta", "adamw"],
            "training.lr": [0.001, 0.01],
        },
        lambda p: 0.4 + abs(p["model.dropout"] - 0.2) + p["training.lr"],
        {7: "pruned", 9: "diverged"},
        scheduler={"name": "asha"},
        training={"epochs": 10},
    )


def two_hundred() -> Evidence:
    return fake_records.evidence(
        {
            "model.dropout": [k / 50 for k in range(20)],
            "training.lr": [0.0001 * 2**k for k in range(10)],
        },
        lambda p: 0.4 + abs(p["model.dropout"] - 0.2) + p["training.lr"],
    )


MADE = {"6": few, "sizes": sizes, "60": sixty, "200": two_hundred}


def drawings(evidence: Evidence) -> list[Drawing]:
    made = [make(evidence) for make in draw.PICTURES]
    return list(itertools.chain(*(m if isinstance(m, list) else [m] for m in made if m)))


@pytest.mark.parametrize("name", MADE)
def test_no_text_lies_over_another_and_no_series_look_alike(name):
    with rc_context(RC):
        for drawing in drawings(MADE[name]()):
            lay_out(drawing)
            assert faults(drawing.figure) == [], drawing.name


# -- the finder finds -------------------------------------------------------------------------------


def test_the_finder_finds_what_is_planted():
    figure = Figure()
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color="#0072B2", label="one")
    left.plot([0, 1], [1, 0], color="#0072B3", label="two")
    left.legend(loc="center")
    left.text(0.5, 0.1, "first text")
    left.text(0.52, 0.1, "second text")
    right.plot([0, 1], [0, 1])
    left.text(1.5, 0.9, "in the other panel")
    found = " ".join(faults(figure))
    assert "'first text' lies over 'second text'" in found
    assert "'one' and 'two' look alike" in found
    assert "'in the other panel' lies in another panel" in found


def test_the_finder_lets_a_plain_figure_be():
    figure = Figure()
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], "-", color="#0072B2", label="one")
    axes.plot([0, 1], [0, 0.9], "--", color="#D55E00", label="two")
    axes.legend(loc="upper left")
    axes.set_xlabel("x")
    axes.set_title("title")
    assert faults(figure) == []


# -- the gallery --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(catalog.CLAIMS))
def test_the_gallery_has_no_text_over_another_and_no_series_alike(name):
    """Each claim's picture, of planted values for the measures that it shows, on the whole grid of its study."""
    with rc_context(RC):
        made = pictures._made(catalog.row(name).picture, _planted(name))
        if made is None:
            pytest.skip("its picture wants arrays that only training makes")
        title = f"What {name} shows, in a sentence of some length"
        drawing = Drawing(name, title, made[1], made[0])
        lay_out(drawing)
        assert faults(drawing.figure) == []


def _planted(name: str) -> Evidence:
    found = planted(load(name), lambda params, measure: 0.5 + len(measure) / 100)
    wanted = [
        m for panel in getattr(catalog.row(name).picture, "panels", ()) for m in panel.measures
    ]
    for record in found.records:
        for k, measure in enumerate(wanted):
            mean = 0.3 + 0.1 * k + 0.01 * record["trial"]
            ends = {"mean": mean, "low": mean - 0.02, "high": mean + 0.02}
            record["measures"].setdefault(measure, ends)
    return found
