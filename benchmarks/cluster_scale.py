"""Many slots and thousands of short trials: are the workers kept busy, and what does a trial cost the driver?

    python benchmarks/cluster_scale.py [--slots 100] [--trials 2000] [--seconds 10]

Everything is real but the training: Ray with as many declared CPUs, Tune, actors, the ledger, MLflow on
the embedded store. A trial sleeps, reports, and hands in an invented record. Prints, for every tenth of
the study, how busy the slots were and the driver's CPU seconds per trial.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = str(ROOT)  # of the workers

STUDY = """\
name: scale
question: Are the workers kept busy?
data: {{train_size: 100, pool_size: 200}}
model: {{width: 4}}
training: {{epochs: 1}}
replicas: {{count: 8}}
sweep:
  training.lr: {{loguniform: [1.0e-4, 1.0e-1]}}
  model.dropout: {{uniform: [0.0, 0.8]}}
search: {{sampler: random, trials: {trials}}}
tracking: {{model: false}}
"""


def short_trial(record: dict[str, Any], seconds: float) -> type:
    """A trainable that sleeps, and then hands in this record."""
    from ray import tune

    from engram.sweeps.cluster.trainable import EPOCH
    from engram.sweeps.trial.messages import Finished, Progress

    class Short(tune.Trainable):
        def setup(self, config: dict, datasets: Any = None) -> None:
            """Nothing to set up."""

        def reset_config(self, new_config: dict) -> bool:
            return True

        def step(self) -> dict:
            time.sleep(seconds)
            metrics = dict(record["selection"])
            progress = Progress(1, 10, seconds, metrics, {})
            return {
                "done": True,
                EPOCH: 1,
                "progress": [progress],
                "finished": Finished(dict(record), {}, None),
                **metrics,
            }

        def snapshot(self) -> None:
            return None

        def save_checkpoint(self, checkpoint_dir: str) -> None:
            """Nothing."""

        def load_checkpoint(self, checkpoint: Any) -> None:
            """Nothing."""

    return Short


def start_workers(slots: int, folder: Path) -> None:
    """Start one worker process for each slot before anything is measured.

    The nodes of a cluster start theirs side by side, each with its own processors; here all of them
    share a few.
    """
    import ray

    @ray.remote(num_cpus=1)
    def started(number: int) -> None:
        import ray.tune  # noqa: F401

        (folder / f"started-{number}").touch()
        while not (folder / "all").exists():
            time.sleep(1)

    waiting = [started.remote(number) for number in range(slots)]
    while len(list(folder.glob("started-*"))) < slots:
        time.sleep(1)
    (folder / "all").touch()
    ray.get(waiting)


def main(slots: int, trials: int, seconds: float) -> None:
    import psutil
    import ray

    from benchmarks.mlflow_page import invented
    from engram.sweeps.cluster import tuning
    from engram.sweeps.running import execution
    from engram.sweeps.running.trials import Trials
    from engram.sweeps.study import loading

    folder = Path(tempfile.mkdtemp(prefix="engram-scale-"))
    os.environ["ENGRAM_HOME"] = str(folder / "runs")
    (folder / "scale.yaml").write_text(STUDY.format(trials=trials))
    loaded = loading.load(folder / "scale.yaml")
    record = invented(1, loaded)[0]
    for name in ("trial", "params", "config_hash"):
        record.pop(name)
    tuning.CohortTrainable = short_trial(record, seconds)  # type: ignore[misc, assignment]
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    ray.init(num_cpus=slots, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

    start_workers(slots, folder)

    driver = psutil.Process()
    marks: list[tuple[int, float, float]] = []  # trials committed, seconds, CPU seconds
    commit = Trials._commit
    done = 0

    def mark() -> None:
        used = driver.cpu_times()
        marks.append((done, time.monotonic(), used.user + used.system))

    def counted(self: Any, *words: Any, **options: Any) -> None:
        nonlocal done
        commit(self, *words, **options)
        done += 1
        if done % max(1, trials // 10) == 0 or done == slots:
            mark()

    Trials._commit = counted  # type: ignore[method-assign]
    code = execution.run(loaded)
    print(f"\nexit code {code}; {slots} slots, {trials} trials of {seconds:g} s")
    print("trials        slots busy   wall s/trial   driver CPU s/trial")
    for (before, begun, cpu_before), (after, ended, cpu_after) in itertools.pairwise(marks):
        count, wall = after - before, ended - begun
        busy = count * seconds / (slots * wall)
        print(
            f"{before:5}-{after:<7} {busy:9.0%} {wall / count:14.3f} {(cpu_after - cpu_before) / count:20.3f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--slots", type=int, default=100)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=10.0)
    main(**vars(parser.parse_args()))
