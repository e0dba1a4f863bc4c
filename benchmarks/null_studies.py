"""Studies in which nothing, or one setting of two, matters: what is claimed of what does not, under each sampler.

The sampler, its ledger, boards, answers and importance are those of a study; trials are made up instead of trained."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from engram.measures.intervals import t_interval
from engram.sweeps.results import across, asked
from engram.sweeps.results.evidence import Evidence
from engram.sweeps.search.search import Search
from engram.sweeps.study import loading

SAMPLERS = ("grid", "random", "tpe", "gp", "cmaes", "nsga2")
ROUNDS, TRIALS, REPLICAS = 200, 20, 8
LISTS = {"model.dropout": [0.0, 0.1, 0.2, 0.3, 0.4], "training.lr": [1e-3, 3e-3, 1e-2, 3e-2]}
RANGES = {
    "model.dropout": {"uniform": [0.0, 0.5]},
    "training.lr": {"loguniform": [1e-3, 1e-1]},
}
MATTERS, NULL = "model.dropout", "training.lr"


def null(scale: float, samplers: tuple[str, ...] = SAMPLERS) -> list[dict[str, Any]]:
    """Share of studies that claim something of what does not matter: a board of more than one group, an answer, a finding,
    where nothing matters; and an answer for the one of two settings that does not, where the other does."""
    found = []
    for sampler in samplers:
        share = 0.4 if sampler == "gp" else 1.0  # it takes five times as long
        rounds, said = max(5, round(ROUNDS * share * scale)), Counter[str]()
        for seed in range(rounds):
            nothing = evidence(sampler, seed, 0.0)
            board = nothing.board
            groups = {row.tie_group for row in board.rows} if board else set()
            claims = {
                "board": len(groups) > 1,
                "answer": any(_claimed(effect) for effect in asked.effects(nothing)),
                "finding": bool(across.findings(nothing.records)),
            }
            said.update(name for name, claimed in claims.items() if claimed)
            one = asked.effects(evidence(sampler, seed, 0.2))
            said["null setting"] += any(_claimed(e) for e in one if e.axis == NULL)
            said["other found"] += any(_claimed(e) for e in one if e.axis == MATTERS)
        names = ("board", "answer", "finding", "null setting", "other found")
        found.append(
            {"sampler": sampler, "studies": rounds} | {name: said[name] / rounds for name in names}
        )
    return found


def _claimed(effect: asked.Effect) -> bool:
    """`no` counts where a step went the other way; that nothing changes within the margin is true here."""
    moved = any(step.way in ("lower", "higher") for step in effect.steps)
    return effect.word in ("yes", "depends", "which") or (effect.word == "no" and moved)


def evidence(sampler: str, seed: int, slope: float) -> Evidence:
    """A study run to its end on made-up trials, whose errors rise with dropout by this slope."""
    definition = {
        "name": "null",
        "replicas": {"count": REPLICAS},
        "sweep": LISTS if sampler == "grid" else RANGES,
        "search": {
            "sampler": sampler,
            "seed": seed,
            "trials": None if sampler == "grid" else TRIALS,
        },
    }
    study = loading.load(definition)
    random = np.random.default_rng([seed, 1])
    subsets = 0.02 * random.normal(size=REPLICAS)
    with tempfile.TemporaryDirectory() as folder:
        search = Search(study, Path(folder) / "journal")
        while (proposal := search.ask()) is not None:
            error = 0.3 + slope * proposal.params[MATTERS]
            search.tell(proposal.number, _record(proposal, error + subsets, random))
        records = search.records()
        search.close()
    return Evidence("null", records, {"definition": study.model_dump(mode="json")})


def _record(proposal: Any, errors: np.ndarray, random: np.random.Generator) -> dict[str, Any]:
    def noise(sd: float) -> np.ndarray:
        return sd * random.normal(size=REPLICAS)

    own = errors + noise(0.02)
    train = 0.1 + noise(0.01)
    values = {
        "validation_error": own + noise(0.01),
        "test_error": own + noise(0.01),
        "train_error": train,
        "generalization_gap": own - train,
        "bias2": own / 2 + noise(0.01),
        "variance": own / 3 + noise(0.01),
    }
    spans = {name: t_interval(each) for name, each in values.items()}
    return {
        "trial": proposal.number,
        "params": proposal.params,
        "config_hash": proposal.configuration.hash,
        "status": "completed",
        "task": "classification",
        "replicas": REPLICAS,
        "parameters": 1000,
        "train_examples": 1000,
        "chance_error": 0.9,
        "measures": {n: {"mean": s.mean, "low": s.low, "high": s.high} for n, s in spans.items()},
        "replica_values": {name: each.tolist() for name, each in values.items()},
        "selection": {"validation_error": spans["validation_error"].mean},
        "warnings": [],
    }
