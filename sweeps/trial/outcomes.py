"""What is written down of trials that ended otherwise than by being measured, and in which form results leave."""

from __future__ import annotations

import io
from typing import Any

import numpy as np


def failed(why: str) -> dict[str, Any]:
    """The record of a trial that failed for good."""
    return {
        "status": "failed",
        "measures": {},
        "replica_values": {},
        "selection": {},
        "warnings": [],
        "error": why,
    }


def pruned(progress: Any, replicas: int) -> dict[str, Any]:
    """The record of a trial that the scheduler stopped after this progress."""
    return {
        "status": "pruned",
        "replicas": replicas,
        "epochs": progress.epoch,
        "steps": progress.step,
        "seconds": round(progress.seconds, 4),
        "measures": progress.intervals,
        "replica_values": {},
        "selection": {k: v for k, v in progress.metrics.items() if np.isfinite(v)},
        "warnings": [],
    }


def final_metrics(record: dict) -> dict[str, float]:
    """Each measure with its interval, under the names of the contract."""
    metrics = {}
    for name, measure in record["measures"].items():
        if measure:
            metrics[name] = measure["mean"]
            metrics[f"{name}_low"], metrics[f"{name}_high"] = measure["low"], measure["high"]
    for name in ("seconds", "parameters"):
        if name in record:
            metrics[name] = record[name]
    return {k: v for k, v in metrics.items() if v is not None}


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    """Arrays as the bytes of a compressed NPZ file without pickle."""
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()
