"""Tables as people have them: each is read right, and what was decided is said, or it is refused
with its line, its counts and what to do. Inputs after public bug reports; each stands for its kind."""

import decimal
import gzip
import io
import zipfile

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyarrow import feather

from engram.data import columnar
from engram.data.catalog import DataError, load
from engram.data.config import DataConfig

RNG = np.random.default_rng(1)
ROWS = 24
A, B = RNG.normal(size=(2, ROWS)).round(3)
Y = np.arange(ROWS) % 2
LETTERS = np.array(["no", "yes"])[Y]


def text(*columns, header="a,b,y", separator=",", end="", decimal=".", start=()):
    """Rows of these columns below a header, as a program writes them."""
    rows = []
    for i in range(ROWS):
        cells = [str(c[i]) for c in (*start, *columns)]
        rows.append(separator.join(c.replace(".", decimal) for c in cells) + end)
    return "\n".join([*([header] if header is not None else []), *rows]) + "\n"


PLAIN = text(A, B, Y)
SHUFFLED = RNG.permutation(ROWS) + 100
CITIES = np.array([f"town{i}" for i in range(ROWS)])

# name -> (text, keys, classes' names or None for values, a word of the notes or "")
READ = {
    "plain": (PLAIN, {}, ("0", "1"), ""),
    "words": (text(A, B, LETTERS), {}, ("no", "yes"), ""),
    "semicolon": (text(A, B, Y, header="a;b;y", separator=";"), {}, ("0", "1"), "semicolon"),
    "an id out of order": (
        text(A, B, Y, header="id,a,b,y", start=[SHUFFLED]),
        {},
        ("0", "1"),
        "'id', names the rows",
    ),
    "an id of texts": (
        text(A, B, Y, header="ID,a,b,y", start=[CITIES]),
        {},
        ("0", "1"),
        "'ID', names the rows",
    ),
    "tab": (text(A, B, Y, header="a\tb\ty", separator="\t"), {}, ("0", "1"), "tab"),
    "pipe": (text(A, B, Y, header="a|b|y", separator="|"), {}, ("0", "1"), "pipe"),
    "blanks": (text(A, B, Y, header="a   b  y", separator="   "), {}, ("0", "1"), "space"),
    "a separator that is named": (PLAIN, {"separator": "comma"}, ("0", "1"), ""),
    "sep= of a spreadsheet": (
        "sep=;\n" + text(A, B, Y, header="a;b;y", separator=";"),
        {},
        ("0", "1"),
        "the first line says",
    ),
    "decimal commas": (
        text(A, B, Y, header="a;b;y", separator=";", decimal=","),
        {},
        ("0", "1"),
        "decimal commas in 'a', 'b'",
    ),
    "quoted decimal commas": (
        text([f'"{a}"' for a in A], [f'"{b}"' for b in B], Y, decimal=","),
        {},
        ("0", "1"),
        "decimal commas",
    ),
    "trailing separators": (text(A, B, Y, end=","), {}, ("0", "1"), "24 rows end in a separator"),
    "trailing separators and names": (
        text(A, B, Y, header="a,b,y,", end=","),
        {},
        ("0", "1"),
        "1 columns without name and values",
    ),
    "some trailing separators": (
        PLAIN.replace("\n", ",\n", 5).replace(",\n", "\n", 1),
        {},
        ("0", "1"),
        "4 rows end in a separator",
    ),
    "empty rows of a spreadsheet": (PLAIN + ",,\n,,\n", {}, ("0", "1"), "2 empty rows"),
    "blank lines": ("\n" + PLAIN.replace("\n", "\n\n"), {}, ("0", "1"), ""),
    "index of a data frame": (
        text(A, B, Y, header=",a,b,y", start=[np.arange(ROWS)]),
        {},
        ("0", "1"),
        "without a name, counts the rows",
    ),
    "index saved twice": (
        text(A, B, Y, header="Unnamed: 0,a,b,y", start=[np.arange(ROWS)]),
        {},
        ("0", "1"),
        "'Unnamed: 0', counts the rows",
    ),
    "a column called id": (
        text(A, B, Y, header="Id,a,b,y", start=[np.arange(ROWS) + 1]),
        {},
        ("0", "1"),
        "'Id', counts the rows",
    ),
    "index of some of the rows": (
        text(A, B, Y, header=",a,b,y", start=[SHUFFLED]),
        {},
        ("0", "1"),
        "names the rows",
    ),
    "index of words": (
        text(A, B, Y, header=",a,b,y", start=[CITIES]),
        {},
        ("0", "1"),
        "names the rows",
    ),
    "an index that is named": (
        text(A, B, Y, header="town,a,b,y", start=[CITIES]),
        {"index": "town"},
        ("0", "1"),
        "",
    ),
    "row names of R": (
        text(A, B, Y, header='"a","b","y"', start=[[f'"{i + 1}"' for i in range(ROWS)]]),
        {},
        ("0", "1"),
        "names the rows",
    ),
    "row names of R that are words": (
        text(A, B, Y, start=[[f'"{c}"' for c in CITIES]]),
        {},
        ("0", "1"),
        "names the rows",
    ),
    "row names that are told of": (
        text(A, B, Y, start=[SHUFFLED]),
        {"index": "first"},
        ("0", "1"),
        "names the rows",
    ),
    "no header": (text(A, B, LETTERS, header=None), {"header": "none"}, ("no", "yes"), ""),
    "names that are numbers": (
        text(A, B, Y, header="0,1,2"),
        {"header": "first"},
        ("0", "1"),
        "",
    ),
    "names of an array": (
        text(A, B, A, Y, header="0,1,2,label").replace("0,1,2,label", "0,1,2,label"),
        {},
        ("0", "1"),
        "",
    ),
    "a name twice": (text(A, B, Y, header="a,a,y"), {}, ("0", "1"), "'a' (the second is a.1)"),
    "a commented header": ("# " + PLAIN, {}, ("0", "1"), "#"),
    "blanks around names and values": (
        text([f" {a}" for a in A], [f"{b} " for b in B], [f" {w} " for w in LETTERS]).replace(
            "a,b,y", "a , b, y "
        ),
        {"target": "y"},
        ("no", "yes"),
        "blanks around 24 class names",
    ),
    "blanks behind some labels": (
        text(A, B, [w + " " * (i % 3 == 0) for i, w in enumerate(LETTERS)]),
        {},
        ("no", "yes"),
        "blanks around 8 class names",
    ),
    "NA as a class": (
        text(A, B, np.array(["NA", "SA"])[Y]),
        {},
        ("NA", "SA"),
        "'NA' names a class (12 rows)",
    ),
    "None as a class": (
        text(A, B, np.array(["None", "mild"])[Y]),
        {},
        ("None", "mild"),
        "'None' names a class",
    ),
    "case": (
        text(A, B, ["Yes" if i == 3 else "yes" if y else "no" for i, y in enumerate(Y)]).replace(
            "yes\n", "Yes\n", 2
        ),
        {},
        ("Yes", "no", "yes"),
        "differ only in their case",
    ),
    "values": (text(A, B, B + 0.25), {}, None, ""),
    "missing values that are filled": (
        PLAIN.replace(f"{A[3]},{B[3]}", f",{B[3]}"),
        {"missing": "median"},
        ("0", "1"),
        "1 missing values became the median",
    ),
    "windows": ("\ufeff" + PLAIN.replace("\n", "\r\n"), {}, ("0", "1"), ""),
    "old macs": (PLAIN.replace("\n", "\r"), {}, ("0", "1"), ""),
}


