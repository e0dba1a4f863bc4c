"""Out of memory under any of its names: less at a time, from the last checkpoint, with one cohort held, and the same result."""

from __future__ import annotations

import weakref

import pytest
import torch

from engram.data import catalog
from engram.models import captured, memory
from engram.models.cohort import Cohort
from engram.sweeps.cluster.faults import Ended, Trouble
from engram.sweeps.study.configuration import Configuration
from engram.sweeps.trial import stacking
from tests.gpu.actors import actor, finished

OPTIONS = {
    "data": {"train_size": 200},
    "training": {"epochs": 8, "batch_size": 50, "evaluate_every": 1},
    "model": {"width": 16, "dropout": 0.2},
}
REPLICAS = 8

NAMES = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    MemoryError(),
    RuntimeError("CUDA error: out of memory"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED. This error may appear if you passed"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("Unable to find a valid cuDNN algorithm to run convolution"),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory"
    ),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes."),
    RuntimeError("HIP out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("MPS backend out of memory (MPS allocated: 18.13 GB)"),
    RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"),
]
OTHERS = {
    "device": [
        "CUDA error: uncorrectable ECC error encountered",
        "CUDA error: unspecified launch failure",
        "CUDA_ERROR_NO_DEVICE",
        "cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm( handle, opa, opb`",
        "No CUDA GPUs are available",
        "The NVIDIA driver on your system is too old (found version 11040).",
        "CUDA driver initialization failed, you might not have a CUDA gpu.",
        "Failed to initialize NVML: Driver/library version mismatch",
    ],
    "process": [
        "CUDA error: device-side assert triggered",
        "CUDA error: an illegal memory access was encountered",
        "CUDA error: misaligned address",
    ],
    "trial": [
        "mat1 and mat2 shapes cannot be multiplied (100x40 and 41x8)",
        "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!",
        "CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasSgemm( handle, opa, opb, m`",
        "CUDA error: invalid configuration argument",
    ],
}


@pytest.mark.parametrize("error", NAMES, ids=lambda e: str(e)[:40])
def test_every_name_of_a_failure_of_memory(error):
    assert Trouble.of(error).kind == "memory"


@pytest.mark.parametrize(("kind", "said"), [(k, t) for k, texts in OTHERS.items() for t in texts])
def test_whose_fault_an_error_is(kind, said):
    assert Trouble.of(RuntimeError(said)).kind == kind
    assert Trouble.of(ValueError(said)).kind == "trial", "not torch's"
    assert Trouble.of(explained(said)).kind == kind


def explained(said: str) -> Exception:
    """torch's error as a person's code, or ours around it, may raise it on."""
    try:
        try:
            raise RuntimeError(said)
        except RuntimeError:
            raise ValueError("explained") from None
    except ValueError as error:
        return error


