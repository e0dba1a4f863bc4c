"""The Ray that trials run on: our own on this machine, which nobody else can reach, or a cluster at an address."""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Ray reads these when it is imported or started.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # stopping has its own, for SIGTERM too
os.environ.setdefault(
    "TUNE_DISABLE_STRICT_METRIC_CHECKING", "1"
)  # a trial that failed has no metrics
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")  # nobody restores from Tune's snapshots
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS", "0")

import ray
from ray._private import ray_constants

from sweeps.definition.configuration import Study

HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Ray's word for "this machine alone": all of its ports are then bound to loopback.
LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """A Ray of our own, on loopback, or the cluster at address (or RAY_ADDRESS, as Ray sets it in a job)."""
    root = str(Path(__file__).resolve().parent.parent.parent)
    paths = [root, os.getcwd(), *filter(None, [os.environ.get("PYTHONPATH")])]
    # Workers import Engram and the user's code.
    os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(paths))
    if ray.is_initialized():
        yield
        return
    address = address or os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    if address is None:
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # loopback only, without the jobs API
        os.environ[LOOPBACK] = "0"
        ray_constants.ENABLE_RAY_CLUSTER = (
            False  # the same for this process, where Ray has read it already
        )
        options |= {"include_dashboard": False, "_node_ip_address": "127.0.0.1"}
        address = "local"  # never a cluster that happens to run here
    handlers = {number: signal.getsignal(number) for number in HANDLED}
    ray.init(address=address, **options)
    # Ray has put its own in place: handlers that end the process at once, and a log of its own.
    for number, handler in handlers.items():
        signal.signal(number, handler)
    logging.getLogger("ray").handlers = logging.getLogger("sweeps").handlers
    try:
        yield
    finally:
        ray.shutdown()


def capacity(study: Study) -> int:
    """Trials at the same time: as many as fit, or as the study says."""
    if study.resources.concurrent != "auto":
        return int(study.resources.concurrent)
    total = ray.cluster_resources()
    fits = [total.get("CPU", 1.0) / study.resources.cpu]
    if study.resources.gpu:
        fits.append(total.get("GPU", 0.0) / study.resources.gpu)
    return max(1, int(min(fits)))
