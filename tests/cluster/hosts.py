"""Several hosts on one machine: each a network, mount, pid and host-name namespace of its own, with sshd.

A host sees the machine's files through an overlay: what it writes nobody else sees. A bridge in a
namespace of its own joins them; the operator's commands run there, as on a machine beside them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NETWORK = "10.177.91"
# What a host does when it starts: $1 its name, $2 its folder, $3 the lines of its /etc/hosts.
INIT = """\
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs $2/disk
mkdir $2/disk/upper $2/disk/work $2/disk/root
mount -t overlay overlay -o lowerdir=/,upperdir=$2/disk/upper,workdir=$2/disk/work $2/disk/root
cd $2/disk/root
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs tmpfs tmp
chmod 1777 tmp dev/shm
hostname $1
printf '%b' "$3" > etc/hosts
rm -rf root/.ssh root/.ray root/engram root/.local/bin/uv root/.bash_profile root/.bash_login root/.profile root/.bashrc
mkdir -p root/.ssh root/engram root/.local/bin run/sshd
cp $2/authorized_keys root/.ssh/
cp $2/host_key $2/host_key.pub root/.ssh/
chmod 700 root/.ssh && chmod 600 root/.ssh/*
# The packages are there already, and there is no way out of here to fetch any.
ln -s $4 root/engram/.venv
printf '#!/bin/sh\\nexit 0\\n' > root/.local/bin/uv
chmod 755 root/.local/bin/uv
echo '. ~/.bashrc' > root/.profile
# A host has nothing else to be nice to.
echo 'export RAY_worker_niceness=0' > root/.bashrc
cat > root/.ssh/sshd_config <<CONFIG
HostKey /root/.ssh/host_key
PidFile none
UsePAM no
PermitRootLogin prohibit-password
StrictModes no
MaxStartups 100
MaxSessions 100
CONFIG
exec chroot . /bin/bash -c '
cd /root; export HOME=/root
/usr/sbin/sshd -D -e -f /root/.ssh/sshd_config > /root/sshd.log 2>&1 &
touch /root/ready
while true; do wait -n || sleep 1; done'
"""


def missing() -> str | None:
    """Why hosts cannot be made here, in words; None where they can."""
    if os.getuid() != 0:
        return "network namespaces need root"
    for program in ("ip", "unshare", "nsenter", "/usr/sbin/sshd", "ssh", "ssh-keygen", "rsync"):
        if shutil.which(program) is None:
            return f"{program} is not installed"
    name = f"egtry{os.getpid()}"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if tried.returncode != 0:
        return f"network namespaces are not permitted: {tried.stderr.strip()}"
    inside = ["ip", "netns", "exec", name, "unshare", "-m", "-p", "-u", "--fork", "true"]
    worked = subprocess.run(inside, capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", name], check=False)
    return None if worked.returncode == 0 else f"namespaces: {worked.stderr.strip()}"


WORKERS = (b"ray::CohortTrain", b"ray::ResourceTrain")  # as Ray names them: idle, busy


class Host:
    """One of them. run(...): a command on it, as root."""

    def __init__(self, bed: Bed, number: int):
        self.bed, self.number = bed, number
        self.name, self.address = f"{bed.prefix}{number}", f"{NETWORK}.{number}"
        self.folder = bed.folder / f"host{number}"
        (self.folder / "disk").mkdir(parents=True)
        inside, outside = f"{self.name}i", f"{self.name}o"
        ip("netns", "add", self.name)
        ip("link", "add", inside, "type", "veth", "peer", "name", outside)
        ip("link", "set", inside, "netns", self.name)
        ip("link", "set", outside, "netns", bed.prefix)
        within(bed.prefix, "ip", "link", "set", outside, "master", "br0", "up")
        within(self.name, "ip", "addr", "add", f"{self.address}/24", "dev", inside)
        within(self.name, "ip", "link", "set", inside, "up")
        within(self.name, "ip", "link", "set", "lo", "up")
        self.outside = outside
        shutil.copy(bed.folder / "key.pub", self.folder / "authorized_keys")
        key = str(self.folder / "host_key")
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        lines = f"127.0.0.1 localhost\\n{self.address} {self.name}\\n"
        words = ["ip", "netns", "exec", self.name, "unshare", "-m", "-p", "-u", "--fork"]
        words += ["--kill-child", "bash", "-c", INIT, "init", self.name, str(self.folder), lines]
        with open(self.folder / "init.log", "wb") as log:
            self.process = subprocess.Popen(
                [*words, str(Path(sys.prefix).resolve())], stdout=log, stderr=log
            )
        self.first = self._first()

    def _first(self) -> int:
        """The process whose end is the host's end, once the host is up."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            assert self.process.poll() is None, (self.folder / "init.log").read_text()
            children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
            found = children.read_text().split()
            if found and Path(f"/proc/{found[0]}/root/root/ready").exists():
                return int(found[0])
            time.sleep(0.1)
        raise AssertionError((self.folder / "init.log").read_text())

    def run(self, *words: str, timeout_s: float = 300) -> subprocess.CompletedProcess[str]:
        into = ["nsenter", "-t", str(self.first), "-m", "-n", "-p", "-u", "-r", "-w"]
        return subprocess.run(
            [*into, "/bin/bash", "-lc", 'cd ~ && "$@"', "bash", *words],
            env={"HOME": "/root", "PATH": "/usr/bin:/bin", "TERM": "dumb", "USER": "root"},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    @property
    def files(self) -> Path:
        """Its file system, seen from outside."""
        return Path(f"/proc/{self.first}/root")

    def workers(self) -> int:
        """Ray workers that train on it now."""
        here = os.stat(f"/proc/{self.first}/ns/pid").st_ino
        count = 0
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if os.stat(process / "ns/pid").st_ino == here:
                    count += (process / "cmdline").read_bytes().startswith(WORKERS)
            except OSError:
                continue
        return count

    def kill(self) -> None:
        """Power off: everything on it is gone at once."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(20)

    def cut(self) -> None:
        within(self.bed.prefix, "ip", "link", "set", self.outside, "down")

    def mend(self) -> None:
        within(self.bed.prefix, "ip", "link", "set", self.outside, "up")


class Bed:
    """Hosts 1 to count on one bridge, and the operator beside them at .254."""

    def __init__(self, count: int):
        self.prefix = f"eg{os.getpid() % 100000}n"
        self.folder = Path(tempfile.mkdtemp(prefix="bed", dir="/tmp"))
        self.hosts: list[Host] = []
        try:
            ip("netns", "add", self.prefix)
            within(self.prefix, "ip", "link", "add", "br0", "type", "bridge")
            within(self.prefix, "ip", "addr", "add", f"{NETWORK}.254/24", "dev", "br0")
            within(self.prefix, "ip", "link", "set", "br0", "up")
            within(self.prefix, "ip", "link", "set", "lo", "up")
            self.key = self.folder / "key"
            keygen = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key)]
            subprocess.run(keygen, check=True)
            self.hosts = [Host(self, number) for number in range(1, count + 1)]
        except BaseException:
            self.end()
            raise

    def operator(self, *words: str, **options) -> subprocess.Popen[str]:
        """A command beside the hosts, with a home folder of its own."""
        home = self.folder / "operator"
        home.mkdir(exist_ok=True)
        environment = {
            **os.environ,
            "HOME": str(home),
            "USER": "root",
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            **options.pop("env", {}),
        }
        return subprocess.Popen(
            ["ip", "netns", "exec", self.prefix, *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            text=True,
            **options,
        )

    def end(self) -> None:
        for host in self.hosts:
            host.kill()
        for name in [*(h.name for h in self.hosts), self.prefix]:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def within(name: str, *words: str) -> None:
    subprocess.run(["ip", "netns", "exec", name, *words], check=True, capture_output=True)
