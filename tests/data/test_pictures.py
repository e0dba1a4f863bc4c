"""Images of every usual form: arrays with channels first or last, encoded files, class folders."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from engram.data.catalog import DataError, describe, load
from engram.data.config import DataConfig

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
RNG = np.random.default_rng(2)
COUNT = 24
Y = np.arange(COUNT) % 2
RGB = RNG.integers(0, 256, (COUNT, 6, 5, 3)).astype(np.uint8)


def npz(folder, **arrays):
    np.savez(folder / "a.npz", **arrays)
    return f"npz:{folder / 'a.npz'}"


def refused(name, **keys):
    with pytest.raises(DataError) as caught:
        load(DataConfig(name=name, **keys))
    return caught.value


@pytest.mark.parametrize(
    ("shape", "found", "last"),
    [
        ((6, 5), (6, 5), False),
        ((3, 6, 5), (3, 6, 5), False),
        ((6, 5, 3), (3, 6, 5), True),
        ((6, 5, 1), (1, 6, 5), True),
        ((6, 5, 4), (4, 6, 5), True),
        ((3, 6, 3), (3, 6, 3), False),
        ((9, 9, 5), (5, 9, 9), True),
        ((5, 9, 9), (5, 9, 9), False),
    ],
)
def test_channels_are_found_on_either_side_and_said(tmp_path, shape, found, last):
    x = RNG.integers(0, 256, (COUNT, *shape)).astype(np.uint8)
    dataset = load(DataConfig(name=npz(tmp_path, x=x, y=Y)))
    assert dataset.facts.shape == found
    turned = np.moveaxis(x, -1, 1) if last else x
    np.testing.assert_array_equal(dataset.inputs, (turned[dataset.ids] / np.float32(255)))
    said = " x ".join(map(str, found))
    assert dataset.notes == ((f"channels last: read as {said}, channels first",) if last else ())


def test_channels_that_could_be_either_are_asked_for(tmp_path):
    name = npz(tmp_path, x=np.zeros((COUNT, 5, 6, 7), np.uint8), y=Y)
    error = refused(name)
    assert (error.key, error.fix) == ("data.channels", "write data.channels: first or last")
    assert describe(DataConfig(name=name, channels="last")).shape == (7, 5, 6)
    assert describe(DataConfig(name=name, channels="first")).shape == (5, 6, 7)


def test_brightness_that_is_not_in_bytes_is_left_and_said(tmp_path):
    dataset = load(DataConfig(name=npz(tmp_path, x=RGB.astype(float), y=Y)))
    assert dataset.inputs.max() > 128
    assert "left as given" in dataset.notes[-1]


def test_names_of_keras_and_medmnist(tmp_path):
    arrays = {"x_train": RGB, "y_train": Y[:, None], "x_test": RGB[:6], "y_test": Y[:6, None]}
    dataset = load(DataConfig(name=npz(tmp_path, **arrays)))
    assert (len(dataset.inputs), len(dataset.test_inputs)) == (24, 6)
    assert dataset.classes == 2
    arrays = {
        f"{part}_{what}": array[:n]
        for part, n in (("train", 24), ("val", 8), ("test", 6))
        for what, array in (("images", RGB), ("labels", Y))
    }
    dataset = load(DataConfig(name=npz(tmp_path, **arrays)))
    assert (len(dataset.inputs), len(dataset.test_inputs)) == (32, 6)
    assert dataset.division.validation.sum() == 8
    assert (dataset.ids[dataset.division.validation] >= 24).all()


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (np.eye(2)[Y], 2),
        (np.eye(3, dtype=np.uint8)[np.arange(COUNT) % 3] * 255, 3),
        (np.eye(2)[Y] * 2 - 1, 2),
        (np.eye(2)[Y] > 0, 2),
    ],
)
def test_one_hot_rows_are_classes(tmp_path, y, classes):
    dataset = load(DataConfig(name=npz(tmp_path, x=RGB, y=y)))
    assert dataset.classes == classes
    np.testing.assert_array_equal(dataset.targets, y.argmax(1)[dataset.ids])
    assert f"read as {classes} classes" in dataset.notes[0]


@pytest.mark.parametrize("test", [Y, np.eye(3)[Y], np.eye(2)[Y] * 0.5, np.zeros((COUNT, 2))])
def test_test_targets_are_one_hot_as_the_others_are(tmp_path, test):
    name = npz(tmp_path, x=RGB, y=np.eye(2)[Y], x_test=RGB, y_test=test)
    assert "y is one-hot rows of 2 classes, and y_test" in refused(name).rule


@pytest.mark.parametrize(
    ("y", "rule"),
    [
        (np.column_stack([Y * 0.2 + 0.1, 0.9 - Y * 0.2, 0 * Y]), "as class probabilities do"),
        (np.column_stack([Y * 0.5 + 0.25, 0.75 - Y * 0.5]), "as class probabilities do"),
    ],
)
def test_rows_like_classes_are_never_silently_values(tmp_path, y, rule):
    name = npz(tmp_path, x=RGB, y=y)
    error = refused(name)
    assert error.key == "data.task"
    assert rule in error.rule
    assert load(DataConfig(name=name, task="regression")).classes is None


# Encoded


def encoded(pixels, form="PNG", mode=None):
    out = io.BytesIO()
    picture = Image.fromarray(pixels)
    (picture if mode is None else picture.convert(mode)).save(out, form)
    return out.getvalue()


def hub(folder, contents, name="table.parquet", groups=5, **more):
    """As dataset hubs keep pictures: {bytes, path}, in several row groups."""
    cells = [{"bytes": content, "path": f"{i}.png"} for i, content in enumerate(contents)]
    labels = {"label": Y[: len(cells)]} | more
    pq.write_table(pa.table({"img": cells, **labels}), folder / name, row_group_size=groups)
    return f"parquet:{folder / name}"


def stream(folder, contents, groups=5):
    """As Hugging Face's datasets keep them: a stream of record batches."""
    cells = [{"bytes": content, "path": None} for content in contents]
    table = pa.table({"img": cells, "label": Y[: len(cells)]})
    with pa.ipc.new_stream(folder / "table.arrow", table.schema) as out:
        out.write_table(table, max_chunksize=groups)
    return f"arrow:{folder / 'table.arrow'}"


