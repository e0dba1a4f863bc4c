"""Number words from English to German, character by character, in pairs made by the package num2words.

An example is an English number and the beginning of the German one; its class is the character that comes next. So a
translation of n characters is n + 1 examples, the last of which says that it ends. The number is the group: no number is
on two sides of pool, validation and test.
"""

import numpy as np
from num2words import num2words

LARGEST = 999
END = "."
TEXTS = [(num2words(n), num2words(n, lang="de")) for n in range(LARGEST + 1)]
LETTERS = sorted({c for pair in TEXTS for text in pair for c in text})
SOURCE = max(len(english) for english, _ in TEXTS)  # places for the English number
TARGET = max(len(german) for _, german in TEXTS)  # and for the German beginning
CLASSES = [*sorted({c for _, german in TEXTS for c in german}), END]


def pairs():
    """x [n, SOURCE + TARGET] letters from 1 on, -1 where there is none; y the letter that comes next; number."""
    x, y, number = [], [], []
    for n, (english, german) in enumerate(TEXTS):
        for k, letter in enumerate([*german, END]):
            x.append(encoded(english, german[:k]))
            y.append(CLASSES.index(letter))
            number.append(n)
    return {"x": np.array(x, np.float32), "y": np.array(y), "number": np.array(number)}


def encoded(english, beginning):
    """One row of x."""
    row = np.full(SOURCE + TARGET, -1)
    row[: len(english)] = [LETTERS.index(c) + 1 for c in english]
    row[SOURCE : SOURCE + len(beginning)] = [LETTERS.index(c) + 1 for c in beginning]
    return row
