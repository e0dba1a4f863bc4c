"""The MLflow server is away, slow or failing: training goes on, and everything arrives once."""

from __future__ import annotations

import contextlib
import sqlite3

import pytest

from tests.reliability import faults
from tests.reliability.tracking_server import Proxy, Server, free_port

pytestmark = pytest.mark.faults

EPOCHS = set(range(2, 21, 2))
SMALL = faults.GRID.replace("[0.0, 0.2, 0.5, 0.7]", "[0.0, 0.5]").replace(
    "[0.01, 0.003, 0.001]", "[0.01]"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server")).start()
    yield server
    server.stop()


def with_uri(text: str, uri: str, experiment: str) -> str:
    return f"{text}tracking: {{uri: '{uri}', experiment: {experiment}}}\n"


def test_a_server_stopped_for_the_middle_third(grid, server, tmp_path):
    study, home = (
        faults.write(tmp_path, with_uri(faults.GRID, server.uri, "third")),
        tmp_path / "runs",
    )
    run = faults.Run(study, home)
    run.until_logged("is committed", 8)
    server.stop()
    run.until_logged("is committed", 16)
    server.start()
    assert run.wait() == 0, run.text
    if "waits in" in run.text:  # the study was quicker than the server's start
        assert "waits in" not in faults.finish(study, home).stderr
    faults.assert_same_board(faults.board(home), grid.board)
    faults.assert_recorded_once(server.uri, 24, EPOCHS, "third")


def test_a_server_that_fails_is_slow_or_loses_answers(server, tmp_path):
    """Not one request in two goes well, from the first on."""
    proxy = Proxy(
        server,
        [
            "error",
            "error",
            "ok",
            "lost",
            "ok",
            "late",
            "lost",
            "ok",
            "ok",
            "error",
            "ok",
            "ok",
            "ok",
        ],
        1.0,
    )
    study, home = faults.write(tmp_path, with_uri(SMALL, proxy.uri, "moody")), tmp_path / "runs"
    try:
        run = faults.Run(study, home)
        code = run.wait()
        if (
            "waits in" in run.text
        ):  # it was given up for the time being: 1 where nothing had arrived by then
            assert code in (0, 1), run.text
            proxy.calm = True
            assert "waits in" not in faults.finish(study, home).stderr
        else:
            assert code == 0, run.text
    finally:
        proxy.close()
    assert {"error", "lost", "late"} <= set(proxy.seen)
    faults.assert_recorded_once(server.uri, 4, EPOCHS, "moody")


def test_a_server_that_comes_a_day_later(server, tmp_path):
    """Nobody answers from the start to the end; the next `run` sends what waited."""
    study, home = (
        faults.write(tmp_path, with_uri(SMALL, f"http://127.0.0.1:{free_port()}", "later")),
        tmp_path / "runs",
    )
    done = faults.finish(study, home, code=1)  # no result is recorded anywhere
    assert "no result reached a store" in done.stderr
    assert "what is not sent waits in" in done.stderr
    assert len(faults.board(home)) == 4
    faults.write(tmp_path, with_uri(SMALL, server.uri, "later"))
    faults.finish(study, home)
    faults.assert_recorded_once(server.uri, 4, EPOCHS, "later")
    assert (home / "studies" / "grid" / "outbox.jsonl").stat().st_size == 0


@pytest.mark.parametrize("how", ["damaged", "later"])
def test_a_store_that_cannot_be_read_is_refused_with_what_to_do(tmp_path, how):
    study, home = faults.write(tmp_path), tmp_path / "runs"
    home.mkdir()
    if how == "damaged":
        (home / "mlflow.db").write_bytes(b"\x00\xff" * 4096)
    else:
        with contextlib.closing(sqlite3.connect(home / "mlflow.db")) as database:
            database.execute("create table alembic_version (version_num text)")
            database.execute("insert into alembic_version values ('ffffffffffff')")
            database.execute("create table experiments (experiment_id integer)")
            database.commit()
    run = faults.Run(study, home)
    assert run.wait() == 1, run.text
    assert "cannot be used" in run.text
    assert ("backup" if how == "damaged" else "another version of MLflow") in run.text
    assert "Traceback" not in run.text
