"""`submit`: a study through a real jobs API, and one clear sentence where that cannot be."""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from engram.sweeps.cluster import address, bundle
from engram.sweeps.commands import options
from engram.sweeps.study import loading as studies
from tests import own_project
from tests.cluster.conftest import STUDY
from tests.command_line import ROOT, engram
from tests.reliability import faults
from tests.reliability.tracking_server import free_port

pytestmark = pytest.mark.timeout(1800)

LONG = """\
name: long
data: {train_size: 400}
training: {epochs: 4000, batch_size: 20, evaluate_every: 10}
replicas: {count: 3}
sweep: {model.dropout: [0.0, 0.3]}
checkpoint: {every_s: 1}
"""


def submit(head, *words, home, cwd=None, **environment):
    return engram(
        "submit",
        *map(str, words),
        "--address",
        head.address,
        home=home,
        cwd=cwd,
        **{**head.environment, **environment},
    )


def job_of(done: subprocess.CompletedProcess[str]) -> str:
    found = re.search(r"^job (\S+)$", done.stdout, re.MULTILINE)
    assert found, done.stdout + done.stderr
    return found[1]


def test_a_study_gives_the_same_leaderboard_through_a_job(head, local, tmp_path):
    there = tmp_path / "there"
    done = submit(head, local.study, "--home", there, home=tmp_path / "here")
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"sending [\d.]+ (KiB|MiB) to", done.stdout)
    assert "[2/2" in done.stdout
    assert "ranked by validation error" in done.stdout
    faults.assert_same_board(faults.board(there, "sent"), local.board)
    commit = json.loads((there / "studies/sent/provenance.json").read_text())["git.commit"]
    assert (
        commit
        == json.loads((local.home / "studies/sent/provenance.json").read_text())["git.commit"]
    )

    again = submit(head, "--logs", job_of(done), home=tmp_path / "here")
    assert again.returncode == 0
    assert "ranked by validation error" in again.stdout
    told = submit(head, "--status", job_of(done), home=tmp_path / "here").stdout
    assert "succeeded" in told
    assert "[2/2" in told


