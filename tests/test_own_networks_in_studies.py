"""A person's class in a study: only what is said is passed, options are checked, refusals help."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from engram.data import catalog
from engram.models import start
from engram.models.config import ModelConfig
from engram.models.families import ModelError
from engram.models.family import build, built_with
from engram.problems import StudyError
from engram.sweeps.cluster import bundle
from engram.sweeps.running import estimate, plan
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.loading import load
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import measuring, preparing

CODE = """
from typing import Literal

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, shape, outputs, width: int = 24, heads: int = 2,
                 norm: Literal["layer", "none"] = "none", dropout: float = 0.3):
        super().__init__()
        self.body = nn.Linear(shape[0], width)
        self.norm = nn.LayerNorm(width) if norm == "layer" else nn.Identity()
        self.drop = nn.Dropout(dropout)
        self.head = nn.Linear(width, outputs)

    def forward(self, x):
        return self.head(self.drop(torch.relu(self.norm(self.body(x)))))


class Dictionary(Net):
    def forward(self, x):
        return {"logits": super().forward(x)}


class Broken(Net):
    def forward(self, x):
        return self.head(x)


def flat(inputs):
    return inputs.sum()


def noisy(inputs):
    return inputs + 0.1 * torch.randn_like(inputs)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch):
    (tmp_path / "their_net.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "their_net", raising=False)
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path / "runs"))
    return tmp_path


def study(**sections) -> dict:
    base = {"name": "own", "data": {"train_size": 100}, "training": {"steps": 6, "batch_size": 25}}
    return {**base, "model": {"family": "their_net:Net"}, "replicas": {"count": 2}, **sections}


def test_a_key_that_is_neither_set_nor_swept_is_left_to_the_class(home):
    made = load(study(sweep={"model.width": [8, 16]}))
    for point in made.grid():
        config = made.configure(point)
        again = Configuration(**config.model_dump())  # as it travels to a worker
        for one in (config, again):
            built = built_with(one.model, (40,), None)
            assert built == {
                "width": point["model.width"],
                "heads": 2,
                "norm": "none",
                "dropout": 0.3,
            }
        assert again.hash == config.hash
        assert "model.dropout" not in config.dotted()
    said = load(study(model={"family": "their_net:Net", "dropout": 0.0}))
    assert built_with(said.model, (40,), None)["dropout"] == 0.0
    assert said.configure().hash != load(study()).configure().hash


def test_options_are_keys_like_any_other(home):
    swept = load(
        study(sweep={"model.options.heads": [2, 4], "model.options.norm": ["layer", "none"]}),
        data=True,
    )
    configurations = [swept.configure(point) for point in swept.grid()]
    assert len({c.hash for c in configurations}) == 4
    assert configurations[-1].dotted()["model.options.heads"] == 4
    assert isinstance(build(configurations[0].model, (40,), 10).norm, torch.nn.LayerNorm)
    drawn = load(
        study(
            search={"sampler": "random"}, sweep={"model.options.dropout": {"uniform": [0.0, 0.9]}}
        )
    )
    assert drawn.configure({"model.options.dropout": 0.25}).model.options == {"dropout": 0.25}


