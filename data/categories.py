"""Columns of words and of dates among a table's features, and the numbers they become.

A column of words is coded while it is read; which of them get a column of their own is known of the pool alone, and
so decided once it is split off (`spread`). A date is a number of days, and where it stands in the year, week and day.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from engram.data.columns import NUMBER
from engram.data.config import DataConfig
from engram.data.dataset import DataError
from engram.data.raw import Raw, bad

if TYPE_CHECKING:
    import pandas as pd

MOST_WORDS = 100  # different ones in a column that are categories without being asked for
SHOWN = 4
_DATE = r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d+)?)?)?(Z|[+-]\d\d:?\d\d)?"
# Numbers in another dress: 12 %, $5, 1'200, 5 kg, <3, '7', 08:30; and dates of which nobody knows the order: 03/04/2026.
_DRESSED = r"['\"]?[<>~≈]?\s*[$€£¥]?\s*[+\-−]?\d[\d.,:' ]*\s*(%|[$€£¥\"]|[^\W\d_]{1,4})?"
_SOME_DATE = r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}([T ].*)?"
_IN_ORDER = (
    r"(?P<a>\d{1,4})(?P<mark>[./-])(?P<b>\d{1,2})(?P=mark)(?P<c>\d{1,4})(?P<time>[T ]\d\d:\d\d.*)?"
)
DAY_NS = 86_400 * 10**9
# What comes round again: its name, and its length in days.
CYCLES = (("year", 365.2425), ("week", 7.0), ("day", 1.0))


def coded(features: pd.DataFrame, raw: Raw, config: DataConfig) -> tuple[pd.DataFrame, Raw]:
    """Features as numbers, a word as its place in Raw.words and a missing one as NaN. Raises DataError.

    Columns of numbers stay as they are, and so do those that are neither: the caller refuses them."""
    asked = () if isinstance(config.categories, str) else config.categories
    for name in asked:
        if name not in features.columns:
            raise DataError(
                "data.categories",
                name,
                f"{config.name} has no such feature",
                f"write some of: {', '.join(features.columns[:20])}",
            )
    words: dict[str, tuple[str, ...]] = {}
    notes, columns = list(raw.notes), dict[str, Any]()
    for name in features.columns:
        column = features[name]
        dated, order = (column, "") if name in asked else _in_iso(column)
        if config.categories == "none":
            columns[name] = column
        elif name in asked or _are_words(dated, raw, config):
            text = _text(column)
            words[name] = tuple(sorted(text.dropna().unique()))
            place = {word: float(code) for code, word in enumerate(words[name])}
            columns[name] = text.map(place).astype(float)
        elif _are_dates(dated):
            parts = _of_dates(dated, name)
            columns |= parts
            more = f" ({', '.join(list(parts)[1:])})" if len(parts) > 1 else ""
            notes.append(f"column {name!r} holds dates{order}: days since 1970{more}")
        else:
            columns[name] = column
    if not words and len(notes) == len(raw.notes):
        return features, raw
    import pandas as pd

    return pd.DataFrame(columns), replace(raw, words=words, notes=tuple(notes))


def together(raw: Raw, other: Raw, config: DataConfig) -> tuple[Raw, np.ndarray]:
    """A table with the words of its test file too, whose columns have the same order, and that file's features."""
    if set(raw.words) != set(other.words):
        name = sorted(set(raw.words) ^ set(other.words))[0]
        rule = f"column {name!r} holds words in one of the files, and numbers in the other"
        fix = f"write data.categories: [{name}], or mend the column"
        raise DataError("data.test", config.test, rule, fix)
    inputs = np.array(other.inputs)
    words = dict(raw.words)
    for at, name in enumerate(raw.columns or ()):
        if name not in words:
            continue
        known, theirs = words[name], other.words[name]
        words[name] = (*known, *(word for word in theirs if word not in known))
        place = np.array([words[name].index(word) for word in theirs] or [0], float)
        there = ~np.isnan(inputs[:, at])
        inputs[there, at] = place[inputs[there, at].astype(int)]
    return replace(raw, words=words), inputs


def commonest(codes: np.ndarray) -> float:
    """The word that most rows have, the first of equals; 0 where none has one."""
    there = codes[~np.isnan(codes)].astype(int)
    return float(np.bincount(there).argmax()) if len(there) else 0.0


