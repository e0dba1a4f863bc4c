"""The learning curves of finished trials, kept beside the ledger.

So that a trial whose run is lost can be recorded again as a whole, whatever became of the store.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from engram.sweeps.state import journal
from engram.sweeps.trial.record_writer import shortened

FILE = "curves.jsonl"
Points = dict[int, dict[str, float]]  # {epoch: {metric: mean over replicas}}


class Curves:
    """The curves of an execution's finished trials, one line a trial. folder: the execution's.

    Called from the driver's thread; `read` from any.
    """

    def __init__(self, folder: Path):
        self.path = folder / FILE
        self._journal: journal.Journal | None = None
        self._running: dict[int, Points] = {}

    def add(self, trial: int, epoch: int, metrics: dict[str, float]) -> None:
        """An evaluation of a running trial; after an interruption it tells of all of them again."""
        self._running.setdefault(trial, {})[epoch] = metrics

    def forget(self, trial: int) -> None:
        """An attempt came to nothing."""
        self._running.pop(trial, None)

    def keep(self, trial: int, config_hash: str) -> None:
        """The trial is over."""
        points = self._running.pop(trial, None)
        if points:
            self._journal = self._journal or journal.Journal(self.path)
            epochs = sorted(points)
            names = dict.fromkeys(name for metrics in points.values() for name in metrics)
            curves = {
                name: [_finite(points[epoch].get(name)) for epoch in epochs] for name in names
            }
            line = {"trial": trial, "hash": config_hash, "epochs": epochs, "curves": curves}
            self._journal.append([line])

    def read(self, trials: set[int]) -> dict[tuple[int, str], Points]:
        """The curves of these trials, by trial and configuration, where they were kept."""
        found: dict[tuple[int, str], Points] = {}
        if not trials or not self.path.exists():
            return found
        for line, _ in journal.read(self.path):
            if line is not None and line["trial"] in trials:
                found[line["trial"], line["hash"]] = {
                    epoch: {
                        name: values[place]
                        for name, values in line["curves"].items()
                        if values[place] is not None
                    }
                    for place, epoch in enumerate(line["epochs"])
                }
        return found

    def close(self) -> None:
        if self._journal is not None:
            self._journal.close()
            self._journal = None


def curves_of(arrays: Path | None) -> Points:
    """Means over replicas by epoch from the arrays of a trial: an execution of an older version kept no others."""
    if arrays is None:
        return {}
    try:
        with np.load(arrays, allow_pickle=False) as file:
            epochs = file["epochs"].tolist()
            kept = {
                name.removesuffix("_curve"): file[name].astype(np.float64)
                for name in file.files
                if name.endswith(("_error_curve", "_loss_curve"))
            }
    except (OSError, ValueError, EOFError, KeyError):
        return {}
    if "test_error" in kept and "train_error" in kept:
        kept["generalization_gap"] = kept["test_error"] - kept["train_error"]
    points: Points = {}
    for place, epoch in enumerate(epochs):
        rows = {name: values[place][np.isfinite(values[place])] for name, values in kept.items()}
        points[int(epoch)] = {name: shortened(row.mean()) for name, row in rows.items() if row.size}
    return points


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None
