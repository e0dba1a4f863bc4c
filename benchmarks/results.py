"""What a benchmark leaves behind: machine, versions, n, median and spread as JSON, and a table of ratios."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.running.provenance import collect

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
    def spread(self) -> float:
        """Half the distance between the quartiles, as a share of the median."""
        low, _, high = statistics.quantiles(self.values, n=4)
        return (high - low) / 2 / self.median


def write(name: str, results: Sequence[Result]) -> Path:
    """benchmarks/results/NAME.json, with where and when it was measured."""
    found = {
        "measured": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0],
        "node": platform.machine(),
        **{k: v for k, v in collect({}).items() if k.startswith(("version", "machine", "python"))},
        "results": [
            {**r.what, "unit": r.unit, "n": len(r.values), "median": r.median, "spread": r.spread}
            for r in results
        ],
    }
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.json"
    path.write_text(json.dumps(found, indent=1) + "\n")
    return path


def table(results: Sequence[Result], rows: Sequence[str], column: str, baseline: str) -> str:
    """Markdown: medians, and in brackets how many times faster than the baseline in the same row."""
    columns = list(dict.fromkeys(r.what[column] for r in results))
    lines = [f"| {' | '.join([*rows, *columns])} |", "|" + "---|" * (len(rows) + len(columns))]
    keys = list(dict.fromkeys(tuple(r.what[k] for k in rows) for r in results))
    for key in keys:
        row = {r.what[column]: r for r in results if tuple(r.what[k] for k in rows) == key}
        cells = [_cell(row.get(c), row[baseline]) for c in columns]
        lines.append(f"| {' | '.join([*map(str, key), *cells])} |")
    return "\n".join(lines)


def _cell(result: Result | None, baseline: Result) -> str:
    if result is None:
        return "–"
    ratio = "" if result is baseline else f" ({baseline.median / result.median:.2f}×)"
    return f"{result.median:.0f} ± {100 * result.spread:.0f} %{ratio}"
