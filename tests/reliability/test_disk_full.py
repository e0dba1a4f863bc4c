"""The disk with the state on it fills up in the middle of a study: a clear stop, and it goes on with more room."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.command_line import ROOT
from tests.reliability import faults

pytestmark = pytest.mark.faults

EPOCHS = set(range(2, 21, 2))
# A disk of a few MB inside a mount namespace; what is on it is copied out at the end.
INSIDE = """\
set -e
mkdir -p {disk}
mount -t tmpfs -o size={size} tmpfs {disk}
cp -a {home}/. {disk}/ 2>/dev/null || true
set +e
{python} {program} run {study}
code=$?
rm -rf {home}; mkdir -p {home}
cp -a {disk}/. {home}/
exit $code
"""


def can_mount() -> bool:
    if shutil.which("unshare") is None:
        return False
    words = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs tmpfs /mnt"]
    return subprocess.run(words, capture_output=True).returncode == 0


@pytest.mark.skipif(not can_mount(), reason="needs user namespaces, for a small disk of its own")
def test_a_full_disk_stops_the_study_and_more_room_lets_it_go_on(grid, tmp_path):
    study, home, disk = faults.write(tmp_path), tmp_path / "runs", tmp_path / "disk"

    def run(size: str) -> subprocess.CompletedProcess[str]:
        names = {"disk": disk, "home": home, "study": study, "size": size}
        script = INSIDE.format(python=sys.executable, program=ROOT / "orchestrate.py", **names)
        return subprocess.run(
            ["unshare", "-rm", "sh", "-c", script],
            env={**os.environ, "ENGRAM_HOME": str(disk), "OMP_NUM_THREADS": "1"},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=faults.DEADLINE_S,
        )

    home.mkdir()
    stopped = run("3500k")
    assert stopped.returncode == 1, stopped.stdout + stopped.stderr
    assert "the disk is full" in stopped.stdout + stopped.stderr
    assert "Traceback" not in stopped.stdout + stopped.stderr
    assert 0 < (home / "studies/grid/run.log").read_text().count("is committed") < 24
    gone_on = run("200m")
    assert gone_on.returncode == 0, gone_on.stdout + gone_on.stderr
    faults.assert_same_board(faults.board(home), grid.board)
    faults.assert_recorded_once(faults.store(home), 24, EPOCHS)
    faults.assert_never_trained_after_commit(home)


def test_half_a_line_is_taken_back(tmp_path: Path):
    """RLIMIT_FSIZE cuts a write short, as a full disk does; the file goes on as if it had not been tried."""
    program = """
import resource, sys
from pathlib import Path
from engram.sweeps.state.journal import Journal, read
journal = Journal(Path(sys.argv[1]), whole=True)
journal.append([{"n": 0, "filler": "x" * 500}])
resource.setrlimit(resource.RLIMIT_FSIZE, (700, resource.RLIM_INFINITY))
try:
    journal.append([{"n": 1, "filler": "x" * 500}])
except OSError as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append([{"n": 2}])
print([content["n"] for content, _ in read(Path(sys.argv[1]))])
"""
    words = [sys.executable, "-c", program, str(tmp_path / "lines")]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "File too large" in done.stdout
    assert "[0, 2]" in done.stdout