def test_pictures_of_a_hub_are_decoded(tmp_path):
    name = hub(tmp_path, [encoded(p) for p in RGB])
    dataset = load(DataConfig(name=name))
    assert dataset.facts.shape == (3, 6, 5)
    expected = np.moveaxis(RGB, -1, 1)[dataset.ids] / np.float32(255)
    np.testing.assert_array_equal(dataset.inputs, expected)
    np.testing.assert_array_equal(dataset.targets, Y[dataset.ids])
    again = hub(tmp_path, [encoded(p) for p in RGB], "other.parquet", groups=100)
    assert load(DataConfig(name=again)).digest == dataset.digest
    mapped = stream(tmp_path, [encoded(p) for p in RGB])
    assert load(DataConfig(name=mapped)).digest == dataset.digest
    both = load(DataConfig(name=name, test=again.partition(":")[2]))
    assert (len(both.inputs), len(both.test_inputs)) == (24, 24)
    small = load(DataConfig(name=name, pool_size=7))
    np.testing.assert_array_equal(small.inputs, dataset.inputs[:7])


@pytest.mark.parametrize("write", [hub, stream])
def test_only_the_rows_that_are_used_are_decoded(tmp_path, write):
    contents = [encoded(p) for p in RGB]
    order = load(DataConfig(name=write(tmp_path, contents))).ids
    contents[order[19]] = b"no picture"
    name = write(tmp_path, contents)
    assert len(load(DataConfig(name=name, pool_size=19)).inputs) == 19
    assert f"row {order[19]}, column 'img' is no picture" in refused(name).rule


@pytest.mark.parametrize(
    ("modes", "shape", "note"),
    [
        (["L"], (6, 5), ""),
        (["1"], (6, 5), ""),
        (["P"], (3, 6, 5), ""),
        (["RGB", "L"], (3, 6, 5), "pictures of L and RGB: all read as RGB"),
        (["RGBA"], (3, 6, 5), ""),
        (["CMYK"], (3, 6, 5), ""),
    ],
)
def test_grey_colours_and_palettes(tmp_path, modes, shape, note):
    forms = {"CMYK": "TIFF"}
    contents = [
        encoded(p, forms.get(modes[i % len(modes)], "PNG"), modes[i % len(modes)])
        for i, p in enumerate(RGB)
    ]
    dataset = load(DataConfig(name=hub(tmp_path, contents)))
    assert dataset.facts.shape == shape
    assert note in "".join(dataset.notes)
    assert 0.5 < dataset.inputs.max() <= 1


def test_transparency_is_a_channel(tmp_path):
    clear = np.concatenate([RGB, RGB[..., :1]], axis=-1)
    dataset = load(DataConfig(name=hub(tmp_path, [encoded(p) for p in clear])))
    expected = np.moveaxis(clear, -1, 1)[dataset.ids] / np.float32(255)
    np.testing.assert_array_equal(dataset.inputs, expected)


def test_sizes_that_differ_are_refused_or_brought_to_one(tmp_path):
    contents = [encoded(p[: 6 - (i == 9)]) for i, p in enumerate(RGB)]
    name = hub(tmp_path, contents)
    error = refused(name)
    assert "5 x 5 pixels" in error.rule
    assert "6 x 5" in error.rule
    assert "data.image_size" in error.fix
    assert load(DataConfig(name=name, image_size=4)).facts.shape == (3, 4, 4)


def test_what_is_no_picture_is_named(tmp_path):
    name = hub(tmp_path, [b"RIFF\x00\x00\x00\x00WAVEfmt " + bytes(20)] * COUNT)
    error = refused(name)
    assert "is a recording (WAV)" in error.rule
    assert "package.module:function" in error.fix
    assert "has no picture" in refused(hub(tmp_path, [None] * COUNT)).rule
    deep = [encoded(np.full((6, 5), 40_000, np.uint16))] * COUNT
    assert "more than 8 bits" in refused(hub(tmp_path, deep)).rule