@pytest.fixture(scope="module")
def mnist1d(tmp_path_factory):
    return catalog.load(Configuration().data, cache=tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def undisturbed(mnist1d, tmp_path_factory):
    record, notes = finished(
        actor(mnist1d, tmp_path_factory.mktemp("x"), replicas={"count": REPLICAS}, **OPTIONS)
    )
    assert record["stack"] == REPLICAS
    assert not notes
    return record


class Shortage:
    """Memory for so many replicas in one pass, from the n-th pass of training on; and which cohorts are held."""

    def __init__(self, monkeypatch, room: int, after: int = 0, probed: bool = True):
        self.room, self.after, self.passes = room, after, 0
        self.held: weakref.WeakSet[Cohort] = weakref.WeakSet()
        self.at_building: list[int] = []  # cohorts held whenever one of all replicas is built
        forward, build = Cohort.forward, Cohort.__init__

        def limited(cohort, part, *words, **options):
            trained = cohort.module.training
            self.passes += trained
            if trained and self.passes > self.after and part.stop - part.start > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return forward(cohort, part, *words, **options)

        def counted(cohort, modules, *words, **options):
            self.at_building.append(len(self.held))
            build(cohort, modules, *words, **options)
            self.held.add(cohort)

        monkeypatch.setattr(Cohort, "forward", limited)
        monkeypatch.setattr(Cohort, "__init__", counted)


@pytest.mark.parametrize("checkpoint", [True, False], ids=["with a checkpoint", "without"])
@pytest.mark.parametrize("stack", ["auto", REPLICAS])
def test_half_a_stack_survives_and_ends_in_the_undisturbed_result(
    mnist1d, undisturbed, tmp_path, monkeypatch, stack, checkpoint
):
    # Seven passes are within the second epoch; while the width is measured there is no room either.
    shortage = Shortage(monkeypatch, REPLICAS // 2, after=7 if stack != "auto" else 0)
    trained = actor(
        mnist1d,
        tmp_path,
        every_s=1e-6 if checkpoint else 1e6,
        replicas={"count": REPLICAS, "stack": stack},
        **OPTIONS,
    )
    record, notes = finished(trained)
    assert record["stack"] == REPLICAS // 2
    assert shortage.at_building[0] == 0
    assert max(shortage.at_building) == 0, "another cohort was held while one was built"
    if stack != "auto":
        assert notes == ["out of memory with 8 replicas at a time: 4"]
        assert (trained.safe is not None) == checkpoint
    assert_same(record, undisturbed)


@pytest.mark.parametrize("checkpoint", [True, False], ids=["with a checkpoint", "without"])
def test_auto_that_was_measured_with_more_room_is_halved_from_there(
    mnist1d, undisturbed, tmp_path, monkeypatch, checkpoint
):
    monkeypatch.setattr(stacking, "_measured", lambda cohort, most: 0)  # all of them
    shortage = Shortage(monkeypatch, 2, after=7)
    every_s = 1e-6 if checkpoint else 1e6
    trained = actor(mnist1d, tmp_path, every_s, replicas={"count": REPLICAS}, **OPTIONS)
    record, notes = finished(trained)
    assert (trained.safe is not None) == checkpoint
    assert record["stack"] == 2
    assert [note[-1] for note in notes] == ["4", "2"]
    assert max(shortage.at_building) == 0
    assert_same(record, undisturbed)


def test_a_graph_that_is_too_much_is_given_up_before_the_stack_is_halved(
    mnist1d, undisturbed, tmp_path, monkeypatch
):
    def short(work, device):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(captured, "record", short)
    monkeypatch.setattr(stacking, "captured", lambda *words: True)
    options = {**OPTIONS, "replicas": {"count": REPLICAS, "stack": REPLICAS}}
    record, notes = finished(actor(mnist1d, tmp_path, **options))
    assert notes == ["out of memory with recorded steps: step by step from here on"]
    assert record["stack"] == REPLICAS
    assert not record["captured"]
    assert_same(record, undisturbed)


def test_halving_starts_from_what_was_in_use(mnist1d, tmp_path, monkeypatch):
    Shortage(monkeypatch, 1)
    options = {**OPTIONS, "replicas": {"count": REPLICAS, "stack": 4}}
    _, notes = finished(actor(mnist1d, tmp_path, **options))
    assert notes[0] == "out of memory with 4 replicas at a time: 2"


def test_one_replica_that_does_not_fit_fails_with_the_reason(mnist1d, tmp_path, monkeypatch):
    Shortage(monkeypatch, 0)
    options = {**OPTIONS, "replicas": {"count": 2, "stack": 2}}
    trained = actor(mnist1d, tmp_path, **options)
    results = [trained.step() for _ in range(2)]
    assert results[-1]["failure"].startswith("out of memory, even one replica at a time")
    assert "Tried to allocate 2.00 GiB" in results[-1]["failure"]


def test_a_checkpoint_outlives_a_restore_that_runs_out_of_memory(mnist1d, tmp_path, monkeypatch):
    options = {**OPTIONS, "replicas": {"count": REPLICAS, "stack": REPLICAS}}
    trained = actor(mnist1d, tmp_path, every_s=1e-6, **options)
    for _ in range(3):
        saved = trained.step()["saved"]
    load, refusals = Cohort.load_state_dict, iter([True])

    def short_once(cohort, state):
        if next(refusals, False):
            raise torch.OutOfMemoryError("CUDA out of memory")
        load(cohort, state)

    monkeypatch.setattr(Cohort, "load_state_dict", short_once)
    again = actor(mnist1d, tmp_path, **options)
    again.safe = saved
    again.step()
    assert again.safe is saved
    assert again.trial.trainer.step == saved[0].step
    assert again.trial.trainer.cohort.stack == REPLICAS // 2


def test_a_checkpoint_of_another_shape_is_left_aside_with_a_word(mnist1d, tmp_path):
    options = {**OPTIONS, "replicas": {"count": 2, "stack": 2}}
    trained = actor(mnist1d, tmp_path, every_s=1e-6, **options)
    safe = trained.step()["saved"]
    again = actor(mnist1d, tmp_path, **{**options, "model": {"width": 17}})
    again.safe = safe
    _, notes = finished(again)
    assert any("starts from the beginning" in note for note in notes)


def test_a_device_error_ends_the_actor_and_says_where(mnist1d, tmp_path, monkeypatch):
    def poisoned(*words, **options):
        raise RuntimeError("CUDA error: uncorrectable ECC error encountered")

    trained = actor(mnist1d, tmp_path, replicas={"count": 2, "stack": 2}, **OPTIONS)
    monkeypatch.setattr(Cohort, "forward", poisoned)
    with pytest.raises(Ended, match="uncorrectable ECC") as ended:
        trained.step()
    assert ended.value.trouble.kind == "device"
    assert ended.value.spot.host


def test_a_reused_actor_holds_nothing_of_the_trial_before(mnist1d, tmp_path):
    trained = actor(mnist1d, tmp_path, replicas={"count": 2, "stack": 2}, **OPTIONS)
    trained.step()
    before = weakref.ref(trained.trial.trainer.cohort)
    trained.reset_config(trained.config)
    assert before() is None


def test_deterministic_on_request_and_recorded(mnist1d, tmp_path):
    trained = actor(mnist1d, tmp_path, replicas={"count": 2, "stack": 2}, **OPTIONS)
    try:
        trained.reset_config({**trained.config, "deterministic": True})
        record, _ = finished(trained)
        assert record["device"]["deterministic"]
        assert record["status"] == "completed"
    finally:
        trained.reset_config({**trained.config, "deterministic": False})
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_share_of_a_gpu_is_a_share_of_its_memory(monkeypatch):
    asked = []

    class Card:
        total_memory = 10 * 2**30

    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Card)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda *words: asked.append(words)
    )
    memory.keep_to_share(torch.device("cuda"), 0.25)
    memory.keep_to_share(torch.device("cuda", 0), 0.25)
    memory.keep_to_share(torch.device("cuda"), 1.0)
    memory.keep_to_share(torch.device("cpu"), 0.25)
    # By number: on a GPU torch refuses a device without one, here alone.
    assert asked == [(pytest.approx(0.2), 1), (pytest.approx(0.2), 0)]


def assert_same(record: dict, expected: dict) -> None:
    assert record["status"] == expected["status"]
    for name, measure in expected["measures"].items():
        for part in ("mean", "low", "high"):
            one, other = (
                None if m is None else m[part] for m in (record["measures"][name], measure)
            )
            assert (one is None) == (other is None), name
            assert one is None or one == pytest.approx(other, abs=1e-5), (name, part)
