"""What costs time, counted: seconds depend on the machine and its load, counts do not."""

from __future__ import annotations

import collections
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from engram.measures import intervals
from engram.models import streams
from engram.models.cohort import Cohort
from engram.models.config import ModelConfig, TrainingConfig
from engram.models.family import build
from engram.models.training import Examples, Trainer
from engram.sweeps.cluster import pruning
from engram.sweeps.cluster.trainable import CohortTrainable
from engram.sweeps.results import boards, executions, verdicts
from engram.sweeps.search.committed import read_records
from engram.sweeps.search.ledger import LedgerFile
from engram.sweeps.search.search import Search
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.study.sections import CheckpointConfig, MeasuresConfig
from engram.sweeps.tracking import recorder as recording
from engram.sweeps.tracking import rows, sender, store
from tests import fake_records

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES, BATCH = 40, 10
# Torch operations of one step of a stack: forward, loss, backward, optimizer. Views count, kernels are fewer.
MOST_OPERATIONS = {"feedforward": 72, "convolutional": 132, "gru": 1900, "lstm": 2050}
MLFLOW_CALLS = {"create_run", "log_batch", "log_inputs", "log_artifact", "set_terminated"}


class Counting(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.operations: collections.Counter[str] = collections.Counter()

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        self.operations[str(function)] += 1
        return function(*args, **(kwargs or {}))


def trainer(family: str, replicas: int, stack: int | None = None, dropout: float = 0.0) -> Trainer:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(EXAMPLES, 40, generator=generator)
    config = ModelConfig(
        family=family, width=8, depth=1 if family in ("gru", "lstm") else 2, dropout=dropout
    )
    modules = [build(config, (40,), 10) for _ in range(replicas)]
    return Trainer(
        Cohort(modules, torch.device("cpu"), stack),
        Examples(inputs, torch.randint(10, (EXAMPLES,), generator=generator)),
        torch.arange(EXAMPLES).expand(replicas, EXAMPLES).contiguous(),
        {},
        TrainingConfig(batch_size=BATCH, epochs=10),
        [streams.key(0, r) for r in range(replicas)],
    )


def operations(trained: Trainer) -> int:
    """Of one more step: what an epoch does once is taken off."""
    trained.cohort.train(True)
    trained.train_epoch(0, 0, 1)  # the optimizer makes its state
    with Counting() as one:
        trained.train_epoch(0, 1, 2)
    with Counting() as two:
        trained.train_epoch(0, 2, 4)
    return two.operations.total() - one.operations.total()


# -- training ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", MOST_OPERATIONS)
def test_a_step_of_a_stack_takes_as_many_operations_for_eight_replicas_as_for_sixteen(family):
    """Two end their readout's bias inside a line of memory, which is moved by itself (models/optimizer.py)."""
    two, few, many = (operations(trainer(family, replicas)) for replicas in (2, 8, 16))
    assert few == many <= MOST_OPERATIONS[family]
    assert two <= many + 10


def test_one_by_one_the_optimizer_and_the_batches_are_still_shared():
    one, eight = (operations(trainer("feedforward", r, 1)) for r in (1, 8))
    assert eight < 8 * one


def test_dropout_adds_a_fixed_number_of_operations():
    plain, dropped = (operations(trainer("feedforward", 4, dropout=p)) for p in (0.0, 0.5))
    assert plain < dropped <= plain + 80


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries are left alone")
def test_memory_that_a_pass_frees_is_not_asked_of_the_system_again():
    program = """
import ctypes, resource, sys
from engram.models import memory
if sys.argv[1] == "kept":
    memory.keep_freed()
libc = ctypes.CDLL(None)
libc.malloc.restype, size = ctypes.c_void_p, 2**20
def faults():
    blocks = [ctypes.c_void_p(libc.malloc(size)) for _ in range(20)]
    for block in blocks:
        libc.memset(block, 1, size)
    for block in blocks:
        libc.free(block)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
faults(), faults()
print(-faults() + faults())
"""
    left, kept = (
        int(subprocess.check_output([sys.executable, "-c", program, how], cwd=ROOT))
        for how in ("left", "kept")
    )
    assert kept < 0.01 * left


# -- the driver -------------------------------------------------------------------------------------


def config(epochs: int, dataset: Any, cache: Path) -> dict[str, Any]:
    configuration = Configuration(
        data={"name": "mnist1d", "train_size": 100, "validation": 100},
        model={"width": 4, "depth": 1},
        training={"epochs": epochs, "evaluate_every": 1},
        replicas={"count": 2},
    )
    return {
        "trial": 0,
        "configuration": configuration.model_dump(),
        "about": {"config": configuration.hash, "data": dataset.digest, "first": 0},
        "measures": MeasuresConfig().model_dump(),
        "checkpoint": CheckpointConfig().model_dump(),
        "dataset": "mnist1d",
        "cache": str(cache),
        "scratch": str(cache / "scratch"),
        "device": "cpu",
        "threads": 1,
        "deterministic": False,
        "gpu": 0.0,
        "stack": None,
        "workers": 1,
        "room": {"CPU": 1.0, "GPU": 0.0},
        "held": None,
        "in_turns": False,
        "restore": None,
        "earlier": None,
    }


def test_ray_runs_one_task_per_evaluation_of_a_trial_and_the_last_brings_the_measures(tmp_path):
    from engram.data import catalog
    from engram.data.config import DataConfig

    dataset = catalog.load(DataConfig(name="mnist1d"), pool_size=None, seed=0, cache=None)
    actor = CohortTrainable.__new__(CohortTrainable)  # without Tune's log folder
    actor.config = config(3, dataset, tmp_path)
    actor.setup(actor.config, {"mnist1d": dataset})
    results = [actor.step()]
    while not results[-1].get("done"):
        results.append(actor.step())
    assert len(results) == 3
    finished = results[-1]["finished"]
    assert isinstance(finished.arrays, bytes)
    assert finished.record["status"] == "completed"
    assert (tmp_path / "stacking.json").exists()  # measured here, for whoever comes next
    # Tune spells results out for its log: they must not spell out what is in them.
    assert all(len(repr(result)) < 2000 for result in results)


def test_tune_looks_at_no_trial_to_find_the_next_and_gives_no_actor_away():
    """It starts those that wait by itself; asked here, it would end an actor that is starting."""

    class Untouched:
        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"the scheduler looked at {name}")

    study = asked(2)
    for scheduler in (pruning.InOrder(), pruning.scheduler(study, {})):
        assert isinstance(scheduler, pruning.InOrder)
        for _ in range(100):
            scheduler.on_trial_add(Untouched(), Untouched())  # type: ignore[arg-type]
            assert scheduler.choose_trial_to_run(Untouched()) is None


