"""A table's column of texts as tokens: vocabulary of the pool, lengths, what is left out, what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from engram.data import catalog
from engram.data.config import DataConfig
from engram.data.dataset import DataError

ROWS = 60
GOOD = np.arange(ROWS) % 3 == 0
SAID = [
    f"{'a fine' if good else 'a dull'} film, no. {i}" + ("; very, very long" if i == 7 else "")
    for i, good in enumerate(GOOD)
]


def frame(**more) -> pd.DataFrame:
    columns = {"review": SAID, "year": np.arange(ROWS) % 7 + 1990}
    return pd.DataFrame({**columns, **more, "liked": np.where(GOOD, "yes", "no")})


def load(name: str, **keys):
    return catalog.load(DataConfig(name=name, text="review", target="liked", **keys))


def read(data, row: np.ndarray, between: str = "") -> str:
    return between.join(data.tokens.words[k] for k in row if k >= 0)


def test_each_text_is_its_characters_and_ends_in_a_mask(save):
    data = load(save(frame()))
    assert (data.kind, data.class_names, data.tokens.padded) == ("tokens", ("no", "yes"), True)
    assert data.inputs.shape[1] == max(map(len, SAID))
    for row, number, target in zip(data.inputs, data.ids, data.targets, strict=True):
        assert read(data, row) == SAID[number]
        assert (row[len(SAID[number]) :] == -1).all()
        assert target == GOOD[number]
    assert "columns not used beside 'review': year" in data.notes


def test_words_that_the_pool_lacks_are_unknown(save):
    test = frame()[:12].assign(review="a fine surprise")
    path = save(test, "test").partition(":")[2]
    data = load(save(frame()), tokens="words", test=path)
    assert read(data, data.test_inputs[0], " ") == "a fine <unknown>"
    assert "surprise" not in data.tokens.words
    assert "12 tokens for test are unknown to the pool" in data.notes


def test_the_commonest_words_are_told_apart(save):
    data = load(save(frame()), tokens="words", vocabulary=4)
    assert data.tokens.words == ("<unknown>", ",", "a", "film", "no")


def test_byte_pairs_are_learned_from_the_pool(save):
    pytest.importorskip("tokenizers")
    data = load(save(frame()), tokens="bpe", vocabulary=60)
    assert any(len(word) > 2 for word in data.tokens.words[1:])
    assert read(data, data.inputs[0]).replace("\u2581", " ").strip() == SAID[data.ids[0]]


def test_longer_texts_are_cut_and_that_is_said(save):
    data = load(save(frame()), tokens="words", window=7)
    assert data.inputs.shape[1] == 7
    assert any("of 1 the first 7 are taken" in note for note in data.notes)


def test_a_smaller_pool_is_a_prefix_with_the_same_vocabulary(save):
    name = save(frame())
    whole, small = load(name), load(name, pool_size=10)
    np.testing.assert_array_equal(small.inputs, whole.inputs[:10])
    assert small.tokens == whole.tokens


def refused(name: str, **keys) -> DataError:
    with pytest.raises(DataError) as error:
        catalog.load(DataConfig(name=name, **keys))
    return error.value


@pytest.mark.parametrize(
    ("keys", "key", "rule"),
    [
        ({"text": "reviews", "target": "liked"}, "data.text", "has no such column"),
        ({"text": "liked", "target": "liked"}, "data.text", "is the target too"),
        ({"text": "review"}, "data.target", "has beside review the columns year, liked"),
        ({"tokens": "words", "target": "liked"}, "data.tokens", "where no text is read"),
        ({"text": "review", "target": "lik"}, "data.target", "has no such column"),
    ],
)
def test_what_names_no_text_is_refused(save, keys, key, rule):
    error = refused(save(frame()), **keys)
    assert error.key == key
    assert rule in error.rule


def test_rows_without_text_are_refused_with_their_place(save):
    said = [None if i in (4, 9) else text for i, text in enumerate(SAID)]
    name = save(frame(review=said))
    rule = refused(name, text="review", target="liked").rule
    where = {"line 6", "line 11"} if name.startswith("csv") else {"row 4", "row 9"}
    assert any(rule.startswith(f"{place} has no text in 'review'") for place in where)


def test_numbers_are_no_texts(tmp_path):
    frame().to_parquet(tmp_path / "table.parquet")
    error = refused(f"parquet:{tmp_path / 'table.parquet'}", text="year", target="liked")
    assert (error.key, error.rule) == ("data.text", "holds int64 values, not texts")


def test_texts_of_an_array_are_tokens_too(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.array(SAID), y=GOOD)
    data = catalog.load(DataConfig(name=f"npz:{tmp_path / 'a.npz'}"))
    assert (data.kind, data.classes) == ("tokens", 2)
    assert all(read(data, row) == SAID[k] for row, k in zip(data.inputs, data.ids, strict=True))
    np.savez(tmp_path / "a.npz", x=np.eye(12), y=np.arange(12) % 2)
    assert refused(f"npz:{tmp_path / 'a.npz'}", tokens="words").key == "data.tokens"


def test_texts_of_a_map_style_dataset_are_tokens_too(tmp_path, monkeypatch):
    (tmp_path / "brought_reviews.py").write_text(
        f"said, good = {SAID!r}, {GOOD.tolist()!r}\n"
        "class Rows(list): pass\n"
        "def rows(): return Rows({'text': s, 'label': int(g)} for s, g in zip(said, good))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    data = catalog.load(DataConfig(name="brought_reviews:rows", tokens="words"))
    assert read(data, data.inputs[0], " ").startswith(("a fine film", "a dull film"))
