"""The batch script for Slurm: read by bash, and run by a real Slurm where that is installed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from engram.sweeps.commands import line
from tests.reliability import faults
from tests.reliability.tracking_server import free_port

CONF = """\
ClusterName=test
SlurmctldHost={host}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
SlurmctldPort={controller}
SlurmdPort={daemon}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MpiDefault=none
JobRequeue=1
KillWait=60
SchedulerParameters=batch_sched_delay=0,sched_interval=2,requeue_delay=1
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{parameters}
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP PriorityTier=1 GraceTime=120
PartitionName=urgent Nodes={host} MaxTime=INFINITE State=UP PriorityTier=2
"""
DAEMONS = ("munged", "slurmctld", "slurmd")
LONG = (
    faults.GRID.replace("epochs: 20", "epochs: 600")
    .replace("[0.01, 0.003, 0.001]", "[0.01]")
    .replace("[0.0, 0.1]", "[0.0]")
)


class Slurm:
    """A cluster of one node, this machine, with daemons of its own."""

    def __init__(self, folder: Path, parameters: str):
        self.folder, self.processes = folder, []
        host = os.uname().nodename
        (folder / "state").mkdir()
        (folder / "spool").mkdir()
        key = folder / "munge.key"
        key.write_bytes(os.urandom(1024))
        key.chmod(0o600)
        conf = folder / "slurm.conf"
        ports = {"controller": free_port(), "daemon": free_port()}
        conf.write_text(
            CONF.format(
                folder=folder, host=host, cpus=os.cpu_count(), parameters=parameters, **ports
            )
        )
        (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
        self.environment = {**os.environ, "SLURM_CONF": str(conf)}
        try:
            self._bring_up(key, conf, host)
        except BaseException:
            self.end()
            raise

    def _bring_up(self, key: Path, conf: Path, host: str) -> None:
        folder = self.folder
        files = [
            f"--{k}={folder}/munge.{k.split('-')[0]}" for k in ("pid-file", "seed-file", "log-file")
        ]
        self._start("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket", *files)  # fmt: skip
        self.until(lambda: (folder / "munge.socket").exists())
        self._start("slurmctld", "-D", "-f", str(conf))
        self._start("slurmd", "-D", "-f", str(conf), "-N", host)
        self.until(lambda: "idle" in self.ask("sinfo", "-h", "-o", "%T"), 60)

    def _start(self, *words: str) -> None:
        with open(self.folder / f"{words[0]}.out", "wb") as out:
            process = subprocess.Popen(
                [shutil.which(words[0], path="/usr/sbin:/usr/bin") or words[0], *words[1:]],
                env=self.environment,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.processes.append(process)

    def until(self, condition, timeout_s: float = 120) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            said = "\n".join(
                p.read_text(errors="replace")[-2000:] for p in self.folder.glob("*.out")
            )
            said += "\n".join(
                p.read_text(errors="replace")[-2000:] for p in self.folder.glob("*.log")
            )
            assert time.monotonic() < deadline, said
            time.sleep(0.5)

    def ask(self, *words: str) -> str:
        done = subprocess.run(
            words, env=self.environment, capture_output=True, text=True, timeout=60
        )
        return done.stdout + done.stderr

    def submit(self, *words: str) -> str:
        found = re.search(r"Submitted batch job (\d+)", said := self.ask("sbatch", *words))
        assert found, said
        return found[1]

    def state(self, job: str) -> str:
        return "".join(re.findall(r"JobState=(\w+)", self.ask("scontrol", "show", "job", job)))

    def end(self) -> None:
        self.ask("scancel", "--signal=KILL", "--full", "--user=root")
        time.sleep(2)
        for process in reversed(self.processes):
            process.send_signal(signal.SIGKILL)
            process.wait(20)


@pytest.fixture
def slurm(request) -> Iterator[Slurm]:
    if (
        any(shutil.which(name, path="/usr/sbin:/usr/bin") is None for name in DAEMONS)
        or os.getuid()
    ):
        pytest.skip("needs Slurm (slurm-wlm, munge), and root")
    folder = Path(tempfile.mkdtemp(prefix="slurm-", dir="/tmp"))
    try:
        started = Slurm(folder, request.param)
        yield started
        started.end()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def script(study: Path, home: Path, monkeypatch, capsys) -> str:
    monkeypatch.setenv("ENGRAM_HOME", str(home))
    monkeypatch.chdir(study.parent)
    assert line.main(["submit", str(study), "--print", "slurm"]) == 0
    return capsys.readouterr().out


def test_bash_reads_the_script_and_it_asks_for_what_a_trial_needs(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "a folder's $name"
    study = faults.write(folder, f"{faults.GRID}resources: {{cpu: 2, gpu: 0.5, concurrent: 3}}\n")
    text = script(study, folder / "runs", monkeypatch, capsys)
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    assert "#SBATCH --cpus-per-task=6\n" in text
    assert "#SBATCH --gpus-per-node=1\n" in text
    (where,) = re.findall(r"^cd (.*)$", text, re.M)
    said = subprocess.run(["bash", "-c", f"cd {where} && pwd"], capture_output=True, text=True)
    assert said.stdout.strip() == str(folder)


def test_its_state_folder_may_be_named_and_what_is_of_a_job_is_refused(tmp_path, capsys):
    study = str(faults.write(tmp_path))
    words = ["submit", study, "--print", "slurm"]
    assert line.main([*words, "--home", str(tmp_path / "a b")]) == 0
    assert f"export ENGRAM_HOME='{tmp_path}/a b'\n" in capsys.readouterr().out
    for more in (["--env", "A=b"], ["--detach"], ["--name", "a/b"]):
        assert line.main([*words, *more]) == 2
        assert more[0] in capsys.readouterr().err


@pytest.mark.hosts
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    ("how", "slurm"),
    [
        ("out of time", ""),
        ("preempted", "SlurmctldParameters=preempt_send_user_signal"),
        ("its_steps_preempted", ""),  # as Slurm does it unless it is told to send the signal
    ],
    indirect=["slurm"],
)
def test_a_job_goes_on_after_its_requeue(how, slurm, tmp_path, monkeypatch, capsys):
    study, home = faults.write(tmp_path, LONG), tmp_path / "runs"
    home.mkdir()
    text = script(study, home, monkeypatch, capsys)
    text = re.sub(r"--cpus-per-task=\d+", f"--cpus-per-task={os.cpu_count()}", text)
    (tmp_path / "job.sh").write_text(text)
    job = slurm.submit(str(tmp_path / "job.sh"))
    said = lambda: "".join(p.read_text() for p in home.glob("slurm-*.log"))  # noqa: E731
    slurm.until(lambda: bool(list(home.glob("studies/grid/checkpoints/*/*.ckpt"))), 600)
    if "preempted" in how:
        other = slurm.submit("--partition=urgent", "--exclusive", "--wrap=sleep 5")
        slurm.until(lambda: slurm.state(other) == "COMPLETED", 300)
    else:
        slurm.ask("scancel", "--batch", "--signal=TERM", job)  # as Slurm does before the limit
    if how != "its_steps_preempted":
        slurm.until(lambda: "back into the queue" in said(), 200)
        assert "running ones are saved" in said()
    slurm.until(lambda: slurm.state(job) == "COMPLETED", 900)
    assert len(faults.board(home)) == 4
    assert {r.info.status for r in faults.trial_runs(faults.store(home))} == {"FINISHED"}
    assert "goes on from a checkpoint" in faults.log(home)
    faults.assert_never_trained_after_commit(home)
    assert not list(home.glob(".slurm-*")), "token and log of Ray are gone"
    assert not Path(f"/tmp/ray-{job}").exists()


@pytest.mark.hosts
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("slurm", [""], indirect=True)
def test_a_job_that_is_cancelled_does_not_come_back(slurm, tmp_path, monkeypatch, capsys):
    study, home = faults.write(tmp_path, LONG), tmp_path / "runs"
    home.mkdir()
    text = script(study, home, monkeypatch, capsys)
    (tmp_path / "job.sh").write_text(re.sub(r"--cpus-per-task=\d+", "--cpus-per-task=1", text))
    job = slurm.submit(str(tmp_path / "job.sh"))
    slurm.until(lambda: bool(list(home.glob("studies/grid/checkpoints/*/*.ckpt"))), 600)
    slurm.ask("scancel", job)
    slurm.until(lambda: slurm.ask("squeue", "--noheader", "--job", job).strip() == "", 200)
    assert slurm.state(job) == "CANCELLED"
    assert "back into the queue" not in "".join(p.read_text() for p in home.glob("slurm-*.log"))
    # Killed by Slurm, it could not clear up: a token that opens nothing any more, and that nobody else reads.
    assert all(path.stat().st_mode & 0o077 == 0 for path in home.glob(".slurm-*"))