def write(folder, content, suffix="csv"):
    path = folder / f"table.{suffix}"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return f"{'parquet' if suffix == 'parquet' else 'csv'}:{path}"


def refused(name, **keys):
    with pytest.raises(DataError) as caught:
        load(DataConfig(name=name, **keys))
    return caught.value


@pytest.mark.parametrize("name", READ)
def test_read_right_and_said(tmp_path, name):
    content, keys, classes, note = READ[name]
    dataset = load(DataConfig(name=write(tmp_path, content), **keys))
    assert dataset.class_names == classes
    assert len(dataset.inputs) + len(dataset.test_inputs) == ROWS
    assert dataset.inputs.shape[1] == (3 if name == "names of an array" else 2)
    assert note in "; ".join(dataset.notes)
    assert bool(dataset.notes) == bool(note)
    # Row by row: A and B are told apart by their order, whatever was dropped before or behind.
    own = [str(i) for i in dataset.ids]
    named = {str(v): i for v, i in zip(CITIES, range(ROWS), strict=True)}
    named |= {str(v): i for i, v in enumerate(SHUFFLED)}
    first = 1 if name in ("row names of R", "a column called id") else 0
    rows = np.array([named.get(o, int(o) - first if o.isdigit() else -1) for o in own])
    raw = np.column_stack([A, B])[rows]
    if "missing" not in keys:
        scaled = (raw - raw.mean(0)) / raw.std(0)
        np.testing.assert_allclose(dataset.inputs[:, :2], scaled, atol=1e-5)
    if classes is not None and name != "case":
        np.testing.assert_array_equal(dataset.targets, Y[rows])


