"""The tables of docs/performance.md, made from benchmarks/results/*.json: python -m benchmarks table."""

from __future__ import annotations

import json
import re
from typing import Any

from benchmarks.results import FOLDER

PAGE = FOLDER.parent.parent / "docs" / "performance.md"
MARK = re.compile(r"(<!-- table: (\S+) -->\n).*?(<!-- end -->)", re.S)
WAYS = {
    "engram": "Engram: ledger, measures, MLflow, report",
    "leaderboards": "Engram, until its leaderboards stand",
    "bare": "bare loop, a process per core",
    "optuna": "Optuna alone, a process per core",
    "shared": "Ray Tune, `reuse_actors`, data shared",
    "stock": "Ray Tune, the stock recipe",
}
Row = dict[str, Any]


def update() -> None:
    """Put the newest results into the page; a benchmark that has none keeps its words."""
    page = PAGE.read_text()
    PAGE.write_text(MARK.sub(lambda m: f"{m[1]}{_table(m[2]) or ''}{m[3]}", page))


def _table(name: str) -> str | None:
    path = FOLDER / f"{name}.json"
    if not path.exists():
        return "\nNot measured yet.\n\n"
    found = json.loads(path.read_text())
    kind = name.partition("-")[0]
    lines = {
        "study": _study,
        "training": _training,
        "orchestration": _orchestration,
        "scale": _scale,
        "shards": _shards,
        "gpu": _gpu,
    }[kind](found["results"])
    gpu = f"{found['machine.gpu']}, " if found.get("machine.gpu") else ""
    versions = ", ".join(
        f"{name} {found[f'version.{name.lower()}']}"
        for name in ("torch", "Ray", "Optuna", "MLflow")
        if found[f"version.{name.lower()}"]
    )
    where = (
        f"{found['measured']}, {gpu}{found['machine.processor']}, {found['machine.cores']} cores, load "
        f"{found['load']:.1f} at the end; Python {found['python']}, {versions}"
    )
    return "\n" + "\n".join(lines) + f"\n\n({where})\n\n"


def _rows(head: list[str], rows: list[list[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        "|---" + "|---:" * (len(head) - 1) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]


def _number(row: Row | None) -> str:
    """The median, with the spread where there are several values."""
    if row is None:
        return "–"
    spread = f" ± {100 * row['spread']:.0f} %" if row["spread"] is not None else ""
    return f"{row['median']:,.3g}{spread}"


def _study(results: list[Row]) -> list[str]:
    families = list(dict.fromkeys(r["network"] for r in results))
    by = {(r["network"], r["way"]): r for r in results}
    rows = []
    for way, words in WAYS.items():
        cells = []
        for family in families:
            row, own = by.get((family, way)), by[family, "engram"]
            ratio = f" ({row['median'] / own['median']:.2f}×)" if row and way != "engram" else ""
            cells.append(_number(row) + ratio)
        rows.append([words, *cells])
    share = [_number(by.get((family, "engram: MLflow's CPU time"))) for family in families]
    rows.append(["of Engram's time, MLflow's CPU time, %", *share])
    return _rows(["seconds of the whole study", *families], rows)


def _training(results: list[Row]) -> list[str]:
    machine = [
        f"{r['way']} {r['median']:.3g} {r['unit']}" for r in results if r["network"] == "machine"
    ]
    results = [r for r in results if r["network"] != "machine"]
    ways = list(dict.fromkeys(r["way"] for r in results))
    rows = []
    for network, count in dict.fromkeys((r["network"], r["R"]) for r in results):
        there = {r["way"]: r for r in results if (r["network"], r["R"]) == (network, count)}
        best = max(there.values(), key=lambda r: r["median"])
        limits = f"{100 * best['share_of_arithmetic']:.0f} %, {100 * best['share_of_memory']:.0f} %"
        rows.append([network, str(count), *(_number(there.get(way)) for way in ways), limits])
    head = ["replicas/s", "R", *ways, "of the arithmetic and memory limits"]
    return [f"Limits measured beside it: {', '.join(machine)}.", "", *_rows(head, rows)]


def _gpu(results: list[Row]) -> list[str]:
    check = next(r for r in results if r["way"] == "check")["median"]
    passed = "were skipped" if check is None else f"{100 * check:.0f} % pass"
    results = [r for r in results if r["way"] != "check"]
    ways = list(dict.fromkeys(r["way"] for r in results))
    rows = []
    for network, count in dict.fromkeys((r["network"], r["R"]) for r in results):
        there = {r["way"]: r for r in results if (r["network"], r["R"]) == (network, count)}
        rows.append([network, str(count), *(_number(there.get(way)) for way in ways)])
    head = ["replicas/s", "R", *ways]
    return [f"Tests that compare it with the CPU: {passed}.", "", *_rows(head, rows)]


def _orchestration(results: list[Row]) -> list[str]:
    head = ["", "median", "unit", "n"]
    rows = [[f"{r['group']}: {r['what']}", _number(r), r["unit"], str(r["n"])] for r in results]
    return _rows(head, rows)


def _scale(results: list[Row]) -> list[str]:
    names = list(dict.fromkeys(r["what"] for r in results))
    sizes = list(dict.fromkeys(r["examples"] for r in results))
    by = {(r["examples"], r["what"]): r for r in results}
    units = {r["what"]: r["unit"] for r in results}
    head = ["examples", *(f"{name}, {units[name]}" for name in names)]
    rows = [[f"{size:,}", *(_number(by.get((size, name))) for name in names)] for size in sizes]
    return _rows(head, rows)


def _shards(results: list[Row]) -> list[str]:
    alone = results[0]["median"]
    rows = [
        [str(r["workers"]), _number(r), f"{r['median'] / alone:.2f}", str(r["n"])] for r in results
    ]
    return _rows(["workers", "seconds of the trial", "of one worker's time", "n"], rows)
