"""Where a configuration failed is known to the next run, and a file that is no longer readable is no matter."""

from __future__ import annotations

from engram.sweeps.running.failed_on import FILE, FailedOn


def test_it_is_known_to_the_next_run(tmp_path):
    first = FailedOn(tmp_path)
    for node in ("n1", "n2", "n1"):
        first.add("c1", node)
    again = FailedOn(tmp_path)
    assert again.nodes("c1") == ["n1", "n2"]
    assert again.nodes("c2") == []
    (tmp_path / FILE).write_text("{")
    assert FailedOn(tmp_path).nodes("c1") == []
