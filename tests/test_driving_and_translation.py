"""The examples of driving and translation: what is drawn and paired is right, and is learned."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from engram.data import catalog
from engram.sweeps.study.loading import load
from engram.sweeps.trial import preparing

needs_words = pytest.mark.skipif(
    find_spec("num2words") is None, reason="the package num2words is not here"
)
EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture
def beside(monkeypatch):
    """Make the modules of one example importable."""
    made = []

    def enter(name: str) -> Path:
        torch.set_num_threads(1)
        folder = EXAMPLES / name
        monkeypatch.syspath_prepend(str(folder))
        made.extend(path.stem for path in folder.glob("*.py"))
        return folder

    yield enter
    for module in made:
        sys.modules.pop(module, None)


def first(folder: Path, **changed):
    """The first trial of an example's study, shortened, and its data."""
    study = load(str(next(folder.glob("*.yaml"))), data=False)
    configuration = study.configure(study.grid()[0])
    training = configuration.training.model_copy(update={"epochs": changed.pop("epochs")})
    replicas = configuration.replicas.model_copy(update={"count": 2})
    data = configuration.data.model_copy(update=changed)
    configuration = configuration.model_copy(
        update={"training": training, "replicas": replicas, "data": data}
    )
    return configuration, catalog.load(configuration.data)


def test_a_road_is_drawn_from_what_the_angle_is_made_of(beside):
    beside("driving")
    import road

    data = road.drives(50)
    assert data["x"].shape == (50, road.HEIGHT, road.WIDTH)
    assert data["x"].min() >= 0
    assert data["x"].max() <= 1
    assert road._angle(0.0, 0.0, 0.0) == 0
    assert road._angle(0.01, 0.0, 0.0) > 0  # it bends to the left
    assert road._angle(0.0, 0.5, 0.0) > 0  # the car is right of the middle
    # Pure pursuit of an arc of radius 100 m, whose chord leaves at half of 12 / 100 radians.
    wanted = np.degrees(np.arctan(2 * 2.7 * np.sin(0.06) / 12))
    assert road._angle(0.01, 0.0, 0.0) == pytest.approx(wanted, rel=0.01)


def test_steering_by_the_picture_is_learned(beside, tmp_path):
    configuration, data = first(beside("driving"), epochs=6, train_size=400, pool_size=700)
    trial = preparing.prepare(configuration, data, torch.device("cpu"), scratch=tmp_path)
    while not trial.trainer.finished:
        trial.advance()
    answer = float(np.var(data.test_targets))  # always the mean
    assert trial.history[-1].error["test"].mean() < 0.75 * answer


@needs_words
def test_number_words_are_paired_and_no_number_is_on_two_sides(beside):
    folder = beside("translation")
    import number_words

    row = number_words.encoded("twelve", "zwö")
    assert "".join(number_words.LETTERS[k - 1] for k in row if k >= 0) == "twelvezwö"
    data = number_words.pairs()
    of_twelve = data["y"][data["number"] == 12]
    assert "".join(number_words.CLASSES[k] for k in of_twelve) == "zwölf."
    _, loaded = first(folder, epochs=1)
    assert loaded.classes == len(number_words.CLASSES)
    numbers = data["number"]
    assert not set(numbers[loaded.ids]) & set(numbers[loaded.test_ids])


@needs_words
def test_translation_is_learned_and_padding_has_no_part_in_it(beside, tmp_path):
    configuration, data = first(beside("translation"), epochs=4, train_size=1500, pool_size=3000)
    trial = preparing.prepare(configuration, data, torch.device("cpu"), scratch=tmp_path)
    while not trial.trainer.finished:
        trial.advance()
    wrong = trial.outputs("test").argmax(-1) != torch.from_numpy(data.test_targets)
    assert wrong.double().mean() < 0.4
    import number_words
    import translator

    net = translator.Translator(len(number_words.CLASSES), 8, 0.0)
    row = torch.from_numpy(number_words.encoded("twelve", "zw"))[None]
    alone = net(row)
    both = torch.cat([row, torch.from_numpy(number_words.encoded("one hundred", ""))[None]])
    torch.testing.assert_close(net(both)[:1], alone)
