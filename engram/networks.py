"""The networks of an execution, one by one: what they predict, what they were trained on, and they themselves.

Rebuilt from the final weights, as the trial built them; what cannot be the same as recorded is refused.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from engram.data.dataset import DataError, Dataset
from engram.sweeps.results.evidence import Evidence
from engram.sweeps.results.record import Record
from engram.sweeps.study import own_code
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.trial import checkpoint, datasets, tokens

FROM_WEIGHTS = "computed from the final weights"
AS_TRAINED = "as the learner gave them"
RECORDED = "as recorded, in half precision"
HALF = 2e-3  # what half precision may take off a probability, or off a value relative to it


@dataclass(frozen=True)
class Predictions:
    """What each replica of a trial says of the test set; unpacks into values, targets, ids.

    values: [R, N, C], probabilities of the classes, or predicted values; targets: labels [N], or values [N, C].
    Values are in the unit that was trained in (a table's target is standardized), as on the leaderboard.
    ids: [N], your own ids of the rows: the values of an index column, names of files, else positions in what you
    gave. Of a text, N are its tokens, and ids their places in the test text. replicas: [R], their numbers: those that diverged are left out. source: where the values are from.
    """

    trial: int
    values: np.ndarray
    targets: np.ndarray
    ids: np.ndarray
    replicas: np.ndarray
    source: str
    dataset: Dataset = field(repr=False)

    @property
    def classification(self) -> bool:
        return self.dataset.classes is not None

    @property
    def probabilities(self) -> np.ndarray:
        """The values [R, N, C], by the name that they have in a classification."""
        if not (self.classification or self.dataset.labels):
            raise AttributeError("a regression has no probabilities: see values")
        return self.values

    @property
    def predicted(self) -> np.ndarray:
        """The label that each replica gives each example [R, N]; of a regression the values [R, N, C]."""
        if self.dataset.labels:
            return self.values > 0.5
        return self.values.argmax(-1) if self.classification else self.values

    @property
    def error(self) -> np.ndarray:
        """Each replica's error [R]: share of wrong labels, or mean squared error."""
        if self.dataset.labels:
            return (self.predicted != self.targets).mean(axis=(1, 2))
        if self.classification:
            return (self.predicted != self.targets).mean(axis=1)
        return np.square(self.values - self.targets).mean(axis=(1, 2))

    def frame(self) -> pd.DataFrame:
        """One row an example and replica, to be merged with your own table on `id`.

        Columns: id, replica, target, predicted, and a probability p_CLASS of each class, by your own names where
        classes have any. Of a regression: id, replica, target_0..., predicted_0... (by the names of several target
        columns), in your own unit; of several labels an example: id, replica, target_NAME, p_NAME of each.
        """
        count, examples, width = self.values.shape
        columns: dict[str, Any] = {
            "id": np.tile(self.ids, count),
            "replica": np.repeat(self.replicas, examples),
        }
        if self.classification:
            names = np.array(self.dataset.class_names or range(width))
            columns["target"] = np.tile(names[self.targets], count)
            columns["predicted"] = names[self.predicted].ravel()
            columns |= {f"p_{name}": self.values[..., c].ravel() for c, name in enumerate(names)}
        else:
            targets, values = map(self.dataset.in_own_unit, (self.targets, self.values))
            called = self.dataset.value_names or range(width)
            what = "p" if self.dataset.labels else "predicted"
            columns |= {f"target_{n}": np.tile(targets[:, c], count) for c, n in enumerate(called)}
            columns |= {f"{what}_{n}": values[..., c].ravel() for c, n in enumerate(called)}
        return pd.DataFrame(columns)

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.values, self.targets, self.ids))

    def __repr__(self) -> str:
        what = "probabilities" if self.classification or self.dataset.labels else "values"
        return (
            f"<Predictions of trial {self.trial}: {what} {list(self.values.shape)}, {self.source}>"
        )


@dataclass(frozen=True)
class Membership:
    """Which examples each replica was trained on; unpacks into member, ids.

    member: bool [R, N], over the pool without what was held out for validation. ids: [N], your own ids of the
    rows, as in Predictions; positions: [N], where they stand in the pool.
    """

    trial: int
    member: np.ndarray
    ids: np.ndarray
    positions: np.ndarray

    def frame(self) -> pd.DataFrame:
        """One row an example, indexed by its id; one column of True and False a replica."""
        return pd.DataFrame(self.member.T, index=pd.Index(self.ids, name="id"))

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.member, self.ids))

    def __repr__(self) -> str:
        replicas, examples = self.member.shape
        return f"<Membership of trial {self.trial}: {replicas} replicas x {examples} examples>"


