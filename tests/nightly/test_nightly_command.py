"""The commands as a person meets them: input, exit codes, files, MLflow, secrets."""

from __future__ import annotations

import csv
import io
import json
import re

import pytest

from engram.problems import StudyError
from engram.sweeps.commands import line
from engram.sweeps.nightly import entries, history, retention
from engram.sweeps.nightly.night import place_of
from engram.sweeps.state.paths import study_dir
from engram.sweeps.study import loading
from engram.sweeps.tracking import store
from tests.command_line import engram
from tests.nightly.conftest import Receiver
from tests.nightly.weeks import Clock, Weeks, write_data, write_study

SECRET = "s3cret-t0ken"


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ("notify: 'https://hooks.example.org/XyZ'", ("is no tag", "ENGRAM_NOTIFY_FILE")),
        ("notify: 'mailto://user:hunter22@example.org'", ("is no tag",)),
        ("deadline: 7 am", ("is no time of day", "07:00")),
        ("cron: 0 0 30 2 *", ("is no timetable",)),
        ("missed: never", ("once", "skip")),
        ("margin: -0.1", ("outside",)),
    ],
)
def test_what_cannot_be_is_refused_with_its_line_and_without_a_secret(
    section, words, tmp_path, capsys
):
    path = tmp_path / "bad.yaml"
    path.write_text(f"name: bad\nnightly:\n  {section}\n")
    assert line.main(["nightly", str(path)]) == 2
    said = capsys.readouterr().err
    assert "bad.yaml:3" in said
    assert all(word in said for word in words), said
    assert "XyZ" not in said
    assert "hunter22" not in said


def test_all_problems_of_all_studies_come_at_once(tmp_path, capsys):
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(f"name: {name}\nreplicas: {{count: 0}}\n")
    files = [str(tmp_path / f"{name}.yaml") for name in ("one", "two")]
    assert line.main(["nightly", *files]) == 2
    said = capsys.readouterr().err
    assert "one.yaml:2" in said
    assert "two.yaml:2" in said
    assert line.main(["schedule", "quickstart", "quickstart", "--once"]) == 2


