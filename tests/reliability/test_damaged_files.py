"""Truncated, zeroed and random bytes in every file that is read back: never a traceback, never a wrong result."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from engram.sweeps.running import checkpoints
from engram.sweeps.running.stopping import Usage
from engram.sweeps.search.committed import read_records
from engram.sweeps.search.ledger import LedgerError
from engram.sweeps.search.search import Search
from engram.sweeps.state import journal, lock
from engram.sweeps.study.loading import load
from engram.sweeps.tracking.outbox import Outbox
from engram.sweeps.trial import checkpoint
from engram.sweeps.trial.messages import Saved
from tests.command_line import ROOT

ROUNDS = 60


def truncated(content: bytes, chance: random.Random) -> bytes:
    return content[: chance.randrange(len(content))]


def zeroed(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content))
    stop = min(len(content), start + chance.choice([1, 16, 512, 10**9]))
    return content[:start] + b"\0" * (stop - start) + content[stop:]


def scrambled(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content))
    stop = min(len(content), start + chance.choice([1, 2, 30, 1000]))
    return content[:start] + chance.randbytes(stop - start) + content[stop:]


def doubled(content: bytes, chance: random.Random) -> bytes:
    start = chance.randrange(len(content))
    return content[:start] + content[start // 2 :]


def foreign(content: bytes, chance: random.Random) -> bytes:
    return chance.choice(
        [b"", b"\n", b"{}\n", b"[1]", b"\x80\x04.", b"null", b"[" * 5000, chance.randbytes(200)]
    )


HARMS = [truncated, zeroed, scrambled, doubled, foreign]
harmed = pytest.mark.parametrize("harm", HARMS, ids=lambda harm: harm.__name__)
Harm = Callable[[bytes, random.Random], bytes]


# -- the ledger -------------------------------------------------------------------------------------


@pytest.fixture
def ledger(tmp_path):
    """A ledger of a finished search over six points, and its records."""
    (tmp_path / "s.yaml").write_text(
        "name: s\nsweep: {dropout: [0.0, 0.2, 0.5], lr: [0.1, 0.01]}\n"
    )
    study = load(tmp_path / "s.yaml")
    search = Search(study, tmp_path / "journal")
    while proposal := search.ask():
        search.report(proposal.number, 1, {"validation_error": 0.5})
        search.tell(proposal.number, record(proposal))
    records = search.records()
    search.close()
    return study, tmp_path / "journal", records


def record(proposal) -> dict:
    return {
        "trial": proposal.number,
        "params": proposal.params,
        "config_hash": proposal.configuration.hash,
        "status": "completed",
        "replicas": 8,
        "epochs": 1,
        "selection": {"validation_error": proposal.params["model.dropout"]},
        "measures": {},
        "replica_values": {},
    }


@harmed
def test_a_ledger_is_whole_or_refused(ledger, harm: Harm):
    """What is read of it is what was written; what is lost of it is trained again, under the same number."""
    study, path, records = ledger
    content = path.read_bytes()
    chance = random.Random(harm.__name__)
    refusals: set[str] = set()
    for _ in range(ROUNDS):
        path.write_bytes(harm(content, chance))
        try:
            read = read_records(path, "s")
            assert read == records[: len(read)]
        except LedgerError as error:
            refusals.add(str(error).partition("\n")[2])
        path.write_bytes(harm(content, chance))
        try:
            search = Search(study, path)
        except LedgerError as error:
            refusals.add(str(error).partition("\n")[2])
            continue
        known = search.records()
        assert known == records[: len(known)]
        while proposal := search.ask():
            search.tell(proposal.number, record(proposal))
        assert search.records() == records
        search.close()
    assert all(re.search("move (it|both) away", advice) for advice in refusals)


def test_a_ledger_cut_at_any_line_goes_on_to_the_same_end(ledger):
    """As if the driver had been killed after each of its writes."""
    study, path, records = ledger
    content = path.read_bytes()
    ends = [place + 1 for place, byte in enumerate(content) if byte == ord("\n")]
    for end in ends[:-1:3]:
        path.write_bytes(content[:end])
        search = Search(study, path)
        for number in [r["trial"] for r in search.unsettled()]:
            search.settle(number)
        while proposal := search.ask():
            search.tell(proposal.number, record(proposal))
        assert search.finished
        assert search.records() == records
        search.close()


def test_the_copy_of_the_last_start_is_a_way_back(ledger):
    study, path, _ = ledger
    Search(study, path).close()
    path.write_bytes(path.read_bytes().replace(b"engram", b"Engram", 1))
    with pytest.raises(LedgerError, match=r"cp .*backup"):
        Search(study, path)
    path.write_bytes(path.with_name("journal.backup").read_bytes())
    search = Search(study, path)
    assert search.finished
    search.close()


# -- the outbox -------------------------------------------------------------------------------------


@harmed
def test_an_outbox_gives_what_was_put_in_or_nothing(tmp_path, harm: Harm):
    messages = [{"kind": "metrics", "trial": n, "metrics": {"x": n / 7}} for n in range(20)]
    box = Outbox(tmp_path)
    for message in messages:
        box.put(message)
    box.acknowledge(list(box.pending())[4][1])
    box.close()
    contents = {path: path.read_bytes() for path in (box.path, tmp_path / "outbox.cursor")}
    chance = random.Random(harm.__name__)
    for turn in range(ROUNDS):
        for path, content in contents.items():
            path.write_bytes(content)
        victim = list(contents)[turn % 2]
        victim.write_bytes(harm(contents[victim], chance))
        box = Outbox(tmp_path)
        found = [message for message, _ in box.pending()]
        assert all(message in messages for message in found)
        if victim == tmp_path / "outbox.cursor":
            assert found in (messages, messages[5:]), "sent again or not at all, never half"
        box.put({"kind": "end", "trial": 3})
        assert [m for m, _ in box.pending()][-1] == {"kind": "end", "trial": 3}
        box.close()


# -- checkpoints ------------------------------------------------------------------------------------


def state(step: int) -> dict:
    return {
        "trainer": {
            "step": step,
            "seconds": 1.5,
            "cohort": {"weight.a/b": torch.full((3, 2), float(step))},
            "optimizer": {},
        },
        "history": {"epoch": torch.arange(step), "flags": torch.tensor([True, False])},
        "watch": {"bits": np.arange(5, dtype=np.uint8)},
        "half": torch.ones(2, dtype=torch.bfloat16),
    }


def same(one, other) -> bool:
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    return one == other


def test_a_checkpoint_comes_back_as_it_was():
    found, about = checkpoint.decode(checkpoint.encode(state(4), {"config": "abc"}))
    assert same(found, state(4))
    assert about == {"config": "abc"}


@harmed
def test_a_damaged_checkpoint_is_set_aside_and_the_previous_used(tmp_path, harm: Harm):
    older, newer = (checkpoint.encode(state(step), {"config": "abc"}) for step in (4, 8))
    chance = random.Random(harm.__name__)
    for turn in range(ROUNDS):
        kept = checkpoints.Store(tmp_path / str(turn), keep=2, largest_bytes=1e6)
        kept.save(7, Saved(4, older, 0, 3))
        kept.save(7, Saved(8, newer, 0, 3))
        path = tmp_path / str(turn) / "trial-7" / f"{8:012d}.0-3.ckpt"
        path.write_bytes(harm(newer, chance))
        (found,) = kept.newest(7, config="abc")
        assert found.data in (older, newer)
        assert found.data == newer or not path.exists()


def test_checkpoints_are_bounded_in_number_and_size(tmp_path):
    kept = checkpoints.Store(tmp_path, keep=2, largest_bytes=1e5)
    for step in range(1, 9):
        assert kept.save(0, Saved(step, checkpoint.encode(state(step), {}), 0, 3))
    assert len(list(tmp_path.rglob("*.ckpt"))) == 2
    assert not kept.save(0, Saved(9, bytes(200_000), 0, 3))
    kept.finish(0, [Saved(9, checkpoint.encode(state(9), {}), 0, 3, True)])
    assert [p.name for p in tmp_path.rglob("*.ckpt")] == ["final.ckpt"]
    kept.finish(1, None)
    assert not (tmp_path / "trial-1").exists()


def test_a_checkpoint_of_something_else_is_not_used(tmp_path):
    kept = checkpoints.Store(tmp_path, keep=2, largest_bytes=1e6)
    kept.save(0, Saved(3, checkpoint.encode(state(3), {"config": "abc", "data": "1"}), 0, 3))
    assert not kept.newest(0, config="abc", data="2")
    assert kept.newest(0, config="abc", data="1")


def test_of_each_replica_the_newest_stay_whoever_saved_it(tmp_path):
    kept = checkpoints.Store(tmp_path, keep=2, largest_bytes=1e6)
    whole = checkpoint.encode(state(1), {"config": "abc"})
    for step, first, stop in ((1, 0, 6), (2, 0, 3), (3, 3, 6), (4, 0, 3), (5, 3, 6)):
        assert kept.save(0, Saved(step, whole, first, stop))
    assert len(list(tmp_path.rglob("*.ckpt"))) == 4, "that of all six is older than two of each"
    assert {(p.step, p.first) for p in kept.newest(0, config="abc")} == {(4, 0), (5, 3)}
    assert kept.save(0, Saved(9, whole, 0, 2, True))
    assert kept.save(0, Saved(6, whole, 2, 4))
    found = {(p.step, p.first, p.stop, p.final) for p in kept.newest(0, config="abc")}
    assert found == {(9, 0, 2, True), (6, 2, 4, False), (5, 3, 6, False)}
    kept.finish(0, None)
    assert not list(tmp_path.rglob("*.ckpt")), "the weights of some are of no use"


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    """An archive with a pickled object, in an envelope that is right."""
    import hashlib
    import io

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    buffer = io.BytesIO()
    np.savez(buffer, meta=np.array([Evil()], dtype=object))
    payload = buffer.getvalue()
    digest = hashlib.sha256(payload).digest()
    data = (
        checkpoint.HEADER.pack(checkpoint.MAGIC, checkpoint.FORMAT, len(payload), digest) + payload
    )
    with pytest.raises(checkpoint.Unreadable):
        checkpoint.decode(data)
    assert not (tmp_path / "ran").exists()


def test_a_checkpoint_of_a_later_format_is_refused_by_number():
    data = bytearray(checkpoint.encode(state(1), {}))
    data[8] = 99
    with pytest.raises(checkpoint.Unreadable, match="format is 99"):
        checkpoint.decode(bytes(data))


# -- locks, and the rest ----------------------------------------------------------------------------


@harmed
def test_what_stands_in_a_lock_does_not_matter(tmp_path, harm: Harm):
    content = json.dumps({"pid": 1, "host": "h", "since": 1e300, "purpose": "run"}).encode()
    chance = random.Random(harm.__name__)
    for _ in range(ROUNDS):
        (tmp_path / "lock").write_bytes(harm(content, chance))
        with lock.held(tmp_path, "test"):
            (tmp_path / "lock").write_bytes(harm(content, chance))
            with pytest.raises(lock.Busy), lock.held(tmp_path, "second"):
                pass


@harmed
def test_used_hours_that_cannot_be_read_count_from_zero(tmp_path, harm: Harm):
    chance = random.Random(harm.__name__)
    for _ in range(ROUNDS):
        used = Usage(tmp_path)
        used.seconds = 3600.0
        used.write()
        content = used.path.read_bytes()
        used.path.write_bytes(harm(content, chance))
        assert 0 <= Usage(tmp_path).seconds < 1e300


# -- a real kill in the middle of a write ---------------------------------------------------------------

WRITER = """
import sys
from pathlib import Path
from engram.sweeps.state import journal
from engram.sweeps.running import checkpoints
from engram.sweeps.trial import checkpoint
from engram.sweeps.trial.messages import Saved
import numpy as np
folder = Path(sys.argv[1])
lines = journal.Journal(folder / "lines", whole=True)
kept = checkpoints.Store(folder / "kept", keep=2, largest_bytes=1e9)
start = sum(1 for _ in journal.read(folder / "lines"))
print("ready", flush=True)
for number in range(start, start + 100000):
    lines.append([{"number": number, "filler": "x" * 300_000}])
    data = checkpoint.encode({"number": number, "array": np.full(300_000, number)}, {})
    kept.save(0, Saved(number, data, 0, 1))
"""


def test_a_kill_in_the_middle_of_a_write_leaves_whole_files(tmp_path):
    chance = random.Random(1)
    written = 0
    for _ in range(12):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(chance.uniform(0.0, 0.3))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        lines = journal.Journal(tmp_path / "lines", whole=True)
        lines.close()
        numbers = [
            content["number"] if content else None
            for content, _ in journal.read(tmp_path / "lines")
        ]
        assert numbers == list(range(len(numbers)))
        written = len(numbers)
        for path in (tmp_path / "kept" / "trial-0").glob("*.ckpt"):
            found, _ = checkpoint.decode(path.read_bytes())
            assert found["array"][0] == found["number"] == int(path.stem.partition(".")[0])
    assert written > 12
