"""How busy this machine is while a study runs, as metrics that MLflow shows on a page of their own.

Sampled here and sent through the outbox like everything else, so that a server that is away costs
nothing. This machine alone: on a cluster, Ray's dashboard shows the others.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from engram.sweeps.tracking.recorder import STUDY, Recorder

EVERY_S = 10.0
MEGABYTE = 1e6


class SystemMetrics:
    """Samples from `start` to `stop`, in a thread of its own."""

    def __init__(self, recorder: Recorder, every_s: float = EVERY_S):
        self.recorder, self.every_s = recorder, every_s
        self._stopped = threading.Event()
        self._thread = threading.Thread(
            target=self._work, name="engram-system-metrics", daemon=True
        )

    def start(self) -> SystemMetrics:
        self._thread.start()
        return self

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join(5)

    def _work(self) -> None:
        import psutil

        psutil.cpu_percent()  # the first call only starts the clock
        begun, before = time.monotonic(), psutil.net_io_counters()
        while not self._stopped.wait(
            min(self.every_s, 1.0) if time.monotonic() - begun < self.every_s else self.every_s
        ):
            self.recorder.metrics(STUDY, int(time.monotonic() - begun), sample(before))


def sample(before: Any) -> dict[str, float]:
    """One look at the machine, under the names that MLflow's page knows."""
    import psutil

    memory, disk, network = (
        psutil.virtual_memory(),
        psutil.disk_usage("/"),
        psutil.net_io_counters(),
    )
    found = {
        "cpu_utilization_percentage": psutil.cpu_percent(),
        "system_memory_usage_megabytes": memory.used / MEGABYTE,
        "system_memory_usage_percentage": memory.percent,
        "disk_usage_percentage": disk.percent,
        "disk_available_megabytes": disk.free / MEGABYTE,
        "network_receive_megabytes": (network.bytes_recv - before.bytes_recv) / MEGABYTE,
        "network_transmit_megabytes": (network.bytes_sent - before.bytes_sent) / MEGABYTE,
        **_gpus(),
    }
    return {f"system/{name}": value for name, value in found.items()}


def _gpus() -> dict[str, float]:
    """Memory of each GPU in use; nothing where torch is not loaded here or sees none."""
    import sys

    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return {}
    found = {}
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        found[f"gpu_{index}_memory_usage_megabytes"] = (total - free) / MEGABYTE
        found[f"gpu_{index}_memory_usage_percentage"] = 100 * (total - free) / total
    return found
