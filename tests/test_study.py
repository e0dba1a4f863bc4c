"""Study files that are right: what is read, what a configuration is, what a grid holds."""

from __future__ import annotations

import pickle
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from engram.problems import StudyError
from engram.sweeps.state import paths
from engram.sweeps.study import loading, schema, study_file
from engram.sweeps.study.configuration import DEFAULT_TRIALS, Configuration, Study, label
from engram.sweeps.study.sections import SECTIONS, SWEPT_SECTIONS, Range, Scalar, Values
from engram.sweeps.study.space import HELD_FIXED, NOT_SWEPT

FULL = """\
name: dropout
question: Does dropout lower the generalization gap?
data:     {name: mnist1d, train_size: 2000, validation: 0.2, label_noise: 0.0, augmentation: none}
model:    {family: feedforward, width: 100, depth: 2, activation: relu, dropout: 0.0}
training: {optimizer: adamw, lr: 1.0e-2, weight_decay: 0.0, l1: 0.0, batch_size: 100, epochs: 40, early_stopping: null}
replicas: {count: 8, draw: subset, inits: 1}
sweep:
  model.dropout: [0.0, 0.2, 0.5]
  training.lr: {loguniform: [1.0e-4, 1.0e-1]}
search:    {sampler: random, trials: 9, objective: {validation_error: min}, seed: 0}
scheduler: {name: fifo}
resources: {cpu: 1, gpu: 0, concurrent: auto}
budget:    {hours: null, trials: null}
tracking:  {uri: null, experiment: null}
nightly:   {cron: "0 2 * * *", timezone: UTC, notify: null}
"""


@pytest.fixture
def write(tmp_path: Path):
    def load(text: str, *overrides: str) -> Study:
        path = tmp_path / "study.yaml"
        path.write_text(text)
        return loading.load(path, overrides)

    return load


def test_full_study_file_is_read(write):
    loaded = write(FULL)
    assert loaded.name == "dropout"
    assert loaded.sweep["model.dropout"] == Values(values=(0.0, 0.2, 0.5))
    assert loaded.sweep["training.lr"] == Range(distribution="loguniform", low=1e-4, high=1e-1)
    assert loaded.planned_trials() == 9
    assert loaded.text == FULL


def test_every_key_has_a_default_but_name(write):
    loaded = write("name: least")
    assert loaded.configure() == Configuration()
    assert loaded.grid() == [{}]
    assert loaded.planned_trials() == 1


def test_empty_sections_are_defaults(write):
    assert write("name: a\ndata:\nsweep:\nmodel: {}\n").grid() == [{}]


def test_a_study_is_frozen_and_survives_pickling(write):
    loaded = write(FULL)
    with pytest.raises(ValidationError):
        loaded.name = "other"
    with pytest.raises(ValidationError):
        loaded.model.dropout = 0.5
    copied = pickle.loads(pickle.dumps(loaded))
    assert copied == loaded
    assert copied.place("model.dropout", 0.2) == loaded.place("model.dropout", 0.2)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-2", 0.01),
        ("1E2", 100.0),
        (".5", 0.5),
        ("+3", 3.0),
        ("1_000", 1000.0),
        ("010", 10.0),
        ("5.", 5.0),
    ],
)
def test_numbers_are_read_as_in_yaml_1_2(text: str, value: float, write):
    assert write(f"name: a\ntraining: {{lr: {text}}}").training.lr == value


def test_words_that_yaml_1_1_would_turn_stay_words(write):
    assert write("name: no\nquestion: yes").question == "yes"
    assert write("name: 2026-11-23").name == "2026-11-23"


def test_short_names_stand_for_their_keys(write):
    loaded = write(
        "name: a\nsweep: {dropout: [0], learning_rate: [1], weight_decay: [0], dataset_size: [10]}"
    )
    assert list(loaded.sweep) == [
        "model.dropout",
        "training.lr",
        "training.weight_decay",
        "data.train_size",
    ]
    assert write("name: a", "lr=0.5", "train_size=7").configure().dotted()["data.train_size"] == 7


