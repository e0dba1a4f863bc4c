"""What is written down of trials that ended otherwise than by being measured, and in which form results leave."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import numpy as np

LOOKED_AT = 50  # times the room: an array larger than this is not packed to see whether it fits


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


def grouped(group: str, metrics: Mapping[str, Any]) -> dict[str, float]:
    """Metrics under the name of a group, as MLflow's pages group their charts; those without a value left out."""
    return {f"{group}/{name}": value for name, value in metrics.items() if value is not None}


def final_metrics(record: dict) -> dict[str, float]:
    """Each measure (final/NAME) and the ends of its intervals: interval/NAME_low and interval/NAME_high for
    retraining, interval/NAME_new_data_low and interval/NAME_new_data_high for new data."""
    final: dict[str, Any] = {}
    ends: dict[str, Any] = {}
    for name, measure in record["measures"].items():
        if measure:
            final[name] = measure["mean"]
            ends[f"{name}_low"], ends[f"{name}_high"] = measure["low"], measure["high"]
    final |= {name: record[name] for name in ("seconds", "parameters") if name in record}
    known = (record.get("new_data") or {}).items()
    ends |= {f"{name}_new_data_{end}": value for name, wide in known for end, value in wide.items()}
    return {**grouped("final", final), **grouped("interval", ends)}


def fitting(arrays: dict[str, np.ndarray], room: int) -> tuple[dict[str, np.ndarray], list[str]]:
    """Those that fit into so many bytes as they are written down, the smallest first, and the names of the rest."""
    kept, left_out = {}, []
    for name in sorted(arrays, key=lambda name: arrays[name].nbytes):
        size = (
            len(packed({name: arrays[name]}))
            if arrays[name].nbytes < LOOKED_AT * room
            else room + 1
        )
        if size <= room:
            kept[name] = arrays[name]
            room -= size
        else:
            left_out.append(name)
    return {name: array for name, array in arrays.items() if name in kept}, sorted(left_out)


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    """Arrays as the bytes of a compressed NPZ file without pickle."""
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **arrays)
    return file.getvalue()
