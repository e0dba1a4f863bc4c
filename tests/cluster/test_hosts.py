"""Three hosts, made into a cluster by `ray up` over ssh: the same leaderboard, with a host killed and a link cut.

The hosts share no file system, no loopback and no process: each is a set of namespaces (hosts.py). The
operator stands beside them and reaches the head as anybody would, by ssh.
"""

from __future__ import annotations

import json
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
import yaml

from tests.cluster import hosts
from tests.cluster.heads import RAY
from tests.command_line import ROOT
from tests.reliability import faults

WHY_NOT = hosts.missing()
pytestmark = [
    pytest.mark.hosts,
    pytest.mark.skipif(WHY_NOT is not None, reason=str(WHY_NOT)),
    pytest.mark.timeout(3000),
]

# Long enough for faults to fall into the middle of it.
STUDY = faults.GRID.replace("epochs: 20", "epochs: 30").replace(
    "evaluate_every: 2", "evaluate_every: 3"
)
CUT_S = 100  # Ray gives a node up after a minute or so
PATIENCE_S = 1500
SSH = [
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "LogLevel=ERROR",
]


class Cluster:
    """deploy/local.yaml on three hosts, and a tunnel to its dashboard."""

    def __init__(self, bed: hosts.Bed):
        self.bed = bed
        self.head, *self.workers = bed.hosts
        home = bed.folder / "operator"
        (home / ".ray").mkdir(parents=True)
        (home / ".ray" / "auth_token").touch(mode=0o600)
        (home / ".ray" / "auth_token").write_text(secrets.token_hex(32))
        config = yaml.safe_load((ROOT / "deploy/local.yaml").read_text())
        config["provider"]["head_ip"] = self.head.address
        config["provider"]["worker_ips"] = [host.address for host in self.workers]
        config["auth"] = {"ssh_user": "root", "ssh_private_key": str(bed.key)}
        (bed.folder / "local.yaml").write_text(yaml.safe_dump(config))
        begun = time.monotonic()
        up = self.operator(*RAY, "up", "-y", str(bed.folder / "local.yaml"), timeout_s=900)
        assert up.returncode == 0, up.stdout
        self._until(lambda: self.nodes() == 3, self.status)
        self.up_s = time.monotonic() - begun
        tunnel = ["ssh", "-N", "-i", str(bed.key), *SSH, "-L", "8265:127.0.0.1:8265"]
        self.tunnel = bed.operator(*tunnel, f"root@{self.head.address}")
        self.address = "http://127.0.0.1:8265"

    def operator(self, *words: str, timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        begun = self.bed.operator(
            *words,
            cwd=ROOT,
            env={"RAY_UP_enable_autoscaler_v2": "0", "ENGRAM_HOME": str(self.bed.folder / "runs")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        said, _ = begun.communicate(timeout=timeout_s)
        return subprocess.CompletedProcess(words, begun.returncode, said)

    def engram(self, *words: str) -> subprocess.CompletedProcess[str]:
        return self.operator(
            sys.executable, str(ROOT / "orchestrate.py"), *words, timeout_s=PATIENCE_S
        )

    def on_head(self, *words: str, timeout_s: float = PATIENCE_S):
        program = [sys.executable, str(ROOT / "orchestrate.py"), *words]
        return self.head.run("env", "ENGRAM_HOME=/root/engram-runs", *program, timeout_s=timeout_s)

    def board(self, name: str) -> list[dict]:
        done = self.on_head("leaderboard", name, "--format", "json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def log(self, name: str) -> str:
        path = self.head.files / f"root/engram-runs/studies/{name}/run.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def status(self) -> str:
        return self.head.run("ray", "status").stdout

    def nodes(self) -> int:
        """Nodes that are alive, as Ray says."""
        script = (
            "import ray; ray.init('auto', log_to_driver=False);"
            "print('alive', sum(n['Alive'] for n in ray.nodes()))"
        )
        found = re.search(r"alive (\d+)", self.head.run(sys.executable, "-c", script).stdout)
        return int(found[1]) if found else 0

    def _until(self, happened: Callable[[], bool], tell: Callable[[], str]) -> None:
        deadline = time.monotonic() + 600
        while not happened():
            assert time.monotonic() < deadline, tell()
            time.sleep(10)  # each question is a driver of Ray's

    def end(self) -> None:
        tunnel = getattr(self, "tunnel", None)
        if tunnel is not None:
            tunnel.kill()
            tunnel.wait(20)


@pytest.fixture(scope="module")
def calm(tmp_path_factory):
    """The study on one machine alone, undisturbed: its file and its board."""
    folder = tmp_path_factory.mktemp("calm")
    study = faults.write(folder, STUDY)
    faults.finish(study, folder / "runs")
    return study, faults.board(folder / "runs")


@pytest.fixture(scope="module")
def cluster():
    bed = hosts.Bed(3)
    started = None
    try:
        started = Cluster(bed)
        yield started
    finally:
        if started is not None:
            started.end()
        bed.end()


def spread(cluster: Cluster, running: Callable[[], bool]) -> dict[str, int]:
    """The most workers seen on each host while something runs."""
    most = {host.name: 0 for host in cluster.bed.hosts}
    while running():
        for host in cluster.bed.hosts:
            most[host.name] = max(most[host.name], host.workers())
        time.sleep(0.5)
    return most


def test_only_ssh_and_ray_listen_beyond_loopback(cluster):
    """Dashboard and jobs API: on loopback. And nobody gets in without the token."""
    said = cluster.head.run("ss", "-ltnH").stdout
    dashboard = [line for line in said.splitlines() if ":8265" in line]
    assert dashboard
    assert all("127.0.0.1:8265" in line for line in dashboard)
    bare = cluster.head.run(
        "env", "HOME=/tmp", "RAY_AUTH_MODE=disabled", "timeout", "60", "ray", "status"
    )
    assert bare.returncode != 0


def test_on_three_hosts_as_on_one(cluster, calm):
    """`run --address` on the head: trials on all three hosts, the same leaderboard."""
    study, expected = calm
    (cluster.head.files / "root/study.yaml").write_text(study.read_text())
    program = [sys.executable, str(ROOT / "orchestrate.py"), "run", "/root/study.yaml"]
    words = [*program, "--name", "direct", "--address", f"{cluster.head.address}:6379"]
    into = ["nsenter", "-t", str(cluster.head.first), "-m", "-n", "-p", "-u", "-r", "-w"]
    script = 'cd ~ && ENGRAM_HOME=/root/engram-runs "$@"'
    run = subprocess.Popen(
        [*into, "/bin/bash", "-lc", script, "bash", *words],
        env={"HOME": "/root", "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    most = spread(cluster, lambda: run.poll() is None)
    assert run.returncode == 0, run.communicate()[0]
    assert all(count > 0 for count in most.values()), most
    faults.assert_same_board(cluster.board("direct"), expected)


def test_a_host_killed_and_a_link_cut_change_nothing(cluster, calm):
    """Through `submit`: one host cut off for a while, another killed. 24 trials, the same leaderboard."""
    study, expected = calm
    sent = cluster.bed.operator(
        *(sys.executable, str(ROOT / "orchestrate.py"), "submit", str(study)),
        *("--address", cluster.address, "--name", "faults"),
        cwd=ROOT,
        env={"ENGRAM_HOME": str(cluster.bed.folder / "runs")},
        stdout=open(cluster.bed.folder / "submit.txt", "wb"),  # noqa: SIM115 - the child's
        stderr=subprocess.STDOUT,
    )

    def said() -> str:
        return (cluster.bed.folder / "submit.txt").read_text(errors="replace")

    def committed() -> int:
        assert sent.poll() is None, said()
        return cluster.log("faults").count("is committed")

    def wait_for(trials: int, host: hosts.Host | None = None) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while committed() < trials or (host is not None and not host.workers()):
            assert time.monotonic() < deadline, said()
            time.sleep(0.2)

    cut, killed = cluster.workers
    wait_for(2, cut)
    cut.cut()
    cut_at = time.monotonic()
    wait_for(4, killed)
    killed.kill()
    time.sleep(max(0.0, CUT_S - (time.monotonic() - cut_at)))
    cut.mend()
    assert sent.wait(PATIENCE_S) == 0, said()
    faults.assert_same_board(cluster.board("faults"), expected)
    assert len(expected) == 24
    assert {entry["status"] for entry in cluster.board("faults")} == {"completed"}
    log = cluster.log("faults")
    assert "its node died" in log
    committed_once = re.findall(r"trial (\d+) is committed", log)
    assert sorted(map(int, committed_once)) == list(range(24))


def test_a_host_that_joins_is_used(cluster, calm):
    """The third host comes back in mid-study, and trains."""
    study, _ = calm
    longer = ["--set", "training.epochs=150"]  # a host takes half a minute to join and to train
    home = study.parent / "longer" / "runs"
    faults.finish(study, home, *longer)
    expected = faults.board(home)
    back = cluster.workers[0]
    back.run("ray", "stop", "--force")
    job = cluster.engram(
        *("submit", str(study), "--address", cluster.address, "--name", "joins", "--detach"),
        *longer,
    )
    assert job.returncode == 0, job.stdout
    deadline = time.monotonic() + PATIENCE_S
    while "is committed" not in cluster.log("joins"):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    start = ["ray", "start", f"--address={cluster.head.address}:6379", "--disable-usage-stats"]
    joined = back.run("env", "RAY_AUTH_MODE=token", *start)
    assert joined.returncode == 0, joined.stdout + joined.stderr
    most = 0
    while cluster.log("joins").count("is committed") < 24:
        most = max(most, back.workers())
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert most > 0
    assert re.search(r"[3-9]\d* trials at a time", cluster.log("joins"))
    name = re.search(r"^job (\S+)", job.stdout, re.MULTILINE)
    assert name
    assert cluster.engram("submit", "--logs", name[1], "--address", cluster.address).returncode == 0
    faults.assert_same_board(cluster.board("joins"), expected)
    assert {entry["status"] for entry in expected} == {"completed"}
