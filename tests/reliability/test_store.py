"""The embedded store: whole or not there, wherever its folder lies, and recorded again as a whole when it is lost."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from engram.sweeps.commands import doctor
from engram.sweeps.state import paths
from engram.sweeps.tracking import embedded, store
from tests.command_line import ROOT, engram
from tests.reliability import faults

CONNECT = "import sys; from engram.sweeps.tracking import store; store.connect(sys.argv[1])"
WRITE = """
import sys
from pathlib import Path
from engram.sweeps.tracking import store
uri, run, home, file, folder = sys.argv[1:]
client = store.connect(uri)
client.log_artifact(run, file, "more")
client.log_artifact(client.create_run(home).info.run_id, file)
print(Path(client.download_artifacts(run, "file.txt", folder)).read_text(), end="")
"""
ODD = "a?b %41#c"  # characters that mean something in an address


def uri_of(home: Path) -> str:
    return paths.sqlite_uri(home / "mlflow.db")


def half_made(path: Path) -> None:
    """What MLflow leaves when it is killed after its first migrations."""
    import sqlalchemy
    from alembic import command
    from mlflow.store.db import utils
    from mlflow.store.tracking.dbmodels.initial_models import Base

    path.parent.mkdir(parents=True, exist_ok=True)
    url = f"sqlite:///{path}"
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.pool.NullPool)
    Base.metadata.create_all(engine)
    config = utils._get_alembic_config(url)
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "181f10493468")
    with closing(sqlite3.connect(path)) as database:  # a table of the next one is there already
        database.execute("create table metrics_new (x integer)")
        database.commit()


def kill_while_it_is_made(home: Path, chance: random.Random) -> bool:
    """Start to make a store, and kill it at a moment in the middle; whether it was in the middle."""
    process = subprocess.Popen([sys.executable, "-c", CONNECT, uri_of(home)], cwd=ROOT)
    try:
        while process.poll() is None and not list(home.glob(".mlflow.db.*.new")):
            time.sleep(0.01)
        time.sleep(chance.uniform(0, 1.5))
        amid = process.poll() is None
        process.kill()
    finally:
        process.wait(60)
    return amid


def test_killed_while_it_is_made_it_is_made_by_the_next(tmp_path):
    home, chance = tmp_path / "runs", random.Random(7)
    home.mkdir()
    for _ in range(2):
        kill_while_it_is_made(home, chance)
        assert embedded.condition(home / "mlflow.db") in ("absent", "whole")
    client = store.connect(uri_of(home))
    assert client.create_run(store.experiment(client, "x", None)).info.run_id
    assert embedded.condition(home / "mlflow.db") == "whole"
    assert not list(home.glob(".mlflow.db.*"))


AMID = """
import os, sqlite3, sys
database = sqlite3.connect(sys.argv[1])
database.execute("pragma cache_size = 1")  # pages are written before the transaction ends
database.execute("begin")
for k in range(2000):
    database.execute("insert into experiments (experiment_id, name) values (?, ?)", (1000 + k, f"{k}" * 50))