def test_every_key_of_data_model_and_training_can_be_swept_but_validation(write):
    for section in SWEPT_SECTIONS:
        for key, field in SECTIONS[section].model_fields.items():
            if f"{section}.{key}" not in (*HELD_FIXED, *NOT_SWEPT):
                value = field.default
                text = yaml.safe_dump({"name": "a", "sweep": {f"{section}.{key}": [value]}})
                if key == "momentum":
                    text += "training: {optimizer: sgd}\n"
                assert write(text).grid() == [{f"{section}.{key}": value}]


def test_null_and_text_are_values_of_a_sweep(write):
    loaded = write("name: a\nsweep: {training.clip: [null, 1], model.family: [gru, 'my.net:Net']}")
    assert [point["training.clip"] for point in loaded.grid()] == [None, None, 1.0, 1.0]


def test_grid_varies_the_last_key_fastest_and_never_changes(write):
    loaded = write("name: a\nsweep: {dropout: [0, 0.5], data.train_size: [10, 20]}")
    points = [tuple(point.values()) for point in loaded.grid()]
    assert points == [(0.0, 10), (0.0, 20), (0.5, 10), (0.5, 20)]
    assert write(loaded.text).grid() == loaded.grid()


def test_cases_tie_keys_together(write):
    loaded = write(
        "name: a\nmodel: {depth: 2}\nsweep:\n  cases:\n    - {model.family: feedforward, model.depth: 0}\n"
        "    - {model.family: gru, lr: 0.5}\n  train_size: [10, 20]\n"
    )
    assert loaded.planned_trials() == len(loaded.grid()) == 4
    first, last = loaded.grid()[0], loaded.grid()[-1]
    assert first == {
        "model.family": "feedforward",
        "model.depth": 0,
        "training.lr": 0.01,
        "data.train_size": 10,
    }
    assert last == {
        "model.family": "gru",
        "model.depth": 2,
        "training.lr": 0.5,
        "data.train_size": 20,
    }


@pytest.mark.parametrize(
    ("more", "trials"),
    [
        ("search: {sampler: random}", 6),  # a finite space is not drawn from twice
        ("search: {sampler: tpe, trials: 4}", 4),
        ("budget: {trials: 5}", 5),
        ("search: {trials: 2}", 2),
    ],
)
def test_planned_trials(more: str, trials: int, write):
    assert (
        write(f"name: a\nsweep: {{dropout: [0, 0.1, 0.2], lr: [1, 2]}}\n{more}").planned_trials()
        == trials
    )


def test_an_endless_search_has_a_default_or_a_budget(write):
    text = "name: a\nsearch: {sampler: tpe}\nsweep: {dropout: {uniform: [0, 1]}}\n"
    assert write(text).planned_trials() == DEFAULT_TRIALS
    assert write(text + "budget: {hours: 2}").planned_trials() is None


def test_hash_names_the_experiment_not_its_execution(write):
    loaded = write("name: a\nsweep: {dropout: [0, 0.5]}")
    base = loaded.configure()
    assert base.hash == write("name: b\ntraining: {lr: 1.0e-2}").configure({"dropout": 0}).hash
    assert base.hash == write("name: a\nreplicas: {stack: 1}").configure().hash
    others = [{"dropout": 0.5}, {"lr": 0.1}, {"data.label_noise": 0.1}]
    assert len({base.hash, *(loaded.configure(params).hash for params in others)}) == 4
    assert base.hash == "fd34c9e45574", "stored runs are found by it: say so in the changelog"


def test_configure_refuses_what_cannot_change(write):
    with pytest.raises(ValueError, match="cannot change"):
        write("name: a").configure({"replicas.count": 4})


def test_label():
    params: dict[str, Scalar] = {
        "model.dropout": 0.2,
        "training.lr": 0.01,
        "data.train_size": 2000,
        "model.family": "gru",
    }
    assert label(params) == "dropout 0.2 · lr 0.01 · n 2000 · gru"
    assert (
        label({"training.clip": None, "data.random_labels": True})
        == "clip off · random_labels true"
    )
    assert label({"model.start": "/home/me/nets/backbone.pt@ccb80872e663"}) == "start backbone.pt"
    assert label({}) == "base"


