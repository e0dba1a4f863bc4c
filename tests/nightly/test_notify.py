"""Messages reach a real receiver; one that is down, slow or refuses costs a night nothing but patience."""

from __future__ import annotations

import logging
import os

import pytest

from engram.sweeps.nightly import notify
from tests.nightly.conftest import Receiver

SECRET = "s3cret-t0ken"


def send(patience_s: float = 3.0, tag: str = "team") -> str:
    return notify.send(
        tag, "s-2026-11-25: regression", "test error rose", "warning", patience_s
    ).words


def test_a_webhook_gets_title_text_and_kind(receiver: Receiver, monkeypatch):
    monkeypatch.setenv("ENGRAM_NOTIFY", f"team={receiver.address} other=json://127.0.0.1:9/x")
    assert send() == "json told"
    (post,) = receiver.posts
    assert (post["title"], post["message"], post["type"]) == (
        "s-2026-11-25: regression",
        "test error rose",
        "warning",
    )


def test_addresses_come_from_a_file_too(receiver: Receiver, monkeypatch, tmp_path, caplog):
    path = tmp_path / "addresses"
    path.write_text(f"# who hears of it\nteam, ops = {receiver.address}\nnonsense\n")
    path.chmod(0o600)
    monkeypatch.setenv("ENGRAM_NOTIFY_FILE", str(path))
    for tag in ("team", "ops", "all"):
        assert send(tag=tag) == "json told"
    assert len(receiver.posts) == 3
    assert "ENGRAM_NOTIFY_FILE, address 3" in caplog.text


@pytest.mark.parametrize("mode", ["refuse", "slow", "down"])
def test_trouble_is_told_in_time_and_without_secrets(
    mode: str, receiver: Receiver, monkeypatch, caplog, capfd
):
    receiver.mode = mode
    address = f"json://127.0.0.1:1/hooks/{SECRET}" if mode == "down" else receiver.address
    monkeypatch.setenv("ENGRAM_NOTIFY", f"team={address}")
    with caplog.at_level(logging.DEBUG, logger="sweeps"):
        said = send()
    assert ("did not answer within 3 s" if mode == "slow" else "refused") in said
    assert any(r.levelno == logging.WARNING for r in caplog.records)
    printed = capfd.readouterr()
    assert SECRET not in caplog.text + said + printed.out + printed.err


@pytest.mark.parametrize("variables", [{}, {"ENGRAM_NOTIFY_FILE": "/nowhere"}])
def test_no_address_is_no_error(variables: dict[str, str], monkeypatch):
    for name in notify.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert send().startswith("nobody: ")


def test_a_file_that_others_can_read_is_pointed_out(
    receiver: Receiver, monkeypatch, tmp_path, caplog
):
    path = tmp_path / "addresses"
    path.write_text(f"team={receiver.address}\n")
    os.chmod(path, 0o644)
    monkeypatch.setenv("ENGRAM_NOTIFY_FILE", str(path))
    send()
    assert "chmod 600" in caplog.text
