"""A trial raises, hangs, or wants more memory than there is: the others go on, and it is tried again."""

from __future__ import annotations

import json

import pytest
import torch

from tests.reliability import faults

pytestmark = pytest.mark.faults

MODULES = '''\
import os
import resource
import time
from pathlib import Path

import torch

HERE = Path(__file__).parent


class Plain(torch.nn.Module):
    """A linear model; `train` happens before each training pass of a full batch."""

    def __init__(self, shape, outputs, width=8):
        super().__init__()
        self.layer = torch.nn.Linear(shape[0], outputs)

    def forward(self, inputs):
        if self.training and inputs.shape[0] == 20:
            return self.layer(inputs) + self.trouble(inputs)
        return self.layer(inputs)

    def trouble(self, inputs):
        return 0.0


def first_time(name):
    try:
        os.mkdir(HERE / name)
    except FileExistsError:
        return False
    return True


class RaisesOnce(Plain):
    def trouble(self, inputs):
        if first_time("raised"):
            raise RuntimeError("once only")
        return 0.0


class RaisesAlways(Plain):
    def trouble(self, inputs):
        if not (HERE / "mended").exists():
            raise RuntimeError("thirteen brings bad luck")
        return 0.0


class HangsOnce(Plain):
    def trouble(self, inputs):
        if first_time("hung"):
            time.sleep(3600)
        return 0.0


class Greedy(Plain):
    """Takes 40 MB for each replica in a stack, and may have 100."""

    def trouble(self, inputs):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (used + 100 * 2**20, before[1]))
        try:
            return inputs.detach().repeat(1, 12_500).mean() * 0
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
'''
STUDY = """\
name: trouble
data: {train_size: 200}
training: {epochs: 6, batch_size: 20}
replicas: {count: 4}
sweep:
  model.family: ["mine:Plain", "mine:RaisesOnce", "mine:RaisesAlways", "mine:HangsOnce", "mine:Greedy"]
faults: {retries: 1, time_limit_s: 20}
"""


@pytest.fixture(scope="module")
def trouble(tmp_path_factory):
    """One study in which nearly everything goes wrong."""
    folder = tmp_path_factory.mktemp("trouble")
    (folder / "mine.py").write_text(MODULES)
    study = faults.write(folder, STUDY)
    done = faults.finish(study, folder / "runs", code=3)
    records = json.loads((folder / "runs" / "studies" / "trouble" / "trials.json").read_text())
    return folder, done, {r["params"]["model.family"].removeprefix("mine:"): r for r in records}


def test_a_trial_that_raises_is_tried_again_and_then_fails_alone(trouble):
    _, done, records = trouble
    assert records["RaisesOnce"]["status"] == "completed"
    assert records["RaisesAlways"]["status"] == "failed"
    assert "after 2 attempts" in records["RaisesAlways"]["error"]
    assert "thirteen" in records["RaisesAlways"]["error"]
    assert "thirteen" in done.stdout
    assert "--set faults.retry_failed=true" in done.stdout


def test_a_trial_that_hangs_is_ended_at_its_limit_and_tried_again(trouble):
    folder, _, records = trouble
    assert records["HangsOnce"]["status"] == "completed"
    assert "longer than faults.time_limit_s" in faults.log(folder / "runs")


def test_out_of_memory_means_fewer_replicas_at_a_time_and_the_same_result(trouble):
    _, _, records = trouble
    assert records["Greedy"]["status"] == "completed"
    assert records["Greedy"]["stack"] < 4
    assert records["Plain"]["stack"] == 4
    for name in ("RaisesOnce", "HangsOnce", "Greedy"):
        for measure, value in records["Plain"]["measures"].items():
            found = records[name]["measures"][measure]
            assert (found is None) == (value is None)
            if value is not None and value["mean"] is not None:
                assert found["mean"] == pytest.approx(value["mean"], abs=1e-5), (name, measure)


def test_mlflow_knows_what_failed(trouble):
    folder, _, _ = trouble
    runs = faults.trial_runs(faults.store(folder / "runs"), "trouble")
    assert sorted(r.info.status for r in runs) == ["FAILED"] + ["FINISHED"] * 4


