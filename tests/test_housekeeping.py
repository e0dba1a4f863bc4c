"""Executions as things that one has: listed, shown, renamed, archived, restored, deleted, pruned, retried."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import tarfile
import time
from contextlib import closing
from pathlib import Path

import pytest

from engram.sweeps.commands import line
from engram.sweeps.results import inventory
from engram.sweeps.running import housekeeping
from engram.sweeps.state import lock, paths
from tests.reliability import faults


@pytest.fixture
def home(finished_study, tmp_path, monkeypatch) -> Path:
    """A copy of the state folder of a finished study, in which commands work."""
    folder = tmp_path / "here" / "runs"
    shutil.copytree(finished_study.home, folder)
    monkeypatch.setenv("ENGRAM_HOME", str(folder))
    monkeypatch.setenv("ENGRAM_OWNER", "somebody")
    monkeypatch.chdir(tmp_path)
    return folder


@pytest.fixture
def command(capsys):
    """A command as typed; returns what it printed."""

    def run(*words: str, code: int = 0) -> str:
        capsys.readouterr()
        found = line.main(list(words))
        said = capsys.readouterr()
        assert found == code, said.out + said.err
        assert "Traceback" not in said.err
        return said.out if code == 0 else said.err

    return run


def runs_in(home: Path, name: str) -> dict[str, str]:
    """{run: its stage} of an execution in the embedded store."""
    query = "select r.run_uuid, r.lifecycle_stage from runs r join tags t using (run_uuid) where t.key = 'engram.name' and t.value = ?"
    with closing(sqlite3.connect(home / "mlflow.db")) as database:
        return dict(database.execute(query, [name]))


def board(command, name: str) -> list[dict]:
    return json.loads(command("leaderboard", name, "--format", "json"))


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# -- list and show ----------------------------------------------------------------------------------


def test_list_says_what_there_is_and_writes_the_page(home, command):
    (entry,) = json.loads(command("list", "--format", "json"))
    assert (entry["name"], entry["status"]) == ("small", "complete")
    assert (entry["trials"], entry["planned"], entry["failed"]) == (4, 4, 0)
    first = board(command, "small")[0]
    assert entry["best"]["mean"] == first["measures"]["validation_error"]["mean"]
    assert entry["best"]["verdict"] == first["verdict"]
    assert entry["owner"]
    assert entry["host"] == os.uname().nodename
    on_disk = sum(p.stat().st_size for p in (home / "studies" / "small").rglob("*") if p.is_file())
    arrays = sum(p.stat().st_size for p in (home / "artifacts").rglob("*") if p.is_file())
    assert on_disk < entry["size"] <= on_disk + arrays + 4096
    text = command("list")
    assert "small " in text
    assert "complete" in text
    page = (home / "index.html").read_text()
    assert 'href="studies/small/report.html"' in page
    assert "&lt;b&gt;or&lt;/b&gt;" in page, "a question is text"
    assert (home / "studies/small/report.html").exists()


def test_a_list_is_read_again_only_where_a_ledger_changed(home, command):
    command("list")
    summary = home / "studies" / "small" / inventory.SUMMARY
    said = json.loads(summary.read_text())
    said["entry"]["question"] = "kept"
    summary.write_text(json.dumps(said))
    assert inventory.entry_of("small").question == "kept"
    os.utime(home / "studies" / "small" / "search.journal")
    assert inventory.entry_of("small").question != "kept"


def test_a_damaged_one_is_listed_as_such(home, command):
    ledger = home / "studies" / "small" / "search.journal"
    ledger.write_bytes(ledger.read_bytes().replace(b"engram", b"engrom", 1))
    (entry,) = json.loads(command("list", "--format", "json"))
    assert entry["status"] == "unreadable"
    assert "cannot be trusted" in entry["ended"]


def test_list_of_a_store(home, command):
    (entry,) = json.loads(
        command("list", "--format", "json", "--tracking-uri", f"sqlite:///{home / 'mlflow.db'}")
    )
    assert (entry["name"], entry["study"], entry["status"]) == ("small", "small", "complete")
    assert entry["owner"]
    assert entry["best"]["mean"] is not None


def test_show(home, command):
    text = command("show", "small")
    assert re.search(r"^status +complete$", text, re.M)
    assert re.search(r"^run 1 .* 0 trials by then, by \S+ on \S+$", text, re.M)
    said = json.loads(command("show", "small", "--format", "json"))
    assert said["folder"] == str(home / "studies" / "small")
    assert len(said["runs"]) == 1
    assert "did you mean 'small'" in command("show", "smal", code=2)


# -- rename and delete ------------------------------------------------------------------------------


def test_a_renamed_execution_is_whole_under_its_new_name_alone(home, command):
    before = board(command, "small")
    runs = runs_in(home, "small")
    assert len(runs) == 5
    assert "5 runs" in command("rename", "small", "first")
    assert board(command, "first") == before
    assert runs_in(home, "first") == runs
    assert runs_in(home, "small") == {}
    assert [entry.name for entry in inventory.here()] == ["first"]
    assert "no execution" in command("leaderboard", "small", code=2)
    assert "first" in command("report", "first")


def test_names_that_are_taken_busy_or_wrong_are_refused(home, command):
    shutil.copytree(home / "studies" / "small", home / "studies" / "other")
    assert "is there already" in command("rename", "small", "other", code=2)
    assert "is a path" in command("rename", "small", "../x", code=2)
    assert "no execution" in command("rename", "none", "x", code=2)
    with lock.held(home / "studies" / "small", "a test"):
        assert "is being worked on" in command("rename", "small", "x", code=1)
        assert "is being worked on" in command("delete", "small", "--yes", code=1)
        assert "is being worked on" in command("archive", "small", code=1)
    night = home / "nightly" / "history" / "s" / "small.json"
    night.parent.mkdir(parents=True)
    night.write_text("{}")
    assert "is a night" in command("rename", "small", "x", code=2)
    assert len(runs_in(home, "small")) == 5


def test_delete_asks_and_takes_mlflow_along(home, command, monkeypatch):
    assert "nobody is there to ask" in command("delete", "small", code=2)
    assert len(board(command, "small")) == 4
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda asked: "n")
    assert "nothing is changed" in command("delete", "small")
    assert len(board(command, "small")) == 4
    monkeypatch.setattr("builtins.input", lambda asked: "y")
    arrays = list((home / "artifacts").rglob("arrays.npz"))
    assert arrays
    assert "5 runs" in command("delete", "small")
    assert set(runs_in(home, "small").values()) == {"deleted"}
    assert not list((home / "artifacts").rglob("arrays.npz"))
    assert list((home / "studies").iterdir()) == []
    assert "no execution" in command("leaderboard", "small", code=2)


# -- prune ------------------------------------------------------------------------------------------


def entry(name: str, days: float, size: int = 10, status: str = "complete") -> inventory.Entry:
    return inventory.Entry(name, name, "", status, size=size, changed=1e9 - days * 86400)


ENTRIES = [
    entry("running", 0, status="running"),
    entry("new", 1),
    entry("half", 2, status="unfinished"),
    entry("night-1", 3),
    entry("old", 40, size=1000),
    entry("try-small", 50),
]


@pytest.mark.parametrize(
    ("rules", "gone"),
    [
        ({"older_than_days": 30}, ["try-small", "old"]),
        ({"keep": 1}, ["try-small", "old", "half"]),
        ({"older_than_days": 30, "kinds": frozenset({"small"})}, ["try-small"]),
        ({"keep": 0, "kinds": frozenset({"unfinished"})}, ["half"]),
        ({"keep": 0, "kinds": frozenset({"night"})}, ["night-1"]),
        ({"max_bytes": 60}, ["try-small", "old"]),
        ({"max_bytes": 2000}, []),
        ({"max_bytes": 0}, ["try-small", "old", "half", "new"]),
    ],
)
def test_rules_of_retention(rules, gone):
    found = housekeeping.chosen(ENTRIES, housekeeping.Rules(**rules), {"night-1"}, 1e9)
    assert [e.name for e in found] == gone


def test_prune_shows_then_deletes(home, command):
    assert "no rule is given" in command("prune", "--yes", code=2)
    assert "nothing to prune" in command("prune", "--older-than", "1")
    old = time.time() - 10 * 86400
    os.utime(home / "studies" / "small" / "search.journal", (old, old))
    assert "small" in command("prune", "--older-than", "1", "--dry-run")
    assert len(board(command, "small")) == 4
    assert "small is deleted" in command("prune", "--older-than", "1", "--yes")
    assert inventory.here() == []


# -- archive and restore ----------------------------------------------------------------------------


def test_an_archive_comes_back_whole_under_another_path_and_name(
    home, command, tmp_path, monkeypatch
):
    before, expected = board(command, "small"), files_of(home)
    command("archive", "small", "--out", "small.tar.gz")
    changed = {k for k, v in files_of(home).items() if expected.get(k) != v}
    assert not changed - {"mlflow.db", "studies/small/lock"}, "the original is as it was"
    shutil.move(home, tmp_path / "gone")
    new = tmp_path / "there" / "runs"
    monkeypatch.setenv("ENGRAM_HOME", str(new))
    assert "leaderboard copy" in command("restore", "small.tar.gz", "--name", "copy")
    after = board(command, "copy")
    runs = runs_in(new, "copy")
    assert {e["run_id"] for e in after} <= runs.keys()
    assert set(runs.values()) == {"active"}
    assert len(runs) == 5
    for ours, theirs in zip(after, before, strict=True):
        assert {**ours, "run_id": ""} == {**theirs, "run_id": ""}
        (arrays,) = (new / "artifacts").glob(f"*/{ours['run_id']}/artifacts/arrays.npz")
        (original,) = (tmp_path / "gone" / "artifacts").glob(
            f"*/{theirs['run_id']}/artifacts/arrays.npz"
        )
        assert arrays.read_bytes() == original.read_bytes()
    assert "copy" in command("report", "copy")
    with closing(sqlite3.connect(new / "mlflow.db")) as database:
        places = [p for (p,) in database.execute("select artifact_uri from runs")]
        places += [
            p
            for name, p in database.execute("select name, artifact_location from experiments")
            if name != "Default"
        ]
    assert all(str(new) in place for place in places), places
    assert "is there already" in command("restore", "small.tar.gz", "--name", "copy", code=2)
    assert not list(new.glob(".archive-*"))


@pytest.mark.faults
def test_a_restored_execution_goes_on_inside_its_folder(
    finished_study, home, command, tmp_path, monkeypatch
):
    """Extended by one value: what is finished is kept, and nothing is written outside."""
    command("archive", "small", "--out", "small.tar.gz")
    shutil.rmtree(home.parent)
    new = tmp_path / "there" / "runs"
    monkeypatch.setenv("ENGRAM_HOME", str(new))
    command("restore", "small.tar.gz")
    outside = files_of(tmp_path).keys()
    text = finished_study.study.read_text().replace("[0.0, 0.5]", "[0.0, 0.5, 0.2]")
    study = faults.write(tmp_path / "study", text)
    done = faults.finish(study, new)
    assert "4 finished before" in done.stdout
    assert len(faults.board(new, "small")) == 6
    runs = runs_in(new, "small")
    assert len(runs) == 7
    assert set(runs.values()) == {"active"}
    written = {p for p in files_of(tmp_path) if not p.startswith("there/")}
    assert {p for p in written - outside if not p.startswith(("study/", "output-"))} == set()


def test_files_that_are_no_archive_are_refused(home, command, tmp_path):
    assert "is not there" in command("restore", "nowhere.tar.gz", code=2)
    (tmp_path / "text").write_text("hello")
    assert "is no archive" in command("restore", "text", code=2)
    command("archive", "small", "--out", "good")
    content = (tmp_path / "good").read_bytes()
    (tmp_path / "short").write_bytes(content[: len(content) // 2])
    command("restore", "short", "--name", "x", code=2)
    manifest = {"format": 1, "name": "small", "trials": 4, "runs": {}}
    for how in ("path", "link", "absolute"):
        bad = tmp_path / how
        with tarfile.open(bad, "w:gz") as tar:
            (tmp_path / "m").write_text(json.dumps(manifest))
            tar.add(tmp_path / "m", "engram-archive.json")
            member = tarfile.TarInfo(
                {"path": "../../evil", "absolute": "/tmp/../evil"}.get(how, "l")
            )
            if how == "link":
                member.type, member.linkname = tarfile.SYMTYPE, "/etc"
            tar.addfile(member)
        assert "Traceback" not in command("restore", how, "--name", "x", code=2)
    (tmp_path / "m").write_text(json.dumps({**manifest, "format": 99}))
    with tarfile.open(tmp_path / "later", "w:gz") as tar:
        tar.add(tmp_path / "m", "engram-archive.json")
    assert "format 99" in command("restore", "later", code=2)
    assert [e.name for e in inventory.here()] == ["small"]
    assert not list(home.glob(".archive-*"))
    assert not (home.parent / "evil").exists()


def test_every_run_in_mlflow_has_its_owner(home):
    runs = [*faults.trial_runs(faults.store(home), "small")]
    assert {run.data.tags["mlflow.user"] for run in runs} == {inventory.entry_of("small").owner}


# -- retry ------------------------------------------------------------------------------------------


def test_retry_where_nothing_failed(home, command):
    assert "no trial has failed" in command("retry", "small")


def test_home_is_where_the_paths_say(home):
    assert paths.home() == home
