"""Evidence that no training is needed for: records and arrays as a study would have left them."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from engram.sweeps.results.evidence import Evidence
from engram.sweeps.study.configuration import Study
from engram.sweeps.study.sections import Values

REPLICAS, EPOCHS, POOL, TEST, CLASSES = 8, 10, 300, 40, 3
MEASURES = ("train_error", "validation_error", "test_error", "bias2", "variance", "memorization")


def study(axes: dict[str, list], **sections: Any) -> Study:
    sweep = {key: Values(values=tuple(values)) for key, values in axes.items()}
    question = sections.pop("question", "Does it <b>help</b>?")
    return Study(name="invented", question=question, sweep=sweep, **sections)


def record(
    number: int, params: dict[str, Any], level: float, config_hash: str = ""
) -> dict[str, Any]:
    """A completed trial whose errors are about `level`; lower levels are better."""
    generator = np.random.default_rng(17)  # the same replicas in every trial: differences are exact
    values = {name: level + 0.01 * generator.normal(size=REPLICAS) for name in MEASURES}
    values["train_error"] = values["train_error"] / 2
    values["generalization_gap"] = values["test_error"] - values["train_error"]
    values["membership_auc"] = 0.5 + values["variance"] / 4
    return {
        "trial": number,
        "params": params,
        "config_hash": config_hash or f"{number:012x}",
        "run_id": f"run{number}",
        "status": "completed",
        "task": "classification",
        "replicas": REPLICAS,
        "parameters": 1000,
        "epochs": EPOCHS,
        "steps": 10 * EPOCHS,
        "seconds": 1.5,
        "train_examples": params.get("data.train_size", 100),
        "pool_examples": POOL,
        "chance_error": 0.9,
        "censored_replicas": 0,
        "measures": {name: _measure(v) for name, v in values.items()},
        "replica_values": {name: v.tolist() for name, v in values.items()},
        "selection": {"validation_error": float(values["validation_error"].mean())},
        "warnings": [],
        "test_sampling_se": {"squared_risk": 0.01},
    }


def _measure(values: np.ndarray) -> dict[str, float]:
    half = 2.365 * values.std(ddof=1) / np.sqrt(len(values))
    return {
        "mean": float(values.mean()),
        "low": float(values.mean() - half),
        "high": float(values.mean() + half),
    }


def lost(number: int, params: dict[str, Any], status: str, config_hash: str) -> dict[str, Any]:
    """A trial that failed, diverged altogether, or was pruned after three epochs."""
    whole = record(number, params, 0.8, config_hash)
    if status == "failed":
        kept = ("trial", "params", "config_hash", "run_id")
        found = {key: whole[key] for key in kept}
        found |= {
            "measures": {},
            "replica_values": {},
            "selection": {},
            "warnings": [],
            "error": "RuntimeError: <i>no</i> luck",
        }
    elif status == "diverged":
        found = {
            **whole,
            "measures": dict.fromkeys(MEASURES),
            "replica_values": {},
            "selection": {},
            "diverged_replicas": REPLICAS,
            "epochs": 2,
        }
    else:
        measures = {
            name: whole["measures"][name]
            for name in ("validation_error", "test_error", "train_error")
        }
        found = {**whole, "measures": measures, "replica_values": {}, "epochs": 3}
        del found["train_examples"], found["pool_examples"]
    return {**found, "status": status}


def arrays(record: dict[str, Any]) -> dict[str, np.ndarray]:
    """What a trial keeps besides its record."""
    generator = np.random.default_rng(record["trial"])
    falling = np.linspace(1, 0, EPOCHS)[:, None] + 0.02 * generator.normal(size=(EPOCHS, REPLICAS))
    member = generator.random((REPLICAS, POOL)) < 0.5
    ends = {name: record["measures"][f"{name}_error"]["mean"] for name in ("train", "test")}
    kept = {
        f"{name}_error_curve": (end + 0.3 * falling).astype(np.float32)
        for name, end in ends.items()
    }
    return {
        **kept,
        "epochs": np.arange(1, EPOCHS + 1),
        "memorization": generator.uniform(-0.2, 1, POOL).astype(np.float32),
        "most_memorized_inputs": generator.normal(size=(20, 40)).astype(np.float32),
        "most_memorized_targets": generator.integers(0, CLASSES, 20),
        "pool_wrong": np.zeros(POOL, bool),
        "confidence": (generator.normal(size=(REPLICAS, POOL)) + member).astype(np.float16),
        "member": np.packbits(member, axis=1),
    }


def evidence(
    axes: dict[str, list],
    level=lambda params: 0.5,
    statuses: dict[int, str] | None = None,
    with_arrays: bool = True,
    **sections: Any,
) -> Evidence:
    """A whole grid; level(params): the error of a trial; statuses: of trials that did not complete."""
    made = study(axes, **sections)
    records = []
    for number, values in enumerate(itertools.product(*axes.values())):
        params = dict(zip(axes, values, strict=True))
        status = (statuses or {}).get(number, "completed")
        config_hash = made.configure(params).hash
        records.append(
            record(number, params, level(params), config_hash)
            if status == "completed"
            else lost(number, params, status, config_hash)
        )
    info = {
        "study": "invented",
        "question": made.question,
        "started": 1.8e9,
        "overrides": ["replicas.count=8"],
    }
    return Evidence(
        "invented",
        records,
        {**info, "definition": made.model_dump(mode="json")},
        {
            "git.commit": "0123abc",
            "git.dirty": False,
            "python": "3.11",
            "data.digest.mnist1d": "feed",
        },
        "name: invented\n",
        arrays if with_arrays else lambda r: None,
    )
