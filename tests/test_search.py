"""One contract for every sampler: a trial is proposed once, committed once, and survives the process."""

from __future__ import annotations

import optuna
import pytest
from optuna.samplers import RandomSampler, TPESampler

from engram.sweeps.search import window
from engram.sweeps.search.committed import read_records
from engram.sweeps.search.ledger import LedgerError
from engram.sweeps.search.recent import Recent
from engram.sweeps.search.search import Search
from engram.sweeps.study.configuration import Study
from engram.sweeps.study.loading import load

SAMPLERS = ("grid", "random", "tpe", "gp", "cmaes", "nsga2")
RANGES = "{dropout: {uniform: [0.0, 0.9]}, lr: {loguniform: [1.0e-4, 1.0]}}"
LISTS = "{dropout: [0.0, 0.2, 0.5], lr: [0.1, 0.01]}"


def study(
    tmp_path,
    sampler: str,
    trials: int | None = 6,
    sweep: str | None = None,
    objective: str = "{validation_error: min}",
) -> Study:
    path = tmp_path / "s.yaml"
    sweep = sweep or (LISTS if sampler == "grid" else RANGES)
    count = "null" if trials is None else trials
    path.write_text(
        f"name: s\nsweep: {sweep}\nsearch: {{sampler: {sampler}, trials: {count}, objective: {objective}, seed: 3}}\n"
    )
    return load(path)


def record(proposal, status: str = "completed") -> dict:
    """What a trial with the lowest error at dropout 0.3, lr 0.01 would report."""
    dropout, lr = proposal.params["model.dropout"], proposal.params["training.lr"]
    error = (dropout - 0.3) ** 2 + abs(lr - 0.01) ** 0.5
    return {
        "trial": proposal.number,
        "params": proposal.params,
        "status": status,
        "selection": {"validation_error": error, "variance": dropout},
        "measures": {"test_error": {"mean": error, "low": None, "high": None}},
    }


def run(search: Search, limit: int | None = None) -> list[dict]:
    params = []
    while (limit is None or len(params) < limit) and (proposal := search.ask()):
        params.append(proposal.params)
        search.tell(proposal.number, record(proposal))
    return params


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_asks_for_exactly_what_was_planned_and_never_twice(tmp_path, sampler):
    search = Search(study(tmp_path, sampler), tmp_path / "journal")
    params = run(search)
    assert len(params) == 6
    assert len({tuple(p.values()) for p in params}) == 6
    assert search.finished
    assert search.ask() is None
    assert len(search.records()) == 6


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_goes_on_in_a_new_process_as_if_nothing_had_happened(tmp_path, sampler):
    whole = run(Search(study(tmp_path, sampler), tmp_path / "whole"))
    first = run(Search(study(tmp_path, sampler), tmp_path / "cut"), limit=3)
    rest = run(Search(study(tmp_path, sampler), tmp_path / "cut"))
    assert first + rest == whole


@pytest.mark.parametrize("sampler", ["grid", "random", "tpe"])
def test_a_trial_that_was_running_is_asked_again_with_its_number_and_values(tmp_path, sampler):
    search = Search(study(tmp_path, sampler), tmp_path / "journal")
    lost = [search.ask(), search.ask()]
    again = Search(study(tmp_path, sampler), tmp_path / "journal")
    for proposal in lost:
        repeated = again.ask()
        assert (repeated.number, repeated.params) == (proposal.number, proposal.params)
        assert repeated.attempt == 2
        again.tell(repeated.number, record(repeated))
    assert len(run(again)) == 4
    assert len(again.records()) == 6


def test_a_record_written_before_a_crash_counts(tmp_path):
    """The crash came after the record and before the trial's state."""
    search = Search(study(tmp_path, "tpe"), tmp_path / "journal")
    proposal = search.ask()
    search.commit(proposal.number, record(proposal))
    again = Search(study(tmp_path, "tpe"), tmp_path / "journal")
    assert [r["trial"] for r in again.records()] == [proposal.number]
    assert [r["trial"] for r in again.unsettled()] == [proposal.number]
    assert again.ask().number != proposal.number


def test_a_torn_last_line_is_dropped(tmp_path):
    search = Search(study(tmp_path, "grid"), tmp_path / "journal")
    run(search, limit=2)
    with open(tmp_path / "journal", "ab") as file:
        file.write(b'{"op_code": 6, "worker')
    again = Search(study(tmp_path, "grid"), tmp_path / "journal")
    assert len(again.records()) == 2
    assert len(run(again)) == 4


def test_a_damaged_ledger_is_refused_with_what_to_do(tmp_path):
    search = Search(study(tmp_path, "grid"), tmp_path / "journal")
    run(search, limit=2)
    content = (tmp_path / "journal").read_bytes()
    (tmp_path / "journal").write_bytes(content[:100] + b"\0" * 50 + content[150:])
    with pytest.raises(LedgerError, match=r"put the copy of the last start in its place"):
        Search(study(tmp_path, "grid"), tmp_path / "journal")


def test_a_small_space_ends_when_it_is_used_up(tmp_path):
    search = Search(
        study(tmp_path, "random", trials=50, sweep="{dropout: [0.0, 0.5], lr: [0.1, 0.01]}"),
        tmp_path / "journal",
    )
    assert len(run(search)) == 4
    assert search.finished


def test_tpe_learns_and_random_does_not(tmp_path):
    """Over 40 trials, the last ten of TPE are better than its first ten."""
    search = Search(study(tmp_path, "tpe", trials=40), tmp_path / "journal")
    run(search)
    errors = [r["selection"]["validation_error"] for r in search.records()]
    assert sum(errors[-10:]) < 0.7 * sum(errors[:10])


