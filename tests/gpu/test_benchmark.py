"""The benchmark of a GPU, all its parts, on a CPU: so that it runs when a GPU is at hand."""

from __future__ import annotations

import json
from dataclasses import replace

from benchmarks import gpu, results, tables
from engram.models import captured
from tests.gpu import graphs


def test_all_parts_run_and_make_a_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(captured, "record", graphs.record)
    monkeypatch.setattr(gpu, "BATCHES", 4)
    fewer = replace(gpu.QUICK, networks=("feedforward",), replicas=(2,), together=(), processes=1)
    patient = replace(fewer, check_s=1000.0, rates_s=1000.0, shared_s=1000.0)
    gpu.main("cpu", patient, tmp_path)
    said = capsys.readouterr().out
    assert "left out" not in said
    found = json.loads((tmp_path / "gpu.json").read_text())
    ways = {row["way"] for row in found["results"]}
    assert ways == {
        *("check", "stacked", "recorded", "one by one", "bare loop"),
        "1 process on one GPU",
    }
    monkeypatch.setattr(tables, "FOLDER", tmp_path)
    table = tables._table("gpu")
    assert "| feedforward | 2 |" in table
    assert tmp_path != results.FOLDER


def test_its_parts_end_within_eight_minutes():
    assert gpu.FULL.check_s + gpu.FULL.rates_s + gpu.FULL.shared_s < 8 * 60 - 20


def test_what_no_longer_fits_is_left_out(capsys):
    found = results.Result({"network": "x"}, "replicas/s", (1.0,))
    assert list(gpu._until(0.0, "x", iter([found, found]))) == [found]
    assert "the rest is left out" in capsys.readouterr().out
    assert gpu._side_by_side(1, 1, "cpu", 1, 0.0) is None
