"""Entries for cron, systemd and Kubernetes: what those programs themselves say of them, where they are here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from engram.sweeps.commands import line
from tests.command_line import engram


@pytest.fixture
def printed(tmp_path, monkeypatch, capsys):
    """schedule --print as a person sees it, from a folder with an awkward name."""
    folder = tmp_path / "a 100% odd folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ENGRAM_HOME", str(folder / "runs"))

    def command(form: str) -> str:
        assert line.main(["schedule", "nightly", "--small", "--print", form]) == 0
        return capsys.readouterr().out

    return command


def test_the_cron_line_runs_under_crons_shell(printed, tmp_path):
    lines = [line for line in printed("cron").splitlines() if not line.startswith("#")]
    assert len(lines) == 1
    found = re.fullmatch(r"\*/10 \* \* \* \* (.*)", lines[0])
    assert found
    # cron ends a command at a bare %, and takes the backslash away before others.
    assert not re.search(r"(?<!\\)%", found[1])
    done = subprocess.run(
        ["/bin/sh", "-c", found[1].replace("\\%", "%")],
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    home = tmp_path / "a 100% odd folder" / "runs" / "nightly"
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), (
        home / "tick.log"
    ).read_text()
    assert (home / "since" / "nightly-small.json").exists(), "it asked what is due"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")
def test_systemd_takes_the_units(printed, tmp_path):
    files = re.split(r"^# ~/.config/systemd/user/(\S+)$", printed("systemd"), flags=re.MULTILINE)
    units = dict(zip(files[1::2], files[2::2], strict=True))
    assert [Path(name).suffix for name in units] == [".service", ".timer"]
    folder = tmp_path / "units"
    folder.mkdir()
    for name, text in units.items():
        (folder / name).write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--user", *(str(folder / name) for name in units)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    about_ours = [line for line in done.stderr.splitlines() if "engram" in line]
    assert (done.returncode, about_ours) == (0, []), done.stderr
    (calendar,) = re.findall(r"OnCalendar=(.*)", units["engram-nightly-small.timer"])
    subprocess.run(["systemd-analyze", "calendar", calendar], check=True, capture_output=True)


def test_kubernetes_gets_what_a_cron_job_needs(printed):
    claim, job = yaml.safe_load_all(printed("kubernetes"))
    assert (claim["kind"], job["kind"]) == ("PersistentVolumeClaim", "CronJob")
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", job["metadata"]["name"])
    assert len(job["metadata"]["name"]) <= 52, "the names of its jobs get eleven more characters"
    spec = job["spec"]
    assert spec["concurrencyPolicy"] == "Forbid"
    pod = spec["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"][1:] == ["schedule", "nightly", "--small", "--once"]
    volumes = {volume["name"] for volume in pod["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert "secretKeyRef" in container["env"][1]["valueFrom"], "addresses come from a secret"


def test_kubernetes_gets_the_study_and_its_gpus(printed, tmp_path, monkeypatch, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nmodel: {width: 12}\nresources: {gpu: 0.5}\n")
    words = ["schedule", str(path), "--set", "training.epochs=3", "--print", "kubernetes"]
    assert line.main(words) == 0
    _claim, files, job = yaml.safe_load_all(capsys.readouterr().out)
    assert files["kind"] == "ConfigMap"
    assert files["data"] == {"mine.yaml": path.read_text()}
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"][2] == "/studies/mine.yaml"
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts["studies"] == "/studies"
    volume = next(v for v in pod["volumes"] if v["name"] == "studies")
    assert volume["configMap"]["name"] == files["metadata"]["name"]
    assert line.main([*words, "--address", "ray-head:6379"]) == 0
    *_, job = yaml.safe_load_all(capsys.readouterr().out)
    (container,) = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert container["command"][-3:] == ["--address", "ray-head:6379", "--once"]
    assert "nvidia.com/gpu" not in container["resources"]["limits"], "the cluster has them"


def test_a_dollar_in_a_folder_means_itself_to_systemd(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "5$ and $HOME"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ENGRAM_HOME", str(folder / "runs"))
    assert line.main(["schedule", "nightly", "--print", "systemd"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f'Environment="ENGRAM_HOME={folder}/runs"' in lines
    assert f"WorkingDirectory={folder}" in lines


def test_several_state_folders_have_one_entry(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    words = ["schedule", "nightly", "--home", "a b", "--home", str(tmp_path / "other"), "--print"]
    assert line.main([*words, "cron"]) == 0
    said = capsys.readouterr().out
    assert f"ENGRAM_HOME='{tmp_path}/a b'" in said
    assert f"--home '{tmp_path}/a b' --home {tmp_path}/other --once >> " in said
    assert line.main([*words, "systemd"]) == 0
    assert f'--home "{tmp_path}/a b" --home {tmp_path}/other --once' in capsys.readouterr().out
    assert line.main([*words, "kubernetes"]) == 2
    assert "one claim, for one state folder" in capsys.readouterr().err


def test_the_service_ends_on_a_signal_and_says_what_comes_next(tmp_path):
    import signal
    import sys

    from tests.command_line import ROOT

    output = tmp_path / "said"
    with output.open("w") as out:
        service = subprocess.Popen(
            [sys.executable, str(ROOT / "orchestrate.py"), "schedule", "nightly"],
            env={**os.environ, "ENGRAM_HOME": str(tmp_path / "runs")},
            cwd=tmp_path,
            stdout=out,
            stderr=out,
        )
    deadline = time.monotonic() + 120
    while "nightly: next on" not in output.read_text():
        assert time.monotonic() < deadline
        assert service.poll() is None, output.read_text()
        time.sleep(0.2)
    service.send_signal(signal.SIGTERM)
    assert service.wait(60) == 0


def test_a_list_tells_next_and_last(tmp_path):
    done = engram("schedule", "nightly", "quickstart", "--list", home=tmp_path / "runs")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["study", "timetable", "next", "in", "last", "ended"]
    assert [line.split()[0] for line in lines[1:]] == ["nightly", "quickstart"]
    assert all("never" in line for line in lines[1:])
