"""Ray on a machine that is too busy for its patience: started again, and told; nothing of a failed start stays."""

from __future__ import annotations

import multiprocessing
import os
import time

import psutil
import pytest

from tests.reliability import faults

pytestmark = [pytest.mark.faults, pytest.mark.timeout(3600)]

TINY = "name: grid\ndata: {train_size: 100}\ntraining: {epochs: 2}\n"
STARTS = int(os.environ.get("ENGRAM_TEST_STARTS", "4"))  # 20 in `make test-faults`
BUSY = 8


def test_a_ray_that_does_not_come_up_is_started_again(tmp_path):
    """Its first node is stopped as it starts, as if it got no turn on a processor."""
    study, home = faults.write(tmp_path, TINY), tmp_path / "runs"
    run = faults.Run(study, home)
    driver = psutil.Process(run.process.pid)
    stopped: list[psutil.Process] = []

    def stop_the_node() -> bool:
        for process in driver.children(recursive=True):
            try:
                if process.name() == "raylet":
                    process.suspend()
                    stopped.append(process)
            except psutil.NoSuchProcess:
                continue
        return bool(stopped)

    run.until(stop_the_node)
    run.until(lambda: "trying again in 1 s" in run.text)
    assert run.wait() == 0, run.text
    assert "Ray has not started: the machine is busy" in run.text
    assert not any(process.is_running() for process in stopped), "the failed start has ended"
    faults.assert_recorded_once(faults.store(home), 1, {1, 2})


def _burn() -> None:
    while True:
        pass


def test_every_start_succeeds_beside_eight_busy_processes(tmp_path):
    study = faults.write(tmp_path, TINY)
    context = multiprocessing.get_context("spawn")
    busy = [context.Process(target=_burn, daemon=True) for _ in range(BUSY)]
    for process in busy:
        process.start()
    try:
        for number in range(STARTS):
            home = tmp_path / str(number) / "runs"
            home.parent.mkdir()
            began = time.monotonic()
            done = faults.finish(study, home)
            again = done.stdout.count("trying again") + done.stderr.count("trying again")
            print(f"start {number}: {time.monotonic() - began:.0f} s, {again} times again")
            faults.assert_recorded_once(faults.store(home), 1, {1, 2})
    finally:
        for process in busy:
            process.kill()
            process.join()
