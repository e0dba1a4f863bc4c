"""Spoken digits as pictures of sound: how loud each band of pitch is, moment by moment.

Reads recordings.parquet beside this file, or where RECORDINGS says: a column `audio` of {bytes: WAV}, `label`, `speaker`.
"""

import io
import os
import wave
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet

BANDS, MOMENTS = 20, 32
FRAME, HOP = 256, 128  # samples: 32 ms and 16 ms at 8 kHz


def spoken():
    """x [n, BANDS, MOMENTS], y the digit, and who says it: name it as data.groups to test on other speakers."""
    path = Path(os.environ.get("RECORDINGS", Path(__file__).with_name("recordings.parquet")))
    table = parquet.read_table(path).to_pylist()
    return {
        "x": np.stack([picture(samples(row["audio"]["bytes"])) for row in table]),
        "y": np.array([row["label"] for row in table]),
        "ids": np.arange(len(table)),
        "speaker": np.array([str(row["speaker"]) for row in table]),
        "kind": "image",
    }


def unnamed():
    """The same without the speakers, for a split at random."""
    return {name: values for name, values in spoken().items() if name != "speaker"}


def samples(content):
    """A WAV file of 16 bits as numbers from -1 to 1."""
    with wave.open(io.BytesIO(content)) as opened:
        return np.frombuffer(opened.readframes(opened.getnframes()), np.int16) / 32768


def picture(sound):
    """Logarithms of the energy in BANDS bands evenly spaced in mel, at MOMENTS evenly spaced moments of it."""
    sound = np.pad(sound, (0, max(0, FRAME + HOP - len(sound))))
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME)[::HOP] * np.hanning(FRAME)
    energy = np.log(np.abs(np.fft.rfft(frames)) ** 2 @ BANKS.T + 1e-6)  # [frames, BANDS]
    moments = np.linspace(0, len(energy) - 1, MOMENTS)
    whole = np.stack([np.interp(moments, np.arange(len(energy)), band) for band in energy.T])
    return ((whole - whole.mean()) / whole.std()).astype(np.float32)


def _banks(rate=8000):
    """Triangles [BANDS, FRAME // 2 + 1] over the frequencies of a frame."""
    mel = np.linspace(0, 2595 * np.log10(1 + rate / 2 / 700), BANDS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    frequencies = np.fft.rfftfreq(FRAME, 1 / rate)
    rising = (frequencies - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - frequencies) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling))


BANKS = _banks()
