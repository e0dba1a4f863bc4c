"""MLflow's own pages, opened in a browser as a reviewer does: what is looked for is found by its text."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow.tracking import MlflowClient

from engram.sweeps.results import tables
from engram.sweeps.results.evidence import Evidence
from engram.sweeps.study.configuration import label
from engram.sweeps.tracking import model, pages
from engram.sweeps.tracking.recorder import STUDY, Recorder
from engram.sweeps.tracking.system import SystemMetrics
from engram.sweeps.trial import outcomes
from tests import fake_records
from tests.browser import chromium, needs_chromium
from tests.command_line import ROOT, engram

EVIL = "<script>document.title='taken'</script>"
PATIENCE_MS = 90_000


@dataclass(frozen=True)
class Served:
    """A store and the server on it: what `ui` printed, and where things are."""

    home: Path
    address: str
    printed: str
    client: MlflowClient
    parent: Any
    trials: list[Any]

    def path(self, path: str) -> str:
        return self.address + path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_ui(home: Path, *words: str) -> tuple[subprocess.Popen, str]:
    """`orchestrate.py ui` and what it printed until it was ready."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "orchestrate.py"), "ui", *words],
        env={**os.environ, "ENGRAM_HOME": str(home)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    printed = ""
    for line in process.stdout:
        printed += line
        if "Ctrl-C" in line:
            break
    return process, printed


def write_troubled(home: Path) -> Evidence:
    """A study with hostile text, and trials that diverged, failed and were pruned, through the recorder."""
    found = fake_records.evidence(
        {"model.family": ["feedforward", EVIL], "model.dropout": [0.0, 0.5]},
        lambda p: 0.4 + p["model.dropout"],
        {1: "diverged", 2: "failed", 3: "pruned"},
        question=EVIL,
    )
    uri = f"sqlite:///{home / 'mlflow.db'}"
    folder = home / "studies" / "troubled"
    recorder = Recorder(
        uri, folder, "troubled", "troubled", (home / "artifacts").as_uri(), lambda *_: None
    )
    recorder.study(
        {"engram.question": EVIL, "mlflow.note.content": EVIL}, {"search.sampler": "grid"}
    )
    recorder.describe(
        pages.experiment_tags("troubled", EVIL, ["validation_error"], list(found.axes), [])
    )
    for record in found.records:
        number = record["trial"]
        tags = {"engram.config_hash": record["config_hash"], "engram.status": record["status"]}
        recorder.trial(number, label(record["params"]), tags, record["params"])
        for epoch, value in enumerate((0.9, np.nan, np.inf, -np.inf, 1e300)):
            curve = {"curve/validation_error": value, "curve/train_loss": value}
            recorder.metrics(number, epoch, curve)
        recorder.metrics(number, 5, outcomes.final_metrics(record))
        recorder.end(number, "FAILED" if record["status"] == "failed" else "FINISHED")
    recorder.end(STUDY)
    assert recorder.close(60)
    return found


@pytest.fixture(scope="module")
def served(finished_study, tmp_path_factory) -> Iterator[Served]:
    """The finished study's store and a troubled one beside it, served by `ui`."""
    home = tmp_path_factory.mktemp("served") / "runs"
    shutil.copytree(finished_study.home, home)
    write_troubled(home)
    port = free_port()
    process, printed = start_ui(home, finished_study.name, "--port", str(port))
    address = f"http://127.0.0.1:{port}"
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(finished_study.name)
    runs = client.search_runs([experiment.experiment_id])
    parent = next(r for r in runs if r.data.tags["engram.kind"] == "study")
    trials = [r for r in runs if r.data.tags["engram.kind"] == "trial"]
    try:
        yield Served(home, address, printed, client, parent, trials)
    finally:
        process.send_signal(signal.SIGINT)
        code = process.wait(30)
    assert code == 0  # Ctrl-C ends it cleanly
    with socket.socket() as probe:  # and nothing it started is left listening
        assert probe.connect_ex(("127.0.0.1", port)) != 0


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


def see(browser: Any, url: str, *words: str) -> Any:
    """The page at an address, once it shows all these words."""
    page = browser.new_page(viewport={"width": 1900, "height": 1200})
    errors: list[str] = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    page.goto(url)
    for text in words:
        page.get_by_text(text).first.wait_for(timeout=PATIENCE_MS)
    assert errors == []
    return page


def shown(measure: dict[str, float]) -> str:
    return f"{measure['mean']:.3f}"


# -- the pages --------------------------------------------------------------------------------------


@needs_chromium
def test_the_printed_link_opens_the_trials_ranked(served, browser):
    link = re.search(r"the trials of small +(\S+)", served.printed)[1]
    best = min(served.trials, key=lambda r: r.data.metrics["final/validation_error"])
    page = see(
        browser, link, "Does dropout lower the variance", best.info.run_name, "4 matching runs"
    )
    header = page.locator(".ag-header").all_inner_texts()
    columns = " ".join(header)
    for name in ("model.dropout", "training.lr", "validation_error", "test_error"):
        assert name in columns
    names = page.locator(
        ".ag-pinned-left-cols-container .ag-row, .ag-center-cols-container .ag-row"
    )
    assert names.count() >= 4
    order = sorted(served.trials, key=lambda r: r.data.metrics["final/validation_error"])
    tops = [page.get_by_text(r.info.run_name, exact=True).first.bounding_box()["y"] for r in order]
    assert tops == sorted(tops)
    # The value is the leaderboard's, digit for digit.
    assert page.get_by_text(f"{best.data.metrics['final/validation_error']:.4f}"[:5]).count() >= 1


@needs_chromium
def test_the_trials_make_charts(served, browser):
    link = re.search(r"the trials of small +(\S+)", served.printed)[1]
    page = see(browser, link + "&compareRunsMode=CHART", "Study")
    page.locator(".js-plotly-plot .main-svg").first.wait_for(timeout=PATIENCE_MS)
    page.get_by_text("training.lr").first.wait_for(timeout=PATIENCE_MS)
    assert page.locator(".js-plotly-plot").count() >= 4
    # The study's own charts come first, and MLflow's of every metric are folded away.
    sections = page.locator("body").inner_text()
    assert re.search(r"\bStudy\s+\(\d+\)\s+Add chart\s+curve/validation_error", sections), sections


@needs_chromium
def test_the_parent_tells_the_answer_first(served, browser):
    link = re.search(r"the run small +(\S+)", served.printed)[1]
    page = see(browser, link, "Best is", "Verdict:", "best_so_far", "mnist1d")
    assert page.get_by_text("Child runs").count() >= 1
    page.get_by_text("Show more").first.click()
    page.get_by_text("How to reproduce").first.wait_for(timeout=PATIENCE_MS)
    page.get_by_text("Limits").first.wait_for(timeout=PATIENCE_MS)


@needs_chromium
def test_a_trial_shows_what_it_was_and_what_came_of_it(served, browser):
    trial = served.trials[0]
    page = see(
        browser,
        served.path(pages.run_path(trial.info.experiment_id, trial.info.run_id)),
        trial.info.run_name,
        "generalization_gap",
        "model.dropout",
        "engram.verdict",
    )
    page.close()


@needs_chromium
def test_the_leaderboard_is_a_table_and_the_report_a_page(served, browser):
    base = served.path(pages.run_path(served.parent.info.experiment_id, served.parent.info.run_id))
    table = see(
        browser,
        base.replace("?", "/artifacts/leaderboard_validation_error.json?"),
        "tie_group",
        "verdict",
    )
    best = min(r.data.metrics["final/validation_error"] for r in served.trials)
    table.get_by_text(f"{best:.3f}"[:5]).first.wait_for(timeout=PATIENCE_MS)
    page = see(browser, base.replace("?", "/artifacts/report.html?"), "report.html")
    frame = page.frame_locator("iframe")
    frame.get_by_text("Limits and warnings").first.wait_for(timeout=PATIENCE_MS)
    picture = see(
        browser, base.replace("?", "/artifacts/figures/leaderboard.png?"), "leaderboard.png"
    )
    picture.wait_for_function(
        "[...document.images].some(i => i.naturalWidth > 600)", timeout=PATIENCE_MS
    )


@needs_chromium
def test_diverged_failed_and_pruned_trials_leave_the_pages_usable(served, browser):
    experiment = served.client.get_experiment_by_name("troubled").experiment_id
    view = served.path(pages.view_path(experiment))
    page = see(browser, view, "4 matching runs", "feedforward · dropout 0", EVIL)
    assert page.title() != "taken"
    charts = see(browser, view + "&compareRunsMode=CHART", "Study")
    charts.locator(".js-plotly-plot .main-svg").first.wait_for(timeout=PATIENCE_MS)
    runs = served.client.search_runs([experiment])
    parent = next(r for r in runs if r.data.tags["engram.kind"] == "study")
    top = see(
        browser,
        served.path(pages.run_path(experiment, parent.info.run_id)),
        "troubled",
        "Child runs",
    )
    assert top.title() != "taken"
    for run in runs:
        metrics = [
            m
            for name in run.data.metrics
            for m in served.client.get_metric_history(run.info.run_id, name)
        ]
        assert all(np.isfinite(m.value) and abs(m.value) < 1e305 for m in metrics)


# -- what the pages stand on ------------------------------------------------------------------------


def test_tags_let_a_reader_filter(served):
    verdicts = {r.data.tags["engram.verdict"] for r in served.trials}
    for verdict in verdicts:
        query = f"tags.engram.verdict = '{verdict}' and tags.engram.status = 'completed'"
        found = served.client.search_runs([served.parent.info.experiment_id], query)
        assert found
    assert sorted(r.data.tags["engram.rank"] for r in served.trials) == ["1", "2", "3", "4"]
    assert served.parent.data.tags["engram.verdict"] in verdicts


def test_numbers_in_mlflow_are_the_leaderboards(served):
    done = engram("leaderboard", "small", "--format", "json", home=served.home)
    runs = {r.info.run_id: r for r in served.trials}
    table = served.client.download_artifacts(
        served.parent.info.run_id, "leaderboard_validation_error.json"
    )
    content = json.loads(Path(table).read_text())
    for place, entry in enumerate(json.loads(done.stdout)):
        row = dict(zip(content["columns"], content["data"][place], strict=True))
        for name, measure in entry["measures"].items():
            if measure:
                assert runs[entry["run_id"]].data.metrics[f"final/{name}"] == measure["mean"]
                assert row[name] == measure["mean"]
                assert (row[f"{name}_low"], row[f"{name}_high"]) == (
                    measure["low"],
                    measure["high"],
                )
    note = served.parent.data.tags["mlflow.note.content"]
    best = json.loads(done.stdout)[0]
    assert tables.cell({"measures": best["measures"]}, "test_error") in note


def test_all_boards_are_tables_with_ties_and_intervals(served):
    listed = {t["path"] for t in json.loads(served.parent.data.tags["mlflow.loggedArtifacts"])}
    files = {f.path for f in served.client.list_artifacts(served.parent.info.run_id)}
    measures = ("validation_error", "generalization_gap", "bias2", "variance")
    assert listed == {f"leaderboard_{name}.json" for name in measures} <= files
    for name in measures:
        path = served.client.download_artifacts(
            served.parent.info.run_id, f"leaderboard_{name}.json"
        )
        columns = json.loads(Path(path).read_text())["columns"]
        assert {"rank", "tie_group", name, f"{name}_low", f"{name}_high"} <= set(columns)


def test_metrics_are_grouped_and_the_best_is_one_trial(served):
    for run in served.trials:
        groups = {name.partition("/")[0] for name in run.data.metrics}
        assert groups == {"curve", "final", "interval"}
    best = min(served.trials, key=lambda r: r.data.metrics["final/validation_error"])
    found = {n: v for n, v in served.parent.data.metrics.items() if n.startswith("best/")}
    assert {"best/validation_error", "best/generalization_gap", "best/test_error"} <= found.keys()
    for name, value in found.items():
        assert value == best.data.metrics[name.replace("best/", "final/")]


def test_datasets_are_inputs_with_their_digest(served):
    provenance = json.loads((served.home / "studies" / "small" / "provenance.json").read_text())
    digest = next(v for k, v in provenance.items() if k.startswith("data.digest"))
    for run in (served.parent, *served.trials):
        (found,) = run.inputs.dataset_inputs
        assert found.dataset.name == "mnist1d"
        assert digest.startswith(found.dataset.digest)
        assert json.loads(found.dataset.profile)["sha256"] == digest


def test_the_best_so_far_is_a_curve_that_never_rises(served):
    history = served.client.get_metric_history(served.parent.info.run_id, "best_so_far")
    values = [m.value for m in sorted(history, key=lambda m: m.step)]
    assert len(values) == 4
    assert values == sorted(values, reverse=True)
    assert values[-1] == pytest.approx(
        min(r.data.metrics["final/validation_error"] for r in served.trials), rel=1e-5
    )


def test_the_prepared_view_names_what_is_there(served):
    """The tag is MLflow's own and undocumented: a new version may want other keys (see sweeps/tracking/pages.py)."""
    experiment = served.client.get_experiment_by_name("small")
    view = json.loads(experiment.tags[f"mlflow.sharedViewState.{pages.VIEW}"])
    assert view["orderByKey"] == "metrics.`final/validation_error`"
    metrics, params = served.trials[0].data.metrics, served.trials[0].data.params
    for column in view["selectedColumns"]:
        kind, _, name = column.partition(".")
        there = {"metrics": metrics, "params": params, "tags": served.trials[0].data.tags}[kind]
        assert name.strip("`") in there


def test_the_best_model_loads_and_answers_as_it_was_measured(served):
    """Loaded in a process that knows nothing of Engram, on the test set: the error that was recorded."""
    tag = served.parent.data.tags[model.TAG]
    model_id = tag.partition(":")[2]
    best = min(served.trials, key=lambda r: r.data.metrics["final/validation_error"])
    logged = served.client.get_logged_model(model_id)
    assert logged.tags["engram.configuration"] == best.info.run_name
    assert logged.tags["engram.serialization"] == "pt2"
    script = (
        "import sys, json, mlflow, torch, numpy as np\n"
        f"mlflow.set_tracking_uri('sqlite:///{served.home / 'mlflow.db'}')\n"
        f"model = mlflow.pytorch.load_model('models:/{model_id}')\n"
        f"info = mlflow.models.get_model_info('models:/{model_id}')\n"
        "inputs = np.load(sys.argv[1])\n"
        "with torch.no_grad(): labels = model(torch.from_numpy(inputs)).argmax(-1).tolist()\n"
        "print(json.dumps({'labels': labels, 'signature': str(info.signature), 'engram': 'sweeps' in sys.modules}))\n"
    )
    from engram.data import catalog
    from engram.data.config import DataConfig

    data = catalog.load(DataConfig(), cache=served.home / "cache")
    inputs = served.home / "inputs.npy"
    np.save(inputs, data.test_inputs)
    done = subprocess.run(
        [sys.executable, "-c", script, str(inputs)],
        cwd=served.home,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert not told["engram"]
    assert "Tensor('float32', (-1, 40))" in told["signature"]
    error = float((np.array(told["labels"]) != data.test_targets).mean())
    record = next(
        e
        for e in json.loads(
            engram("leaderboard", "small", "--format", "json", home=served.home).stdout
        )
        if e["run_id"] == best.info.run_id
    )
    spread = record["measures"]["test_error"]
    width = spread["high"] - spread["low"]
    assert spread["low"] - 2 * width <= error <= spread["high"] + 2 * width
    replica = int(logged.tags["engram.replica"])
    arrays = np.load(_arrays(served, best))
    assert error == pytest.approx(float(arrays["test_error_curve"][-1, replica]), abs=1e-6)


def _arrays(served: Served, run: Any) -> str:
    return served.client.download_artifacts(run.info.run_id, "arrays.npz")


def test_system_metrics_go_through_the_recorder(tmp_path):
    seen = []

    class Recorder:
        def metrics(self, number, step, metrics):
            seen.append((number, metrics))

    sampling = SystemMetrics(Recorder(), every_s=0.05).start()
    time.sleep(0.5)
    sampling.stop()
    number, metrics = seen[0]
    assert number == STUDY
    assert all(name.startswith("system/") and np.isfinite(value) for name, value in metrics.items())
    assert {
        "system/cpu_utilization_percentage",
        "system/system_memory_usage_megabytes",
    } <= metrics.keys()


def test_optuna_itself_reads_the_ledger(served):
    """What its dashboard does; see docs/review.md."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    path = served.home / "studies" / "small" / "search.journal"
    before = path.read_bytes()
    study = optuna.load_study(
        study_name=None, storage=JournalStorage(JournalFileBackend(str(path)))
    )
    assert len(study.trials) == 4
    best = min(r.data.metrics["final/validation_error"] for r in served.trials)
    assert study.best_value == pytest.approx(best, rel=1e-5)
    assert path.read_bytes() == before


# -- the command ------------------------------------------------------------------------------------


def test_without_a_store_there_is_nothing_to_serve(tmp_path):
    done = engram("ui", home=tmp_path / "runs")
    assert done.returncode == 2
    assert "no store" in done.stderr


def test_a_port_in_use_is_refused(served):
    port = served.address.rpartition(":")[2]
    done = engram("ui", "--port", port, home=served.home)
    assert done.returncode == 2
    assert "is in use" in done.stderr


def test_the_server_is_small_and_asks_nobody(served):
    """Two processes, and nothing but the loopback address."""
    import psutil

    listening = [
        c
        for c in psutil.net_connections("tcp")
        if c.status == "LISTEN" and c.laddr.port == int(served.address.rpartition(":")[2])
    ]
    assert {c.laddr.ip for c in listening} == {"127.0.0.1"}
