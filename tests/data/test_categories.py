"""Words and dates among a table's features: what they become, known of the pool alone, told, or refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import OneHotEncoder

from engram.data.catalog import DataError, load
from engram.data.config import DataConfig

RNG = np.random.default_rng(5)
ROWS = 90
FRAME = pd.DataFrame(
    {
        "size": RNG.normal(size=ROWS).round(3),
        "city": RNG.choice(["Rome", "Oslo", "Bern", "Graz"], ROWS),
        "zip": RNG.choice(["01011", "02022", "90210"], ROWS),
        "day": pd.date_range("2024-01-01", periods=ROWS).strftime("%Y-%m-%d"),
        "y": RNG.integers(0, 2, ROWS),
    }
)


def saved(folder, frame: pd.DataFrame = FRAME, kind: str = "csv", file: str = "table") -> str:
    path = folder / f"{file}.{kind}"
    if kind == "csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path, index=False)
    return f"{kind}:{path}"


def refused(name: str, **keys) -> DataError:
    with pytest.raises(DataError) as caught:
        load(DataConfig(name=name, **keys))
    return caught.value


def standardized(pool: np.ndarray, other: np.ndarray) -> np.ndarray:
    spread = pool.std(axis=0)
    return (other - pool.mean(axis=0)) / np.where(spread > 0, spread, 1)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_words_are_as_scikit_learn_encodes_them_on_the_pool_alone(tmp_path, kind):
    frame = FRAME[["size", "city", "zip", "y"]]
    found = load(DataConfig(name=saved(tmp_path, frame, kind), categories=("zip",)))
    pool, test = frame.iloc[found.ids], frame.iloc[found.test_ids]
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    encoder.fit(pool[["city", "zip"]])
    wanted = [
        np.column_stack([part["size"], encoder.transform(part[["city", "zip"]])])
        for part in (pool, test)
    ]
    np.testing.assert_allclose(found.inputs, standardized(wanted[0], wanted[0]), atol=1e-5)
    np.testing.assert_allclose(found.test_inputs, standardized(wanted[0], wanted[1]), atol=1e-5)
    assert (
        "column 'city' holds words: a column for each of 4 (Bern, Graz, Oslo, Rome)" in found.notes
    )
    assert "column 'zip' holds words: a column for each of 3 (01011, 02022, 90210)" in found.notes


def test_a_word_that_the_pool_lacks_has_no_column(tmp_path):
    pool, test = FRAME[["size", "city", "y"]], FRAME[["size", "city", "y"]].head(20).copy()
    test.loc[3, "city"] = "Lima"
    config = DataConfig(
        name=saved(tmp_path, pool), test=str(tmp_path / "test.csv"), missing="refuse"
    )
    saved(tmp_path, test, file="test")
    found = load(config)
    assert found.inputs.shape[1] == 1 + 4
    row = int(np.flatnonzero(found.test_ids == 3)[0])
    plain = (pool["city"].to_numpy()[:, None] == ["Bern", "Graz", "Oslo", "Rome"]).astype(float)
    np.testing.assert_allclose(
        found.test_inputs[row, 1:], (0 - plain.mean(0)) / plain.std(0), atol=1e-5
    )
    assert any("1 of 20 test rows have a word in 'city'" in note for note in found.notes)
    # The words of the other rows are those of the pool's file, whatever the order in which each file has them.
    others = np.flatnonzero(found.test_ids != 3)
    where = found.test_inputs[others, 1:].argmax(1)
    names = np.array(["Bern", "Graz", "Oslo", "Rome"])[where]
    assert (names == test["city"].to_numpy()[found.test_ids[others]]).all()


def test_files_that_disagree_about_a_column_are_refused(tmp_path):
    name = saved(tmp_path, FRAME[["size", "city", "y"]])
    numbers = FRAME[["size", "city", "y"]].assign(city=np.arange(ROWS))
    saved(tmp_path, numbers, file="test")
    error = refused(name, test=str(tmp_path / "test.csv"))
    assert error.key == "data.test"
    assert "column 'city' holds words in one of the files" in error.rule


def test_missing_words_are_refused_dropped_or_the_commonest(tmp_path):
    frame = FRAME[["size", "city", "y"]].copy()
    frame.loc[7, "city"] = None
    name = saved(tmp_path, frame)
    error = refused(name)
    assert "line 9, column 'city' is missing" in error.rule
    assert "data.missing" in error.fix
    dropped = load(DataConfig(name=name, missing="drop"))
    assert len(dropped.inputs) + len(dropped.test_inputs) == ROWS - 1
    assert 7 not in [*dropped.ids, *dropped.test_ids]
    filled = load(DataConfig(name=name, missing="median"))
    pool = frame["city"].iloc[filled.ids]
    commonest = pool.mode()[0]
    assert any("(of words, the commonest)" in note for note in filled.notes)
    ids, inputs = (
        (filled.ids, filled.inputs) if 7 in filled.ids else (filled.test_ids, filled.test_inputs)
    )
    words = sorted(pool.dropna().unique())
    row = int(np.flatnonzero(ids == 7)[0])
    assert words[int(inputs[row, 1:].argmax())] == commonest


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_dates_are_days_and_where_they_stand_in_the_cycles_they_go_round(tmp_path, kind):
    dates = pd.to_datetime(FRAME["day"]) if kind == "parquet" else FRAME["day"]
    frame = pd.DataFrame({"size": FRAME["size"], "day": dates, "y": FRAME["y"]})
    found = load(DataConfig(name=saved(tmp_path, frame, kind)))
    days = (pd.to_datetime(FRAME["day"]) - pd.Timestamp("1970-01-01")).dt.days.to_numpy()
    turn = 2 * np.pi * days / 7
    wanted = np.column_stack([FRAME["size"], days, np.sin(turn), np.cos(turn)])[found.ids]
    np.testing.assert_allclose(found.inputs, standardized(wanted, wanted), atol=1e-4)
    assert "column 'day' holds dates: days since 1970 (day week sin, day week cos)" in found.notes


def test_words_with_digits_in_them_are_words(tmp_path):
    for words in (["A1", "B2", "C3"], ["2-4 years", "5-9 years", "10+"], ["yes", "no", "yes"]):
        frame = pd.DataFrame({"a": FRAME["size"], "c": words * 30, "y": FRAME["y"]})
        found = load(DataConfig(name=saved(tmp_path, frame)))
        assert found.inputs.shape[1] == 1 + len(set(words))


@pytest.mark.parametrize(
    ("written", "order"),
    [
        ("%d/%m/%Y", ", the day first"),
        ("%m/%d/%Y", ", the month first"),
        ("%d.%m.%Y", ", the day first"),
        ("%Y/%m/%d", ""),
        ("%d.%m.%Y %H:%M", ", the day first"),
    ],
)
def test_dates_are_read_in_the_order_that_they_settle_themselves(tmp_path, written, order):
    times = pd.Series(pd.date_range("2026-01-01", periods=ROWS, freq="1D"))
    found = []
    for form in (written, "%Y-%m-%d %H:%M" if "%H" in written else "%Y-%m-%d"):
        frame = pd.DataFrame({"day": times.dt.strftime(form), "y": FRAME["y"]})
        found.append(load(DataConfig(name=saved(tmp_path, frame))))
    assert np.array_equal(found[0].inputs, found[1].inputs)
    assert any(f"column 'day' holds dates{order}: days since" in note for note in found[0].notes)


def test_numbers_with_zeros_before_them_are_told_of(tmp_path):
    path = tmp_path / "codes.csv"
    rows = [f"{k % 7}.5,{'0' if k % 2 else '1'}{1000 + k % 3},{k % 2}" for k in range(ROWS)]
    path.write_text("\n".join(["size,code,y", *rows]))
    found = load(DataConfig(name=f"csv:{path}"))
    said = "column 'code' has numbers such as 01001, read as numbers; if they are codes, list it as data.categories: [code]"
    assert said in found.notes
    coded = load(DataConfig(name=f"csv:{path}", categories=("code",)))
    assert coded.inputs.shape[1] == 1 + 6
    longer = [f"{row},," if k > 40 else row for k, row in enumerate(rows)]  # than the header
    path.write_text("\n".join(["size,code,y", *longer]))
    assert said in load(DataConfig(name=f"csv:{path}")).notes


def test_times_of_day_and_years_are_cycles_too(tmp_path):
    times = pd.date_range("2022-01-01", periods=ROWS, freq="9D3h").strftime("%Y-%m-%dT%H:%M:%S")
    found = load(DataConfig(name=saved(tmp_path, pd.DataFrame({"t": times, "y": FRAME["y"]}))))
    assert found.inputs.shape[1] == 1 + 3 * 2


@pytest.mark.parametrize(
    ("column", "rule"),
    [
        ([f"name {i}" for i in range(ROWS)], "90 different texts in 90 rows"),
        (["12%", "30 %", "7%"] * 30, "numbers with a mark, quotes or a unit, such as '12%'"),
        (["$5", "$12", "$1,200"] * 30, "numbers with a mark, quotes or a unit"),
        (["'5'", "'7'", "'12'"] * 30, "numbers with a mark, quotes or a unit"),
        (["08:30", "12:00", "23:59"] * 30, "numbers with a mark, quotes or a unit"),
        (["5 kg", "7 kg", "12 kg"] * 30, "numbers with a mark, quotes or a unit"),
        (["03/04/2026", "12/04/2026", "01/02/2026"] * 30, "day and month are not known"),
        (["13/04/2026", "04/13/2026", "01/02/2026"] * 30, "day and month are not known"),
        (["1.2.26", "13.4.26", "1.12.26"] * 30, "day and month are not known"),
        (["1", "2", "x"] * 30, "column 'c' is not numeric: 'x' in line 4"),
        (["2024-01-01", "2024-13-45", "2024-01-02"] * 30, "column 'c' is not numeric"),
    ],
)
def test_what_is_neither_plainly_words_nor_dates_is_refused(tmp_path, column, rule):
    name = saved(tmp_path, pd.DataFrame({"a": FRAME["size"], "c": column, "y": FRAME["y"]}))
    error = refused(name)
    assert rule in error.rule
    assert "data.categories" in error.fix
    assert load(DataConfig(name=name, categories=("c",))).inputs.shape[1] > 1


def test_numbers_are_categories_where_they_are_named_and_words_are_not_where_none_is_wanted(
    tmp_path,
):
    frame = pd.DataFrame({"a": FRAME["size"], "kind": RNG.integers(1, 4, ROWS), "y": FRAME["y"]})
    name = saved(tmp_path, frame)
    assert load(DataConfig(name=name)).inputs.shape[1] == 2
    assert load(DataConfig(name=name, categories=("kind",))).inputs.shape[1] == 4
    error = refused(name, categories=("sort",))
    assert error.key == "data.categories"
    assert "a, kind" in error.fix
    words = saved(tmp_path, FRAME[["size", "city", "y"]], file="words")
    assert "column 'city' is not numeric" in refused(words, categories="none").rule
    dates = saved(tmp_path, FRAME[["size", "day", "y"]], file="dates")
    assert "column 'day' is not numeric" in refused(dates, categories="none").rule
