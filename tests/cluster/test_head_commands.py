"""What one asks of a cluster's head: its executions, its jobs and whose they are, and results brought home."""

from __future__ import annotations

import json
import re
import time

import pytest

from tests.cluster.test_submit import LONG, job_of, submit
from tests.command_line import engram
from tests.reliability import faults

pytestmark = [pytest.mark.hosts, pytest.mark.timeout(2400)]


def ask(head, *words, home, code=0, **environment):
    done = engram(
        *map(str, words),
        "--address",
        head.address,
        home=home,
        **{**head.environment, **environment},
    )
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_what_was_submitted_is_listed_and_fetched(head, local, tmp_path):
    there, here = tmp_path / "there", tmp_path / "here"
    done = submit(head, local.study, "--home", there, home=here, ENGRAM_OWNER="ada")
    assert done.returncode == 0, done.stdout + done.stderr
    advice = f"fetch sent --address {head.address} --home {there}\n"
    assert advice in done.stdout, "it works from here"
    assert "/tmp/ray" not in done.stdout
    (entry,) = json.loads(ask(head, "list", "--home", there, "--format", "json", home=here).stdout)
    assert (entry["name"], entry["status"], entry["owner"]) == ("sent", "complete", "ada")
    fetched = ask(head, "fetch", "sent", "--home", there, "--as", "mine", home=here)
    assert "leaderboard mine" in fetched.stdout
    faults.assert_same_board(faults.board(here, "mine"), local.board)
    assert len(faults.trial_runs(faults.store(here), "sent")) == 2
    # A Python that warns, as of a font cache that is built on a slow machine.
    loud = tmp_path / "loud"
    loud.write_text('#!/bin/sh\necho "a warning" >&2\nexec python "$@"\n')
    loud.chmod(0o755)
    words = ["list", "--home", there, "--python", loud, "--format", "json"]
    assert json.loads(ask(head, *words, home=here).stdout) == [entry]
    missing = ask(head, "fetch", "nothing", "--home", there, home=here, code=1)
    assert "is no execution in this store" in missing.stderr
    jobs = json.loads(ask(head, "jobs", "--format", "json", home=here).stdout)
    assert [job["name"] for job in jobs if job["job"] == job_of(done)] == ["sent"]
    assert not any(job["job"].startswith("question-") for job in jobs)


def test_a_job_says_whose_it_is_and_is_not_stopped_by_mistake(head, tmp_path):
    study, there, here = faults.write(tmp_path, LONG), tmp_path / "there", tmp_path / "here"
    sent = submit(head, study, "--home", there, "--detach", home=here, ENGRAM_OWNER="ada")
    job = job_of(sent)
    deadline = time.monotonic() + 900
    while not list((there / "studies/long/checkpoints").glob("trial-*/0*.ckpt")):
        assert time.monotonic() < deadline, submit(head, "--logs", job, home=here).stdout
        time.sleep(0.5)
    (mine,) = json.loads(ask(head, "jobs", "--running", "--format", "json", home=here).stdout)
    assert (mine["job"], mine["owner"], mine["status"]) == (job, "ada", "running")
    assert re.fullmatch(r"\d of 2 trials", mine["progress"])
    other = submit(head, "--stop", job, home=here, ENGRAM_OWNER="bob")
    assert other.returncode == 2
    assert f"would stop {job}, which is ada's, and nobody is there to ask" in other.stderr
    stopped = submit(head, "--stop", job, "--yes", home=here, ENGRAM_OWNER="bob")
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    assert "has stopped" in stopped.stdout


def test_a_password_inside_an_address_does_not_travel(local, tmp_path):
    words = ["--env", "HTTPS_PROXY=http://ada:s3cret-pass@proxy:3128"]
    done = engram(
        "submit",
        str(local.study),
        *words,
        "--address",
        "http://127.0.0.1:1",
        home=tmp_path / "here",
    )
    assert done.returncode == 2
    assert "--env HTTPS_PROXY holds a password" in done.stderr
    assert "s3cret-pass" not in done.stderr
