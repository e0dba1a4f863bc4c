"""A running study as others see it: the page, JSON, and numbers that Prometheus can read; on loopback, and read-only."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from engram.problems import StudyError
from engram.sweeps.running.watch import Server, Watch
from engram.sweeps.search.committed import read_records
from engram.sweeps.search.search import Proposal
from engram.sweeps.state import logs, prometheus
from engram.sweeps.study import loading
from tests.reliability import faults
from tests.reliability.tracking_server import free_port


def assert_prometheus(text: str) -> dict[str, float]:
    """As Prometheus' own reader has it: {name{labels in order}: value}."""
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        for sample in family.samples:
            labels = ",".join(f'{key}="{value}"' for key, value in sorted(sample.labels.items()))
            name = f"{sample.name}{{{labels}}}" if labels else sample.name
            assert name not in found
            found[name] = sample.value
    assert text.endswith("\n")
    return found


@pytest.fixture
def server():
    made = Server(0)
    yield made
    made.close()


def get(server: Server, path: str, **headers: str) -> str:
    request = urllib.request.Request(server.address + path, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()


def test_what_happens_is_seen(server, finished_study):
    study = loading.load(finished_study.study)
    with pytest.raises(urllib.error.HTTPError, match="503"):
        get(server, "/")
    ledger = finished_study.home / "studies" / "small" / "search.journal"
    records = read_records(ledger, "small")
    watch = server.watch = Watch(study, "small", 4, records[:1], lambda: 7)
    for record in records[1:3]:
        configuration = study.configure(record["params"])
        watch.started(Proposal(record["trial"], record["params"], configuration, 1))
    watch.committed(
        Proposal(1, records[1]["params"], study.configure(records[1]["params"]), 1), records[1]
    )
    state = json.loads(get(server, "/state.json"))
    assert state["trials"] == {
        "running": 1,
        "completed": 2,
        "pruned": 0,
        "diverged": 0,
        "failed": 0,
    }
    assert [a["trial"] for a in state["running"]] == [2]
    assert [a["trial"] for a in state["ended"]] == [1]
    numbers = assert_prometheus(get(server, "/metrics"))
    mine = 'name="small",study="small"'
    assert numbers['engram_trials{name="small",state="completed",study="small"}'] == 2
    assert numbers[f"engram_trials_planned{{{mine}}}"] == 4
    assert numbers[f"engram_replicas_total{{{mine}}}"] == 6
    assert numbers[f"engram_outbox_messages{{{mine}}}"] == 7
    assert 0 <= numbers[f"engram_seconds_since_result{{{mine}}}"] < 60
    page = get(server, "/")
    assert "2 completed" in page
    assert "&lt;b&gt;or&lt;/b&gt;" in page
    assert 'http-equiv="refresh"' in page


def test_it_is_read_only_and_for_this_machine_alone(server):
    host, port = server.address.removeprefix("http://").split(":")
    assert host == "127.0.0.1"
    for method in ("POST", "PUT", "DELETE"):
        with pytest.raises(urllib.error.HTTPError, match="501"):
            urllib.request.urlopen(urllib.request.Request(server.address, method=method, data=b""))
    with pytest.raises(urllib.error.HTTPError, match="403"):
        get(server, "/", Host="evil.example.org")
    outside = {
        i.address
        for each in psutil.net_if_addrs().values()
        for i in each
        if i.family == socket.AF_INET
    }
    for address in outside - {"127.0.0.1"}:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((address, int(port)), 2)
    with pytest.raises(StudyError, match="Address already in use"):
        Server(int(port))


def test_labels_are_escaped():
    odd = 'a"b\\c\nd'
    metric = prometheus.Metric("x", "one\ntwo", [({"name": odd}, 1.5)])
    assert assert_prometheus(prometheus.text([metric])) == {f'engram_x{{name="{odd}"}}': 1.5}


@pytest.mark.faults
def test_a_run_is_watched_while_it_runs(tmp_path):
    study, home, port = faults.write(tmp_path), tmp_path / "runs", free_port()
    run = faults.Run(study, home, "--watch", str(port))
    address = f"http://127.0.0.1:{port}"

    def seen() -> bool:
        try:
            with urllib.request.urlopen(f"{address}/state.json", timeout=5) as answer:
                return json.loads(answer.read())["trials"]["completed"] > 1
        except OSError:
            return False

    run.until(seen)
    with urllib.request.urlopen(f"{address}/metrics", timeout=5) as answer:
        assert_prometheus(answer.read().decode())
    assert run.wait() == 0
    assert f"progress: {address}" in run.text


def test_a_log_does_not_grow_without_end(tmp_path, monkeypatch):
    import logging

    monkeypatch.setattr(logs, "LARGEST", 1000)
    handler = logs.handler(tmp_path / "run.log", str)
    for number in range(100):
        handler.emit(
            logging.LogRecord("x", logging.INFO, "f", 1, f"line {number} {'.' * 40}", (), None)
        )
    handler.close()
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["run.log", "run.log.1", "run.log.2", "run.log.3"]
    assert "line 99" in (tmp_path / "run.log").read_text()
    other = tmp_path / "other.log"
    for number in range(6):
        other.write_text(f"{number}" * 1001)
        logs.rotate(other)
    assert not other.exists()
    assert [(tmp_path / f"other.log.{n}").read_text()[0] for n in (1, 2, 3)] == ["5", "4", "3"]
