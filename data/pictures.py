"""Images of every usual form as arrays: which axis is the channels, encoded bytes, class folders."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from engram.data import second
from engram.data.config import DataConfig
from engram.data.dataset import DataError
from engram.data.raw import PARTS, Raw, bad
from engram.data.sources import Asked

if TYPE_CHECKING:
    from PIL.Image import Image


def channels_first(images: np.ndarray, config: DataConfig) -> np.ndarray:
    """Images [n, H, W, C] as [n, C, H, W]; those that are so already as they are.

    Channels are 1 to 4: where the last axis alone is that short, it is theirs; otherwise the axis
    beside two of one length is. data.channels says it where the sizes do not.
    """
    if images.ndim != 4:
        return images
    first, middle, last = images.shape[1:]
    if config.channels != "auto":
        found = config.channels
    elif min(first, last) <= 4:
        found = "last" if last <= 4 < first else "first"
    elif middle == last:  # square pictures of many channels
        found = "first"
    elif first == middle:
        found = "last"
    else:
        raise DataError(
            "data.channels",
            "auto",
            f"images of {first} x {middle} x {last} may have their channels first or last",
            "write data.channels: first or last",
        )
    return np.ascontiguousarray(np.moveaxis(images, -1, 1)) if found == "last" else images


def shape_text(images: np.ndarray) -> str:
    """The shape of one example: 3 x 32 x 32."""
    return " x ".join(map(str, images.shape[1:]))


def unscaled(images: np.ndarray) -> list[str]:
    """Brightness of 0 to 255 that is not bytes is left as it is, and that is said."""
    if len(images) and images.min() >= 0 and 128 < images.max() <= 255:
        return [f"brightness up to {images.max():g} is left as given; uint8 is divided by 255"]
    return []


SOUND = {b"RIFF": "WAV", b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3": "MP3", b"\xff\xfb": "MP3"}
SUFFIXES = frozenset(
    [".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".ppm", ".pgm", ".tif", ".tiff"]
)
# Pixels as Pillow names them -> how they are kept: grey [H, W], RGB and RGBA channels first.
MODES = {"1": "L", "L": "L", "LA": "RGBA", "RGB": "RGB", "RGBA": "RGBA", "P": "RGB", "PA": "RGBA"}
_ORIENTATION = 0x0112  # the EXIF tag of how the camera was held
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


class Encoded:
    """Pictures still encoded. Row numbers [k] give uint8 [k, H, W], [k, 3, H, W] or [k, 4, H, W].

    fetch: row numbers -> the bytes of each. All pictures taken together have one size, unless
    data.image_size names one, and one kind: RGBA where any is partly transparent, else RGB where
    any has colours, else grey. name: says a row to the person. notes: what was decided.
    """

    def __init__(
        self,
        fetch: Callable[[np.ndarray], list[bytes | None]],
        count: int,
        config: DataConfig,
        name: Callable[[int], str],
    ) -> None:
        self.shape = (count, 1, 1)
        self.notes: list[str] = []
        self._fetch, self._config, self._name = fetch, config, name

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        pictures = [
            self._decoded(int(row), content)
            for row, content in zip(rows, self._fetch(rows), strict=True)
        ]
        modes = {picture.mode for picture in pictures}
        mode = next(mode for mode in ("RGBA", "RGB", "L") if mode in modes)
        sizes = [picture.size for picture in pictures]
        odd = next((i for i, size in enumerate(sizes) if size != sizes[0]), None)
        if odd is not None:
            (w, h), (other_w, other_h) = sizes[0], sizes[odd]
            raise bad(
                self._config,
                f"{self._name(int(rows[odd]))} is {other_h} x {other_w} pixels, and "
                f"{self._name(int(rows[0]))} {h} x {w}",
                f"write data.image_size: {min(*sizes[0], 64)} to bring all to one size",
            )
        if len(modes) > 1:
            self.notes.append(f"pictures of {' and '.join(sorted(modes))}: all read as {mode}")
        width, height = sizes[0]
        depth = () if mode == "L" else (len(mode),)
        found = np.empty((len(pictures), *depth, height, width), np.uint8)
        for i, picture in enumerate(pictures):
            pixels = np.asarray(picture if picture.mode == mode else picture.convert(mode))
            found[i] = pixels if mode == "L" else np.moveaxis(pixels, -1, 0)
        return found

    def _decoded(self, row: int, content: bytes | None) -> Image:
        from PIL import Image, ImageOps

        if not content:
            raise bad(self._config, f"{self._name(row)} has no picture", "drop these rows")
        sound = next((kind for mark, kind in SOUND.items() if content.startswith(mark)), None)
        if sound and not (sound == "WAV" and content[8:12] == b"WEBP"):
            raise bad(
                self._config,
                f"{self._name(row)} is a recording ({sound}), and sound is not decoded",
                "write a function of your own as data.name, package.module:function, that returns "
                "features or sequences",
            )
        try:
            with Image.open(io.BytesIO(content)) as opened:
                opened.load()
                turned = opened.getexif().get(_ORIENTATION, 1) != 1
                picture = ImageOps.exif_transpose(opened) if turned else opened
        except Exception as error:  # Pillow's decoders raise what they like
            rule = f"{self._name(row)} is no picture that can be decoded: {error}"
            raise bad(self._config, rule, "mend or drop it") from error
        if picture.mode in _DEEP:
            rule = f"{self._name(row)} has more than 8 bits a pixel ({picture.mode})"
            raise bad(self._config, rule, "save it with 8 bits, or as npz:FILE")
        if picture.mode == "P" and "transparency" in picture.info:
            picture = picture.convert("RGBA")
        mode = MODES.get(picture.mode, "RGB")
        picture = picture if picture.mode == mode else picture.convert(mode)
        if mode == "RGBA" and picture.getchannel("A").getextrema() == (255, 255):
            picture = picture.convert("RGB")  # nowhere transparent: three channels say it all
        size = self._config.image_size
        if size is not None and picture.size != (size, size):
            picture = picture.resize((size, size), Image.Resampling.BILINEAR)
        return picture


def is_encoded(kind: Any) -> bool:
    """Whether an Arrow type is how dataset hubs keep files: {bytes, path}, or bytes alone."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        return "bytes" in [kind.field(i).name for i in range(kind.num_fields)]
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def from_parts(
    sizes: list[int], part: Callable[[int], Any], column: str, config: DataConfig
) -> Encoded:
    """The pictures of a column that is kept in parts of these sizes; only parts with wanted rows are read."""
    import pyarrow as pa

    ends = np.cumsum(sizes)

    def fetch(rows: np.ndarray) -> list[bytes | None]:
        found: list[bytes | None] = [None] * len(rows)
        numbers = np.searchsorted(ends, rows, side="right")
        for number in np.unique(numbers):
            places = np.flatnonzero(numbers == number)
            start = int(ends[number]) - sizes[number]
            values = part(int(number)).take(pa.array(rows[places] - start))
            for place, value in zip(places, values.to_pylist(), strict=True):
                found[place] = value["bytes"] if isinstance(value, dict) else value
        return found

    count = int(ends[-1]) if sizes else 0
    return Encoded(fetch, count, config, lambda row: f"row {row}, column {column!r}")


