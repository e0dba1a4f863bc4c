"""Early stopping by hand: who improved, how long each waited, and whose weights are kept."""

from __future__ import annotations

import torch

from engram.models.early_stopping import EarlyStopping


def run(patience: int, *losses: list[float]) -> EarlyStopping:
    """Losses of the replicas at evaluations 1, 2, ...; weights are the number of the evaluation."""
    made = EarlyStopping(patience, len(losses[0]))
    for step, loss in enumerate(losses, 1):
        weights = {"w": torch.full((len(loss), 2), float(step))}
        made.update(torch.tensor(loss, dtype=torch.float64), step, weights)
    return made


def test_a_replica_stops_after_so_many_evaluations_without_a_better_loss():
    two = run(2, [0.5, 0.5], [0.6, 0.4])
    assert two.stopped.tolist() == [False, False], "one evaluation was no better"
    three = run(2, [0.5, 0.5], [0.6, 0.4], [0.5, 0.3])
    assert three.stopped.tolist() == [True, False], "as good is no better"
    assert three.waited.tolist() == [2, 0]
    assert run(3, [0.5], [0.6], [0.5]).stopped.tolist() == [False]
    assert run(1, [0.5], [0.5]).stopped.tolist() == [True]


def test_it_keeps_its_best_weights_and_does_not_go_on():
    found = run(2, [0.5, 0.5], [0.4, 0.6], [0.6, 0.7], [0.7, 0.1], [0.1, 0.1])
    assert found.best_loss.tolist() == [0.4, 0.5]
    assert found.best_step.tolist() == [2, 1]
    assert found.best["w"].tolist() == [[2, 2], [1, 1]]
    assert found.stopped.tolist() == [True, True]


def test_a_diverged_loss_is_no_better():
    found = run(2, [0.5], [float("nan")], [float("nan")])
    assert found.stopped.tolist() == [True]
    assert found.best_loss.tolist() == [0.5]


def test_it_goes_on_from_its_state():
    whole = run(2, [0.5, 0.5], [0.4, 0.6], [0.6, 0.4])
    first = run(2, [0.5, 0.5], [0.4, 0.6])
    again = EarlyStopping(2, 2)
    again.load_state_dict(first.state_dict(), torch.device("cpu"))
    again.update(torch.tensor([0.6, 0.4], dtype=torch.float64), 3, {"w": torch.full((2, 2), 3.0)})
    for name, value in whole.state_dict()["early_stopping"].items():
        assert torch.equal(value, again.state_dict()["early_stopping"][name])
    assert torch.equal(whole.best["w"], again.best["w"])
