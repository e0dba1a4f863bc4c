"""What a night may take: budgets and deadlines become the run's own budget, and priority decides who gets it."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from engram.sweeps.nightly import entries, timetable, training
from engram.sweeps.nightly.session import Session
from engram.sweeps.nightly.training import Limits
from engram.sweeps.running.stopping import ENDED
from engram.sweeps.state.names import study_name
from engram.sweeps.state.paths import study_dir
from engram.sweeps.study import loading
from engram.sweeps.study.configuration import Study
from tests.reliability.tracking_server import free_port

NOW = dt.datetime(2026, 11, 25, 3, 0, tzinfo=dt.UTC)


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path))


def load(folder: Path, name: str, text: str) -> Study:
    path = folder / f"{name}.yaml"
    path.write_text(f"name: {name}\n{text}\n")
    return loading.load(path)


def use(night: str, seconds: float, gpu_seconds: float = 0.0) -> None:
    """What a run leaves behind that has taken this long."""
    folder = study_dir(night)
    folder.mkdir(parents=True, exist_ok=True)
    used = {"seconds": seconds, "gpu_seconds": gpu_seconds}
    (folder / "usage.json").write_text(json.dumps(used))


def nights(
    studies: list[Study], limits: Limits, each_s: float = 600.0
) -> list[tuple[str, float | None]]:
    """(night, seconds it was given) in the order of a session whose runs each take so long."""
    given = []

    def take(one: Study, night: str, limits: Limits, lock: int) -> int:
        given.append((night, limits.seconds))
        use(night, each_s)
        return 0

    session = Session(studies, limits=limits, clock=lambda: NOW, train=take, say=lambda text: None)
    session.run(-1)
    return given


def test_the_higher_priority_goes_first_and_the_budget_is_shared(tmp_path):
    studies = [
        load(tmp_path, name, f"nightly: {{priority: {priority}}}")
        for name, priority in (("low", -1), ("high", 5), ("middle", 0))
    ]
    assert nights(studies, Limits(1500.0)) == [
        ("high-2026-11-25", 1500.0),
        ("middle-2026-11-25", 900.0),
        ("low-2026-11-25", 300.0),
    ]


def test_what_no_budget_is_left_for_is_missed_and_says_so(tmp_path):
    studies = [load(tmp_path, name, "") for name in ("a", "b")]
    assert [night for night, _ in nights(studies, Limits(500.0))] == ["a-2026-11-25"]
    (missed,) = entries.of_study("b")
    assert (missed.state, missed.code) == ("missed", 1)


def test_a_deadline_is_a_limit_and_one_that_has_passed_is_none_for_who_asks(tmp_path):
    early = load(tmp_path, "early", 'nightly: {deadline: "04:30"}')
    assert nights([early], Limits()) == [("early-2026-11-25", 5400.0)]
    late = load(tmp_path, "late", 'nightly: {deadline: "02:30"}')
    assert nights([late], Limits()) == [("late-2026-11-25", None)]
    session = Session([load(tmp_path, "tick", 'nightly: {deadline: "02:30"}')], asked=False)
    session.clock, session.say = (lambda: NOW - dt.timedelta(hours=2)), lambda text: None
    assert session.run(-1) == 0
    session.clock = lambda: NOW
    assert session.run(-1) == 1
    (missed,) = entries.of_study("tick")
    assert "deadline 02:30 had passed" in missed.why


def test_hours_count_those_before_a_crash_and_never_exceed_the_studys_own(tmp_path):
    one = load(tmp_path, "s", "budget: {hours: 2}")
    use("s-1", 1800.0)
    assert training.options(one, "s-1", Limits(3600.0))[-1] == "budget.hours=1.5"
    assert training.options(one, "s-1", Limits(9000.0))[-1] == "budget.hours=2"
    assert training.options(one, "s-1", Limits()) == []
    assert training.options(one, "s-1", Limits(None, 360.0)) == ["budget.gpu_hours=0.1"]


def test_the_worst_of_several_studies_decides_the_code(tmp_path):
    codes = {"fine": 0, "some": 3, "bad": 1}
    studies = [load(tmp_path, name, "") for name in codes]

    def run(chosen: list[Study]) -> int:
        session = Session(chosen, clock=lambda: NOW, say=lambda text: None)
        session.train = lambda one, night, limits, lock: codes[one.name]
        return session.run(-1)

    assert run(studies[:1]) == 0
    assert run(studies[:2]) == 3
    assert run(studies) == 1
    assert run(studies[:2]) == 3, "asked again, a night answers as it did"


@pytest.mark.parametrize(("deaths", "state", "attempts"), [(1, "done", 2), (9, "failed", 3)])
def test_a_run_that_the_system_ends_goes_on_until_it_has_died_too_often(
    deaths, state, attempts, tmp_path
):
    codes, pauses = [-9] * deaths + [0], []
    session = Session([load(tmp_path, "s", "")], clock=lambda: NOW, say=lambda text: None)
    session.pause = pauses.append
    session.train = lambda one, night, limits, lock: codes.pop(0)
    assert session.run(-1) == (0 if state == "done" else 1)
    (entry,) = entries.of_study("s")
    assert (entry.state, entry.attempts) == (state, attempts)
    assert pauses == [60.0, 300.0][: attempts - 1], "it is given time to recover"


@pytest.mark.parametrize("machine", [True, False])
def test_a_failure_of_the_machine_is_tried_again_and_one_of_the_study_is_not(machine, tmp_path):
    ends, pauses = [1, 0], []

    def take(one: Study, night: str, limits: Limits, lock: int) -> int:
        use(night, 1.0)
        reason = "Ray did not start\n    details"
        said = {"code": ends[0], "reason": reason, "machine": machine and bool(ends[0])}
        (study_dir(night) / ENDED).write_text(json.dumps(said))
        return ends.pop(0)

    said: list[str] = []
    session = Session([load(tmp_path, "s", "")], clock=lambda: NOW, train=take, say=said.append)
    session.pause = pauses.append
    assert session.run(-1) == (0 if machine else 1)
    (entry,) = entries.of_study("s")
    assert (entry.state, entry.attempts) == (("done", 2) if machine else ("failed", 1))
    assert pauses == ([60.0] if machine else [])
    assert (
        any("the machine could not run it: Ray did not start" in line for line in said) == machine
    )


def test_a_night_on_a_cluster_that_is_dead_is_the_machines_failure(tmp_path):
    said: list[str] = []
    train = training.on(f"127.0.0.1:{free_port()}")
    session = Session([load(tmp_path, "s", "")], clock=lambda: NOW, train=train, say=said.append)
    session.pause = lambda seconds: None
    assert session.run(-1) == 1
    (entry,) = entries.of_study("s")
    assert (entry.state, entry.attempts) == ("failed", 3)
    assert "is no cluster that runs: Connection refused" in entry.why
    assert not (study_dir(entry.night) / "search.journal").exists()


def test_a_long_name_has_nights_of_its_own(tmp_path):
    """Each of them a name that `run` takes, and none that of another study."""
    found = []
    for end in "xy":
        study = load(tmp_path, f"{'n' * 99}{end}", 'nightly: {cron: "0 */6 * * *"}')
        night = timetable.latest(study, NOW).night
        assert study_name(night) is None
        assert night.endswith("-2026-11-25-0000")
        found.append(night)
    assert len(set(found)) == 2
