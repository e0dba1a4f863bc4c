"""The nights as a CronJob of Kubernetes, with all that it needs: claim, studies, GPUs, secret.

Like cron and systemd it starts `schedule STUDY... --once` every ten minutes (see schedulers).
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from engram.problems import Place, Problem, StudyError
from engram.sweeps.nightly import notify, schedulers
from engram.sweeps.study import own_code, study_file
from engram.sweeps.study.configuration import Study
from engram.sweeps.study.request import Request

IMAGE = "registry.example.org/engram:latest"
STUDIES = "/studies"
GPU = "nvidia.com/gpu"


def kubernetes(
    studies: Sequence[Study],
    requests: Sequence[Request],
    folders: Sequence[Path],
    address: str | None,
) -> str:
    """The documents for `kubectl apply`. The image, the claim's size and the secret are yours."""
    if len(folders) > 1:
        rule = "a CronJob has one claim, for one state folder"
        raise StudyError([Problem(Place("schedule"), rule, "print one for each", "--home")])
    joined = "-".join(study.name for study in studies).lower()
    name = "engram-" + re.sub(r"[^a-z0-9-]", "-", joined)[:40].strip("-")
    own = {f"{study.name}.yaml": study.text for study in studies if not _shipped(study)}
    asked = [
        request if _shipped(study) else request.of(f"{STUDIES}/{study.name}.yaml")
        for study, request in zip(studies, requests, strict=True)
    ]
    documents = [_claim(name), *([_files(name, own)] if own else [])]
    gpus = 0 if address else max(_gpus(study) for study in studies)
    documents.append(_cron_job(name, schedulers.words(asked, address), gpus, bool(own)))
    lines = [
        f"# {', '.join(s.name for s in studies)}: asks every {schedulers.EVERY_MIN} minutes what is due."
        f" Put your image and, for {notify.ADDRESSES},",
        f"# your addresses in: kubectl create secret generic {name}-notify --from-literal=addresses='team=slack://...'",
    ]
    if code := sorted({path.partition(":")[0] for s in studies for path in own_code.named(s)}):
        lines.append(f"# Your own code has to be in the image: {', '.join(code)}")
    shown = (yaml.safe_dump(d, sort_keys=False, width=200) for d in documents)
    return "\n".join(lines) + "\n" + "---\n".join(shown).rstrip()


def _shipped(study: Study) -> bool:
    return study.path is not None and study.path.resolve().parent == study_file.SHIPPED.resolve()


def _gpus(study: Study) -> int:
    """Whole GPUs that one trial needs; 1 where it takes what there is, or a share."""
    gpu = study.resources.gpu
    if gpu == "auto":
        return 1 if study.resources.device == "cuda" else 0
    return math.ceil(gpu)


def _claim(name: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": f"{name}-runs"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "20Gi"}},
        },
    }


def _files(name: str, texts: dict[str, str]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": f"{name}-studies"},
        "data": texts,
    }


def _cron_job(name: str, words: list[str], gpus: int, own: bool) -> dict[str, Any]:
    secret = {"name": f"{name}-notify", "key": "addresses", "optional": True}
    container: dict[str, Any] = {
        "name": "engram",
        "image": IMAGE,
        "command": ["engram", *words],
        "env": [
            {"name": "ENGRAM_HOME", "value": "/runs"},
            {"name": notify.ADDRESSES, "valueFrom": {"secretKeyRef": secret}},
        ],
        "resources": {"requests": {"cpu": "2", "memory": "4Gi"}, "limits": {"memory": "8Gi"}},
        "volumeMounts": [
            {"name": "runs", "mountPath": "/runs"},
            {"name": "shm", "mountPath": "/dev/shm"},
        ],
    }
    volumes: list[dict[str, Any]] = [
        {"name": "runs", "persistentVolumeClaim": {"claimName": f"{name}-runs"}},
        {
            "name": "shm",
            "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"},
        },  # Ray's object store
    ]
    if gpus:
        container["resources"]["limits"][GPU] = gpus
    if own:
        container["volumeMounts"].append({"name": "studies", "mountPath": STUDIES})
        volumes.append({"name": "studies", "configMap": {"name": f"{name}-studies"}})
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 300,  # running trials are saved
        "containers": [container],
        "volumes": volumes,
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name},
        "spec": {
            "schedule": f"*/{schedulers.EVERY_MIN} * * * *",
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 300,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 7,
            # The next tick goes on with what died; a job that is tried again would only come first.
            "jobTemplate": {"spec": {"backoffLimit": 0, "template": {"spec": pod}}},
        },
    }
