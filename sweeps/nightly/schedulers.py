"""Entries for those who have a scheduler already: each starts `schedule STUDY... --once` every ten minutes.

Not at the night's own time: systemd and Kubernetes drop a slot that clocks going forward skip, cron knows no
time zone but its own, and none of them knows what became of the night before. A tick that asks what is due
is right everywhere.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

import yaml

from engram import program
from engram.sweeps.nightly import entries, notify
from engram.sweeps.state import paths
from engram.sweeps.study.configuration import Study
from engram.sweeps.study.request import Request

EVERY_MIN = 10
IMAGE = "registry.example.org/engram:latest"


def cron(studies: Sequence[Study], requests: Sequence[Request]) -> str:
    """A crontab's lines. cron's PATH is short and `%` is a line's end to it, so both are seen to."""
    quoted = {
        name: shlex.quote(str(path))
        for name, path in (
            ("runs", paths.home()),
            ("nights", entries.home()),
            ("log", entries.home() / "tick.log"),
            ("here", Path.cwd()),
        )
    }
    line = (
        f"mkdir -p {quoted['nights']} && cd {quoted['here']} && ENGRAM_HOME={quoted['runs']} "
        f"{shlex.join(_command(requests))} >> {quoted['log']} 2>&1"
    )
    return "\n".join(
        [
            f"# {_names(studies)}: asks every {EVERY_MIN} minutes what is due. Install: crontab -e",
            f"# {notify.FILE}=/path/to/addresses   (whom to tell: lines of tag=ADDRESS, chmod 600)",
            f"*/{EVERY_MIN} * * * * " + line.replace("%", "\\%"),
        ]
    )


def systemd(studies: Sequence[Study], requests: Sequence[Request]) -> str:
    """A service and its timer, one after the other, each headed by the file it belongs into."""
    unit = "engram-" + re.sub(r"[^A-Za-z0-9-]", "-", "-".join(s.name for s in studies))[:60]
    command = " ".join(_systemd_word(word) for word in _command(requests))
    return "\n".join(
        [
            f"# ~/.config/systemd/user/{unit}.service",
            "[Unit]",
            f"Description=Engram nights of {_names(studies)}",
            "",
            "[Service]",
            "Type=oneshot",
            f"WorkingDirectory={_systemd_path(os.getcwd())}",
            f"Environment={_systemd_word(f'ENGRAM_HOME={paths.home()}')}",
            f"# Environment={notify.FILE}=/path/to/addresses",
            f"ExecStart={command}",
            "# 3: some trials failed, 4: a regression; the message has been sent, the unit is well",
            "SuccessExitStatus=3 4",
            "# Ctrl-C to the run, which saves what it has; minutes, because trials end at an epoch",
            "KillSignal=SIGINT",
            "KillMode=mixed",
            "TimeoutStopSec=5min",
            "TimeoutStartSec=infinity",
            "",
            f"# ~/.config/systemd/user/{unit}.timer",
            "[Unit]",
            f"Description=Asks every {EVERY_MIN} minutes what is due of {_names(studies)}",
            "",
            "[Timer]",
            f"OnCalendar=*:0/{EVERY_MIN}",
            "AccuracySec=30s",
            "",
            "[Install]",
            "WantedBy=timers.target",
            "",
            f"# then: systemctl --user daemon-reload && systemctl --user enable --now {unit}.timer",
            "# and, for nights without anybody logged in: loginctl enable-linger",
        ]
    )


def kubernetes(studies: Sequence[Study], requests: Sequence[Request]) -> str:
    """A CronJob and the claim for its state folder. The image, the claim's size and the secret are yours."""
    name = "engram-" + re.sub(r"[^a-z0-9-]", "-", "-".join(s.name for s in studies).lower())[
        :40
    ].strip("-")
    documents = [_claim(name), _cron_job(name, requests)]
    head = (
        f"# {_names(studies)}: asks every {EVERY_MIN} minutes what is due. Put your image and, for {notify.ADDRESSES},\n"
        f"# your addresses in: kubectl create secret generic {name}-notify --from-literal=addresses='team=slack://...'\n"
    )
    return (
        head
        + "---\n".join(yaml.safe_dump(d, sort_keys=False, width=200) for d in documents).rstrip()
    )


def _claim(name: str) -> dict:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": f"{name}-runs"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "20Gi"}},
        },
    }


def _cron_job(name: str, requests: Sequence[Request]) -> dict:
    secret = {"name": f"{name}-notify", "key": "addresses", "optional": True}
    container = {
        "name": "engram",
        "image": IMAGE,
        "command": ["engram", *_words(requests)],
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
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 300,  # running trials are saved
        "containers": [container],
        "volumes": [
            {"name": "runs", "persistentVolumeClaim": {"claimName": f"{name}-runs"}},
            {
                "name": "shm",
                "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"},
            },  # Ray's object store
        ],
    }
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": name},
        "spec": {
            "schedule": f"*/{EVERY_MIN} * * * *",
            "concurrencyPolicy": "Forbid",
            "startingDeadlineSeconds": 300,
            "successfulJobsHistoryLimit": 3,
            "failedJobsHistoryLimit": 7,
            # The next tick goes on with what died; a job that is tried again would only come first.
            "jobTemplate": {"spec": {"backoffLimit": 0, "template": {"spec": pod}}},
        },
    }


def _command(requests: Sequence[Request]) -> list[str]:
    return [*program.words(), *_words(requests)]


def _words(requests: Sequence[Request]) -> list[str]:
    """`schedule STUDY... --once` with the options that all of them share."""
    options = requests[0].words()[1:]
    return ["schedule", *(request.study for request in requests), *options, "--once"]


def _names(studies: Sequence[Study]) -> str:
    return ", ".join(study.name for study in studies)


def _systemd_word(word: str) -> str:
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"' if re.search(r"[\s\"'\\;]", word) else escaped


def _systemd_path(path: str) -> str:
    return path.replace("%", "%%")


FORMS: dict[str, Callable[[Sequence[Study], Sequence[Request]], str]] = {
    "cron": cron,
    "systemd": systemd,
    "kubernetes": kubernetes,
}