WRONG = {
    "an option that is misspelled": ({"model": {"options": {"head": 4}}}, "did you mean 'heads'"),
    "an option of another type": ({"sweep": {"model.options.heads": [2, "two"]}}, "wants int"),
    "an option that is not listed": ({"model": {"options": {"norm": "batch"}}}, "Literal"),
    "a key that the class does not take": ({"model": {"depth": 3}}, "it takes width, heads"),
    "an optimizer's option": (
        {"training": {"options": {"nesterovv": True}}},
        "takes no such argument",
    ),
    "an optimizer": ({"training": {"optimizer": "adamx"}}, "did you mean 'adam'"),
    "a loss": ({"training": {"loss": "their_net:nothing"}}, "training.loss"),
    "a pattern": ({"model": {"freeze": ["backbone.*"]}}, "matches no parameter"),
    "a start": ({"model": {"start": "nowhere.pt"}}, "is no file"),
    "a dict": ({"model": {"family": "their_net:Dictionary"}}, "outputs['logits']"),
    "a wrong size": (
        {"model": {"family": "their_net:Broken"}},
        "their_net.py:",
    ),
    "an augmentation": ({"data": {"augmentation": "their_net:flat"}}, "to keep their shape"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_refused_when_the_study_is_read(home, wrong):
    sections, words = WRONG[wrong]
    base = study()
    for section, values in sections.items():
        base[section] = {**base.get(section, {}), **values}
    with pytest.raises(StudyError) as error:
        load(base, data=True)
    assert words in str(error.value)
    if wrong == "a wrong size":
        assert "return self.head(x)" in str(error.value)
    assert "Traceback" not in str(error.value)


def trained(home, **model):
    """A trial of the study with these keys of `model`, at its end."""
    made = load(study(model={"family": "their_net:Net", **model}), data=True)
    running = preparing.prepare(made.configure(), catalog.load(made.data), torch.device("cpu"))
    while not running.trainer.finished:
        running.advance()
    return running


def test_fine_tuning_starts_every_replica_from_one_file_and_freezes(home):
    body = build(ModelConfig(family="their_net:Net"), (40,), 3)  # another number of classes
    torch.save(body.state_dict() | {"old.bias": torch.zeros(3)}, "start.pt")
    running = trained(home, start="start.pt", freeze=["body.*"])
    assert len(str(running.configuration.dotted()["model.start"]).rpartition("@")[2]) == 12
    cohort = running.trainer.cohort
    for replica in range(2):
        assert torch.equal(cohort.parameters["body.weight"][replica].detach(), body.body.weight)
    assert not torch.equal(cohort.parameters["head.weight"][0], cohort.parameters["head.weight"][1])
    record = measuring.measure(running, MeasuresConfig()).record
    assert record["way"] in ("vmapped", "plain")
    assert record["built_with"]["dropout"] == 0.3
    said = (
        "starts from start.pt: 2 of 4 tensors; fresh in each replica: head.weight, head.bias; "
        "in the file and not used: old.bias"
    )
    assert f"network: {said}" in record["warnings"]
    planned = study(model={"family": "their_net:Net", "start": "start.pt", "freeze": ["body.*"]})
    assert said in "\n".join(plan.lines(estimate.make(load(planned, data=True))))
    torch.save(torch.nn.Linear(2, 2), "code.pt")  # a pickle that runs code is not read
    with pytest.raises(StudyError, match="no file of plain tensors"):
        load(study(model={"family": "their_net:Net", "start": "code.pt"}), data=True)


def test_any_named_part_may_begin_fresh_and_only_that(home):
    own = build(ModelConfig(family="their_net:Net"), (40,), 10)
    torch.save(own.state_dict(), "start.pt")
    cohort = trained(home, start="start.pt", fresh=["body.*"]).trainer.cohort
    assert any("fresh in each replica: body.weight, body.bias" in note for note in cohort.notes)
    torch.save({k: v for k, v in own.state_dict().items() if k != "body.bias"}, "start.pt")
    with pytest.raises(StudyError, match=r"body.bias is not in the file.*model.fresh: \[body"):
        trained(home, start="start.pt")
    trained(home, start="start.pt", fresh=["body.bias"])
    with pytest.raises(StudyError, match="'neck' matches nothing"):
        trained(home, start="start.pt", fresh=["neck"])
    with pytest.raises(StudyError, match=r"there is no model\.start"):
        trained(home, fresh=["body.*"])


def test_safetensors_are_read_or_the_package_is_named(home, monkeypatch):
    own = build(ModelConfig(family="their_net:Net"), (40,), 10)
    pytest.importorskip("safetensors.torch").save_file(own.state_dict(), "start.safetensors")
    config = ModelConfig(family="their_net:Net", start="start.safetensors")
    again = build(config, (40,), 10)
    assert torch.equal(again.body.weight, own.body.weight)
    start._read.cache_clear()
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(ModelError, match=r"pip install 'engram\[safetensors\]'"):
        build(config, (40,), 10)


def test_an_own_augmentation_is_the_replicas_own_and_the_same_again(home):
    made = load(study(data={"train_size": 100, "augmentation": "their_net:noisy"}), data=True)
    runs = []
    for _ in range(2):
        running = preparing.prepare(made.configure(), catalog.load(made.data), torch.device("cpu"))
        while not running.trainer.finished:
            running.advance()
        runs.append(running.trainer.cohort.state_dict()["body.weight"])
    assert torch.equal(*runs)


def test_weights_travel_with_the_study(home, tmp_path_factory, monkeypatch):
    torch.save(build(ModelConfig(family="their_net:Net"), (40,), 10).state_dict(), "start.pt")
    model = {"family": "their_net:Net", "start": "start.pt"}
    (home / "own.yaml").write_text(json.dumps(study(model=model)))
    sent = load(home / "own.yaml")
    box = tmp_path_factory.mktemp("elsewhere")
    bundle.pack(sent, box)
    (home / "start.pt").unlink()
    monkeypatch.chdir(box)
    monkeypatch.syspath_prepend(box)
    start._read.cache_clear()
    build(sent.model, (40,), 10)  # as a worker does, which knows the path that was
    there = load(box / bundle.STUDY)  # as the head of a cluster does
    assert there.configure().hash == sent.configure().hash