def spread(
    raw: Raw, pool: np.ndarray, test: np.ndarray
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Each column of codes as a column of 0 and 1 for each word that the pool has, after the numbers."""
    from sklearn.preprocessing import OneHotEncoder

    names = list(raw.columns or ())
    at = [i for i, name in enumerate(names) if name in raw.words]
    if not at:
        return pool, test, []
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)
    encoder.fit(pool[:, at])
    notes = []
    for i, codes in zip(at, encoder.categories_, strict=True):
        words = [raw.words[names[i]][int(code)] for code in codes]
        shown = ", ".join(words[:SHOWN]) + (", ..." if len(words) > SHOWN else "")
        notes.append(
            f"column {names[i]!r} holds words: a column for each of {len(words)} ({shown})"
        )
        if unknown := int((~np.isin(test[:, i], codes)).sum()):
            notes.append(
                f"{unknown:,} of {len(test):,} test rows have a word in {names[i]!r} that the pool lacks: 0 in each column"
            )
    others = np.setdiff1d(np.arange(len(names)), at)
    made = [
        np.concatenate([part[:, others], encoder.transform(part[:, at])], axis=1)
        for part in (pool, test)
    ]
    return made[0], made[1], notes


def _text(column: pd.Series) -> pd.Series:
    """Words without blanks around them; an empty one is missing."""
    import pandas as pd

    text = column.where(column.notna(), "").astype(str).str.strip()
    if pd.api.types.is_float_dtype(column):
        text = text.str.replace(r"\.0$", "", regex=True)  # whole numbers among which one is missing
    return text.where(text != "")


def _are_words(column: pd.Series, raw: Raw, config: DataConfig) -> bool:
    """Whether a column holds categories. Refuses names and free text, and numbers and dates in another dress."""
    import pandas as pd

    if pd.api.types.is_numeric_dtype(column):
        return False
    there = column.dropna()
    if not len(there) or not all(isinstance(value, str) for value in there):
        return False
    text = there.str.strip() if there.dtype == object else there.astype(str).str.strip()
    if text.str.fullmatch(NUMBER.pattern).any() or text.str.fullmatch(_DATE).all():
        return False
    listed = f"list it as data.categories: [{column.name}] if it holds categories"
    if text.str.fullmatch(_SOME_DATE).all():
        rule = f"column {column.name!r} holds dates such as {text.iloc[0]!r}, of which day and month are not known"
        raise bad(config, rule, f"write them as 2026-01-31, or {listed}")
    if text.str.fullmatch(_DRESSED).all():
        rule = f"column {column.name!r} holds numbers with a mark, quotes or a unit, such as {text.iloc[0]!r}"
        raise bad(config, rule, f"take it off, or {listed}")
    count = text.nunique()
    if count > MOST_WORDS or count > max(2, len(text) / 2):
        rule = f"column {column.name!r} holds {count:,} different texts in {len(text):,} rows"
        fix = (
            f"drop the column; write data.index: {column.name} if it names the rows, data.groups if it names whose they are; "
            f"or {listed}"
        )
        raise bad(config, rule, fix)
    return True


def _in_iso(column: pd.Series) -> tuple[pd.Series, str]:
    """Dates written in one order that their own numbers settle, as 2026-01-31, and that order in words; else the same."""
    import pandas as pd

    there = column.dropna()
    if pd.api.types.is_numeric_dtype(column) or not len(there):
        return column, ""
    if not all(isinstance(value, str) for value in there):
        return column, ""
    parts = there.str.strip().str.extract(f"^{_IN_ORDER}$")
    if parts["a"].isna().any() or parts["mark"].nunique() > 1:
        return column, ""
    one, two = parts["a"].astype(int), parts["b"].astype(int)
    if (parts["a"].str.len() == 4).all():
        year, month, day, order = "a", "b", "c", ""
    elif not (parts["c"].str.len() == 4).all() or (one > 12).any() == (two > 12).any():
        return column, ""
    elif (one > 12).any():
        day, month, year, order = "a", "b", "c", ", the day first"
    else:
        month, day, year, order = "a", "b", "c", ", the month first"
    text = parts[year] + "-" + parts[month].str.zfill(2) + "-" + parts[day].str.zfill(2)
    return (text + parts["time"].fillna("")).reindex(column.index), order


def _are_dates(column: pd.Series) -> bool:
    import pandas as pd

    if pd.api.types.is_datetime64_any_dtype(column):
        return True
    there = column.dropna()
    if pd.api.types.is_numeric_dtype(column) or not len(there):
        return False
    if not all(isinstance(value, str) for value in there):
        return False
    if not there.str.strip().str.fullmatch(_DATE).all():
        return False
    return bool(pd.to_datetime(there, format="ISO8601", utc=True, errors="coerce").notna().all())


def _of_dates(column: pd.Series, name: str) -> dict[str, np.ndarray]:
    """Days since 1970, and sine and cosine of each cycle that the dates go round: {column: values}."""
    import pandas as pd

    dates = pd.to_datetime(column, format="ISO8601", utc=True).astype("datetime64[ns, UTC]")
    lost = dates.isna().to_numpy()
    days = np.where(lost, np.nan, dates.astype("int64").to_numpy() / DAY_NS)
    found, known = {name: days}, days[~lost]
    for cycle, length in CYCLES:
        whole = cycle != "day" or bool((known % 1 != 0).any())  # dates without a time have no hour
        if len(known) and np.ptp(known) > length and whole:
            turn = 2 * math.pi * days / length
            found |= {f"{name} {cycle} sin": np.sin(turn), f"{name} {cycle} cos": np.cos(turn)}
    return found