# name -> (text, keys, rule, fix)
REFUSED = {
    "rows one field longer": (
        text(A, B, A, Y),
        {},
        "line 2 has 4 fields, and the names are 3; 24 such rows",
        "data.index: first",
    ),
    "a row that is longer": (
        PLAIN.replace("\n", ",7\n", 6).replace(",7\n", "\n", 5),
        {},
        "line 6 has 4 fields, and the names are 3; 1 such row",
        "as many fields",
    ),
    "a row that is shorter": (
        PLAIN + "0.5,1\n",
        {},
        "line 26 has 2 fields, and the names are 3; 1 such row",
        "as many fields",
    ),
    "no header": (
        text(A, B, LETTERS, header=None),
        {},
        "its first line looks like a row, not like names",
        "data.header: none",
    ),
    "no header, all numbers": (
        text(A, B, Y, header=None),
        {},
        "its first line is numbers",
        "data.header: none",
    ),
    "one class each": (
        text(A, B, CITIES),
        {},
        "24 different texts in 24 targets are hardly classes",
        "task: classification",
    ),
    "a class with one row": (
        text(A, B, ["odd" if i == 4 else w for i, w in enumerate(LETTERS)]),
        {},
        "class 'odd' (line 6) has one row",
        "data.test",
    ),
    "commas that may be thousands": (
        text([f'"{i},500"' for i in range(1, ROWS + 1)], B, Y),
        {},
        "may be a fraction, or thousands",
        "data.decimal",
    ),
    "both decimal marks": (
        text(["0;5"] * ROWS, B, Y, header="a|b|y", separator="|").replace(";", ","),
        {},
        "and other columns have points",
        "data.decimal",
    ),
    "either separator": (
        "a|b;y\n" + "u|v;w\nw|v;u\n" * 9,
        {},
        "can be parted by semicolon and by pipe",
        "data.separator",
    ),
    "target named twice": (text(A, B, Y, header="a,y,y"), {}, "2 columns of this name", "own"),
    "a column without a name": (text(A, B, Y, header="a,,y"), {}, "column 2 has no name", "name"),
    "a first column without a name": (
        text(A, B, Y, header=",b,y"),
        {},
        "its values are no index",
        "data.index: first",
    ),
    "a missing number": (
        PLAIN.replace(f"{A[3]},", ",", 1),
        {},
        "line 5, column 'a' is no number",
        "data.missing: drop or median",
    ),
    "a missing target": (
        PLAIN.replace(f"{B[3]},1", f"{B[3]},NA", 1),
        {},
        "line 5 has no target in column 'y'; 1 such rows",
        "drop",
    ),
    "a missing class": (
        text(A, B, LETTERS).replace(f"{B[3]},yes", f"{B[3]},", 1),
        {},
        "line 5 has no target",
        "drop",
    ),
    "one column": ("y\n" + "1\n0\n" * 12, {}, "1 columns", "target"),
    "nothing but a header": ("a,b,y\n", {}, "0 rows", "rows"),
    "no text": (b"a,b\0,y\n1,2,3\n", {}, "a zero byte in line 1", "text"),
    "another encoding": (
        text(A, B, np.array(["caf\u00e9", "tea"])[Y]).encode("latin-1"),
        {},
        "line 2 has the byte 0xe9",
        "data.encoding",
    ),
    "an unknown encoding": (PLAIN, {"encoding": "utf-99"}, "is no encoding", "latin-1"),
    "an index that is not there": (PLAIN, {"index": "town"}, "0 such columns", "a, b, y"),
    "a quote that is never closed": (PLAIN + '1,"2,1\n', {}, "line 26", ""),
    "a group column that is not there": (PLAIN, {"groups": "site"}, "no such column", "a, b, y"),
    "a target that is not the last": (
        text(LETTERS, A, B, header="Label,a,b"),
        {},
        "takes the last column, 'b', and there is one called 'Label'",
        "write data.target: Label, or data.target: b",
    ),
    "a class in the test rows alone": (
        text(
            np.where(np.arange(ROWS) < 3, "test", "train"),
            A,
            np.where(np.arange(ROWS) < 3, "rare", LETTERS),
            header="part,a,y",
        ),
        {"split": "part"},
        "class 'rare' (line 2) has all rows in the test set",
        "train on some of them too",
    ),
    "words of a split": (PLAIN, {"split": "b"}, f"line 2 says '{B[0]}'", "train, validation"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_place_counts_and_remedy(tmp_path, name):
    content, keys, rule, fix = REFUSED[name]
    error = refused(write(tmp_path, content), **keys)
    assert rule in error.rule
    assert fix in error.fix


def test_a_feature_that_tells_the_target_is_named(tmp_path):
    told = "column {!r} alone tells the target of every row: leave it out if it was made from it"
    copied = load(DataConfig(name=write(tmp_path, text(LETTERS, A, Y, header="copy,a,y"))))
    assert copied.notes[0] == told.format("copy")
    half = np.where(np.arange(ROWS) == 5, 1 - Y, Y)  # all rows but one
    notes = load(DataConfig(name=write(tmp_path, text(half, A, Y, header="near,a,y")))).notes
    assert not any("tells the target" in note for note in notes)
    same = load(DataConfig(name=write(tmp_path, text(B, A, B, header="copy,a,y"))))
    assert same.notes[0] == told.format("copy")
    other = load(DataConfig(name=write(tmp_path, text(-B, A, B, header="other,a,y")))).notes
    assert not any("tells the target" in note for note in other)


def test_encodings_and_compressed_files(tmp_path):
    plain = load(DataConfig(name=write(tmp_path, PLAIN))).digest
    zipped = io.BytesIO()
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("inside.csv", PLAIN)
    for content in (gzip.compress(PLAIN.encode()), zipped.getvalue(), PLAIN.encode("utf-16")):
        assert load(DataConfig(name=write(tmp_path, content))).digest == plain
    cafe = text(A, B, np.array(["caf\u00e9", "tea"])[Y]).encode("latin-1")
    named = load(DataConfig(name=write(tmp_path, cafe), encoding="latin-1"))
    assert named.class_names == ("caf\u00e9", "tea")


def test_rows_with_missing_values_are_dropped_and_said(tmp_path):
    holed = PLAIN.replace(f"{A[3]},", ",", 1).replace(f"{A[8]},", "?,", 1)
    dataset = load(DataConfig(name=write(tmp_path, holed), missing="drop"))
    assert sorted([*dataset.ids, *dataset.test_ids]) == [i for i in range(ROWS) if i not in (3, 8)]
    assert dataset.notes == ("2 of 24 rows with missing values are left out",)


def test_the_median_is_that_of_the_pool(tmp_path):
    holed = PLAIN.replace(f"{A[3]},", ",", 1)
    dataset = load(DataConfig(name=write(tmp_path, holed), missing="median"))
    pool = A[dataset.ids][dataset.ids != 3]
    filled = np.where(dataset.ids == 3, np.median(pool), A[dataset.ids])
    expected = (filled - filled.mean()) / filled.std()
    np.testing.assert_allclose(dataset.inputs[:, 0], expected, atol=1e-5)


def test_a_second_file_is_the_test_set(tmp_path):
    name = write(tmp_path, text(A, B, LETTERS))
    other = tmp_path / "later.csv"
    other.write_text("y;b;a\n" + "yes;1;2\nno;3;4\n" * 3)  # its own order and separator
    dataset = load(DataConfig(name=name, test=str(other)))
    assert (len(dataset.inputs), len(dataset.test_inputs)) == (ROWS, 6)
    scaled = (np.array([[2, 1], [4, 3]]) - [A.mean(), B.mean()]) / [A.std(), B.std()]
    np.testing.assert_allclose(dataset.test_inputs, scaled[dataset.test_ids % 2], atol=1e-4)
    np.testing.assert_array_equal(dataset.test_targets, 1 - dataset.test_ids % 2)
    other.write_text("a,c,y\n1,2,yes\n1,2,no\n")
    error = refused(name, test=str(other))
    assert (error.key, error.rule) == ("data.test", "lacks column 'b'")
    other.write_text("a,b,y\n1,2,maybe\n1,2,no\n")
    assert "class maybe, which y never has" in refused(name, test=str(other)).rule
    assert refused(name, test=str(tmp_path / "none.csv")).key == "data.test"


def test_groups_times_and_own_splits_are_columns(tmp_path):
    sites = np.repeat(["north", "south", "east", "west"], 6)
    days = [f"2026-01-{i + 1:02d}" for i in range(ROWS)]
    parts = np.array(["train", "Test"])[np.arange(ROWS) % 4 // 3]
    name = write(tmp_path, text(A, B, Y, sites, days, parts, header="a,b,y,site,day,part"))
    error = refused(name, target="y", categories="none")
    assert "column 'site' is not numeric" in error.rule
    assert refused(name, groups="site", order="day", split="part").key == "data.order"
    name = write(tmp_path, text(A, B, Y, sites, parts, header="a,b,y,site,part"))
    error = refused(name, groups="site", split="part")
    assert (error.key, error.fix[:15]) == ("data.groups", "give each group")
    only = write(tmp_path, text(A, B, Y, sites, header="a,b,y,site"))
    grouped = load(DataConfig(name=only, groups="site"))  # the target is the last but the group
    assert grouped.inputs.shape[1] == 2
    assert not set(sites[grouped.ids]) & set(sites[grouped.test_ids])
    only = write(tmp_path, text(A, B, Y, days, header="a,b,y,day"))
    ordered = load(DataConfig(name=only, order="day"))
    assert ordered.ids.max() < ordered.test_ids.min()
    only = write(tmp_path, text(A, B, Y, parts, header="a,b,y,part"))
    split = load(DataConfig(name=only, split="part"))
    assert set(parts[split.test_ids]) == {"Test"}
    assert len(split.test_ids) == 6


# Parquet


def parquet(folder, **columns):
    path = folder / "table.parquet"
    pq.write_table(pa.table(columns), path)
    return f"parquet:{path}"


def test_decimals_categories_and_truth_values_are_numbers(tmp_path):
    name = parquet(
        tmp_path,
        a=pa.array([decimal.Decimal(str(a)) for a in A]),
        b=pa.array(B).dictionary_encode(),
        c=pa.array(Y == 1),
        y=pa.array(LETTERS).dictionary_encode(),
    )
    dataset = load(DataConfig(name=name))
    assert dataset.class_names == ("no", "yes")
    raw = np.column_stack([A, B, Y])[dataset.ids]
    np.testing.assert_allclose(dataset.inputs, (raw - raw.mean(0)) / raw.std(0), atol=1e-5)


@pytest.mark.parametrize(
    ("columns", "rule"),
    [
        ({"a": A, "y": [[1]] * ROWS}, "target column 'y' holds lists, as [1] in row 0"),
        ({"a": A, "b": [[1.0, 2.0]] * ROWS, "y": Y}, "column 'b' holds lists, beside other"),
        ({"b": [[1.0] * (1 + (i == 5)) for i in range(ROWS)], "y": Y}, "shape (2,) in row 5"),
        ({"a": [{"k": 1}] * ROWS, "y": Y}, "column 'a' holds struct"),
        ({"a": pd.date_range("2026", periods=ROWS), "y": Y}, "column 'a' holds dates"),
        ({"a": A, "y": pd.date_range("2026", periods=ROWS)}, "target column 'y' holds dates"),
        ({"a": LETTERS, "y": Y}, "column 'a' is not numeric: 'no' in row 0"),
    ],
)
def test_columns_that_are_no_numbers_are_named(tmp_path, columns, rule):
    assert rule in refused(parquet(tmp_path, **columns), categories="none").rule


def test_a_column_of_lists_alone_is_the_features(tmp_path):
    lists = np.column_stack([A, B, A])
    dataset = load(DataConfig(name=parquet(tmp_path, x=list(lists), y=Y)))
    np.testing.assert_allclose(dataset.inputs, lists[dataset.ids].astype("f4"))


def test_the_index_of_a_data_frame_names_the_rows(tmp_path):
    frame = pd.DataFrame({"a": A, "y": Y}, index=pd.Index(CITIES, name="town"))
    frame.to_parquet(tmp_path / "table.parquet")
    dataset = load(DataConfig(name=f"parquet:{tmp_path / 'table.parquet'}"))
    assert dataset.inputs.shape[1] == 1
    assert set(dataset.ids) | set(dataset.test_ids) == set(CITIES)


def test_every_form_of_arrow_gives_what_parquet_gives(tmp_path):
    columns = {"a": A, "b": list(LETTERS)[::-1], "y": LETTERS}
    expected = load(DataConfig(name=parquet(tmp_path, **columns)))
    table = pa.table(columns)
    feather.write_feather(table, tmp_path / "feather")
    feather.write_feather(table, tmp_path / "plain", compression="uncompressed")
    for name, make in (("file", pa.ipc.new_file), ("stream", pa.ipc.new_stream)):
        with make(tmp_path / name, table.schema) as out:
            out.write_table(table, max_chunksize=7)
    for name in ("feather", "plain", "file", "stream"):
        found = load(DataConfig(name=f"arrow:{tmp_path / name}"))
        assert found.digest == expected.digest, name
        assert found.class_names == ("no", "yes")


@pytest.mark.parametrize(
    ("name", "key"), [("mnist1d", "groups"), ("digits", "test"), ("npz:a.npz", "header")]
)
def test_keys_that_mean_nothing_here_are_refused(name, key):
    error = refused(name, **{key: "first"})
    assert error.key == f"data.{key}"
    assert "csv:FILE" in error.fix


def test_several_target_columns_are_values_each_of_its_own_spread(tmp_path):
    heights, weights = 1000 * A + 3, B / 100
    content = text(A, B, heights, weights, header="a,b,height,weight")
    made = load(DataConfig(name=write(tmp_path, content), target=["height", "weight"]))
    assert (made.classes, made.value_names) == (None, ("height", "weight"))
    assert made.inputs.shape[1] == 2
    assert any("2 values to predict" in note for note in made.notes)
    given = np.column_stack([heights, weights])
    np.testing.assert_allclose(made.targets.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(made.targets.std(0), 1, atol=1e-5)
    np.testing.assert_allclose(made.in_own_unit(made.targets), given[made.ids], rtol=1e-5)
    tested = made.in_own_unit(made.test_targets)
    np.testing.assert_allclose(tested, given[made.test_ids], rtol=1e-5)
    other = tmp_path / "later.csv"
    other.write_text("weight,a,height,b\n" + "1,2,3,4\n" * 3)
    apart = load(DataConfig(name=made.name, target=["height", "weight"], test=str(other)))
    np.testing.assert_allclose(apart.in_own_unit(apart.test_targets)[0], [3, 1], rtol=1e-5)
    frame = parquet(tmp_path, a=A, b=B, height=heights, weight=weights)
    again = load(DataConfig(name=frame, target=["height", "weight"]))
    np.testing.assert_allclose(again.targets, made.targets, atol=1e-5)


def test_one_target_in_a_list_is_that_target(tmp_path):
    name = write(tmp_path, text(A, LETTERS, B, header="a,y,b"))
    assert load(DataConfig(name=name, target=["y"])).digest == (
        load(DataConfig(name=name, target="y")).digest
    )


def test_several_target_columns_of_which_one_is_1_are_classes(tmp_path):
    kinds = np.eye(3, dtype=int)[np.arange(ROWS) % 3]
    name = write(tmp_path, text(A, B, *kinds.T, header="a,b,dog,cat,ant"))
    made = load(DataConfig(name=name, target=["dog", "cat", "ant"]))
    assert (made.classes, made.class_names) == (3, ("ant", "cat", "dog"))
    np.testing.assert_array_equal(2 - made.targets, made.ids % 3)


@pytest.mark.parametrize(
    ("target", "rule"),
    [
        (["a", "c"], "has no such column"),
        (["a", "a"], "is named twice"),
        ([], "names no column"),
        (["a", "y"], "column 'y' has 'no' in line 2, and several targets are numbers"),
        (["a", "b", "y"], "column 'y' has 'no'"),
    ],
)
def test_several_target_columns_that_cannot_be_are_refused(tmp_path, target, rule):
    error = refused(write(tmp_path, text(A, B, LETTERS)), target=target)
    assert error.key == "data.target"
    assert rule in error.rule


@pytest.mark.parametrize(
    ("comments", "plain", "keys", "said"),
    [
        ("# exported 2026\n", True, {}, "1 line that begins with # left out"),
        ("# exported\n#\n# from a, b and c\n", True, {}, "3 lines that begin with # left out"),
        ("# made by me, 2026, v1\n", True, {}, "1 line that begins with # left out"),
        ("# a,b,y\n", False, {}, "the # before the names is left out"),
        ("# exported 2026\n# a,b,y\n", False, {}, "1 line that begins with # left out"),
        ("# exported 2026\n", False, {"header": "none"}, "1 line that begins with # left out"),
    ],
)
def test_comment_lines_before_a_table_are_no_rows(tmp_path, comments, plain, keys, said):
    whole = text(A, B, Y)
    content = comments + (whole if plain else whole.partition("\n")[2])
    made = load(DataConfig(name=write(tmp_path, content), **keys))
    (tmp_path / "as_is").mkdir()
    wanted = load(DataConfig(name=write(tmp_path / "as_is", whole)))
    np.testing.assert_array_equal(made.inputs, wanted.inputs)
    np.testing.assert_array_equal(made.targets, wanted.targets)
    assert said in made.notes
    broken = content.replace("\n", ",1,1\n").replace(",1,1\n", "\n", content.count("\n") - 1)
    error = refused(write(tmp_path, broken), **keys)
    assert f"line {content.count(chr(10))} has 5 fields" in error.rule


def test_a_file_of_comments_alone_has_no_rows(tmp_path):
    assert "has no rows" in refused(write(tmp_path, "# a,b,y")).rule


@pytest.mark.parametrize("classes", [2, 3])
def test_the_last_of_one_hot_columns_is_no_target_unasked(tmp_path, classes):
    columns = np.eye(classes, dtype=int)[np.arange(ROWS) % classes].T
    names = [f"is_{k}" for k in range(classes)]
    path = tmp_path / "t.csv"
    path.write_text(text(A, B, *columns, header=f"a,b,{','.join(names)}"))
    with pytest.raises(DataError, match="with one 1 in each row, as one-hot classes are") as caught:
        load(DataConfig(name=f"csv:{path}"))
    assert f"write [{', '.join(names)}]" in caught.value.fix
    made = load(DataConfig(name=f"csv:{path}", target=tuple(names)))
    assert (made.classes, made.inputs.shape[1]) == (classes, 2)
    path.write_text(text(A, *columns, B > 0, header=f"a,{','.join(names)},y"))
    assert load(DataConfig(name=f"csv:{path}")).classes == 2  # one-hot features are features


@pytest.mark.parametrize("form", ["parquet", "arrow"])
@pytest.mark.parametrize(
    "keys", [{}, {"missing": "median"}, {"groups": "who"}, {"order": "when"}, {"index": "none"}]
)
def test_features_that_stay_in_their_file_are_those_of_the_whole_table(
    tmp_path, monkeypatch, form, keys
):
    """Of a large table in several parts, with an id in front and the target in the middle: every array is the same."""
    rng, rows = np.random.default_rng(0), 600
    columns = {
        "id": rng.permutation(rows) + 1000,
        "a": rng.normal(size=rows).astype(np.float32),
        "y": rng.integers(3, size=rows),
        "who": rng.integers(40, size=rows).astype(str),
        "when": np.arange(rows),
        "b": rng.integers(-5, 5, size=rows),
        "c": rng.normal(size=rows),
    }
    for name in ("who", "when"):
        if name not in keys.values():
            del columns[name]
    whole = pa.table(columns)
    if "missing" in keys:
        gone = pa.array([None if k % 7 == 0 else float(k) for k in range(rows)])
        whole = whole.append_column("d", gone)
    path = tmp_path / "large"
    if form == "parquet":
        pq.write_table(whole, path, row_group_size=100)
    else:
        with pa.ipc.new_file(path, whole.schema) as out:
            out.write_table(whole, max_chunksize=100)
    asked = DataConfig(name=f"{form}:{path}", target="y", **keys)
    expected = load(asked, pool_size=None, seed=0, cache=None)
    monkeypatch.setattr(columnar, "BY_NEED", 0)
    found = load(asked, pool_size=None, seed=0, cache=None)
    assert any("stay in the file" in note for note in found.notes)
    assert not any("stay in the file" in note for note in expected.notes)
    for name in ("inputs", "targets", "test_inputs", "test_targets", "ids", "test_ids"):
        assert np.array_equal(getattr(found, name), getattr(expected, name)), name


def test_of_a_large_table_only_the_rows_that_are_used_are_read(tmp_path, monkeypatch):
    rows, rng, path = 4000, np.random.default_rng(0), tmp_path / "large.parquet"
    columns = {f"f{k}": rng.normal(size=rows) for k in range(3)}
    pq.write_table(pa.table({**columns, "y": rng.integers(2, size=rows)}), path, row_group_size=100)
    monkeypatch.setattr(columnar, "BY_NEED", 0)
    asked: list[int] = []
    get = columnar.Numbers.__getitem__
    monkeypatch.setattr(
        columnar.Numbers, "__getitem__", lambda self, r: asked.append(len(r)) or get(self, r)
    )
    config = DataConfig(name=f"parquet:{path}", target="y", test_size=50)
    found = load(config, pool_size=200, seed=0, cache=None)
    assert sum(asked) == len(found.inputs) + len(found.test_inputs) == 250
