"""A measure, a claim, a family from outside: each is a row or two, and everything else is made from it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from rich.console import Console

from engram.measures import catalog, page
from engram.measures.measure import TEST, Measure
from engram.models import families
from engram.problems import StudyError
from engram.sweeps.claims import catalog as claims
from engram.sweeps.claims import gallery
from engram.sweeps.claims.answer import Answer, by, measure
from engram.sweeps.claims.panels import GAP, Along
from engram.sweeps.claims.table import markdown
from engram.sweeps.cluster import bundle
from engram.sweeps.commands import line
from engram.sweeps.results import report, terminal
from engram.sweeps.results.evidence import Evidence
from engram.sweeps.study import loading, own_code, schema, study_file
from engram.sweeps.study.configuration import Study
from engram.sweeps.trial import datasets, measuring, preparing
from tests import fake_records

ROOT = Path(__file__).parent.parent
QUICK = {
    "name": "quick",
    "question": "Which width?",
    "data": {"name": "digits", "train_size": 200},
    "training": {"epochs": 2},
    "replicas": {"count": 3},
    "sweep": {"model.width": [4, 32]},
}


@pytest.fixture(autouse=True)
def home(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path_factory.getbasetemp() / "outside"))


def run(study: Study) -> Evidence:
    """What a run of the study would leave, without Ray."""
    data = datasets.load(study)
    records = []
    for number, params in enumerate(study.grid()):
        configuration = study.configure(params)
        dataset = data[datasets.key(configuration.data)]
        made = preparing.prepare(configuration, dataset, torch.device("cpu"), wanted=study.measured)
        while not made.trainer.finished:
            made.advance()
        found = json.loads(
            json.dumps(measuring.measure(made, study.measured).record, allow_nan=False)
        )
        records.append(
            {**found, "trial": number, "params": params, "config_hash": configuration.hash}
        )
    info = {"definition": study.model_dump(mode="json"), "question": study.question}
    return Evidence(study.name, records, info)


def shown(evidence: Evidence, by: str | None, capsys) -> str:
    """What `leaderboard --by` prints."""
    execution = SimpleNamespace(name=evidence.name, records=evidence.records, info=evidence.info)
    terminal.print_boards(execution, by, None, "table")  # type: ignore[arg-type]
    return capsys.readouterr().out


# -- a measure --------------------------------------------------------------------------------------


def certainty(probabilities, labels):
    """Mean probability of the likeliest class: [R, N, C] -> [R]."""
    return probabilities.max(-1).mean(-1)


ROW = Measure(
    "certainty", "certainty", "share", "max", TEST, "mean probability of the likeliest class",
    objective=True, of=certainty,
)  # fmt: skip


def test_a_measure_is_a_function_and_a_row(monkeypatch, capsys):
    monkeypatch.setitem(catalog.MEASURES, ROW.name, ROW)
    # The study: a search may select by it, and its schema knows so.
    study = loading.load({**QUICK, "search": {"objective": {"certainty": "max"}}}, data=True)
    objective = schema.schema()["properties"]["search"]["properties"]["objective"]
    assert objective["properties"]["certainty"]["description"] == ROW.sentence
    # The record: with an interval on test, and on validation to select by.
    evidence = run(study)
    for record in evidence.records:
        assert (
            0.1 <= record["measures"]["certainty"]["low"] <= record["measures"]["certainty"]["high"]
        )
        assert len(record["replica_values"]["certainty"]) == 3
        assert record["selection"]["certainty"] == pytest.approx(
            record["measures"]["validation_certainty"]["mean"], rel=1e-5
        )
    # Boards, the highest first; the objective's own board is the one that selects.
    said = shown(evidence, "certainty", capsys)
    assert "ranked by certainty, the highest first" in said
    values = [
        row.value for row in next(b for b in evidence.boards if b.by == "validation_certainty").rows
    ]
    assert values == sorted(values, reverse=True)
    assert evidence.board is not None
    assert evidence.board.by == "validation_certainty"
    # The report and the page.
    html = report.page(evidence, [])
    assert ROW.sentence in html
    assert "Ranked by validation certainty, the highest first" in html
    assert "with a validation certainty of" in html
    assert f"| `certainty` | {ROW.sentence} | share | high |" in page.page()


def test_without_its_row_it_is_nobodys(capsys):
    with pytest.raises(StudyError, match="no measure 'certainty' to select on"):
        loading.load({**QUICK, "search": {"objective": {"certainty": "max"}}})
    with pytest.raises(catalog.UnknownMeasure, match="did you mean 'memorization'"):
        catalog.get("memorisation")
    evidence = fake_records.evidence({"model.dropout": [0.0, 0.5]}, lambda p: 0.4)
    with pytest.raises(StudyError, match="did you mean 'test_error'"):
        shown(evidence, "test_eror", capsys)
    with pytest.raises(StudyError, match="was not measured in this study"):
        shown(evidence, "auroc", capsys)


def test_the_page_is_in_step():
    assert page.PAGE.read_text() == page.page(), f"run: {page.COMMAND}"


def test_records_hold_only_what_the_table_knows():
    everything = {
        **QUICK,
        "data": {"name": "digits", "train_size": 60, "pool_size": 400, "label_noise": 0.2},
        "replicas": {"count": 24, "inits": 2},
        "measures": {"forgetting": True, "layers": True, "retention": True, "own": ["f1", "auroc"]},
    }
    del everything["sweep"]
    (record,) = run(loading.load(everything)).records
    assert len(record["measures"]) > 40
    for name in record["measures"]:
        assert catalog.get(name).sentence
    for name in set(record["selection"]):
        assert catalog.get(name).objective, name
    always = {m.name for m in catalog.ALWAYS + catalog.EXAMPLES + catalog.TRAINING}
    always.discard("perplexity")  # of text alone: tests/test_text.py takes it
    assert always <= record["measures"].keys(), "the table has a measure that nothing takes"


# -- metrics of the person's own --------------------------------------------------------------------

OWN = """
def found_of_nine(predictions, targets):
    nines = targets == 9
    return (predictions[nines].argmax(-1) == 9).mean()

