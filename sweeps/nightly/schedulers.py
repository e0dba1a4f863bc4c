"""Entries for cron and systemd: each starts `schedule STUDY... --once` every ten minutes.

Not at the night's own time: systemd and Kubernetes drop a slot that clocks going forward skip, cron knows no
time zone but its own, and none of them knows what became of the night before. A tick that asks what is due
is right everywhere.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from engram import program
from engram.sweeps.nightly import entries, notify
from engram.sweeps.state import paths
from engram.sweeps.study.configuration import Study
from engram.sweeps.study.request import Request

EVERY_MIN = 10


def cron(
    studies: Sequence[Study],
    requests: Sequence[Request],
    folders: Sequence[Path],
    address: str | None,
) -> str:
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
        f"{shlex.join(_command(requests, folders, address))} >> {quoted['log']} 2>&1"
    )
    return "\n".join(
        [
            f"# {_names(studies)}: asks every {EVERY_MIN} minutes what is due. Install: crontab -e",
            f"# {notify.FILE}=/path/to/addresses   (whom to tell: lines of tag=ADDRESS, chmod 600)",
            f"*/{EVERY_MIN} * * * * " + line.replace("%", "\\%"),
        ]
    )


def systemd(
    studies: Sequence[Study],
    requests: Sequence[Request],
    folders: Sequence[Path],
    address: str | None,
) -> str:
    """A service and its timer, one after the other, each headed by the file it belongs into."""
    unit = "engram-" + re.sub(r"[^A-Za-z0-9-]", "-", "-".join(s.name for s in studies))[:60]
    command = " ".join(_systemd_word(word) for word in _command(requests, folders, address))
    return "\n".join(
        [
            f"# ~/.config/systemd/user/{unit}.service",
            "[Unit]",
            f"Description=Engram nights of {_names(studies)}",
            "",
            "[Service]",
            "Type=oneshot",
            f"WorkingDirectory={_systemd_path(os.getcwd())}",
            f"Environment={_systemd_quoted(f'ENGRAM_HOME={paths.home()}')}",
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


def _command(
    requests: Sequence[Request], folders: Sequence[Path], address: str | None
) -> list[str]:
    homes = [word for folder in folders for word in ("--home", str(folder))]
    return [*program.words(), *words(requests, address, homes if len(folders) > 1 else [])]


def words(requests: Sequence[Request], address: str | None, more: Sequence[str] = ()) -> list[str]:
    """`schedule STUDY... --once` with the options that all of them share."""
    options = requests[0].words()[1:] + (["--address", address] if address else [])
    return ["schedule", *(request.study for request in requests), *options, *more, "--once"]


def _names(studies: Sequence[Study]) -> str:
    return ", ".join(study.name for study in studies)


def _systemd_word(word: str) -> str:
    """A word of a command, where `$` begins a variable."""
    return _systemd_quoted(word.replace("$", "$$"))


def _systemd_quoted(word: str) -> str:
    """A word of a setting: `$` means itself there."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"' if re.search(r"[\s\"'\\;]", word) else escaped


def _systemd_path(path: str) -> str:
    return path.replace("%", "%%")
