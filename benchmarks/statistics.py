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

from benchmarks import null_studies
from engram.measures import bias_variance, comparison, intervals, left_out, new_data, scaling
from engram.measures.intervals import Interval
from engram.measures.left_out import Groups
from engram.sweeps.nightly import noise as nightly
from engram.sweeps.nightly.series import BETTER, REGRESSION, Series

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


# How replicas are drawn, and what their seeds do beside it: m of n examples, and the sd that seeds give to scores.
DESIGNS: dict[str, tuple[str, int, int, float]] = {
    "disjoint": ("disjoint", 100, 0, 0.0),
    "disjoint, seeds": ("disjoint", 100, 0, 0.15),
    "subset m/n = 0.1": ("subset", 100, 1000, 0.0),
    "subset m/n = 0.5": ("subset", 100, 200, 0.0),
    "subset m/n = 0.5, seeds": ("subset", 100, 200, 0.15),
    "bootstrap m = n": ("bootstrap", 200, 200, 0.0),
}
MEASURES = ("error", "gap", "bias²", "variance")
FEATURES, CLASSES, TEST_EXAMPLES = 4, 3, 400
SIMULATED_REPLICAS = (8, 16, 64)
CENTERS = np.array([[1.0, 0, 0, 0], [-0.5, 0.9, 0, 0], [-0.5, -0.9, 0, 0]])
POOLS = (
    25  # whose retraining intervals are looked at, each against the mean of ALL_REPLICAS replicas
)
ALL_REPLICAS = 2560


def coverage(scale: float) -> list[dict[str, Any]]:
    """Intervals for retraining and for new data of the 0-1 error, gap, bias² and variance of classifiers: how often they
    hold the true value: of retraining given pool and test set, of new data on average over pools and test sets."""
    random, found = np.random.default_rng(3), []
    for name, (draw, size, pool, seeds) in DESIGNS.items():
        again = _retraining(random, draw, size, pool, seeds, scale)
        for replicas in SIMULATED_REPLICAS:
            share = new_data.pool_share(draw, size, pool or size * replicas)
            rounds = max(20, round(400 * scale))
            fresh = [
                _intervals(_trained(random, draw, size, pool, seeds, replicas), share)
                for _ in range(rounds)
            ]
            row: dict[str, Any] = {"draw": name, "R": replicas, "rounds": rounds}
            for measure in MEASURES:
                truth = float(np.mean([one[measure][0].mean for one in fresh]))
                held = [_holds(one[measure][1], truth) for one in fresh]
                row[f"{measure}, retraining"] = again[replicas][measure]
                row[f"{measure}, new data"] = float(np.mean(held))
            found.append(row)
    return found