def distance_error(predictions, targets):
    return abs(predictions - targets).mean()

def sometimes(predictions, targets):
    if len(targets) != 60:
        raise KeyError("only in rehearsal")
    return 1.0
"""


@pytest.fixture
def own_folder(tmp_path, monkeypatch) -> Path:
    (tmp_path / "own_metrics.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_a_function_of_ones_own_is_measured_and_selects(own_folder, capsys):
    asked = {
        "measures": {"own": ["own_metrics:found_of_nine", "own_metrics:sometimes"]},
        "search": {"objective": {"found_of_nine": "max"}},
    }
    evidence = run(loading.load({**QUICK, **asked}, data=True))
    for record in evidence.records:
        assert record["selection"]["found_of_nine"] == pytest.approx(
            np.mean(record["replica_values"]["validation_found_of_nine"]), abs=1e-6
        )
        # What fails at the end costs its own column alone, and its line is named.
        assert record["measures"]["sometimes"] is None
        (said,) = {w for w in record["warnings"] if w.startswith("sometimes was not taken")}
        assert "own_metrics:sometimes raised KeyError: 'only in rehearsal'" in said
        assert "own_metrics.py, line 11)" in said
    assert evidence.board is not None
    assert evidence.board.by == "validation_found_of_nine"
    said = shown(evidence, "found_of_nine", capsys)
    assert "ranked by found of nine, the highest first" in said
    assert "own_metrics:found_of_nine" in report.page(evidence, [])


def test_regression_is_measured_in_the_targets_own_unit(own_folder):
    generator = np.random.default_rng(0)
    x = generator.normal(size=600)
    rows = [f"{a},{5000 + 1000 * a}" for a in x]
    (own_folder / "prices.csv").write_text("a,price\n" + "\n".join(rows))
    study = loading.load(
        {
            "name": "prices",
            "data": {"name": "csv:prices.csv", "train_size": 300},
            "training": {"epochs": 40, "lr": 0.01},
            "replicas": {"count": 3},
            "measures": {"own": ["r2", "mean_absolute_error", "own_metrics:distance_error"]},
        },
        data=True,
    )
    (record,) = run(study).records
    values = record["replica_values"]
    # A line is easy: nearly all is explained, and what is left is some of the spread of 1000.
    assert record["measures"]["r2"]["mean"] > 0.98
    assert 1 < record["measures"]["mean_absolute_error"]["mean"] < 150
    assert values["distance_error"] == pytest.approx(values["mean_absolute_error"], rel=1e-5)
    # The square of a mean distance is at most the mean square, which is in standardized units.
    error = np.array(values["test_error"])
    assert (np.array(values["mean_absolute_error"]) <= 1.1 * 1000 * np.sqrt(error)).all()


def test_a_function_of_ones_own_travels_to_a_cluster(own_folder):
    study = loading.load({**QUICK, "measures": {"own": ["f1", "own_metrics:found_of_nine"]}})
    assert [path.name for path in bundle.user_modules(study)] == ["own_metrics.py"]
    assert str(own_folder) in own_code.folders(study)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"own": ["f2"]}, "has no metric 'f2'"),
        ({"own": ["balanced_eror"]}, "did you mean 'balanced_error'"),
        ({"own": ["r2"]}, "r2 means nothing for classification"),
        ({"own": ["bias2"]}, "no metric to ask for here"),
        ({"own": ["f1", "f1"]}, "has 'f1' twice"),
        ({"own": "f1"}, r"write \[f1\]"),
        ({"own": ["own_metrics:found_of_nin"]}, "did you mean 'found_of_nine'"),
        ({"own": ["no_such:thing"]}, "no module 'no_such'"),
        ({"own": ["own_metrics:variance"]}, "variance is a measure already"),
        ({"own": ["own_metrics:distance_error"]}, "raised ValueError.*own_metrics.py, line 7"),
    ],
)
def test_metrics_that_cannot_be_taken_are_refused_at_plan(asked: dict, said: str, own_folder):
    with pytest.raises(StudyError, match=said) as raised:
        loading.load({**QUICK, "measures": asked}, data=True)
    assert "measures.own" in str(raised.value)


def test_the_direction_of_a_function_is_its_names(own_folder):
    asked = {"measures": {"own": ["own_metrics:found_of_nine"]}}
    with pytest.raises(StudyError, match="taken as better high"):
        loading.load({**QUICK, **asked, "search": {"objective": {"found_of_nine": "min"}}})
    with pytest.raises(StudyError, match="did you mean 'found_of_nine'"):
        loading.load({**QUICK, **asked, "search": {"objective": {"found_of_nin": "max"}}})
    pruned = {
        **asked,
        "scheduler": {"name": "asha"},
        "search": {"objective": {"found_of_nine": "max"}},
    }
    with pytest.raises(StudyError, match="only once a trial has ended"):
        loading.load({**QUICK, **pruned})


def test_the_example_loads_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = loading.load(ROOT / "examples" / "rare_class" / "rare.yaml", data=True)
    assert study.measured.own[-1] == "f1", "the objective's metric is taken without being asked for"
    assert own_code.functions(study) == ["rare:rare_found"]


# -- a claim ----------------------------------------------------------------------------------------

STUDY = """\
name: mine
question: Does dropout close the gap?
sweep: {model.dropout: [0.0, 0.5]}
claim:
  sentence: Dropout closes the gap.
  expects: a smaller gap
  small: {training.epochs: 1}
