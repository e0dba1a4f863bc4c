"""What a page of a thousand trials costs: writing them, and opening MLflow's pages and the report on them.

    python -m benchmarks.mlflow_page [TRIALS]

Invents records (no training), writes them with the recorder, serves the store, and opens each page in
headless Chromium. Prints one line per measure. Needs playwright and a Chromium (CHROMIUM, default
/usr/bin/chromium).
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from engram.sweeps.commands import ui
from engram.sweeps.results import boards, report, tables
from engram.sweeps.results.evidence import Evidence
from engram.sweeps.state import paths
from engram.sweeps.study.configuration import Study, label
from engram.sweeps.study.sections import Range
from engram.sweeps.tracking import pages, store
from engram.sweeps.tracking.recorder import STUDY, Recorder
from engram.sweeps.trial import outcomes

EPOCHS, REPLICAS = 20, 8
MEASURES = (
    "train_error",
    "validation_error",
    "test_error",
    "generalization_gap",
    "bias2",
    "variance",
)
PORT = 5077
PATIENCE_S, PATIENCE_MS = 4 * 3600, 180_000  # for writing; for one page


def invented(trials: int, study: Study) -> list[dict]:
    """Records as a random search over learning rate and dropout would leave them, some pruned or diverged."""
    generator = np.random.default_rng(0)
    records = []
    for number in range(trials):
        lr, dropout = float(10 ** generator.uniform(-4, -1)), float(generator.uniform(0, 0.8))
        params = {"training.lr": lr, "model.dropout": dropout}
        level = 0.45 + 0.1 * abs(np.log10(lr) + 2) + 0.1 * (dropout - 0.2) ** 2
        values = {
            name: generator.normal(
                level * (0.3 if name in ("train_error", "variance") else 1), 0.02, REPLICAS
            )
            for name in MEASURES
        }
        values["generalization_gap"] = values["test_error"] - values["train_error"]
        half = {name: 2.36 * v.std(ddof=1) / np.sqrt(REPLICAS) for name, v in values.items()}
        status = "diverged" if number % 50 == 7 else "pruned" if number % 3 == 1 else "completed"
        records.append(
            {
                "trial": number,
                "params": params,
                "config_hash": study.configure(params).hash,
                "status": status,
                "replicas": REPLICAS,
                "parameters": 15210,
                "epochs": EPOCHS if status == "completed" else 4,
                "steps": 800,
                "seconds": 3.0,
                "train_examples": 2000,
                "pool_examples": 3200,
                "chance_error": 0.9,
                "measures": {
                    name: {
                        "mean": float(v.mean()),
                        "low": float(v.mean() - half[name]),
                        "high": float(v.mean() + half[name]),
                    }
                    for name, v in values.items()
                },
                "replica_values": {name: v.tolist() for name, v in values.items()},
                "selection": {"validation_error": float(values["validation_error"].mean())},
                "warnings": [],
            }
        )
    return records


def write(records: list[dict], study: Study, folder: Path) -> str:
    """The records in MLflow, as a study would have left them; returns the parent's run id."""
    recorder = Recorder(
        paths.mlflow_uri(),
        folder,
        study.name,
        study.name,
        (paths.artifacts_dir() / study.name).as_uri(),
        lambda *_: None,
    )
    recorder.study({"engram.question": study.question}, {"search.sampler": "random"})
    measures = ["validation_error", *(n for n, _ in tables.SHOWN)]
    recorder.describe(
        pages.experiment_tags(
            study.name, study.question, measures, list(study.sweep), list(study.sweep)
        )
    )
    for record in records:
        number = record["trial"]
        configuration = study.configure(record["params"])
        recorder.trial(
            number,
            label(record["params"]),
            {"engram.config_hash": record["config_hash"]},
            configuration.dotted(),
        )
        for epoch in range(1, record["epochs"] + 1):
            share = epoch / record["epochs"]
            recorder.metrics(
                number,
                epoch,
                {
                    f"curve/{n}": 0.9 + share * (m["mean"] - 0.9)
                    for n, m in record["measures"].items()
                },
            )
        recorder.metrics(number, record["epochs"], outcomes.final_metrics(record))
        recorder.tags(number, {"engram.status": record["status"]})
        recorder.end(number)
    for path in tables.write_tables(boards.boards_of(records), folder / "leaderboards"):
        recorder.table(STUDY, path)
    recorder.end(STUDY)
    if not recorder.close(PATIENCE_S):
        raise SystemExit(f"not written: {recorder.problem}")
    return str(recorder.study_run_id)


@contextmanager
def timed(what: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    print(f"{what:55} {time.perf_counter() - start:8.1f} s", flush=True)


def open_pages(experiment: str, run: str, best: str) -> None:
    from playwright.sync_api import sync_playwright

    address = f"http://127.0.0.1:{PORT}"
    view = address + pages.view_path(experiment)
    run_page = address + pages.run_path(experiment, run)
    artifact = run_page.replace("?", "/artifacts/leaderboard_validation_error.json?")
    opened = [
        # In this order: the server works on what a page asked for when that is closed already.
        ("parent run", run_page, "text=Child runs"),
        ("leaderboard table of the parent", artifact, "text=tie_group"),
        ("trials in the prepared view, first rows", view, f"text={best}"),
        ("the same as charts", view + "&compareRunsMode=CHART", ".js-plotly-plot .main-svg"),
    ]
    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"),
            args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
        )
        browser.new_page().goto(address)  # the first page also fetches the program
        for name, url, words in opened:
            page = browser.new_page(viewport={"width": 1600, "height": 1000})
            received = [0]
            page.on(
                "response",
                lambda r, n=received: n.__setitem__(
                    0, n[0] + int(r.headers.get("content-length") or 0)
                ),
            )
            start = time.perf_counter()
            page.goto(url)
            page.locator(words).first.wait_for(timeout=PATIENCE_MS)
            print(
                f"{name:55} {time.perf_counter() - start:8.1f} s {received[0] / 1e6:8.1f} MB received",
                flush=True,
            )
            page.close()
        browser.close()


def main(trials: int) -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ["ENGRAM_HOME"] = home
        study = Study(
            name="thousand",
            question="What does a page of a thousand trials cost?",
            sweep={
                "training.lr": Range(distribution="loguniform", low=1e-4, high=1e-1),
                "model.dropout": Range(distribution="uniform", low=0.0, high=0.8),
            },
        )
        records = invented(trials, study)
        with timed(f"write {trials} trials ({EPOCHS} epochs, {REPLICAS} replicas)"):
            run = write(records, study, paths.study_dir(study.name))
        size = (paths.home() / "mlflow.db").stat().st_size
        print(f"{'store':55} {size / 1e6:8.1f} MB")
        client = store.connect(paths.mlflow_uri())
        experiment = client.get_experiment_by_name(study.name).experiment_id
        with timed("rank all boards"):
            ranked = boards.boards_of(records)
        info = {
            "study": study.name,
            "question": study.question,
            "definition": study.model_dump(mode="json"),
        }
        with timed("draw and write the report"):
            from engram.sweeps.results.figures import draw

            evidence = Evidence(study.name, records, info)
            page = report.page(evidence, draw.draw(evidence))
        print(f"{'report':55} {len(page) / 1e6:8.2f} MB")
        print(f"{'trials.json':55} {len(json.dumps(records)) / 1e6:8.1f} MB")
        with timed("start the server and stop it"), ui.serve("127.0.0.1", PORT):
            open_pages(experiment, run, label(ranked[0].rows[0].record["params"]))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000)
