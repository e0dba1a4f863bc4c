"""Runs benchmarks: python -m benchmarks [study|training|orchestration|scale|shards|gpu|table ...], all but gpu without a word.

Each writes benchmarks/results/NAME.json; `table` puts what is there into docs/performance.md, and follows
each of the others. --device cuda trains on a GPU; --quick is for trying the benchmarks themselves.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks import gpu, orchestration, scale, shards, study, tables, training

PARTS = ("study", "training", "orchestration", "scale", "shards", "gpu", "table")
DEFAULT = tuple(part for part in PARTS if part != "gpu")


def _quick_gpu() -> tuple[str, gpu.Sizes, Path]:
    """Of a CPU, and written elsewhere: it is no evidence."""
    return "cpu", gpu.QUICK, Path(tempfile.mkdtemp(prefix="engram-benchmark-"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--device", default="cpu", help="cpu or cuda, for training")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes: minutes, and no evidence"
    )
    asked = parser.parse_args()
    unknown = set(asked.parts) - set(PARTS)
    if unknown:
        parser.error(
            f"no benchmark is called {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}"
        )
    parts = asked.parts or DEFAULT
    bodies: dict[str, Callable[[], None]] = {
        "orchestration": lambda: orchestration.main(*((150, 100, 1000) if asked.quick else ())),
        "scale": lambda: scale.main(*([(10_000, 100_000)] if asked.quick else ())),
        "shards": lambda: shards.main(*((1, 2) if asked.quick else ())),
        "training": lambda: training.main(asked.device, *((1, (1, 8, 64)) if asked.quick else ())),
        "study": lambda: study.main(*([("feedforward",)] if asked.quick else ())),
        "gpu": lambda: gpu.main(*(_quick_gpu() if asked.quick else ())),
        "table": lambda: None,
    }
    for name, body in bodies.items():
        if name in parts:
            body()
            tables.update()


if __name__ == "__main__":  # not in the processes that gpu starts
    main()
