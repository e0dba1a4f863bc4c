"""Nights on which nothing happened: how often one is called a regression, against the stated rate.

The rate is per night, for all its comparisons together, and with a margin of 0: noise alone decides. `python -m tests.nightly.test_false_alarms 2000`
counts over more nights; docs/nightly.md has the counts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from scipy import stats

from engram.sweeps.nightly.judgement import FALSE_ALARMS, judge
from engram.sweeps.nightly.series import REGRESSION, Earlier
from engram.sweeps.results.evidence import Evidence, gather
from engram.sweeps.running import execution
from engram.sweeps.study import loading
from tests import fake_records

DROPOUT = {"model.dropout": [0.0, 0.2, 0.5]}
MEASURES = ("validation_error", "test_error", "generalization_gap", "bias2", "variance")
BASELINE, NIGHTS, REPLICAS = 7, 100, 8
TEST = 400  # examples, of which a night with new data draws others
SD = 0.03  # between replicas

Values = dict[tuple[int, str], np.ndarray]  # of a trial and a measure: [R]


def night(values: Values, name: str, digest: str = "same", seed: int = 0) -> Evidence:
    """An execution whose replicas have these values."""
    found = fake_records.evidence(
        DROPOUT, lambda p: 0.4, replicas={"seed": seed}, with_arrays=False
    )
    found.name = name
    found.provenance["data.digest.mnist1d"] = digest
    for record in found.records:
        record["test_sampling_se"] = {"squared_risk": float(np.sqrt(0.25 / TEST))}
        for measure in MEASURES:
            own = values[record["trial"], measure]
            record["replica_values"][measure] = own.tolist()
            record["measures"][measure] = fake_records._measure(own)
    return found


def draw(level: Callable[[int, str], np.ndarray]) -> Values:
    return {(trial, name): level(trial, name) for trial in range(3) for name in MEASURES}


def streams_changed(random: np.random.Generator) -> Iterator[Evidence]:
    """Same subsets, other random streams each night, as after an upgrade: paired, and independent noise."""
    subsets = draw(lambda t, m: 0.4 + SD * random.normal(size=REPLICAS))
    k = 0
    while True:
        values = {
            key: own + 0.7 * SD * random.normal(size=REPLICAS) for key, own in subsets.items()
        }
        yield night(values, f"n{k}")
        k += 1


def other_seeds(random: np.random.Generator) -> Iterator[Evidence]:
    """Other replicas each night: nothing is paired."""
    k = 0
    while True:
        yield night(draw(lambda t, m: 0.4 + SD * random.normal(size=REPLICAS)), f"n{k}", seed=k)
        k += 1


def rolling_data(random: np.random.Generator) -> Iterator[Evidence]:
    """New pool and test set each night: all trials of a night move together by the luck of its data."""
    k = 0
    while True:
        luck = random.normal() * np.sqrt(0.25 / TEST) + 0.01 * random.normal()
        values = draw(lambda t, m, luck=luck: 0.4 + luck + SD * random.normal(size=REPLICAS))
        yield night(values, f"n{k}", digest=f"d{k}")
        k += 1


def now_and_then(random: np.random.Generator) -> Iterator[Evidence]:
    """Identical nights, but for one in five, which has other random streams."""
    fixed = draw(lambda t, m: 0.4 + SD * random.normal(size=REPLICAS))
    k = 0
    while True:
        changed = {key: own + 0.7 * SD * random.normal(size=REPLICAS) for key, own in fixed.items()}
        yield night(changed if random.random() < 0.2 else fixed, f"n{k}")
        k += 1


KINDS = (streams_changed, other_seeds, rolling_data, now_and_then)


def alarms(nights: Iterator[Evidence], count: int, margin: float = 0.0) -> int:
    """Regressions in so many nights, each compared with those before it. margin 0: noise alone decides."""
    window: list[Earlier] = []
    found = 0
    for _ in range(BASELINE):
        window.insert(0, Earlier(next(nights), frozenset()))
    for _ in range(count):
        tonight = next(nights)
        judged = judge(tonight, window, margin)
        found += judged.verdict == REGRESSION
        latest = Earlier(tonight, frozenset(judged.moved), frozenset(judged.suspects))
        window = [latest, *window[: BASELINE - 1]]
    return found


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_a_hundred_unchanged_nights_raise_no_more_than_the_stated_rate(kind):
    most = stats.binom.ppf(0.99, NIGHTS, FALSE_ALARMS)
    assert alarms(kind(np.random.default_rng(1)), NIGHTS) <= most


def found(nights: Iterator[Evidence], rise: float, count: int = 1) -> int:
    """In how many nights a rise of one trial's test error is called a regression, and nothing else is."""
    right = 0
    for _ in range(count):
        window = [Earlier(next(nights), frozenset()) for _ in range(BASELINE)]
        worse = next(nights)
        values = worse.records[0]["replica_values"]
        values["test_error"] = [value + rise for value in values["test_error"]]
        judged = judge(worse, window, 0.01)
        right += {(c.params["model.dropout"], c.measure) for c in judged.of(REGRESSION)} == {
            (0.0, "test_error")
        }
    return right


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_and_a_real_change_is_found(kind):
    """All of it is worth nothing if silence is bought with blindness."""
    assert found(kind(np.random.default_rng(2)), 0.3) == 1


STUDY = """\
name: many
data: {train_size: 60, test_size: 200}
model: {width: 8, depth: 1}
training: {epochs: 10, batch_size: 20, evaluate_every: 10}
replicas: {count: 856, stack: auto}
measures: {membership: false, memorization: false, predictions: false}
checkpoint: {final: false}
tracking: {model: false}
"""


def test_nor_do_real_networks(tmp_path, monkeypatch, ray_here):
    """856 networks that differ in subset and seed alone, as 107 nights of eight."""
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path / "runs"))
    path = tmp_path / "many.yaml"
    path.write_text(STUDY)
    assert execution.run(loading.load(path)) == 0
    (record,) = gather("many").records
    real = {
        name: np.array(values).reshape(-1, REPLICAS)
        for name, values in record["replica_values"].items()
        if name in MEASURES and len(values) == 856
    }
    assert {"validation_error", "test_error", "generalization_gap"} <= real.keys()

    def nights() -> Iterator[Evidence]:
        for k in range(107):
            values = draw(lambda t, m, k=k: real.get(m, real["test_error"])[k])
            yield night(values, f"n{k}", seed=k)

    assert alarms(nights(), NIGHTS) <= stats.binom.ppf(0.99, NIGHTS, FALSE_ALARMS)


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    for kind in KINDS:
        rises = {
            rise: found(kind(np.random.default_rng(4)), rise, 50) for rise in (0.05, 0.1, 0.15, 0.2)
        }
        print(kind.__name__, "found of 50, by rise:", rises, flush=True)
        print(
            kind.__name__, alarms(kind(np.random.default_rng(3)), wanted), "in", wanted, flush=True
        )