def asked(trials: int) -> Any:
    axis = {"training.lr": [10.0**-k for k in range(trials)]}
    return fake_records.study(axes=axis)


def test_a_trial_waits_for_the_disk_three_times(tmp_path, monkeypatch):
    search = Search(asked(8), tmp_path / "search.journal", "invented")
    waits: list[int] = []
    monkeypatch.setattr("os.fsync", waits.append)
    for number in range(8):
        proposal = search.ask()
        search.report(number, 1, {"validation_error": 0.5})
        search.tell(number, fake_records.record(number, proposal.params, 0.5))
        search.set_run(number, f"run{number}")
    assert len(waits) == 8 * 3  # it is asked for, it is committed, its run is known


# -- the stores -------------------------------------------------------------------------------------


class Calls:
    """A client that counts what is asked of it."""

    def __init__(self, client: Any, calls: collections.Counter[str]):
        self._client, self._calls = client, calls

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **options: Any) -> Any:
            self._calls[name] += 1
            return getattr(self._client, name)(*args, **options)

        return call


def new_recorder(folder: Path) -> recording.Recorder:
    store_uri, artifacts = f"sqlite:///{folder / 'mlflow.db'}", (folder / "artifacts").as_uri()
    return recording.Recorder(store_uri, folder, "counted", "counted", artifacts, lambda *_: None)


