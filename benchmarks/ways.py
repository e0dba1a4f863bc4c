"""Ways to train a study of one network per trial, each in a process of its own:

    python -m benchmarks.ways WAY FAMILY DATA.npz FOLDER TRIALS

stock    Ray Tune, OptunaSearch in a Repeater, a DataLoader, Ray's MLflow callback on SQLite
shared   the same with reuse_actors and the dataset in the object store
optuna   Optuna alone, as many processes as cores on one SQLite storage
bare     the training loop in as many processes as cores, and nothing else
TRIALS is a multiple of 8: the replicas of that many configurations.
"""

from __future__ import annotations

import os
import sys
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import plain
from benchmarks.plain import Data

CORES = os.cpu_count() or 1


def load(path: str) -> Data:
    with np.load(path) as found:
        return {name: found[name] for name in ("x", "y", "x_test", "y_test")}


def tasks(trials: int) -> list[tuple[dict[str, Any], int]]:
    """(configuration, replica) of each network."""
    configurations = plain.CONFIGURATIONS[: trials // plain.REPLICAS]
    return [(c, r) for c in configurations for r in range(plain.REPLICAS)]


# -- the floor --------------------------------------------------------------------------------------


def bare(family: str, path: str, folder: Path, trials: int) -> None:
    """Each process trains its share of the networks, one after the other."""
    context = get_context("spawn")
    parts = [tasks(trials)[k::CORES] for k in range(CORES)]
    workers = [context.Process(target=_train_all, args=(family, path, part)) for part in parts]
    _run(workers)


def _train_all(family: str, path: str, part: list) -> None:
    data = load(path)
    for config, replica in part:
        list(plain.train(family, config, replica, data))


def _run(workers: list) -> None:
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a worker failed")


# -- Optuna alone -----------------------------------------------------------------------------------


def optuna(family: str, path: str, folder: Path, trials: int) -> None:
    """One Optuna trial per network, its values from a grid of configurations and replicas."""
    import optuna as library

    storage = f"sqlite:///{folder / 'optuna.db'}"
    library.create_study(storage=storage, study_name="study")
    context = get_context("spawn")
    _run(
        [
            context.Process(target=_optimize, args=(family, path, storage, trials, worker))
            for worker in range(CORES)
        ]
    )


def _optimize(family: str, path: str, storage: str, trials: int, worker: int) -> None:
    import optuna as library

    library.logging.set_verbosity(library.logging.ERROR)
    data = load(path)
    space = {"configuration": list(range(trials // plain.REPLICAS)), "replica": list(range(8))}
    sampler = library.samplers.GridSampler(space, seed=worker)

    def objective(trial: Any) -> float:
        config = plain.CONFIGURATIONS[
            trial.suggest_categorical("configuration", space["configuration"])
        ]
        replica = trial.suggest_categorical("replica", space["replica"])
        error = 1.0
        for epoch, told in enumerate(plain.train(family, config, replica, data)):
            error = told["validation_error"]
            trial.report(error, epoch)
            for name, value in told.items():
                trial.set_user_attr(name, value)
        return error

    study = library.load_study(study_name="study", storage=storage, sampler=sampler)
    study.optimize(objective, n_trials=trials // CORES)


# -- Ray Tune ---------------------------------------------------------------------------------------


def stock(family: str, path: str, folder: Path, trials: int) -> None:
    _tune(family, path, folder, trials, shared=False)


def shared(family: str, path: str, folder: Path, trials: int) -> None:
    _tune(family, path, folder, trials, shared=True)


def _tune(family: str, path: str, folder: Path, trials: int, shared: bool) -> None:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent.parent)
    import optuna as library
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.search import ConcurrencyLimiter, Repeater
    from ray.tune.search.optuna import OptunaSearch

    ray.init(address="local", include_dashboard=False, log_to_driver=False)
    count = trials // plain.REPLICAS
    sampler = library.samplers.RandomSampler(seed=0)
    space = {"configuration": library.distributions.CategoricalDistribution(list(range(count)))}
    search = OptunaSearch(space=space, metric="validation_error", mode="min", sampler=sampler)
    limited = ConcurrencyLimiter(Repeater(search, repeat=plain.REPLICAS), max_concurrent=CORES)

    class Network(tune.Trainable):
        def setup(self, config: dict, data: Data | None = None) -> None:
            self.data = load(path) if data is None else data
            self.begin(config)

        def begin(self, config: dict) -> None:
            chosen = plain.CONFIGURATIONS[config["configuration"]]
            replica = config.get("__trial_index__", 0)
            self.epochs = plain.train(family, chosen, replica, self.data, loader=True)

        def step(self) -> dict:
            told = next(self.epochs)
            return {**told, "done": self.iteration + 1 >= plain.EPOCHS}

        def reset_config(self, new_config: dict) -> bool:
            self.begin(new_config)
            return True

    trainable: Any = tune.with_parameters(Network, data=load(path)) if shared else Network
    callback = MLflowLoggerCallback(
        tracking_uri=f"sqlite:///{folder / 'mlflow.db'}", experiment_name="study"
    )
    results = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1}),
        tune_config=tune.TuneConfig(search_alg=limited, num_samples=trials, reuse_actors=shared),
        run_config=tune.RunConfig(
            name="study",
            storage_path=str(folder),
            callbacks=[callback],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    ).fit()
    if results.num_errors:
        raise SystemExit(f"{results.num_errors} trials failed")


if __name__ == "__main__":
    way, family, path, folder, trials = sys.argv[1:]
    {"stock": stock, "shared": shared, "optuna": optuna, "bare": bare}[way](
        family, path, Path(folder), int(trials)
    )