os.kill(os.getpid(), 9)
"""


def test_killed_amid_a_transaction_it_is_taken_back_and_nothing_is_damaged(tmp_path, monkeypatch):
    home = tmp_path / "runs"
    client = store.connect(uri_of(home))
    experiment = store.experiment(client, "x", None)
    for look in ("connect", "doctor"):
        subprocess.run([sys.executable, "-c", AMID, home / "mlflow.db"], check=False)
        assert (home / "mlflow.db-journal").stat().st_size > 512, "it was amid a transaction"
        if look == "doctor":
            monkeypatch.setattr(paths, "home", lambda: home)
            assert doctor.store().verdict == "ok"
        else:
            store.connect(uri_of(home))
        with closing(sqlite3.connect(home / "mlflow.db")) as database:
            assert database.execute("pragma integrity_check").fetchall() == [("ok",)]
            (extra,) = database.execute(
                "select count(*) from experiments where experiment_id >= 1000"
            ).fetchone()
            assert extra == 0
    assert client.create_run(experiment).info.run_id


def test_the_journal_of_a_database_that_is_gone_does_not_reach_the_next(tmp_path):
    home = tmp_path / "runs"
    connect = [sys.executable, "-c", CONNECT, uri_of(home)]
    subprocess.run(connect, cwd=ROOT, check=True)
    subprocess.run([sys.executable, "-c", AMID, home / "mlflow.db"], check=False)
    (home / "mlflow.db").unlink()
    subprocess.run(connect, cwd=ROOT, check=True)
    assert embedded.condition(home / "mlflow.db") == "whole"
    with closing(sqlite3.connect(home / "mlflow.db")) as database:
        assert database.execute("pragma integrity_check").fetchall() == [("ok",)]


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_first_runs_killed_at_forty_moments(tmp_path):
    """Of their first seconds, in one state folder after the other: the next run always records everything."""
    chance = random.Random(11)
    text = faults.GRID.replace("[0.0, 0.2, 0.5, 0.7]", "[0.0]").replace(
        "[0.01, 0.003, 0.001]", "[0.01]"
    )
    for number in range(8):
        folder = tmp_path / str(number)
        study, home = faults.write(folder, text), folder / "runs"
        for _ in range(5):
            run = faults.Run(study, home)
            time.sleep(chance.uniform(0, 5))
            run.kill()
            run.wait()
        faults.finish(study, home)
        faults.assert_recorded_once(faults.store(home), 2, set(range(2, 21, 2)))
        shutil.rmtree(folder)


def test_a_half_made_store_is_told_by_doctor_and_made_anew(tmp_path, monkeypatch):
    home = tmp_path / "runs"
    half_made(home / "mlflow.db")
    assert embedded.condition(home / "mlflow.db") == "half-made"
    monkeypatch.setattr(paths, "home", lambda: home)
    found = doctor.store()
    assert (found.verdict, "half-made" in found.text) == ("warn", True)
    client = store.connect(uri_of(home))
    assert client.create_run(store.experiment(client, "x", None)).info.run_id
    assert (home / "mlflow.db.half-made").exists()
    assert doctor.store().verdict == "ok"


def test_a_store_of_another_version_that_holds_runs_is_refused(tmp_path, monkeypatch):
    home = tmp_path / "runs"
    half_made(home / "mlflow.db")
    with closing(sqlite3.connect(home / "mlflow.db")) as database:
        database.execute("insert into experiments (experiment_id, name) values (1, 'x')")
        database.execute("insert into runs (run_uuid, experiment_id) values ('abc', 1)")
        database.commit()
    before = (home / "mlflow.db").read_bytes()
    with pytest.raises(store.Unusable, match="another version of MLflow"):
        store.connect(uri_of(home))
    monkeypatch.setattr(paths, "home", lambda: home)
    assert doctor.store().verdict == "fail"
    assert (home / "mlflow.db").read_bytes() == before


@pytest.mark.faults
def test_a_copied_folder_writes_nothing_outside(tmp_path):
    old, new = tmp_path / "old" / "runs", tmp_path / "new" / ODD / "runs"
    client = store.connect(uri_of(old))
    home = store.experiment(client, "a study", (old / "artifacts" / "a study").as_uri())
    run = client.create_run(home).info.run_id
    (tmp_path / "source").mkdir()
    file = tmp_path / "source" / "file.txt"
    file.write_text("first")
    client.log_artifact(run, str(file))
    shutil.copytree(old, new)
    before = {path: path.read_bytes() for path in old.rglob("*") if path.is_file()}

    file.write_text("second")
    read = subprocess.run(  # as another process: MLflow remembers places by run
        [sys.executable, "-c", WRITE, uri_of(new), run, home, str(file), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert read.stdout == "first", read.stderr
    assert {path: path.read_bytes() for path in old.rglob("*") if path.is_file()} == before
    written = sorted(p.parent.name for p in (new / "artifacts").rglob("file.txt"))
    assert written == ["artifacts", "artifacts", "more"]
    assert {p.name for p in (tmp_path / "new").iterdir()} == {ODD}


@pytest.mark.parametrize("name", ["a'b", 'a"b', "a' or '1'='1", "a`b"])
def test_a_name_with_quotes_reaches_no_query(finished_study, name):
    done = engram("leaderboard", name, home=finished_study.home)
    assert done.returncode == 2
    assert "is no execution in this store" in done.stderr
    assert "Traceback" not in done.stderr


# -- recorded again ---------------------------------------------------------------------------------


@pytest.fixture
def copy(finished_study, tmp_path) -> Path:
    home = tmp_path / "runs"
    shutil.copytree(finished_study.home, home)
    return home


def whole(uri: str) -> dict:
    """What a store says of each run of the study, without what differs from run to run."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("small").experiment_id
    found = {}
    for run in client.search_runs([experiment]):
        names = sorted(run.data.metrics)
        points = {n: client.get_metric_history(run.info.run_id, n) for n in names}
        curves = {n: sorted((m.step, m.value) for m in points[n]) for n in names}
        tags = {k: v for k, v in run.data.tags.items() if k.startswith("engram.")}
        for passing in ("attempt", "model", "changed", "command"):
            tags.pop(f"engram.{passing}", None)
        params = dict(run.data.params)
        data = [(d.dataset.name, d.dataset.digest) for d in run.inputs.dataset_inputs]
        files = sorted(f.path for f in client.list_artifacts(run.info.run_id))
        key = tags.get("engram.trial", "study")
        found[key] = (run.info.run_name, run.info.status, curves, tags, params, data, files)
    return found