class Networks:
    """The networks behind an execution's records. folder: the execution's; None where it lies elsewhere."""

    def __init__(self, found: Evidence, folder: Path | None) -> None:
        self.evidence, self.folder = found, folder
        self._datasets: dict[str, Dataset] | None = None
        self._trained: tuple[int, Any] | None = None  # the trial looked at last

    def predictions(self, record: Record) -> Predictions:
        """See `Results.predictions`."""
        kept = self.evidence.arrays(record).get("test_predictions")
        state = self._state(record)
        dataset = self.dataset(record)
        targets, ids = dataset.test_targets, dataset.test_ids
        if dataset.every_step:
            targets, ids = tokens.answers(dataset, self._configuration(record).replicas)
        if dataset.classes is None and targets.ndim == 1:
            targets = targets[:, None]
        values, source = kept, RECORDED
        if state is not None:
            computed = self._computed(record, state, dataset, kept)
            if computed is not None:
                learner = record.get("way") == "learner"
                values, source = computed, AS_TRAINED if learner else FROM_WEIGHTS
        if values is None:
            raise LookupError(
                f"trial {record['trial']} ({record['status']}) kept neither predictions (measures.predictions, measures.arrays_kb) "
                "nor final weights (checkpoint.final)"
            )
        return Predictions(
            record["trial"],
            values.astype(np.float32),
            targets,
            ids,
            np.array(self._alive(record, state)[: len(values)]),
            source,
            dataset,
        )

    def _computed(
        self, record: Record, state: dict, dataset: Dataset, kept: np.ndarray | None
    ) -> np.ndarray | None:
        """Predictions [R, N, C] of the final weights; None, with a warning, where they are not what was recorded."""
        why = "give other predictions than those that were recorded"
        try:
            made = self._rebuilt(record, state, dataset)
            said = tokens.by_token(made, "test")[0] if dataset.every_step else made.outputs("test")
            outputs = said[~state["trainer"]["diverged"]].double()
            if dataset.labels:
                found = outputs.sigmoid().numpy()
            else:
                found = (outputs.softmax(-1) if made.trainer.classification else outputs).numpy()
            if kept is None or np.allclose(found, kept, rtol=HALF, atol=HALF):
                return found
        except Exception as error:  # whatever a person's own code raises
            if kept is None:
                raise
            why = f"cannot be used: {type(error).__name__}: {error}"
        warnings.warn(
            f"the final weights of trial {record['trial']} {why} (has the network's code changed?); "
            f"predictions are {RECORDED}",
            stacklevel=4,
        )
        return None

    def member(self, record: Record) -> Membership:
        """See `Results.member`."""
        import torch

        from engram.data import subsets
        from engram.sweeps.trial import preparing

        dataset, configuration = self.dataset(record), self._configuration(record)
        made = preparing.prepare(configuration, dataset, torch.device("cpu"))
        inside = subsets.members(made.members, len(dataset.targets))[:, made.pool_ids]
        return Membership(record["trial"], inside, dataset.ids[made.pool_ids], made.pool_ids)

    def model(self, record: Record, replica: int) -> Any:
        """See `Results.model`."""
        state = self._state(record)
        if state is None:
            raise LookupError(
                f"trial {record['trial']} ({record['status']}) has no final weights here: only trials that were "
                "trained to their end on this state folder have, unless checkpoint.final is false"
            )
        count = len(state["trainer"]["diverged"])
        if not 0 <= replica < count:
            raise LookupError(
                f"trial {record['trial']} has replicas 0 to {count - 1}, not {replica}"
            )
        made = self._rebuilt(record, state, self.dataset(record))
        return made.trainer.cohort.replica(replica)

    def rows_of(self, record: Record) -> tuple[list[int | None], int]:
        """The replica that each value of a record belongs to, the first where a value stands for several; how many.

        None for a replica whose number is not known any more.
        """
        count = len(record.get("replica_values", {}).get("test_error", ()))
        alive = record.get("replicas", 0) - record.get("diverged_replicas", 0)
        unit = alive // count if count and alive % count == 0 else 1
        numbers: list[int | None] = [None] * alive
        if record.get("diverged_replicas"):
            numbers = list(self._alive(record, self._state(record)))
        else:
            numbers = list(range(alive))
        return numbers[: count * unit : unit], unit

    # -- what they are made from ----------------------------------------------------------------

    def dataset(self, record: Record) -> Dataset:
        """The dataset of a trial, the same to the last bit as when it was trained, or LookupError."""
        study, configuration = self.evidence.study, self._configuration(record)
        assert study is not None
        key = datasets.key(configuration.data)
        if self._datasets is None:
            own_code.make_importable(study)
            try:
                self._datasets = datasets.load(study)
            except DataError as error:
                raise LookupError(
                    f"the data of {self.evidence.name} cannot be loaded: {error}"
                ) from error
        found = self._datasets[key]
        known = self.evidence.provenance.get(f"data.digest.{key}")
        if known is not None and known != found.digest:
            raise LookupError(
                f"{key} is no longer the data that {self.evidence.name} was trained on: its digest was "
                f"{known[:12]} and is {found.digest[:12]}; put the data back to look at single examples"
            )
        return found

    def _configuration(self, record: Record) -> Configuration:
        found = self.evidence.configuration(record)
        if found is None or found.hash != record["config_hash"]:
            raise LookupError(
                f"the configuration of trial {record['trial']} cannot be made again from what is recorded"
            )
        return found

    def _state(self, record: Record) -> dict | None:
        """The final state of a trial's networks, where it was kept."""
        if self.folder is None:
            return None
        from engram.sweeps.running.checkpoints import Store

        store = Store(self.folder / "checkpoints", keep=1, largest_bytes=0)
        data = store.final(record["trial"], config=record["config_hash"])
        return None if data is None else checkpoint.decode(data)[0]

    def _rebuilt(self, record: Record, state: dict, dataset: Dataset) -> Any:
        """The trial as it was when it was measured: its networks hold the final weights."""
        import torch

        from engram.sweeps.trial import preparing

        if self._trained is None or self._trained[0] != record["trial"]:
            made = preparing.prepare(self._configuration(record), dataset, torch.device("cpu"))
            made.trainer.cohort.load_state_dict(state["trainer"]["cohort"])
            if attributes := state["trainer"].get("attributes"):
                made.trainer.cohort.load_attributes(attributes)
            self._trained = record["trial"], made
        return self._trained[1]

    def _alive(self, record: Record, state: dict | None) -> list[int | None]:
        """The numbers of the replicas that did not diverge."""
        count, diverged = record.get("replicas", 0), record.get("diverged_replicas", 0)
        if not diverged:
            return list(range(count))
        if state is None:
            return [None] * (count - diverged)
        return [int(r) for r in np.flatnonzero(~state["trainer"]["diverged"].numpy())]
