"""A trial whose replicas are shared among workers, or trained in turns: the same networks, and the same record."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from engram.data import catalog
from engram.data.config import DataConfig
from engram.models import memory
from engram.problems import StudyError
from engram.sweeps.cluster.company import Company, Here
from engram.sweeps.cluster.shard import Shard, Turn, turns
from engram.sweeps.running import checkpoints
from engram.sweeps.study import loading as studies
from engram.sweeps.study.sections import CheckpointConfig, MeasuresConfig
from engram.sweeps.trial import checkpoint, states
from engram.sweeps.trial.messages import Saved
from engram.sweeps.trial.workers import workers
from tests.gpu.actors import actor

REPLICAS = 6
SECTIONS: dict[str, Any] = {
    "data": {"train_size": 120, "label_noise": 0.2},
    "model": {"width": 12, "dropout": 0.2},
    "training": {"epochs": 6, "batch_size": 30},
    "replicas": {"count": REPLICAS, "stack": REPLICAS},  # not measured: a test has one result
}
STOPPING = {
    **SECTIONS,
    "training": {"lr": 0.03, "epochs": 60, "batch_size": 30, "early_stopping": 2},
}
ALL = MeasuresConfig(forgetting=True, flatness=True, layers=True, retention=True)
# Float32: evaluations come in other batches, and sums of the whole cohort are put together otherwise.
NEAR = 2e-6


@pytest.fixture(scope="module")
def mnist1d():
    return catalog.load(DataConfig(name="mnist1d"), pool_size=None, seed=0, cache=None)


def config(dataset: Any, cache: Path, every_s: float = 1e6, **sections: Any) -> dict[str, Any]:
    """Of a trial with every measure."""
    found = dict(actor(dataset, cache, every_s, **sections).config)
    stopping = "early_stopping" in sections.get("training", {})
    wanted = ALL.model_copy(update={"retention": not stopping})
    return found | {"measures": wanted.model_dump(), "in_turns": not stopping}


def company(dataset: Any, workers: int) -> Company:
    """As many workers as that, all in this process."""
    hands = []
    for _ in range(workers):
        shard = Shard()
        shard.datasets = {"data": dataset}
        hands.append(Here(shard, lambda made: made))
    return Company(hands[0], list(hands[1:]))


def trained(
    made: Company,
    asked: dict[str, Any],
    dataset: Any,
    kept: list | None = None,
    after: int | None = None,
) -> dict[str, Any]:
    """Train to the end, or until so many reports have been told: the last result. kept: gets what was saved."""
    made.begin(asked, dataset)
    told = 0
    while True:
        result = made.step()
        told += len(result["progress"])
        if kept is not None:
            kept += result.get("saved", [])
        assert "failure" not in result, result["failure"]
        if result.get("done") or (after is not None and told >= after):
            return result


@pytest.fixture(scope="module")
def alone(mnist1d, tmp_path_factory):
    """Trains the same in one process, once: record, arrays, final weights."""
    known: dict[str, tuple] = {}

    def train(sections: dict[str, Any]) -> tuple:
        if str(sections) not in known:
            asked = config(mnist1d, tmp_path_factory.mktemp("alone"), **sections)
            whole = actor(mnist1d, asked["cache"], **sections)
            whole.config = asked | {"in_turns": False}
            whole.reset_config(whole.config)
            while not (result := whole.step()).get("done"):
                assert "failure" not in result
            known[str(sections)] = parts(result["finished"], result["finished"].final)
        return known[str(sections)]

    return train


def parts(finished: Any, final: list[Saved]) -> tuple[Any, dict[str, np.ndarray], dict]:
    import io

    arrays = dict(np.load(io.BytesIO(finished.arrays)))
    each = [checkpoint.decode(p.data)[0] for p in sorted(final, key=lambda p: p.first)]
    return finished.record, arrays, states.joined(each, shortest=True)


def assert_same(ours: tuple, expected: tuple) -> None:
    """The networks to the last bit, what is said of them to the last digits of float32."""
    record, arrays, state = ours
    wanted, wanted_arrays, wanted_state = expected
    for name, tensor in wanted_state["trainer"]["cohort"].items():
        if "stream" not in name:  # of a step that nobody takes any more
            assert torch.equal(state["trainer"]["cohort"][name], tensor), name
    assert record["measures"].keys() == wanted["measures"].keys()
    for name, values in wanted["replica_values"].items():
        assert record["replica_values"][name] == pytest.approx(
            values, rel=1e-4, abs=NEAR, nan_ok=True
        ), name
    for name, measure in wanted["measures"].items():
        for key, value in (measure or {}).items():
            found = record["measures"][name][key]
            assert (found is None) == (value is None), name
            if value is not None:
                assert found == pytest.approx(value, rel=1e-4, abs=1e-5), name
    for name, value in wanted["selection"].items():
        if name != "seconds":
            assert record["selection"][name] == pytest.approx(value, rel=1e-4, abs=NEAR), name
    assert arrays.keys() == wanted_arrays.keys()
    for name, values in wanted_arrays.items():
        assert arrays[name].shape == values.shape, name
        assert np.allclose(arrays[name], values, rtol=1e-3, atol=1e-3, equal_nan=True), name
    for key in ("epochs", "steps", "status", "replicas", "parameters", "way", "warnings"):
        assert record[key] == wanted[key], key


@pytest.mark.parametrize("sections", [SECTIONS, STOPPING], ids=["to the end", "early stopping"])
@pytest.mark.parametrize("workers", [1, 2, 3, REPLICAS])
def test_a_trial_is_the_same_however_many_share_it(mnist1d, alone, tmp_path, workers, sections):
    asked, kept = config(mnist1d, tmp_path, **sections), []
    result = trained(company(mnist1d, workers), asked, mnist1d, kept)
    assert_same(parts(result["finished"], [p for p in kept if p.final]), alone(sections))
    assert result["finished"].record["workers"] == workers
    if sections is STOPPING:
        assert result["finished"].record["epochs"] < 60


@pytest.mark.parametrize("family", ["feedforward", "convolutional", "gru"])
def test_a_replica_is_the_same_network_to_the_last_bit_in_any_company(mnist1d, tmp_path, family):
    """Of odd widths, so that replicas begin where no line of memory does, and end inside one."""
    sections = SECTIONS | {
        "model": {"family": family, "width": 13, "dropout": 0.2},
        "training": {"epochs": 2, "batch_size": 30, "optimizer": "adamw"},
        "replicas": {"count": 4, "stack": 2},
    }
    found = []
    for count in (1, 2):
        asked, kept = config(mnist1d, tmp_path / str(count), **sections), []
        asked["measures"] = MeasuresConfig().model_dump()
        result = trained(company(mnist1d, count), asked, mnist1d, kept)
        found.append(parts(result["finished"], [piece for piece in kept if piece.final]))
    (one, one_arrays, one_state), (two, two_arrays, two_state) = found
    for name, tensor in one_state["trainer"]["cohort"].items():
        assert torch.equal(tensor, two_state["trainer"]["cohort"][name]), name
    assert one["replica_values"] == two["replica_values"]
    for name, values in one_arrays.items():
        assert np.array_equal(values, two_arrays[name], equal_nan=True), name


def test_each_worker_holds_its_own_replicas_alone(mnist1d, tmp_path):
    made = company(mnist1d, 3)
    trained(made, config(mnist1d, tmp_path, **SECTIONS), mnist1d, after=1)
    for number, hand in enumerate(made.hands):
        trial = hand.shard.trial
        assert (hand.shard.first, hand.shard.beyond) == (2 * number, 2 * number + 2)
        held = {**trial.trainer.cohort.parameters, **trial.trainer.cohort.buffers}
        assert {len(tensor) for tensor in held.values()} == {2}
        assert trial.members.base is None, "a view would keep the subsets of all"
        assert len(trial.members) == len(trial.trainer.members) == 2


@pytest.mark.parametrize(("before", "after"), [(3, 2), (2, 3), (1, 2), (2, 1), (3, 1)])
@pytest.mark.parametrize("sections", [SECTIONS, STOPPING], ids=["to the end", "early stopping"])
def test_it_goes_on_with_another_number_of_workers(
    mnist1d, alone, tmp_path, before, after, sections
):
    """From the checkpoints that a store kept, when its workers had come to different steps."""
    store = checkpoints.Store(tmp_path / "kept", keep=2, largest_bytes=1e9)
    asked = config(mnist1d, tmp_path, every_s=1e-9, **sections)
    first = company(mnist1d, before)
    first.begin(asked, mnist1d)
    for step in range(4):
        for number, hand in enumerate(first.hands):
            if step > number:  # one is ahead of the other
                for piece in hand.heard(10.0)[1]:
                    assert store.save(0, piece)
    pieces = store.newest(0, config=asked["about"]["config"])
    assert {(p.first, p.stop) for p in pieces} == {
        (hand.shard.first, hand.shard.beyond) for hand in first.hands
    }
    assert len({piece.step for piece in pieces}) == before
    asked = config(mnist1d, tmp_path, **sections) | {"restore": pieces}
    kept: list[Saved] = []
    result = trained(company(mnist1d, after), asked, mnist1d, kept)
    assert_same(parts(result["finished"], [p for p in kept if p.final]), alone(sections))


def test_an_actor_alone_goes_on_where_several_workers_were(mnist1d, alone, tmp_path):
    asked = config(mnist1d, tmp_path, every_s=1e-9, **SECTIONS)
    for ahead in (1, 2):
        first, kept = company(mnist1d, 2), []
        first.begin(asked, mnist1d)
        for hand, times in zip(first.hands, (2, 1 + ahead), strict=True):
            for _ in range(times):
                newest = hand.heard(10.0)[1]
            kept += newest
        whole = actor(mnist1d, tmp_path, **SECTIONS)
        whole.config = asked | {"restore": kept, "in_turns": False}
        whole.reset_config(whole.config)
        assert (whole.company is None) == (ahead == 1), "of one step, they are trained together"
        finals: list[Saved] = []
        while not (result := whole.step()).get("done"):
            finals += [piece for piece in result.get("saved", ()) if piece.final]
        assert_same(parts(result["finished"], result["finished"].final or finals), alone(SECTIONS))


def test_replicas_in_turns_end_as_those_trained_together(mnist1d, alone, tmp_path, monkeypatch):
    """There is room for the states of two: three turns, and the weights of one at a time."""
    each = memory.state_bytes(int(alone(SECTIONS)[0]["parameters"]))
    monkeypatch.setattr(memory, "room", lambda *about: 2.5 * each)
    whole = actor(mnist1d, tmp_path, **SECTIONS)
    whole.config = config(mnist1d, tmp_path, **SECTIONS)
    whole.reset_config(whole.config)
    notes, finals, held = [], [], set()
    while not (result := whole.step()).get("done"):
        notes += result["notes"]
        finals += [piece for piece in result.get("saved", ()) if piece.final]
        shard = whole.company.here.shard
        if shard.trial is not None:
            held.add((shard.first, shard.beyond))
    assert held == {(0, 2), (2, 4), (4, 6)}
    assert [(p.first, p.stop) for p in finals] == [(0, 2), (2, 4), (4, 6)]
    assert notes == ["no room for the states of 6 replicas at once: 2 in turn"]
    assert_same(parts(result["finished"], finals), alone(SECTIONS))
    assert result["finished"].record["turns"] == 3


def test_what_a_turn_ended_in_is_not_trained_again(mnist1d, alone, tmp_path):
    """Interrupted in the second of three turns."""
    asked = config(mnist1d, tmp_path, **SECTIONS) | {"held": 2}
    store = checkpoints.Store(tmp_path / "kept", keep=2, largest_bytes=1e9)
    first = company(mnist1d, 1)
    first.begin(asked, mnist1d)
    while len(first.here.shard.turns) > 2:
        for piece in first.step().get("saved", ()):
            assert store.save(0, piece)
    first.step()
    pieces = store.newest(0, config=asked["about"]["config"])
    assert [(p.first, p.stop, p.final) for p in pieces] == [(0, 2, True)]
    again, kept = company(mnist1d, 2), []
    asked |= {"restore": pieces}
    again.begin(asked, mnist1d)
    assert [(t.first, t.stop, t.over) for t in again.here.shard.turns] == [
        (0, 2, True),
        (2, 3, False),
    ]
    result = trained(again, asked, mnist1d, kept)
    finals = [piece for piece in kept if piece.final]
    assert_same(parts(result["finished"], finals), alone(SECTIONS))
    store = checkpoints.Store(tmp_path / "finals", keep=2, largest_bytes=1e9)
    for piece in kept:
        store.save(0, piece)
    store.finish(0, result["finished"].final)
    state = checkpoint.decode(store.final(0) or b"")[0]
    assert states.replicas(state) == REPLICAS


def test_out_of_memory_with_one_at_a_time_trains_some_and_then_others(
    mnist1d, alone, tmp_path, monkeypatch
):
    """Memory holds the states of three replicas, which no estimate foresaw."""
    from engram.sweeps.trial import preparing

    expected, make = alone(SECTIONS), preparing.make_cohort

    def short(configuration, dataset, device, first=0, purpose="init", stop=None):
        if (stop or configuration.replicas.count) - first > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return make(configuration, dataset, device, first, purpose, stop)

    monkeypatch.setattr(preparing, "make_cohort", short)
    whole = actor(mnist1d, tmp_path, **SECTIONS)
    whole.config = config(mnist1d, tmp_path, **SECTIONS)
    whole.reset_config(whole.config)
    notes, finals = [], []
    while not (result := whole.step()).get("done"):
        assert "failure" not in result, result["failure"]
        notes += result["notes"]
        finals += [piece for piece in result.get("saved", ()) if piece.final]
    assert any("then others" in note for note in notes)
    assert [(p.first, p.stop) for p in finals] == [(0, 3), (3, 6)]
    assert_same(parts(result["finished"], finals), expected)


def test_a_checkpoint_that_is_too_large_is_not_made_at_all(mnist1d, tmp_path, monkeypatch):
    asked = config(mnist1d, tmp_path, every_s=1e-9, **SECTIONS)
    asked["checkpoint"] = CheckpointConfig(every_s=1e-9, max_mb=0.001).model_dump()
    monkeypatch.setattr(checkpoint, "encode", lambda *about: pytest.fail("it was made"))
    made, kept = company(mnist1d, 2), []
    trained(made, asked, mnist1d, kept)
    assert not kept
    assert sum("over checkpoint.max_mb" in note for note in made.taken_notes()) >= 1


def test_a_large_checkpoint_is_made_in_pieces(mnist1d, tmp_path, monkeypatch):
    from engram.sweeps.cluster import attempt

    monkeypatch.setattr(attempt, "PIECE", 1)  # of one replica each
    whole = actor(mnist1d, tmp_path, every_s=1e-9, **SECTIONS)
    pieces = whole.step()["saved"]
    assert [(p.first, p.stop) for p in pieces] == [(r, r + 1) for r in range(REPLICAS)]
    again = actor(mnist1d, tmp_path, **SECTIONS)
    again.config |= {"restore": pieces}
    again.reset_config(again.config)
    assert again.company is None
    again.step()
    assert again.trial.history[0].step < again.trial.trainer.step
    for name, tensor in states.joined([checkpoint.decode(p.data)[0] for p in pieces])["trainer"][
        "cohort"
    ].items():
        assert len(tensor) == REPLICAS, name


def test_replicas_are_grouped_by_the_step_that_they_go_on_from():
    at = [Saved(8, b"", 0, 3), Saved(8, b"", 3, 4), Saved(4, b"", 4, 8), Saved(2, b"", 0, 8)]
    found = turns([(0, 6)], at, None)
    assert [(t.first, t.stop, [p.step for p in t.pieces]) for t in found] == [
        (0, 4, [8, 8]),
        (4, 6, [4]),
    ]
    assert turns([(0, 2), (5, 7)], [], None) == [Turn(0, 2), Turn(5, 7)]
    assert [(t.first, t.stop) for t in turns([(0, 5)], [], 2)] == [(0, 2), (2, 4), (4, 5)]


@pytest.mark.parametrize(
    ("trials", "slots", "count", "expected"),
    [(1, 8, 64, 8), (2, 8, 64, 4), (8, 8, 64, 1), (1, 8, 16, 2), (1, 8, 8, 1), (None, 8, 64, 1)],
)
def test_auto_takes_what_would_stand_idle_for_eight_replicas_and_more(
    trials, slots, count, expected
):
    study = studies.load(
        {"name": "s", "replicas": {"count": count}, "resources": {"workers": "auto"}}
    )
    assert workers(study, trials, slots) == expected


def test_more_workers_than_replicas_are_refused():
    with pytest.raises(StudyError, match="more workers than it has: 4") as raised:
        studies.load({"name": "s", "replicas": {"count": 4}, "resources": {"workers": 5}})
    assert "resources.workers" in str(raised.value)


def test_learners_are_trained_side_by_side(tmp_path):
    digits = catalog.load(DataConfig(name="digits"), pool_size=None, seed=0, cache=None)
    sections = {
        "data": {"name": "digits", "train_size": 150},
        "model": {"family": "sklearn.tree:DecisionTreeClassifier"},
        "replicas": {"count": 5},
    }
    whole = actor(digits, tmp_path, **sections)
    while not (result := whole.step()).get("done"):
        assert "failure" not in result
    expected = result["finished"].record
    asked = dict(whole.config)
    found = trained(company(digits, 3), asked, digits)["finished"].record
    assert found["replica_values"] == expected["replica_values"]
    assert found["measures"] == expected["measures"]
    assert found["way"] == "learner"
