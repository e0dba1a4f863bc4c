"""What a benchmark leaves behind: machine, versions, n, median and spread as JSON, and a table of ratios."""

from __future__ import annotations

import json
import math
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from engram.sweeps.state.provenance import collect

FOLDER = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Result:
    """Repeated measurements of one way of doing one thing."""

    what: dict[str, Any]
    unit: str
    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> float | None:
        """Half the distance between the quartiles, as a share of the median; None for one value."""
        if len(self.values) < 2 or not self.median:
            return None
        low, _, high = statistics.quantiles(self.values, n=4)
        return (high - low) / 2 / self.median


def say(line: str) -> None:
    """Progress, for people."""
    print(line, flush=True)


def write(name: str, results: Sequence[Result], folder: Path = FOLDER) -> Path:
    """NAME.json in benchmarks/results, with where and when it was measured."""
    found = {
        "measured": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0],
        "node": platform.machine(),
        **{k: v for k, v in collect({}).items() if k.startswith(("version", "machine", "python"))},
        "machine.gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "results": [
            {
                **r.what,
                "unit": r.unit,
                "n": len(r.values),
                "median": _rounded(r.median),
                "spread": _rounded(r.spread),
            }
            for r in results
        ],
    }
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    return path


def _rounded(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(f"{value:.4g}")
