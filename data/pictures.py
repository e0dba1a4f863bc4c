"""Images of every usual form as arrays: which axis is the channels, encoded bytes, class folders."""

from __future__ import annotations

import numpy as np

from engram.data.config import DataConfig
from engram.data.dataset import DataError


def channels_first(images: np.ndarray, config: DataConfig) -> np.ndarray:
    """Images [n, H, W, C] as [n, C, H, W]; those that are so already as they are.

    Channels are 1 to 4: where the last axis alone is that short, it is theirs. data.channels says
    it where the sizes do not.
    """
    if images.ndim != 4:
        return images
    first, middle, last = images.shape[1:]
    likely_first, likely_last = first <= 4 or middle == last, last <= 4 or first == middle
    if config.channels == "auto" and likely_last and (last <= 4) > (first <= 4):
        found = "last"
    elif config.channels == "auto" and likely_first == likely_last and not first == middle == last:
        raise DataError(
            "data.channels",
            "auto",
            f"images of {first} x {middle} x {last} may have their channels first or last",
            "write data.channels: first or last",
        )
    elif config.channels == "auto":
        found = "last" if likely_last and not likely_first else "first"
    else:
        found = config.channels
    return np.ascontiguousarray(np.moveaxis(images, -1, 1)) if found == "last" else images


def shape_text(images: np.ndarray) -> str:
    """The shape of one example: 3 x 32 x 32."""
    return " x ".join(map(str, images.shape[1:]))


def unscaled(images: np.ndarray) -> list[str]:
    """Brightness of 0 to 255 that is not bytes is left as it is, and that is said."""
    if len(images) and images.min() >= 0 and 128 < images.max() <= 255:
        return [f"brightness up to {images.max():g} is left as given; uint8 is divided by 255"]
    return []