@pytest.mark.parametrize(
    "words",
    [
        ["nightly"],
        ["nightly", "quickstart", "--hours", "0"],
        ["schedule", "x", "--print", "launchd"],
    ],
)
def test_usage_errors(words: list[str], capsys):
    assert line.main(words) == 2


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A first night by the real command, its receiver refusing."""
    folder = tmp_path_factory.mktemp("command")
    path = write_study(folder)
    text = path.read_text().replace("notify: team", "notify: team\n  notify_on: always")
    path.write_text(text)
    address = f"team=json://127.0.0.1:1/{SECRET}"
    done = engram("nightly", str(path), home=folder / "runs", timeout_s=500, ENGRAM_NOTIFY=address)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, path, done


def test_a_night_says_how_it_went_and_leaves_its_log_in_one_place(ran):
    folder, _, done = ran
    assert re.search(r"watched-\d{4}-\d\d-\d\d: too few nights", done.stdout)
    assert "no earlier night to compare with" in done.stdout
    assert "2 of 2 trials" in done.stdout
    (log,) = (folder / "runs" / "nightly" / "logs").iterdir()
    assert "ranked by validation error" in log.read_text()
    assert (
        "json refused it or could not be reached"
        in (folder / "runs/nightly/nightly.log").read_text()
    )


def test_no_file_of_it_holds_the_address(ran):
    folder, _, done = ran
    assert SECRET not in done.stdout + done.stderr
    for path in (folder / "runs").rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


def test_a_second_time_it_is_not_run(ran):
    folder, path, _ = ran
    done = engram("nightly", str(path), home=folder / "runs", timeout_s=300)
    assert (done.returncode, done.stderr) == (0, "")
    assert "a night is run once" in done.stdout
    assert len(list((folder / "runs" / "studies").iterdir())) == 1


def test_a_night_without_its_data_has_failed_and_is_made_up_for(
    tmp_path, ray_here, monkeypatch, receiver: Receiver
):
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path / "runs"))
    monkeypatch.setenv("ENGRAM_NOTIFY", f"team={receiver.address}")
    path = write_study(tmp_path)
    (tmp_path / "daily.npz").unlink()
    weeks = Weeks(path, Clock.__new__(Clock))
    weeks.clock.at(3, 2)
    assert weeks.tick(asked=True) == 1
    assert weeks.tick() == 0, "it is not tried again by itself"
    (post,) = receiver.posts
    assert (post["title"], post["type"]) == ("watched-2026-03-02: failed", "failure")
    write_data(tmp_path / "daily.npz")
    assert weeks.tick(asked=True) == 0
    assert weeks.entries()["watched-2026-03-02"].state == "done"
    assert len(receiver.posts) == 1


@pytest.mark.timeout(1200)
def test_rolling_data_limits_and_retention(tmp_path, ray_here, receiver: Receiver, monkeypatch):
    """Three nights, the last with new data of the same kind, with one night kept."""
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path / "runs"))
    monkeypatch.setenv("ENGRAM_NOTIFY", f"team={receiver.address}")
    receiver.mode = "slow"
    path = write_study(tmp_path)
    text = path.read_text().replace("margin: 0.02", "margin: 0.02\n  baseline: 2\n  keep: 1")
    path.write_text(text.replace("notify: team", "notify: team\n  notify_on: failure"))
    weeks = Weeks(path, Clock.__new__(Clock))
    weeks.clock.at(3, 1, 12)
    weeks.tick()
    for day in (2, 3):
        weeks.clock.at(3, day)
        assert weeks.tick() == 0
    write_data(tmp_path / "daily.npz", seed=5)
    weeks.clock.at(3, 4)
    code = weeks.tick()

    known = weeks.entries()
    newest = known["watched-2026-03-04"]
    assert newest.judgement["causes"] == ["data"]
    assert any("data.digest" in line for line in newest.judgement["changed"]["data"])
    assert code in (0, 4)  # other clusters: other errors, and either way the data are named
    assert receiver.posts == [], "nothing failed"

    pruned = known["watched-2026-03-02"]
    assert (pruned.pruned, known["watched-2026-03-03"].pruned) == (True, False)
    assert not study_dir(pruned.night).exists()
    place = place_of(loading.load(path))
    client, run = store.find_study(place.uri, pruned.night)
    assert "best/validation_error" in run.data.metrics
    assert run.data.tags["engram.night.verdict"] == "too few nights"
    assert store.read_json(client, run.info.run_id, "trials.json")
    query = f"tags.`engram.name` = '{pruned.night}' and tags.`engram.kind` = 'trial'"
    assert client.search_runs([run.info.experiment_id], query) == []
    assert retention.prune(loading.load(path), place, list(known.values())) == []
    _history(path, list(known.values()))


def _history(path, known: list[entries.Entry]) -> None:
    table = history.text("watched", known)
    assert table.splitlines()[0] == "watched: 3 nights"
    assert "dropout" in table
    rows = list(csv.DictReader(io.StringIO(history.as_csv(known))))
    assert [row["ended"] for row in rows] == ["done"] * 3
    assert float(rows[0]["test_error"]) == float(rows[1]["test_error"]), (
        "the same night, digit for digit"
    )
    assert len(json.loads(history.as_json(known))) == 3
    assert history.markdown("watched", known).count("\n") == 6  # title, blank, head, rule, 3 nights
    assert line.main(["nightly", str(path), "--history"]) == 0
    assert entries.trend_path("watched").read_bytes().startswith(b"\x89PNG")


def test_a_study_of_an_unknown_name_is_bad_input():
    with pytest.raises(StudyError):
        loading.load("no such study")