def run_again(finished_study, home: Path, *words: str) -> str:
    done = engram("run", str(finished_study.study), *words, home=home, timeout_s=400)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr


def _rounded(curves: dict) -> dict:
    """Without the last digits of numbers: arrays hold them in single precision."""
    return {
        name: [(step, round(value, 5)) for step, value in points]
        if isinstance(points, list)
        else points
        for name, points in curves.items()
    }


def assert_same(found: dict, expected: dict, rounded: bool = False) -> None:
    assert found.keys() == expected.keys()
    for key, parts in expected.items():
        for ours, theirs in zip(found[key], parts, strict=True):
            if rounded and isinstance(ours, dict):
                ours, theirs = _rounded(ours), _rounded(theirs)
            # The study's own curve follows the order of finishing.
            if key == "study" and isinstance(ours, dict):
                ours, theirs = ours.keys(), theirs.keys()
            assert ours == theirs, key


@pytest.mark.faults
def test_runs_deleted_in_mlflow_come_back_whole(finished_study, copy):
    uri = uri_of(copy)
    expected = whole(uri)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("small").experiment_id
    trials = client.search_runs([experiment], "tags.`engram.kind` = 'trial'")
    for run in trials[:2]:
        client.delete_run(run.info.run_id)
    assert "2 trials were missing" in run_again(finished_study, copy)
    assert_same(whole(uri), expected)
    entries = json.loads(engram("leaderboard", "small", "--format", "json", home=copy).stdout)
    there = client.search_runs([experiment], "tags.`engram.kind` = 'trial'")
    assert {e["run_id"] for e in entries} == {r.info.run_id for r in there}
    (parent,) = client.search_runs([experiment], "tags.`engram.kind` = 'study'")
    table = client.download_artifacts(parent.info.run_id, "trials.json")
    assert {r["run_id"] for r in json.loads(Path(table).read_text())} == {
        r.info.run_id for r in there
    }
    assert "missing" not in run_again(finished_study, copy)


@pytest.mark.faults
def test_a_lost_database_comes_back_whole(finished_study, copy):
    expected = whole(uri_of(copy))
    (copy / "mlflow.db").unlink()
    assert "4 trials were missing" in run_again(finished_study, copy)
    assert_same(whole(uri_of(copy)), expected)


@pytest.mark.faults
def test_a_new_store_gets_everything(finished_study, copy, tmp_path):
    """Also where an older version kept no curves: they are in the arrays."""
    expected = whole(uri_of(copy))
    (copy / "studies" / "small" / "curves.jsonl").unlink()
    other = f"sqlite:///{tmp_path / 'other' / 'mlflow.db'}"
    said = run_again(finished_study, copy, "--set", f"tracking.uri={other}")
    assert "4 trials were missing" in said
    assert_same(whole(other), expected, rounded=True)


@pytest.mark.faults
def test_a_deleted_parent_is_made_anew_with_its_trials(finished_study, copy):
    uri = uri_of(copy)
    expected = whole(uri)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("small").experiment_id
    (parent,) = client.search_runs([experiment], "tags.`engram.kind` = 'study'")
    client.delete_run(parent.info.run_id)
    run_again(finished_study, copy)
    assert_same(whole(uri), expected)
    (new,) = client.search_runs([experiment], "tags.`engram.kind` = 'study'")
    trials = client.search_runs([experiment], "tags.`engram.kind` = 'trial'")
    assert {t.data.tags["mlflow.parentRunId"] for t in trials} == {new.info.run_id}


def test_a_lost_ledger_with_its_backup_is_no_new_study(finished_study, copy):
    folder = copy / "studies" / "small"
    (folder / "search.journal").unlink()
    done = engram("run", str(finished_study.study), home=copy)
    assert done.returncode == 1
    assert "the ledger is gone" in done.stderr
    assert f"cp {folder / 'search.journal.backup'}" in done.stderr
    shutil.copy(folder / "search.journal.backup", folder / "search.journal")
    assert json.loads(engram("leaderboard", "small", "--format", "json", home=copy).stdout) == []