def test_other_columns_are_named_or_left_out(tmp_path):
    contents = [encoded(p) for p in RGB]
    name = hub(tmp_path, contents, fine=Y, speaker=[f"s{i % 6}" for i in range(COUNT)])
    error = refused(name)
    assert (error.key, error.fix) == ("data.target", "write one of them: label, fine, speaker")
    dataset = load(DataConfig(name=name, target="fine", groups="speaker"))
    assert "columns not used beside 'img': label" in "".join(dataset.notes)
    assert not set(dataset.ids % 6) & set(dataset.test_ids % 6)


def test_class_folders(tmp_path):
    for i, pixels in enumerate(RGB):
        folder = tmp_path / "all" / ["cat", "dog"][i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    (tmp_path / "all" / "readme.txt").write_text("pictures")
    dataset = load(DataConfig(name=f"images:{tmp_path / 'all'}"))
    assert dataset.class_names == ("cat", "dog")
    rows = [int(str(i)[4:6]) for i in dataset.ids]
    assert str(dataset.ids[0]).startswith(("cat/", "dog/"))
    expected = np.moveaxis(RGB, -1, 1)[rows] / np.float32(255)
    np.testing.assert_array_equal(dataset.inputs, expected)
    np.testing.assert_array_equal(dataset.targets, Y[rows])


def test_class_folders_with_a_test_set(tmp_path):
    for i, pixels in enumerate(RGB):
        part = ["train", "train", "val", "test"][i // 2 % 4]
        folder = tmp_path / part / ["cat", "dog"][i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{i:02d}.png")
    dataset = load(DataConfig(name=f"images:{tmp_path}"))
    assert {str(i).partition("/")[0] for i in dataset.test_ids} == {"test"}
    held = dataset.ids[dataset.division.validation]
    assert {str(i).partition("/")[0] for i in held} == {"val"}
    (tmp_path / "bird").mkdir()
    Image.fromarray(RGB[0]).save(tmp_path / "bird" / "1.png")
    assert "beside" in refused(f"images:{tmp_path}").rule


def test_a_class_in_the_test_folder_alone_is_refused(tmp_path):
    for part, kinds in (("train", ("cat", "dog")), ("test", ("cat", "cow"))):
        for i, kind in enumerate(kinds * 4):
            folder = tmp_path / part / kind
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(RGB[i]).save(folder / f"{i}.png")
    assert "class 'cow'" in refused(f"images:{tmp_path}").rule


def test_unusable_folders(tmp_path):
    assert "no folder" in refused(f"images:{tmp_path / 'none'}").rule
    assert "no pictures" in refused(f"images:{tmp_path}").rule
    Image.fromarray(RGB[0]).save(tmp_path / "1.png")
    error = refused(f"images:{tmp_path}")
    assert "a picture outside any class, 1.png" in error.rule
    assert "DIR/CLASS" in error.fix


# By need


def test_mapped_arrays_give_the_rows_that_are_used(tmp_path):
    x = RNG.normal(size=(500, 7)).astype(np.float32)
    y = np.arange(500) % 5
    np.savez(tmp_path / "a.npz", x=x, y=y)
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    whole = load(DataConfig(name=f"npy:{tmp_path}"))
    assert whole.digest == load(DataConfig(name=f"npz:{tmp_path / 'a.npz'}")).digest
    few = load(DataConfig(name=f"npy:{tmp_path}", pool_size=20, test_size=10))
    np.testing.assert_array_equal(few.inputs, x[few.ids])
    assert not isinstance(few.inputs, np.memmap)
    assert "no folder" in refused(f"npy:{tmp_path / 'none'}").rule
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY and nothing")
    assert "cannot be read" in refused(f"npy:{tmp_path}").rule


def test_a_description_is_not_read_twice(tmp_path):
    name = hub(tmp_path, [encoded(p) for p in RGB])
    facts = describe(DataConfig(name=name))
    (tmp_path / "table.parquet").write_bytes(b"")  # another state of the file: read anew
    assert "is empty" in refused(name).rule
    name = hub(tmp_path, [encoded(p) for p in RGB])
    assert load(DataConfig(name=name, train_size=5)).facts == facts


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not beside the repository")
def test_real_pictures_of_a_hub():
    folder = SHARED / "cifar10"
    config = DataConfig(
        name=f"parquet:{folder / 'train.parquet'}",
        test=str(folder / "test.parquet"),
        pool_size=500,
        test_size=200,
    )
    dataset = load(config)
    assert dataset.facts.shape == (3, 32, 32)
    assert (dataset.classes, len(dataset.inputs), len(dataset.test_inputs)) == (10, 500, 200)
    assert 0.4 < dataset.inputs.mean() < 0.55
    assert np.bincount(dataset.targets).min() > 25


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not beside the repository")
def test_real_recordings_are_told_what_to_do():
    error = refused(f"parquet:{SHARED / 'fsdd' / 'recordings.parquet'}", target="label")
    assert "is a recording (WAV)" in error.rule