def _holds(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def _retraining(
    random: np.random.Generator, draw: str, size: int, pool: int, seeds: float, scale: float
) -> dict[int, dict[str, float]]:
    """How often the interval holds what endlessly many replicas of the same pool come to, on the same test set; by R."""
    held: dict[int, dict[str, list[bool]]] = {
        r: {measure: [] for measure in MEASURES} for r in SIMULATED_REPLICAS
    }
    for _ in range(max(3, round(POOLS * scale))):
        # Disjoint blocks of one pool are no other than fresh ones: retraining draws from the population.
        probabilities, train, labels = _trained(random, draw, size, pool, seeds, ALL_REPLICAS)
        parts = bias_variance.squared(probabilities, labels)
        error = (probabilities.argmax(-1) != labels).mean()
        truth = dict(
            zip(MEASURES, (error, error - train.mean(), parts.bias2, parts.variance), strict=True)
        )
        for replicas, by_measure in held.items():
            for k in range(20):
                some = slice(k * replicas, (k + 1) * replicas)
                one = _intervals((probabilities[some], train[some], labels), math.nan)
                for measure in MEASURES:
                    by_measure[measure].append(_holds(one[measure][0], truth[measure]))
    return {r: {m: float(np.mean(h)) for m, h in some.items()} for r, some in held.items()}


def _trained(
    random: np.random.Generator, draw: str, size: int, pool: int, seeds: float, replicas: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Classifiers by ridge regression: probabilities [R, N, C] of a new test set, train errors [R], labels [N]."""
    inputs, labels = _examples(random, size * replicas if draw == "disjoint" else pool)
    test, wanted = _examples(random, TEST_EXAMPLES)
    index = {
        "disjoint": lambda: np.arange(size * replicas).reshape(replicas, size),
        "subset": lambda: random.permuted(np.tile(np.arange(pool), (replicas, 1)), axis=1)[
            :, :size
        ],
        "bootstrap": lambda: random.integers(pool, size=(replicas, size)),
    }[draw]()
    x, y = inputs[index], labels[index]  # [R, m, F], [R, m]
    turned = x.transpose(0, 2, 1)
    weights = np.linalg.solve(turned @ x + np.eye(x.shape[2]), turned @ np.eye(CLASSES)[y])
    weights = weights + seeds * random.normal(size=weights.shape) / 2
    train = ((x @ weights).argmax(-1) != y).mean(axis=1)
    scores = test @ weights
    powers = np.exp(5 * (scores - scores.max(-1, keepdims=True)))
    return powers / powers.sum(-1, keepdims=True), train, wanted


def _examples(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    labels = random.integers(CLASSES, size=count)
    inputs = 0.9 * CENTERS[labels] + random.normal(size=(count, FEATURES))
    return np.c_[inputs, np.ones(count)], labels


def _intervals(
    trained: tuple[np.ndarray, np.ndarray, np.ndarray], share: float
) -> dict[str, tuple[Interval, Interval]]:
    """Of each measure the interval for retraining, and for new data."""
    probabilities, train, labels = trained
    replicas = len(train)
    wrong = probabilities.argmax(-1) != labels
    error, sampling = wrong.mean(axis=1), new_data.crossed(wrong)
    values = {"error": (error, sampling), "gap": (error - train, sampling)}

    groups = Groups.of(replicas)
    rows = left_out.squared(probabilities, labels, groups)
    parts = {"bias²": rows["bias2"], "variance": rows["variance"]}
    values |= new_data.jackknifed(parts, groups)
    found = {}
    for name, (each, sampled) in values.items():
        plain = intervals.t_interval(each)
        found[name] = plain, new_data.interval(plain, share, sampled, replicas)
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


def alarms(scale: float) -> list[dict[str, Any]]:
    """Nights on which nothing happened, one after another: called a regression, at a stated 1 %. What differs from night
    to night: random streams, all replicas, the data, or streams and the machine (in all series alike)."""
    found = []
    for kind in ("streams", "replicas", "data", "machine"):
        for replicas in (4, 8, 16):
            nights = max(20, round(1500 * scale))
            count = _called(np.random.default_rng(5), kind, replicas, nights)
            found.append(
                {"differs": kind, "R": replicas, "nights": nights, "called": count / nights}
            )
    return found


def _called(random: np.random.Generator, kind: str, replicas: int, count: int) -> int:
    """Regressions in so many nights, each compared with the seven quiet ones before it."""
    shape, test = (15, replicas), 400
    subsets = 0.03 * random.normal(size=shape)

    def night() -> np.ndarray:
        own = 0.03 * random.normal(size=shape)
        if kind == "replicas":
            return 0.4 + own
        if kind == "data":
            return 0.4 + own + random.normal() * math.sqrt(0.25 / test) + 0.01 * random.normal()
        machine = 0.01 * random.normal() if kind == "machine" else 0.0
        return 0.4 + subsets + 0.7 * own + machine

    window = [(night(), frozenset(), frozenset()) for _ in range(7)]
    found = 0
    for _ in range(count):
        tonight = night()
        series = []
        for k in range(len(tonight)):
            eras = np.cumsum([0, *(k in moved for _, moved, _ in window[:-1])]).tolist()
            suspects = [k in some for _, _, some in window]
            rows = np.stack([values[k] for values, _, _ in window])
            sampling = (1 + 1 / len(rows)) * 0.25 / test if kind == "data" else 0.0
            paired = kind in ("streams", "machine")
            series.append(
                Series({"k": k}, "test_error", tonight[k], rows, eras, suspects, paired, sampling)
            )
        changes = nightly.judged(series, 0.01, 0.0)
        found += any(change.kind == REGRESSION for change in changes)
        moved = frozenset(k for k, c in enumerate(changes) if c.kind in (REGRESSION, BETTER))
        suspect = frozenset(k for k, c in enumerate(changes) if c.suspect)
        window = _looked_at([(tonight, moved, suspect), *window])
    return found


def _looked_at(window: list[Any]) -> list[Any]:
    """Nights back to the seventh quiet one, 21 at most."""
    quiet = np.cumsum([not suspects for _, _, suspects in window])
    return window[: min(21, int(np.argmax(quiet >= 7)) + 1 if quiet[-1] >= 7 else len(window))]


def _alarm(random: np.random.Generator, rises: np.ndarray, replicas: int) -> bool:
    subsets = random.normal(size=(15, 1, replicas)) * 0.03
    values = 0.4 + subsets + 0.03 * random.normal(size=(15, 8, replicas))
    series = [
        Series({"k": k}, "test_error", v[0] + rise, v[1:], [0] * 7, [False] * 7, True, 0.0)
        for k, (v, rise) in enumerate(zip(values, rises, strict=True))
    ]
    return any(change.kind == REGRESSION for change in nightly.judged(series, 0.01, 0.0))


PARTS = {
    "boards": boards,
    "laws": laws,
    "coverage": coverage,
    "nights": nights,
    "alarms": alarms,
    "null": null_studies.null,
}


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