def test_a_job_outlives_its_follower_stops_when_asked_and_goes_on(head, tmp_path):
    study, there = faults.write(tmp_path, LONG), tmp_path / "there"
    words = [sys.executable, str(ROOT / "orchestrate.py"), "submit", str(study)]
    words += ["--address", head.address, "--home", str(there)]
    follower = subprocess.Popen(
        words,
        env={**os.environ, **head.environment, "ENGRAM_HOME": str(tmp_path / "here")},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    checkpoints = there / "studies/long/checkpoints"
    deadline = time.monotonic() + 900
    while not list(checkpoints.glob("trial-*/0*.ckpt")):
        assert time.monotonic() < deadline
        assert follower.poll() is None, follower.communicate()[0]
        time.sleep(0.5)

    follower.send_signal(signal.SIGINT)  # Ctrl-C
    said = follower.communicate(timeout=60)[0]
    assert follower.returncode == 130
    assert "goes on without you" in said
    stop = re.search(r"submit (--stop \S+)", said)
    assert stop, said
    job = stop[1].split()[1]
    assert "running" in submit(head, "--status", job, home=tmp_path / "here").stdout
    twice = submit(head, study, "--home", there, home=tmp_path / "here")
    assert twice.returncode == 1
    assert f"long runs already, as {job}" in twice.stderr

    stopped = submit(head, "--stop", job, home=tmp_path / "here")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert "has stopped" in stopped.stdout
    ended = submit(head, "--logs", job, home=tmp_path / "here")
    assert ended.returncode == 130
    assert "running ones are saved" in ended.stdout
    log = faults.log(there)
    assert "SIGTERM received" in log

    on = submit(
        head, study, "--home", there, "--detach", "--job-id", "long-2", home=tmp_path / "here"
    )
    assert on.returncode == 0
    assert job_of(on) == "long-2"
    deadline = time.monotonic() + 900
    while "goes on from a checkpoint" not in faults.log(there):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    assert submit(head, "--stop", "long-2", home=tmp_path / "here").returncode == 0


@pytest.mark.hosts
def test_a_trial_that_fits_nowhere_is_refused_at_once(head, local, tmp_path):
    words = ["--home", tmp_path / "there", "--set", "resources.gpu=0.5"]
    done = submit(head, local.study, *words, home=tmp_path / "here")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "resources.gpu = 0.5 fits on no node" in done.stdout
    assert "the cluster has 1 node with 2 CPUs and 0 GPUs" in done.stdout


@pytest.mark.hosts
def test_a_python_that_is_not_there(head, local, tmp_path):
    words = ["--home", tmp_path / "there", "--python", "/nowhere/python"]
    done = submit(head, local.study, *words, home=tmp_path / "here")
    assert done.returncode == 1
    assert "no such Python" in done.stderr


@pytest.mark.hosts
def test_secrets_are_read_on_the_head(head, local, tmp_path):
    """A file on the head: what stands in it reaches the study, and nobody who looks at the job."""
    secrets = tmp_path / "secrets.env"
    secrets.write_text("MLFLOW_TRACKING_PASSWORD=by-reference-1\nENGRAM_TEST=reached\n")
    (tmp_path / "own_data.py").write_text(
        "import os, numpy as np, own_words\n"
        "def noise():\n"
        "    assert os.environ['ENGRAM_TEST'] == own_words.WORD\n"
        "    x = np.random.default_rng(0).normal(size=(400, 5))\n"
        "    return {'x': x, 'y': (x[:, 0] > 0).astype(int)}\n"
    )
    (tmp_path / "own_words.py").write_text("WORD = 'reached'\n")
    study = faults.write(
        tmp_path, STUDY.replace("train_size: 200", "name: 'own_data:noise', train_size: 100")
    )
    there = tmp_path / "there"
    done = submit(
        head,
        study,
        "--home",
        there,
        "--secrets",
        secrets,
        home=tmp_path / "here",
        cwd=tmp_path,
        ENGRAM_TEST="reached",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    told = submit(head, "--status", job_of(done), home=tmp_path / "here").stdout
    assert "by-reference-1" not in told + done.stdout


# -- what cannot be: one sentence, in seconds -------------------------------------------------------


def refused(*words, home, **environment) -> tuple[int, str]:
    begun = time.monotonic()
    done = engram("submit", *map(str, words), home=home, **environment)
    assert time.monotonic() - begun < 60  # seconds on a quiet machine
    said = done.stderr.strip()
    assert "Traceback" not in said
    assert "Error:" not in said
    return done.returncode, said


@pytest.mark.parametrize(
    ("address", "code", "words"),
    [
        ("nonsense", 2, "is no address of the form http://HOST:PORT"),
        ("ray://127.0.0.1:10001", 2, "jobs go to the dashboard"),
        ("http://127.0.0.1", 2, "has no port"),
        ("http://nowhere.invalid:8265", 1, "nothing answers at"),
        (None, 2, "no cluster is named"),
    ],
)
def test_a_wrong_address(address, code, words, local, tmp_path):
    given = ["--address", address] if address else []
    found, said = refused(local.study, *given, home=tmp_path)
    assert (found, words in said) == (code, True), said
    assert len(said.splitlines()) <= 2


def test_a_dead_head(local, tmp_path):
    code, said = refused(local.study, "--address", f"http://127.0.0.1:{free_port()}", home=tmp_path)
    assert (code, "nothing answers at" in said) == (1, True), said


def test_a_head_that_accepts_and_never_answers(local, tmp_path):
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        address = f"http://127.0.0.1:{mute.getsockname()[1]}"
        code, said = refused(local.study, "--address", address, home=tmp_path)
    assert (code, "nothing answers at" in said) == (1, True), said


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ('{"ray_version": "2.9.0"}', "runs Ray 2.9.0, and here is Ray"),
        ("<html>a printer</html>", "not as the head of a Ray cluster"),
        ("{}", "not as the head of a Ray cluster"),
    ],
)
def test_another_version_or_no_ray_at_all(answer, words, local, tmp_path):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            mode = '{"authentication_mode": "disabled"}'
            self.wfile.write((mode if "mode" in self.path and "ray" in answer else answer).encode())

        def log_message(self, *words: object) -> None:
            """Nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    code, said = refused(local.study, "--address", address, home=tmp_path)
    server.shutdown()
    assert (code, words in said) == (1, True), said


def test_no_token_and_a_wrong_one(head, local, tmp_path):
    address = ["--address", head.address]
    nowhere = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")}
    code, said = refused(local.study, *address, home=tmp_path, **nowhere)
    assert (code, "asks for a token, and there is none here" in said) == (1, True), said
    code, said = refused(local.study, *address, home=tmp_path, RAY_AUTH_TOKEN="x" * 32)
    assert (code, "takes another token" in said) == (1, True), said


def test_a_token_that_others_may_read(head, local, tmp_path):
    """As `ray get-auth-token --generate` writes it."""
    token = tmp_path / "token"
    token.write_text(head.token.read_text())
    token.chmod(0o644)
    address = ["--address", head.address]
    code, said = refused(local.study, *address, home=tmp_path, RAY_AUTH_TOKEN_PATH=str(token))
    assert (code, f"{token} is open to others (mode 0644)" in said) == (1, True), said
    assert f"chmod 600 {token}" in said
    token.chmod(0o600)
    done = submit(head, "--status", "none", home=tmp_path, RAY_AUTH_TOKEN_PATH=str(token))
    assert "knows no job none" in done.stderr, "and then it is let in"


def test_the_address_of_a_node_is_known_by_how_it_answers(head):
    where = f"127.0.0.1:{head.gcs}"
    assert address.settled(where) == where
    with pytest.raises(address.Unreachable, match="something else answers there"):
        address.settled(head.address.removeprefix("http://"))  # its dashboard


def test_an_unknown_job(head, tmp_path):
    for option in ("--status", "--logs", "--stop"):
        done = submit(head, option, "nosuch", home=tmp_path)
        assert done.returncode == 1
        assert "knows no job nosuch" in done.stderr


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("name: x\nmodel: {dropout: 1.2}\n", [], "model.dropout = 1.2 is outside"),
        ("name: x\ndata: {name: 'csv:some.csv', target: y}\n", [], "is a file of this machine"),
        ("name: x\ntracking: {uri: 'http://u:pass@h:1'}\n", [], "holds a password"),
        ("name: x\n", ["--env", "MY_TOKEN=1"], "looks like a secret"),
        ("name: x\n", ["--home", "runs"], "is no absolute path"),
        ("name: x\n", ["--set", "nightly.notify=https://h/abcdef"], "addresses hold secrets"),
    ],
)
def test_a_bad_study_is_refused_before_anything_is_sent(text, options, words, tmp_path):
    study = faults.write(tmp_path, text)
    address = f"http://127.0.0.1:{free_port()}"  # nobody is asked
    code, said = refused(study, "--address", address, *options, home=tmp_path)
    assert (code, words in said) == (2, True), said


@pytest.mark.parametrize(
    ("who", "given", "folder"),
    [
        ("ada", None, "~/engram-runs/ada"),
        ("CORP/ada lovelace", None, "~/engram-runs/CORP-ada-lovelace"),
        ("../../etc", None, "~/engram-runs/etc"),
        ("..", None, "~/engram-runs/nobody"),
        ("ada", "/shared/runs", "/shared/runs"),
    ],
)
def test_each_person_has_a_state_folder_on_the_head(who, given, folder, monkeypatch):
    monkeypatch.setenv("ENGRAM_OWNER", who)
    assert options.head_home(argparse.Namespace(home=given)) == folder


# -- what is sent -----------------------------------------------------------------------------------


def test_a_bundle_holds_code_and_study_alone(tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "__init__.py").write_text("from own.net import Net\n")
    (tmp_path / "own" / "net.py").write_text("import torch\nclass Net(torch.nn.Module): pass\n")
    (tmp_path / "own" / "words.txt").write_text("what the package reads, it takes along\n")
    (tmp_path / "beside.npz").write_bytes(b"0" * 10_000_000)
    monkeypatch.syspath_prepend(tmp_path)
    study = studies.load(faults.write(tmp_path, "name: x\nmodel: {family: 'own:Net'}\n"))
    box = tmp_path / "box"
    box.mkdir()
    size = bundle.pack(study, box)
    assert {path.name for path in box.iterdir()} == {"engram", "study.yaml", "own"}
    assert {path.name for path in (box / "own").iterdir()} == {"__init__.py", "net.py", "words.txt"}
    assert (
        size < 3 * 2**20
    )  # the product's own code, and not the ten million bytes beside the study
    endings = {path.suffix for path in box.rglob("*") if path.is_file()}
    assert not endings & {".npz", ".pyc", ".db", ".md"}
    done = engram("schema", home=tmp_path / "h")
    in_box = subprocess.run(
        [sys.executable, "-m", "engram", "schema"], cwd=box, capture_output=True, text=True
    )
    assert in_box.stdout == done.stdout


def test_own_packages_named_like_ours_are_sent(installed, tmp_path):
    """The whole of a study of one's own, and nothing of the folder for a shipped one."""
    folder, box, shipped = own_project.project(tmp_path / "mine"), tmp_path / "b", tmp_path / "s"
    (folder / "own.yaml").write_text(own_project.OWN)
    pack = (
        "import sys, pathlib; from engram.sweeps.cluster import bundle\n"
        "from engram.sweeps.study import loading\n"
        "for study, folder in zip(sys.argv[1::2], sys.argv[2::2]):\n"
        "    pathlib.Path(folder).mkdir()\n"
        "    bundle.pack(loading.load(study), pathlib.Path(folder))\n"
    )
    done = subprocess.run(
        [installed.python, "-c", pack, "own.yaml", str(box), "quickstart", str(shipped)],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert {p.name for p in box.iterdir()} == {"engram", "study.yaml", "models", "data", "measures"}
    assert {p.name for p in (box / "models").iterdir()} == {"__init__.py", "net.py"}
    assert {p.name for p in (box / "data").iterdir()} == {"loader.py"}
    assert {p.name for p in shipped.iterdir()} == {"engram", "study.yaml"}
    assert own_project.imported(folder) == set()


@pytest.mark.hosts
@pytest.mark.parametrize("study", ["own.yaml", "quickstart"])
def test_own_packages_named_like_ours_run_through_a_job(head, study, installed, tmp_path):
    """Sent by the installed program, from a folder with models, data, sweeps, measures and tests of its own."""
    folder, there = own_project.project(tmp_path / "mine"), tmp_path / "there"
    (folder / "own.yaml").write_text(own_project.OWN)
    words = [] if study == "own.yaml" else own_project.TINY
    words = ["submit", study, *words, "--address", head.address, "--home", str(there)]
    done = installed(*words, home=tmp_path / "here", cwd=folder, **head.environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ranked by validation error" in done.stdout
