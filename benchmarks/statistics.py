"""What the statistics are worth where the truth is known: error rates, power and coverage, by simulation.

`python -m benchmarks.statistics [PART]... [--scale S]` writes results/statistics.json and prints tables for docs/measures.md and
docs/nightly.md. No network is trained. Scale 1 takes some minutes; tests/test_statistics.py runs a small one."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from engram.measures import bias_variance, comparison, intervals, scaling
from engram.sweeps.nightly import noise as nightly
from engram.sweeps.nightly.series import REGRESSION, Series

RESULTS = Path(__file__).parent / "results" / "statistics.json"
SIZES = np.array([100, 200, 400, 800, 1600, 3200, 6400])
LAWS: dict[str, Callable[[Any], Any]] = {
    "power law": lambda n: 3 * n**-0.5 + 0.1,
    "broken": lambda n: np.where(n < 800, 0.9 * (n / 100) ** -0.15, 0.66 * (n / 800) ** -0.6),
    "logarithmic": lambda n: 0.9 - 0.08 * np.log(n / 50),
    "exponential": lambda n: 0.6 * np.exp(-n / 1500) + 0.1,
    "bump": lambda n: (3 * n**-0.5 + 0.1) * (1 + 0.3 * np.exp(-2 * np.log(n / 800) ** 2)),
}


def boards(scale: float) -> list[dict[str, Any]]:
    """Equal configurations: boards of more than one group. Half worse by what Tukey's test just finds: share found."""
    random, found = np.random.default_rng(1), []
    for count in (6, 20, 100):
        for replicas in (8, 16):
            rounds = max(10, round((600 if count < 100 else 300) * scale))
            freedom = (count - 1) * (replicas - 1)
            tukey = stats.studentized_range.ppf(0.95, count, freedom)
            worse = np.where(np.arange(count) < count // 2, 0.0, tukey / math.sqrt(replicas))
            kinds = {"alike": np.ones(count), "one of five times": np.r_[5.0, np.ones(count - 1)]}
            row: dict[str, Any] = {"K": count, "R": replicas, "boards": rounds}
            for name, sd in kinds.items():
                split = [
                    comparison.groups(_board(random, np.zeros(count), sd, replicas)[0]).max() > 1
                    for _ in range(rounds)
                ]
                row[f"split, variances {name}"] = float(np.mean(split))
            ours, ideal = 0.0, 0.0
            for _ in range(rounds):
                table, order = _board(random, worse, np.ones(count), replicas)
                bad = worse[order] > 0
                ours += float((comparison.groups(table) > 1)[bad].mean())
                ideal += float(_tukey(table, tukey)[bad].mean())
            row |= {"power": ours / rounds, "power of Tukey's": ideal / rounds}
            found.append(row)
    return found


def _board(
    random: np.random.Generator, means: np.ndarray, sd: np.ndarray, replicas: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows in order, and which configuration each is; replicas share a term."""
    table = random.normal(size=replicas) + means[:, None]
    table = table + sd[:, None] * random.normal(size=(len(means), replicas))
    order = np.argsort(table.mean(axis=1))
    return table[order], order


def _tukey(table: np.ndarray, limit: float) -> np.ndarray:
    residual = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    freedom = (table.shape[0] - 1) * (table.shape[1] - 1)
    sd = math.sqrt((residual**2).sum() / freedom)
    behind = table.mean(1) - table.mean(1).min()
    return behind > limit * sd / math.sqrt(table.shape[1])


def laws(scale: float) -> list[dict[str, Any]]:
    """How often a power law is called identified, and its prediction at four times the largest size covers."""
    random, found = np.random.default_rng(2), []
    for name, truth in LAWS.items():
        rounds = max(10, round(100 * scale))
        passed, covered = 0, 0
        for seed in range(rounds):
            noise = 0.02 * random.normal(size=8) + 0.02 * random.normal(size=(len(SIZES), 8))
            table = truth(SIZES)[:, None] * (1 + noise)
            fit = scaling.power_law(SIZES, table, samples=200, seed=seed)
            if fit.identified:
                ahead = fit.predict(4 * SIZES[-1])
                passed += 1
                covered += ahead.low <= truth(4.0 * SIZES[-1]) <= ahead.high
        share = covered / passed if passed else None
        found.append(
            {"truth": name, "fits": rounds, "identified": passed / rounds, "covered": share}
        )
    return found


def coverage(scale: float) -> list[dict[str, Any]]:
    """Retraining intervals of a mean, bias² and variance over replicas: how often they hold the true value."""
    random, found = np.random.default_rng(3), []
    bias, sd, examples = 0.3, 0.5, 60
    truth = {"error": bias**2 + sd**2, "bias²": bias**2, "variance": sd**2}
    for replicas in (8, 16, 64):
        rounds = max(10, round(300 * scale))
        hits = dict.fromkeys(truth, 0)
        for _ in range(rounds):
            predictions = bias + sd * random.normal(size=(replicas, examples))
            targets = np.zeros(examples)
            each = (predictions**2).mean(axis=1)
            parts = {"error": intervals.t_interval(each)}
            for name, part in (("bias²", "bias2"), ("variance", "variance")):
                pseudo = intervals.jackknife(
                    lambda p, part=part, y=targets: getattr(bias_variance.squared(p, y), part),
                    predictions,
                )
                parts[name] = intervals.t_interval(pseudo)
            for name, interval in parts.items():
                hits[name] += interval.low <= truth[name] <= interval.high
        found.append({"R": replicas, "rounds": rounds, **{k: v / rounds for k, v in hits.items()}})
    return found


def nights(scale: float) -> list[dict[str, Any]]:
    """Nights of 15 series: called a regression where nothing happened, and where one series, or all, rose by so many
    standard errors of a night's mean."""
    random, found = np.random.default_rng(4), []
    for replicas in (4, 8, 16):
        se = 0.03 / math.sqrt(replicas)
        row: dict[str, Any] = {"R": replicas}
        for name, rises in {
            "nothing": np.zeros(15),
            **{f"one, {k} se": np.r_[k * se, np.zeros(14)] for k in (1, 2, 3, 6)},
            **{f"all, {k} se": np.full(15, k * se) for k in (1, 2, 3)},
        }.items():
            rounds = max(10, round((1000 if name == "nothing" else 100) * scale))
            row[name] = float(np.mean([_alarm(random, rises, replicas) for _ in range(rounds)]))
        found.append(row)
    return found


def _alarm(random: np.random.Generator, rises: np.ndarray, replicas: int) -> bool:
    subsets = random.normal(size=(15, 1, replicas)) * 0.03
    values = 0.4 + subsets + 0.03 * random.normal(size=(15, 8, replicas))
    series = [
        Series({"k": k}, "test_error", v[0] + rise, v[1:], [0] * 7, [False] * 7, True, 0.0)
        for k, (v, rise) in enumerate(zip(values, rises, strict=True))
    ]
    return any(change.kind == REGRESSION for change in nightly.judged(series, 0.01, 0.0))


PARTS = {"boards": boards, "laws": laws, "coverage": coverage, "nights": nights}


def table(rows: list[dict[str, Any]]) -> str:
    """Rows in Markdown."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    for row in rows:
        cells = [
            "–" if v is None else f"{v:.3f}" if isinstance(v, float) else str(v)
            for v in row.values()
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="all where none is named")
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of rounds")
    given = parser.parse_args()
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in given.parts or PARTS:
        known[name] = PARTS[name](given.scale)
        print(
            f"\n{name}: {(PARTS[name].__doc__ or '').strip()}\n\n{table(known[name])}", flush=True
        )
        RESULTS.write_text(json.dumps(known, indent=1) + "\n")


if __name__ == "__main__":
    main()