def test_diverged_failed_and_pruned_trials_do_not_stop_a_search(tmp_path):
    search = Search(study(tmp_path, "tpe", trials=15), tmp_path / "journal")
    statuses = ["diverged", "failed", "pruned", "completed", "completed"]
    for turn in range(15):
        proposal = search.ask()
        search.report(proposal.number, 1, {"validation_error": 0.5})
        told = record(proposal, statuses[turn % 5])
        if told["status"] in ("diverged", "failed"):
            told["selection"] = {}
        search.tell(proposal.number, told)
    assert search.ask() is None
    assert [r["status"] for r in search.records()] == statuses * 3


def test_several_objectives_are_searched(tmp_path):
    objective = "{validation_error: min, variance: min}"
    search = Search(study(tmp_path, "nsga2", objective=objective), tmp_path / "journal")
    assert len(run(search)) == 6


def test_records_are_read_without_owning_the_ledger(tmp_path):
    search = Search(study(tmp_path, "grid"), tmp_path / "journal", "night-1")
    run(search, limit=2)
    search.set_run(0, "abc")
    found = read_records(tmp_path / "journal", "night-1")
    assert [r["trial"] for r in found] == [0, 1]
    assert read_records(tmp_path / "none", "night-1") == []


def test_an_objective_that_finished_trials_were_not_measured_by_is_refused(tmp_path):
    run(Search(study(tmp_path, "random"), tmp_path / "journal"), limit=2)
    with pytest.raises(LedgerError, match="f1 was not measured in 2 finished trials"):
        Search(study(tmp_path, "random", objective="{f1: max}"), tmp_path / "journal")
    Search(study(tmp_path, "random", objective="{variance: min}"), tmp_path / "journal")


# -- long searches ----------------------------------------------------------------------------------

SPACE = {"x": optuna.distributions.FloatDistribution(0, 1)}


def ledger(directions: list[str], count: int) -> optuna.Study:
    """A study of finished trials; some failed, were pruned or diverged, the last two run."""
    made = optuna.create_study(directions=directions, sampler=RandomSampler(0))
    for number in range(count):
        trial = made.ask(fixed_distributions=SPACE)
        values = [(trial.params["x"] - k / 3) ** 2 for k in range(len(directions))]
        if number < count - 2:
            kind = number % 7
            if kind == 5 and len(directions) == 1:
                trial.report(values[0], 1)
                made.tell(trial, state=optuna.trial.TrialState.PRUNED)
            elif kind == 6:
                made.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                made.tell(trial, [float("inf")] * len(values) if kind == 4 else values)
    return made


def follower(of: optuna.Study) -> Recent:
    def trials():
        return of.get_trials(deepcopy=False)

    return Recent(SPACE, of.directions, lambda number: trials()[number], trials)


class Seeing(TPESampler):
    """What a question looks at."""

    def sample_relative(self, study, trial, search_space):
        self.seen = [t.params["x"] for t in study.get_trials(deepcopy=False)[:-1]]
        return super().sample_relative(study, trial, search_space)


@pytest.mark.parametrize("directions", [["minimize"], ["maximize"], ["minimize", "maximize"]])
def test_a_short_search_is_asked_as_by_tpe_alone(directions):
    of = ledger(directions, 40)
    wanted = {"seed": 5, "multivariate": True, "constant_liar": True}
    found = follower(of).propose(40, TPESampler(**wanted))
    of.sampler = TPESampler(**wanted)
    assert found == of.ask(fixed_distributions=SPACE).params


@pytest.mark.parametrize("directions", [["minimize"], ["minimize", "maximize"]])
def test_a_long_search_looks_at_the_latest_and_the_best(directions, monkeypatch):
    monkeypatch.setattr(window, "LATEST", 20)
    monkeypatch.setattr(window, "STEP", 5)
    of = ledger(directions, 133)
    seeing = Seeing(seed=0, multivariate=True, constant_liar=True)
    follower(of).propose(133, seeing)
    trials = of.get_trials(deepcopy=False)
    latest = [t.params["x"] for t in trials[110:]]
    assert seeing.seen[-len(latest) :] == latest
    best = seeing.seen[: -len(latest)]
    assert 0 < len(best) <= window.BEST
    if len(directions) == 1:
        done = sorted(
            (t for t in trials[:110] if t.state.name == "COMPLETE"), key=lambda t: t.value
        )
        assert set(best) == {t.params["x"] for t in done[: window.BEST]}


def test_a_long_search_goes_on_as_if_nothing_had_happened(tmp_path, monkeypatch):
    monkeypatch.setattr(window, "LATEST", 12)
    monkeypatch.setattr(window, "STEP", 4)
    asked = study(tmp_path, "tpe", trials=40)
    whole = run(Search(asked, tmp_path / "whole"))
    first = run(Search(asked, tmp_path / "cut"), limit=26)
    assert first + run(Search(asked, tmp_path / "cut")) == whole


def test_what_ran_when_it_was_seen_is_followed():
    """A value that comes between two questions counts in the second."""
    of = ledger(["minimize"], 30)
    recent = follower(of)
    how = {"seed": 1, "multivariate": True, "constant_liar": True}
    recent.propose(30, TPESampler(**how))
    of.add_trial(optuna.trial.create_trial(params={"x": 0.5}, distributions=SPACE, value=0.3))
    for number in (28, 29):
        of.tell(number, 0.0)
    assert recent.propose(31, TPESampler(**how)) == follower(of).propose(31, TPESampler(**how))
