"""`doctor`: what works on this machine and what does not, each with the fix. Changes nothing, but for `--drill`.

Packages that only one module may import (ray, mlflow, optuna) are tried in a process of their own.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from engram import program
from engram.sweeps.state import paths

SUMMARY = "say what works here, each with the fix where it does not"
MORE = "Python, torch, GPUs, Ray, store, search, disk, memory, cluster. Exit code 1: something needed is missing."
EXAMPLE = "doctor --address http://127.0.0.1:8265"
# The versions the project was built and tested with; the search and the store depend on them.
TESTED = {"ray": "2.60", "mlflow": "3.17", "optuna": "5."}
SLOWEST_IMPORT_S = 120
TRIED_REPLICAS = 8
# What Ray would count on this machine, which the variables of a batch system may hide from torch, or from it.
RAYS_GPUS = """
try:
    from ray._private.accelerators import get_accelerator_manager_for_resource as of
    print(of("GPU").get_current_node_num_accelerators())
except Exception:
    print("an unknown number of")
"""
GIB = 2**30


@dataclass(frozen=True)
class Finding:
    """One line of the examination."""

    verdict: Literal["ok", "warn", "fail"]
    subject: str
    text: str
    fix: str = ""

    def __str__(self) -> str:
        line = f"{self.verdict:4}  {self.subject:9} {self.text}"
        return f"{line}\n{'':16}{self.fix}" if self.fix else line


def arguments(parser: argparse.ArgumentParser) -> None:
    text = "Ray cluster to look for; RAY_ADDRESS without it"
    parser.add_argument("--address", metavar="A", help=text)
    text = "try faults on purpose with a study of two minutes, and say what held"
    parser.add_argument("--drill", action="store_true", help=text)


def body(arguments: argparse.Namespace) -> int:
    """Print every finding."""
    worst = "ok"
    for finding in examine(arguments.address or os.environ.get("RAY_ADDRESS")):
        program.say(str(finding))
        if finding.verdict == "fail":
            worst = "fail"
    if arguments.drill and worst != "fail":
        worst = _drill()
    return program.FAILED if worst == "fail" else program.DONE


def _drill() -> str:
    """Print what held of a drill, step by step; the worst verdict."""
    from engram.sweeps.nightly import drill

    worst = "ok"
    for step in drill.drill():
        verdict = "warn" if step.held is None else "ok" if step.held else "fail"
        program.say(f"{verdict:4}  drill     {step.what}: {step.said}")
        worst = "fail" if verdict == "fail" else worst
    return worst


def examine(address: str | None = None) -> Iterator[Finding]:
    imports = {name: _start_import(name) for name in TESTED}  # side by side: each takes seconds
    yield python()
    yield from torch()
    for name, process in imports.items():
        found, said = package(name, process)
        yield found
        if name == "ray" and found.verdict != "fail":
            yield gpus(said)
    yield home()
    yield store()
    yield disk()
    yield memory()
    yield from shared_memory()
    yield from token()
    if address and address not in ("auto", "local"):
        yield cluster(address)


def python() -> Finding:
    text = f"{platform.python_version()} ({sys.executable})"
    if sys.version_info < (3, 11):  # noqa: UP036 - the folder may be run without installing
        return Finding("fail", "python", text, "install Python 3.11 or newer, then: make setup")
    return Finding("ok", "python", text)


def torch() -> Iterator[Finding]:
    try:
        import torch
    except Exception as error:
        yield Finding("fail", "torch", f"cannot be imported: {error}", "make setup")
        return
    yield Finding(
        "ok",
        "torch",
        f"{torch.__version__}, {torch.get_num_threads()} threads, {os.cpu_count()} CPUs",
    )
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield gpu(index)
    elif torch.backends.mps.is_available():
        yield Finding("ok", "gpu", "Apple MPS; use it with resources.device: mps")
    elif torch.version.cuda:
        from engram.models import device

        fix = "the driver may be missing or too old. Studies run on the CPU"
        yield Finding("warn", "gpu", f"none can be used: {device.cuda_problem()}", fix)
    else:
        yield Finding("ok", "gpu", "none (torch is built for the CPU); studies run on the CPU")


def gpu(index: int) -> Finding:
    """A few steps of training on one GPU."""
    import torch

    from engram.models import device
    from engram.models.config import ModelConfig, TrainingConfig
    from engram.models.probe import seconds_per_step

    place = torch.device("cuda", index)
    try:
        found = torch.cuda.get_device_properties(place)
        words = (ModelConfig(), TrainingConfig(), TRIED_REPLICAS, 1000, (40,), 10)
        took = seconds_per_step(*words, device=place)
    except Exception as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        fix = "take it out of CUDA_VISIBLE_DEVICES, or mend its driver. Studies would set it aside"
        return Finding("fail", f"gpu {index}", f"{first}; {device.driver()}", fix)
    text = f"{found.name}, {found.total_memory / GIB:.0f} GiB, CUDA {torch.version.cuda}: "
    text += f"{1000 * took:.2g} ms a step of {TRIED_REPLICAS} networks"
    return Finding("ok", f"gpu {index}", text)


def _start_import(name: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    more = RAYS_GPUS if name == "ray" else ""
    command = [sys.executable, "-c", f"import {name}{more}"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )


def package(name: str, process: subprocess.Popen[str]) -> tuple[Finding, str]:
    """What came of its import, and what the process that imported it wrote."""
    try:
        told, said = process.communicate(timeout=SLOWEST_IMPORT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        late = f"takes more than {SLOWEST_IMPORT_S} s to import"
        return Finding("fail", name, late, "make setup"), ""
    if process.returncode:
        reason = (said.strip().splitlines() or ["it ended without a word"])[-1]
        return Finding("fail", name, f"cannot be imported: {reason}", "make setup"), ""
    import importlib.metadata

    version = importlib.metadata.version(name)
    if not version.startswith(TESTED[name]):
        tested = f"{version}, tested with {TESTED[name].rstrip('.')}"
        return Finding("warn", name, tested, "make setup"), told.strip()
    return Finding("ok", name, version), told.strip()


def gpus(ray: str) -> Finding:
    """What Ray, torch and the driver see of GPUs, and whether they agree. ray: how many Ray counts."""
    try:
        import torch
    except Exception:
        return Finding("ok", "gpus", f"Ray counts {ray}")
    from engram.models import device

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    text = f"Ray counts {ray}, torch can use {count}; {device.driver()}"
    if not torch.version.cuda and device.seen_by_driver()[0]:
        fix = "torch is built for the CPU, so studies run there: install one that is built for CUDA"
        return Finding("warn", "gpus", text, fix)
    if ray.isdigit() and int(ray) != count and not torch.backends.mps.is_available():
        fix = "trials are sent to as many as Ray counts: look at CUDA_VISIBLE_DEVICES, and at the driver"
        return Finding("warn", "gpus", text, fix)
    return Finding("ok", "gpus", text)


def home() -> Finding:
    path = paths.home()
    existing = _existing(path)
    text = str(path) if existing == path else f"{path} (not there yet)"
    fix = "set ENGRAM_HOME to a folder that you may write to"
    if not existing.is_dir():
        return Finding("fail", "home", f"{path}: {existing} is not a folder", fix)
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding("fail", "home", f"{text} cannot be written", fix)
    return Finding("ok", "home", text)


def store() -> Finding:
    from engram.sweeps.tracking import embedded

    path = paths.home() / "mlflow.db"
    found = embedded.condition(path)
    if found == "absent":
        return Finding("ok", "store", "created by the first run")
    if found == "half-made":
        text = f"{path} is half-made: a process was killed while MLflow made it. It holds no run"
        return Finding("warn", "store", text, "nothing to do: the next run makes it anew")
    if found == "foreign":
        fix = f"use that version, or `mlflow db upgrade {paths.mlflow_uri()}` after a backup"
        return Finding("fail", "store", f"{path} was written by another version of MLflow", fix)
    import sqlite3

    try:
        with closing(embedded.opened(path)) as connection:
            runs = connection.execute("select count(*) from runs").fetchone()[0]
    except sqlite3.Error as error:
        fix = f"put {path} back from a backup, or move it away to begin a new store"
        return Finding("fail", "store", f"{path}: {error}", fix)
    return Finding("ok", "store", f"{path}, {runs:,} runs, {path.stat().st_size / 2**20:.1f} MiB")


def disk() -> Finding:
    free = shutil.disk_usage(_existing(paths.home())).free / GIB
    text = f"{free:.1f} GiB free in the state folder"
    fix = "free some space, or set ENGRAM_HOME to another disk"
    if free < 0.5:
        return Finding("fail", "disk", text, fix)
    return Finding("warn", "disk", text, fix) if free < 5 else Finding("ok", "disk", text)


def memory() -> Finding:
    import psutil

    free = psutil.virtual_memory().available / GIB
    text = f"{free:.1f} GiB free"
    fix = "close other programs, or lower resources.concurrent"
    if free < 1:
        return Finding("fail", "memory", text, fix)
    return Finding("warn", "memory", text, fix) if free < 3 else Finding("ok", "memory", text)


def shared_memory() -> Iterator[Finding]:
    """Ray keeps the data in shared memory; containers often have next to none."""
    path = Path("/dev/shm")
    if not path.is_dir():
        return
    free = shutil.disk_usage(path).free / GIB
    if free < 0.5:
        fix = "start the container with --shm-size=2g; Ray falls back to slower files"
        yield Finding("warn", "shm", f"{free:.2f} GiB of shared memory", fix)
    else:
        yield Finding("ok", "shm", f"{free:.1f} GiB of shared memory")


def token() -> Iterator[Finding]:
    """The file with a cluster's token, which Ray leaves readable to everybody of the machine."""
    from engram.sweeps.cluster import jobs

    path = jobs.token_file()
    if wrong := jobs.read_by_others(path):
        yield Finding("warn", "token", wrong, f"chmod 600 {path}")


def cluster(address: str) -> Finding:
    import urllib.error
    import urllib.request

    fix = "check the address, the firewall, and `ray status` on the head node"
    try:
        if address.startswith(("http://", "https://")):
            with urllib.request.urlopen(f"{address.rstrip('/')}/api/version", timeout=10) as answer:
                return Finding(
                    "ok",
                    "cluster",
                    f"{address} answers: {answer.read(300).decode(errors='replace')}",
                )
        host, port = _host_and_port(address)
        with socket.create_connection((host, port), timeout=10):
            return Finding("ok", "cluster", f"{address} accepts connections")
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):
            fix = "set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or the token file) as on the cluster"
        return Finding("fail", "cluster", f"{address} answers {error.code} {error.reason}", fix)
    except (OSError, ValueError) as error:
        return Finding("fail", "cluster", f"{address}: {error}", fix)


def _host_and_port(address: str) -> tuple[str, int]:
    parsed = urlsplit(address if "://" in address else f"ray://{address}")
    if not parsed.hostname or not parsed.port:
        raise ValueError("is not of the form http://host:port, ray://host:port or host:port")
    return parsed.hostname, parsed.port


def _existing(path: Path) -> Path:
    """The path, or its nearest parent that exists."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