def test_overrides_replace_values(write):
    loaded = write(
        FULL,
        "training.epochs=3",
        "sweep.model.dropout=[0.1]",
        "sweep.lr=null",
        "search={sampler: grid}",
        "search.objective.bias2=min",
        "name=other",
    )
    assert (loaded.name, loaded.training.epochs, loaded.grid()) == (
        "other",
        3,
        [{"model.dropout": 0.1}],
    )
    assert loaded.search.objective == {"bias2": "min"}
    assert loaded.training.batch_size == 100


def test_places_lead_back_to_the_file(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    loaded = write("name: a\nmodel:\n  width: 3\nsweep:\n  dropout:\n    - 0\n    - 0.5\n")
    assert str(loaded.place("model.width")) == "study.yaml:3"
    assert str(loaded.place("model.dropout", 0.5)) == "study.yaml:7"
    assert str(loaded.place("training.lr")) == "study.yaml:1"


@pytest.mark.parametrize("name", study_file.shipped())
def test_shipped_study_loads_and_fits_its_data(name: str):
    loaded = loading.load(name, data=True)
    assert loaded.name == name
    assert loaded.question.endswith("?")
    planned = loaded.planned_trials()
    assert planned is not None
    assert planned <= 100


@pytest.mark.parametrize("name", study_file.shipped())
def test_schema_accepts_the_shipped_studies(name: str):
    # Read by our own reader: editors read YAML 1.2, PyYAML does not.
    root, _, _ = study_file.read(study_file.shipped()[name])
    jsonschema.Draft202012Validator(schema.schema()).validate(root.plain())


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"name": "a", "model": {"dropout": 1.2}},
        {"name": "a", "modle": {}},
        {"name": "a", "sweep": {"model.dropout": []}},
        {"name": "a", "sweep": {"model.dropout": [2]}},
        {"name": "a", "sweep": {"replicas.count": [2]}},
        {"name": "../a"},
    ],
)
def test_schema_refuses_wrong_studies(wrong: dict):
    assert not jsonschema.Draft202012Validator(schema.schema()).is_valid(wrong)


def test_schema_describes_every_key():
    sections = schema.schema()["properties"]
    for section, model in SECTIONS.items():
        for key in model.model_fields:
            assert sections[section]["properties"][key]["description"]


def test_the_page_on_study_files_is_in_step():
    assert schema.PAGE.read_text() == schema.page(), "run: python -m engram.sweeps.study.schema"


def test_names_cannot_leave_the_state_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path))
    assert paths.study_dir("a.b-c_1").is_relative_to(tmp_path)
    for name in ("..", "a/b", "", ".x", "/etc", "a\\b", "a\0b", "a" * 101, "-x"):
        with pytest.raises(StudyError):
            paths.study_dir(name)


def test_home_stays_where_it_was_first_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("ENGRAM_HOME", "somewhere_relative")
    first = paths.home()
    monkeypatch.chdir(tmp_path)
    assert paths.home() == first
    assert first.is_absolute()


KEYS = ["name", "sweep", "model.dropout", "lr", "cases", "uniform", "x", *SECTIONS]
KEYS += [key for model in SECTIONS.values() for key in model.model_fields]
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
TREES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=3)
    ),
    max_leaves=12,
)


def read(path: Path) -> Study | StudyError:
    try:
        return loading.load(path)
    except StudyError as error:
        return error


@settings(max_examples=150, deadline=None)
@given(tree=st.dictionaries(st.sampled_from(KEYS), TREES, max_size=5))
def test_any_yaml_is_a_study_or_a_study_error(tree: dict, tmp_path_factory):
    path = tmp_path_factory.mktemp("any") / "study.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    found = read(path)
    if isinstance(found, Study):
        assert found.configure().hash
    else:
        assert found.problems
        assert all(str(problem).startswith(str(path)) for problem in found.problems)


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_is_a_study_or_a_study_error(text: str, tmp_path_factory):
    path = tmp_path_factory.mktemp("any") / "study.yaml"
    path.write_bytes(text.encode("utf-8", errors="replace"))
    found = read(path)
    assert isinstance(found, Study) or found.problems