"""


def mine(records) -> Answer:
    gaps = {
        rate: measure(record, "generalization_gap")
        for rate, record in by(records, "model.dropout").items()
    }
    return Answer("supported", f"The gap falls from {gaps[0.0]} to {gaps[0.5]}.")


def test_a_claim_is_an_answer_a_row_and_a_study(monkeypatch, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text(STUDY)
    monkeypatch.setattr(study_file, "SHIPPED", tmp_path)
    monkeypatch.setitem(claims.CLAIMS, "mine", claims.Row(mine, Along("model.dropout", (GAP,))))
    assert line.main(["claims", "mine", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["sentence"] == "Dropout closes the gap."
    study = loading.load("mine")
    hashes = {p["model.dropout"]: study.configure(p).hash for p in study.grid()}
    found = fake_records.evidence(
        {"model.dropout": [0.0, 0.5]}, lambda p: 0.5 - p["model.dropout"] / 2
    )
    found.info["started"] = 1.0
    for record in found.records:
        record["config_hash"] = hashes[record["params"]["model.dropout"]]
    monkeypatch.setattr(claims.executions, "find", lambda name: found)
    monkeypatch.setattr(gallery.stored, "gather", lambda name: found)
    claim = claims.read("mine")
    assert claim.verdict == "on mnist1d: supported"
    assert claim.word == "supported here"
    assert "The gap falls from" in markdown([claim])
    said = gallery.write([claim], str(tmp_path / "gallery.md"))
    assert "1 pictures" in said
    text = (tmp_path / "gallery.md").read_text()
    assert "> Dropout closes the gap." in text
    assert (tmp_path / "images" / "gallery" / "mine.png").stat().st_size > 1000


def test_a_claim_without_a_row_is_refused():
    with pytest.raises(StudyError, match="did you mean 'dropout'"):
        claims.row("dropuot")


# -- a family ---------------------------------------------------------------------------------------


def _linear(shape, outputs, image, options):
    from engram.models.feedforward import Feedforward

    return Feedforward(shape, outputs, **{**options, "depth": 0})


def test_a_family_is_a_builder_and_a_row(monkeypatch):
    row = families.Family("a linear model", _linear, 0, lambda shape: 1.0, short=("softmax",))
    with pytest.raises(StudyError, match="known family"):
        loading.load({**QUICK, "model": {"family": "logistic"}})
    monkeypatch.setitem(families.TABLE, "logistic", row)
    with pytest.raises(StudyError, match="did you mean 'logistic'"):
        loading.load({**QUICK, "model": {"family": "softmax"}})
    swept = {**QUICK, "sweep": {"model.family": ["logistic", "feedforward"]}}
    evidence = run(loading.load(swept, data=True))
    console = Console(width=160, record=True, quiet=True)
    terminal.show(evidence.boards, console)
    assert "logistic" in report.page(evidence, [])
