"""Text as tokens: whole numbers, a vocabulary of the pool alone, blocks that share nothing, and what is refused."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from engram.data import catalog, subsets
from engram.data.config import DataConfig, ReplicasConfig
from engram.data.dataset import DataError, Dataset

POOL = "the cat sat on the mat. " * 60
TEST = "zebras sat on the mat! " * 20


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "some.txt"
    file.write_text(POOL)
    (tmp_path / "test.txt").write_text(TEST)
    return file


def load(path, **keys) -> Dataset:
    return catalog.load(DataConfig(name=f"text:{path}", window=10, **keys))


def said(data: Dataset, row: np.ndarray) -> str:
    assert data.tokens is not None
    return "".join(data.tokens.words[k] if k else "?" for k in row)


def test_an_example_is_a_window_and_its_targets_are_the_tokens_that_come_next(path):
    data = load(path)
    assert data.inputs.dtype == data.targets.dtype == np.int64
    assert data.kind == "tokens"
    assert np.array_equal(data.inputs[:, 1:], data.targets[:, :-1])
    for k in (0, 1, len(data.ids) - 1):
        start = data.ids[k]
        assert said(data, data.inputs[k]) == POOL[start : start + 10]
        assert said(data, data.targets[k]) == POOL[start + 1 : start + 11]


def test_no_two_windows_share_a_token_and_the_last_sixth_is_for_test(path):
    data = load(path)
    cut = len(POOL) - len(POOL) // 6
    places = [start + k for start in data.ids for k in range(11)]
    assert len(places) == len(set(places))
    assert max(places) < cut
    assert said(data, data.test_inputs[0]) == POOL[cut + data.test_ids[0] :][:10]


def test_validation_is_the_last_block_of_the_pool(path):
    data = load(path)
    kept, held = subsets.holdout(len(data.inputs), 0.2, seed=3, division=data.division)
    assert data.ids[kept].max() < data.ids[held].min()


def test_the_vocabulary_is_that_of_the_pool_and_the_rest_is_unknown(path):
    data = load(path, test=str(path.with_name("test.txt")))
    assert data.tokens is not None
    assert data.tokens.words[0] == "<unknown>"
    assert set(data.tokens.words[1:]) == set(POOL)
    assert data.classes == len(set(POOL)) + 1
    assert (data.test_inputs == 0).any()
    assert not (data.inputs == 0).any()
    assert any("unknown to the pool" in note for note in data.notes)
    start = data.test_ids[0]
    wanted = "".join(c if c in POOL else "?" for c in TEST[start : start + 10])
    assert said(data, data.test_inputs[0]) == wanted


def test_a_smaller_vocabulary_keeps_the_commonest(path):
    data = load(path, vocabulary=3)
    assert set(data.tokens.words[1:]) == set(" at")
    assert (data.inputs == 0).any()


def test_words_and_marks(path):
    data = load(path, tokens="words")
    assert set(data.tokens.words[1:]) == {"the", "cat", "sat", "on", "mat", "."}
    assert [data.tokens.words[k] for k in data.inputs[np.argmin(data.ids)]] == (
        "the cat sat on the mat . the cat sat".split()
    )


def test_byte_pairs_are_learned_from_the_pool_alone_and_always_the_same(path):
    pytest.importorskip("tokenizers")
    data = load(path, tokens="bpe", vocabulary=20, test=str(path.with_name("test.txt")))
    assert len(data.tokens.words) <= 21
    assert not any("z" in word for word in data.tokens.words)
    assert (data.test_inputs == 0).any()
    again = load(path, tokens="bpe", vocabulary=20, test=str(path.with_name("test.txt")))
    assert again.digest == data.digest


def test_a_compressed_file_and_a_pool_that_is_cut(path):
    packed = path.with_name("some.txt.gz")
    packed.write_bytes(gzip.compress(POOL.encode()))
    whole, part = load(packed), load(packed, pool_size=20)
    assert whole.digest == load(path).digest
    assert np.array_equal(part.inputs, whole.inputs[:20])
    assert part.tokens == whole.tokens
    assert len(part.division.times) == 20


def test_the_sentences_need_no_file_and_are_always_the_same():
    data = catalog.load(DataConfig(name="sentences", window=32))
    assert said(data, data.inputs[0]).strip()
    assert data.digest == catalog.load(DataConfig(name="sentences", window=32)).digest
    assert data.inputs.shape[1] == 32


@pytest.mark.parametrize(
    ("content", "keys", "key", "rule"),
    [
        (b"", {}, "data.name", "empty"),
        (b"  \n", {}, "data.name", "no text"),
        ("caf\u00e9 ".encode("latin-1") * 90, {}, "data.encoding", "line 1: not utf-8"),
        (POOL.encode(), {"window": 9000}, "data.window", "windows of 9001 are the least"),
        (POOL.encode(), {"test_size": 9000}, "data.test_size", "test examples"),
        (POOL.encode(), {"target": None, "image_size": 8}, "data.image_size", "means nothing"),
    ],
)
def test_what_cannot_be_used_is_refused_at_its_key(path, content, keys, key, rule):
    path.write_bytes(content)
    config = DataConfig(**{"name": f"text:{path}", "window": 10, **keys})
    with pytest.raises(DataError, match=rule) as refused:
        catalog.describe(config)
    assert refused.value.key == key


@pytest.mark.parametrize("keys", [{"label_noise": 0.1}, {"random_labels": True}])
def test_labels_of_tokens_are_not_made_wrong(path, keys):
    config = DataConfig(name=f"text:{path}", window=10, train_size=20, **keys)
    with pytest.raises(DataError, match="changes labels"):
        subsets.check(config, ReplicasConfig(), load(path).facts)


def test_text_is_not_augmented_by_shifts(path):
    config = DataConfig(name=f"text:{path}", window=10, train_size=20, augmentation="mixup")
    with pytest.raises(DataError, match="tokens"):
        subsets.check(config, ReplicasConfig(), load(path).facts)