def folders(config: DataConfig, asked: Asked) -> Raw:
    """images:DIR, a folder for each class: DIR/CLASS/*.png, or DIR/train/CLASS and DIR/test/CLASS.

    Rows are named by their path within DIR.
    """
    return second.joined(_folders, config)


def _folders(config: DataConfig) -> Raw:
    root = Path(config.name.partition(":")[2]).expanduser()
    if not root.is_dir():
        raise bad(config, f"there is no folder {root}", "name the folder that holds the classes")
    paths = sorted(
        path
        for path in root.rglob("*")
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
    )
    inside = [path.relative_to(root).parts for path in paths]
    parts = None
    if inside and all(len(p) > 2 and p[0].lower() in PARTS for p in inside):
        parts = np.array([PARTS[p[0].lower()] for p in inside])
        labels = [p[1] for p in inside]
    else:
        labels = [p[0] for p in inside if len(p) > 1]
    if not inside or len(labels) < len(inside):
        what = "no pictures" if not inside else f"a picture outside any class, {inside[0][0]}"
        raise bad(config, f"{root} has {what}", "put each class in a folder: DIR/CLASS/1.png")
    mixed = {label.lower() for label in labels} & set(PARTS)
    if parts is None and mixed:
        rule = f"{root} has folders of classes beside {sorted(mixed)[0]}"
        raise bad(config, rule, "give train and test folders of classes, or classes alone")

    def fetch(rows: np.ndarray) -> list[bytes | None]:
        return [paths[row].read_bytes() for row in rows]

    names = np.array(["/".join(p) for p in inside])
    images = Encoded(fetch, len(paths), config, lambda row: str(names[row]))
    return Raw(images, np.array(labels), kind="image", ids=names, parts=parts)
