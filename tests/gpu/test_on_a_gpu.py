"""Every case of the suite on a real GPU, beside the CPU. Skipped where there is none."""

from __future__ import annotations

import pytest
import torch

from engram.models import device, memory
from engram.sweeps.study.sections import MeasuresConfig
from engram.sweeps.trial import measuring, preparing
from tests.gpu import cases

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
# Of a loss after six steps. Float32 sums in another order; bfloat16 keeps 8 bits, and rounds at other places.
NEAR = {"float32": 2e-3, "bfloat16": 5e-2}


@pytest.mark.parametrize("case", cases.CASES)
def test_a_trial_comes_to_what_the_cpu_comes_to(case, tmp_path):
    asked = cases.CASES[case]
    configuration, data = cases.configuration(asked, str(tmp_path)), cases.dataset(asked)
    wanted = MeasuresConfig(**asked.get("wanted", {}))
    device.settle()
    found = []
    for where in ("cuda", "cpu"):
        one = preparing.prepare(configuration, data, torch.device(where), wanted=wanted)
        while not one.trainer.finished:
            one.advance()
        assert one.trainer.cohort.way == asked.get("way", "stacked")
        record, _ = measuring.measure(one, wanted)
        assert record["status"] == "completed"
        found.append(one.history[-1].loss)
    near = NEAR[configuration.training.precision]
    for name, loss in found[1].items():
        torch.testing.assert_close(found[0][name], loss, rtol=near, atol=near)


@pytest.mark.parametrize("family", ["feedforward", "convolutional", "rnn", "gru", "lstm"])
def test_recorded_steps_come_to_what_steps_one_by_one_come_to(family, tmp_path):
    case = {"model": {"family": family, "dropout": 0.2}, "training": {"schedule": "cosine"}}
    configuration, data = cases.configuration(case, str(tmp_path)), cases.dataset(case)
    longer = configuration.training.model_copy(update={"epochs": 6})
    configuration = configuration.model_copy(update={"training": longer})
    device.settle()
    found = []
    for capture in (True, False):
        one = preparing.prepare(configuration, data, torch.device("cuda"), capture=capture)
        while not one.trainer.finished:
            one.advance()
        assert (one.trainer.graph is not None) is capture, one.trainer.not_captured
        found.append(one.history[-1].loss["train"])
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-3)


def test_a_process_keeps_to_its_share_of_the_memory():
    memory.keep_to_share(torch.device("cuda"), 0.25)
    total = torch.cuda.get_device_properties(0).total_memory
    try:
        with pytest.raises(torch.cuda.OutOfMemoryError):
            torch.empty(total // 2, dtype=torch.uint8, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, 0)