def record_trials(folder: Path, trials: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What a store is asked for while trials are recorded."""
    calls: collections.Counter[str] = collections.Counter()
    monkeypatch.setattr(sender, "connect", lambda uri: Calls(store.connect(uri), calls))
    monkeypatch.setattr(recording, "GATHER_S", 1.0)
    recorder = new_recorder(folder)
    recorder.study({}, {"search.sampler": "grid"})
    for number in range(trials):
        path = folder / f"trial-{number}" / "arrays.npz"
        path.parent.mkdir()
        path.write_bytes(b"0")
        recorder.trial(
            number, f"trial {number}", {"engram.config_hash": "0"}, {"training.lr": number}
        )
        recorder.inputs(
            number, [{"name": "d", "digest": "0", "source": "d", "profile": json.dumps({})}]
        )
        for epoch in range(20):
            recorder.metrics(number, epoch, {"train_error": 0.5, "test_error": 0.5})
        recorder.artifact(number, path, keep=False)
        recorder.tags(number, {"engram.status": "completed"})
        recorder.end(number)
    recorder.end(recording.STUDY)
    assert recorder.close(60)
    return calls


def test_mlflow_is_called_five_times_for_a_trial(tmp_path, monkeypatch):
    monkeypatch.setattr(rows, "of", lambda *_: None)  # as for any store but the embedded one
    trials = 6
    calls = record_trials(tmp_path, trials, monkeypatch)
    assert {name: calls[name] for name in MLFLOW_CALLS} == {
        "create_run": trials + 1,
        "log_batch": trials + 1,
        "log_inputs": trials,
        "log_artifact": trials,
        "set_terminated": trials + 1,
    }
    assert calls["search_runs"] <= 1  # the parent alone is looked for
    assert sum(calls.values()) <= 5 * (trials + 1) + 5


def test_the_embedded_store_is_called_for_the_study_alone(tmp_path, monkeypatch):
    written: list[int] = []
    write = rows.Rows.write
    monkeypatch.setattr(
        rows.Rows, "write", lambda self, some: written.append(len(some)) or write(self, some)
    )
    calls = record_trials(tmp_path, 6, monkeypatch)
    assert {name: calls[name] for name in MLFLOW_CALLS if calls[name]} == {
        "create_run": 1,
        "log_batch": 1,
        "set_terminated": 1,
    }
    assert sum(calls.values()) <= 10
    assert sum(written) == 6
    assert len(written) <= 2  # one transaction, or two where the second came late


def test_a_recorder_that_is_told_to_end_waits_for_no_further_message(tmp_path):
    recorder = new_recorder(tmp_path)
    waited_at_the_end = []
    wait = recorder.outbox.arrived.wait

    def watched(timeout: float | None = None) -> bool:
        waited_at_the_end.append(recorder._closing.is_set())
        return wait(timeout)

    recorder.outbox.arrived.wait = watched  # type: ignore[method-assign]
    recorder.study({}, {"search.sampler": "grid"})
    recorder.end(recording.STUDY)
    assert recorder.close(30)
    assert not any(waited_at_the_end)


def test_a_leaderboard_reads_its_ledger_once(tmp_path, monkeypatch):
    monkeypatch.setenv("ENGRAM_HOME", str(tmp_path))
    path = tmp_path / "studies" / "invented" / "search.journal"
    search = Search(asked(6), path, "invented")
    for number in range(6):
        proposal = search.ask()
        search.tell(number, fake_records.record(number, proposal.params, 0.1 * number))
    written = search.records()
    search.close()
    reads: list[int] = []
    read_logs = LedgerFile.read_logs
    monkeypatch.setattr(
        LedgerFile, "read_logs", lambda self, start: reads.append(start) or read_logs(self, start)
    )
    monkeypatch.setattr(store, "connect", lambda uri: pytest.fail("MLflow was asked"))
    execution = executions.find("invented")
    assert execution.records == written
    assert reads == [0]
    assert len(boards.boards_of(execution.records)[0].rows) == 6


def test_verdicts_are_worked_out_for_the_rows_that_are_shown(monkeypatch):
    records = [fake_records.record(n, {"training.lr": float(n)}, 0.1 + 0.01 * n) for n in range(50)]
    judged: list[int] = []
    plain = verdicts._verdict
    monkeypatch.setattr(
        verdicts, "_verdict", lambda r, among: judged.append(r["trial"]) or plain(r, among)
    )
    ranked = boards.boards_of(records)
    for board in ranked:
        assert all(row.verdict for row in board.rows[:10])
    assert len(set(judged)) == len(judged) <= 10 * len(ranked)


def test_the_direct_reader_agrees_with_optunas(tmp_path: Path):
    search = Search(asked(5), tmp_path / "search.journal", "invented")
    for number in range(4):
        proposal = search.ask()
        search.tell(number, fake_records.record(number, proposal.params, 0.2))
        search.set_run(number, f"run-{number}")
    assert read_records(tmp_path / "search.journal", "invented") == search.records()
    changed = asked(7)  # another space: the trials are taken over into a new generation
    search.close()
    again = Search(changed, tmp_path / "search.journal", "invented")
    assert len(again.records()) == 4
    assert read_records(tmp_path / "search.journal", "invented") == again.records()
    assert read_records(tmp_path / "search.journal", "another") == []


def test_a_board_of_five_thousand_trials_compares_no_pair_by_itself(monkeypatch):
    generator = np.random.default_rng(3)
    records = []
    base = fake_records.record(0, {"training.lr": 0.0}, 0.3)
    for number in range(5000):
        values = 0.3 + 0.0001 * number + 0.02 * generator.normal(size=8)
        records.append(
            {
                **base,
                "trial": number,
                "replica_values": {"test_error": values.tolist()},
                "measures": {"test_error": {"mean": float(values.mean()), "low": 0, "high": 1}},
            }
        )
    calls: list[int] = []
    plain = intervals.t_interval
    monkeypatch.setattr(intervals, "t_interval", lambda *a, **k: calls.append(1) or plain(*a, **k))
    groups = [row.tie_group for row in boards.rank(records, "test_error").rows]
    assert len(calls) <= 1, "the first two alone, for the replicas that would separate them"
    assert 1 < max(groups) < 100