def test_failed_trials_are_tried_again_when_asked(trouble):
    folder, _, _ = trouble
    study = folder / "study.yaml"
    again = faults.finish(study, folder / "runs", code=3)
    assert "5 finished before" in again.stdout
    (folder / "mended").mkdir()
    faults.finish(study, folder / "runs", "--set", "faults.retry_failed=true")
    assert {e["status"] for e in faults.board(folder / "runs", "trouble")} == {"completed"}
    runs = faults.trial_runs(faults.store(folder / "runs"), "trouble")
    assert [r.info.status for r in runs] == ["FINISHED"] * 5


def test_failing_fast_stops_the_study(tmp_path):
    (tmp_path / "mine.py").write_text(MODULES)
    text = STUDY.replace(
        '"mine:Plain", "mine:RaisesOnce", "mine:RaisesAlways", "mine:HangsOnce", "mine:Greedy"',
        '"mine:RaisesAlways", "mine:Plain"',
    )
    text = (
        text.replace("retries: 1", "retries: 0, on_failure: stop") + "resources: {concurrent: 1}\n"
    )
    study = faults.write(tmp_path, text)
    done = faults.finish(study, tmp_path / "runs", code=1)
    assert "faults.on_failure is stop" in done.stdout
    assert len(faults.board(tmp_path / "runs", "trouble")) == 1


POISONED = '''\
import sys
from pathlib import Path

import torch

HIT = Path(__file__).parent / "hit"
TRAINS = Path(sys.argv[0]).name == "default_worker.py"  # not the driver, which tries the class first
poisoned = False


class Net(torch.nn.Module):
    """One uncorrectable error, once: from then on everything fails in this process, as with CUDA."""

    def __init__(self, shape, outputs, width=8):
        super().__init__()
        self.hidden, self.last = torch.nn.Linear(40, width), torch.nn.Linear(width, outputs)
        self.width = width

    def forward(self, inputs):
        global poisoned
        if TRAINS and self.training and self.width == 5 and not HIT.exists():
            HIT.touch()
            poisoned = True
        if poisoned:
            raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
        return self.last(torch.relu(self.hidden(inputs)))
'''


def test_a_poisoned_process_costs_one_attempt(tmp_path):
    (tmp_path / "poisoned.py").write_text(POISONED)
    widths = list(range(4, 16))
    study = faults.write(
        tmp_path,
        f"""\
name: poisoned
data: {{train_size: 200}}
model: {{family: "poisoned:Net"}}
training: {{epochs: 3, batch_size: 50}}
replicas: {{count: 2}}
sweep: {{model.width: {widths}}}
faults: {{retries: 0}}
""",
    )
    faults.finish(study, tmp_path / "runs")
    assert {e["status"] for e in faults.board(tmp_path / "runs", "poisoned")} == {"completed"}
    log = faults.log(tmp_path / "runs")
    assert log.count("met a fault") == 1
    assert log.count(" starts, attempt") == len(widths) + 1
    assert "is set aside" not in log, "there is no other place to go to"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_out_of_gpu_memory_means_fewer_replicas_at_a_time(tmp_path):
    (tmp_path / "mine.py").write_text(GPU_MODULES)
    study = faults.write(
        tmp_path,
        STUDY.partition("sweep:")[0]
        + 'sweep: {model.family: ["mine:Plain", "mine:Greedy"]}\nresources: {gpu: 1}\nfaults: {retries: 0}\n',
    )
    faults.finish(study, tmp_path / "runs")
    records = json.loads((tmp_path / "runs" / "studies" / "trouble" / "trials.json").read_text())
    plain, greedy = sorted(records, key=lambda r: r["params"]["model.family"], reverse=True)
    assert plain["stack"] == 4
    assert greedy["stack"] < 4
    for measure, value in plain["measures"].items():
        if value is not None:
            assert greedy["measures"][measure]["mean"] == pytest.approx(value["mean"], abs=1e-4), (
                measure
            )


GPU_MODULES = (
    MODULES
    + '''

class Greedy(Plain):  # noqa: F811
    """Takes 2 GB for each replica in a stack, and may have 5."""

    def trouble(self, inputs):
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(5 * 2**30 / total)
        try:
            return inputs.detach().repeat(1, 700_000).mean() * 0
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
'''
)
