"""Two weeks of nights: a real regression, two crashes, an overlap, a missed night, and a clock change.

One regression is reported, on the right night and for the right reason; no night is lost or doubled.
"""

from __future__ import annotations

import pytest

from engram.sweeps.search.committed import read_records
from engram.sweeps.state import lock
from engram.sweeps.state.paths import study_dir
from engram.sweeps.tracking import store
from tests.nightly.conftest import Receiver
from tests.nightly.weeks import Clock, Process, Weeks, write_data, write_study

MARCH = list(range(20, 32))  # clocks go forward on the 29th at 02:00: 02:30 does not exist
NIGHTS = [*((3, day) for day in MARCH), (4, 1), (4, 2)]
DIES, ORPHANS, LONG, MISSED, WORSE = (3, 22), (3, 24), (3, 26), (3, 28), (3, 31)


def name(night: tuple[int, int]) -> str:
    return f"watched-2026-{night[0]:02d}-{night[1]:02d}"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("weeks")


@pytest.mark.timeout(1800)
def test_two_weeks(home, ray_here, receiver: Receiver, monkeypatch):
    monkeypatch.setenv("ENGRAM_HOME", str(home / "runs"))
    monkeypatch.setenv("ENGRAM_NOTIFY", f"team={receiver.address}")
    path = write_study(home)
    weeks = Weeks(path, Clock.__new__(Clock))
    weeks.clock.at(3, 19, 12)
    assert weeks.tick() == 0, "nothing is due before the first night"
    codes = {night: _night(weeks, night, home / "runs") for night in NIGHTS}

    assert {night for night, code in codes.items() if code} == {WORSE}
    assert codes[WORSE] == 4
    _nothing_lost_or_doubled(weeks)
    _one_regression(weeks, receiver)
    _kept_in_mlflow(home)


def _night(weeks: Weeks, night: tuple[int, int], home) -> int:
    weeks.clock.at(*night)
    if night == DIES:  # both processes are killed amid the first night, and the next finishes it
        process = Process(weeks.path, weeks.clock.now, home)
        process.until_committed(name(night))
        child = process.run()
        process.process.kill()
        process.process.wait()
        child.kill()
        _wait_for(child)
        return 0
    if (
        night == ORPHANS
    ):  # the runner is killed, and its study goes on: the lock is held until it ends
        process = Process(weeks.path, weeks.clock.now, home)
        process.until(lambda: study_dir(name(night)).joinpath("execution.json").exists())
        child = process.run()
        process.process.kill()
        process.process.wait()
        with pytest.raises(lock.Busy, match="left behind when it ended"):
            weeks.tick()
        _wait_for(child)
        return weeks.tick()
    if night == MISSED:
        return 0  # the machine is off
    if night == LONG:  # still training when the next slot comes
        weeks.amid = lambda running: _overlap(weeks, running, name(night))
    if night == WORSE:
        write_data(home.parent / "daily.npz", wrong=0.4)
    return weeks.tick()


def _overlap(weeks: Weeks, running: str, first: str) -> None:
    if running != first:
        return
    weeks.clock.at(3, 27)
    with pytest.raises(lock.Busy):
        weeks.tick()


def _wait_for(child) -> None:
    import psutil

    try:
        child.wait(300)
    except psutil.NoSuchProcess:
        return


def _nothing_lost_or_doubled(weeks: Weeks) -> None:
    known = weeks.entries()
    assert list(known) == [name(night) for night in NIGHTS]
    states = {night: known[name(night)].state for night in NIGHTS}
    assert states == {night: "missed" if night == MISSED else "done" for night in NIGHTS}
    assert "nobody started it" in known[name(MISSED)].why
    assert known[name(DIES)].attempts == known[name(ORPHANS)].attempts == 2
    for night in NIGHTS:
        if night == MISSED:
            assert not study_dir(name(night)).exists()
            continue
        records = read_records(study_dir(name(night)) / "search.journal", name(night))
        assert [r["trial"] for r in records] == [0, 1]
        assert known[name(night)].trials == (2, 2) or known[name(night)].trials == [2, 2]
    # The 29th has no 02:30: its night comes at three, once.
    assert known["watched-2026-03-29"].slot == "2026-03-29T03:00:00+02:00"
    assert len(weeks.trained) == len(set(weeks.trained))


def _one_regression(weeks: Weeks, receiver: Receiver) -> None:
    verdicts = {n: e.judgement.get("verdict") for n, e in weeks.entries().items() if e.judgement}
    assert [n for n, verdict in verdicts.items() if verdict == "regression"] == [name(WORSE)]
    judgement = weeks.entries()[name(WORSE)].judgement
    assert judgement["causes"] == ["data"]
    assert len(judgement["against"]) == 7
    worse = [c for c in judgement["changes"] if c["kind"] == "regression"]
    assert {"test_error", "validation_error"} & {c["measure"] for c in worse}
    assert all(c["change"] > 0.02 for c in worse)
    told = [post for post in receiver.posts if "regression" in post["title"]]
    assert [post["title"] for post in told] == [f"{name(WORSE)}: regression"]
    assert told[0]["type"] == "warning"
    assert "the data (" in told[0]["message"]
    # The missed night is told by the one after it, and nothing else is worth a message.
    others = [post for post in receiver.posts if post not in told]
    assert [name(MISSED) in post["message"] for post in others] == [True]


def _kept_in_mlflow(home) -> None:
    uri = f"sqlite:///{home / 'runs' / 'mlflow.db'}"
    client, run = store.find_study(uri, name(WORSE))
    assert run.data.tags["engram.night.verdict"] == "regression"
    assert run.data.tags["engram.night.causes"] == "data"
    found = client.search_runs([run.info.experiment_id], "tags.`engram.kind` = 'nights'")
    assert len(found) == 1
    history = client.get_metric_history(found[0].info.run_id, "test_error/dropout 0.3")
    assert len(history) == len({m.step for m in history}) == len(NIGHTS) - 1
    files = {file.path for file in client.list_artifacts(found[0].info.run_id)}
    assert {"watched.png", "nights.json"} <= files
    nights = client.search_runs([run.info.experiment_id], "tags.`engram.kind` = 'study'")
    assert len(nights) == len(NIGHTS) - 1
