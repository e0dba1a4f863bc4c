"""The `data:` and `replicas:` sections of a study, as frozen and validated values. Light: imports no numerics."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt

from engram.data import sources

Draw = Literal["disjoint", "subset", "bootstrap", "fresh", "complementary"]
# The kinds of data that each augmentation is for.
AUGMENTATION_KINDS: dict[str, tuple[str, ...]] = {
    "none": ("vector", "sequence", "image", "tokens", "several"),
    "shift": ("sequence",),
    "scale": ("sequence",),
    "noise": ("vector", "sequence", "image"),
    "flip": ("image",),
    "crop": ("image",),
    "cutout": ("image",),
    "mixup": ("vector", "sequence", "image"),
}


class DataConfig(BaseModel):
    """Which examples a trial sees. One value per key; the sweep replaces single values."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(
        "mnist1d",
        min_length=1,
        description=f"dataset: {sources.forms()}",
    )
    train_size: StrictInt = Field(2000, ge=1, description="examples each replica trains on (m)")
    pool_size: StrictInt | None = Field(
        None,
        ge=2,
        description="examples the subsets are drawn from, validation included (n); null: all of a finite dataset, as many as the draw needs of a generated one",
    )
    test_size: StrictInt | None = Field(
        None,
        ge=1,
        description="test examples; null: the dataset's own test set, 1000 of a generated one, a sixth of a file that has none",
    )
    validation: StrictInt | float = Field(
        0.2,
        ge=0,
        description="fraction (below 1) or count of the pool held out once for selection; 0: none",
    )
    label_noise: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of pool labels replaced by another class, once per example; for regression: standard deviation of added noise in units of the target's own",
    )
    random_labels: StrictBool = Field(
        False,
        description="replace every pool label by a uniform random class (nothing but memorization can fit them)",
    )
    augmentation: str = Field(
        "none",
        min_length=1,
        description="random change of each training example at each use: shift, scale, noise for sequences; flip, crop, cutout, noise for images; noise for vectors; mixup for all; or package.module:function(inputs [B, ...]) -> inputs",
    )
    target: str | tuple[str, ...] | None = Field(
        None,
        description="target column of a table, or several columns of values, or of labels of 0 and 1: [x, y]; null: the last one",
    )
    header: Literal["auto", "first", "none"] = Field(
        "auto",
        description="of a csv file: whether the first line is names; auto: where it has no numbers",
    )
    separator: Literal["auto", "comma", "semicolon", "tab", "pipe", "space"] = Field(
        "auto", description="of a csv file: what separates fields; auto: what parts all lines alike"
    )
    decimal: Literal["auto", "point", "comma"] = Field(
        "auto",
        description="of a csv file: decimal mark; auto: a comma where no reading with points is left",
    )
    encoding: str = Field(
        "auto",
        min_length=1,
        description="of a csv file: utf-8, latin-1, cp1252, ...; auto: UTF-8, or UTF-16 with its mark",
    )
    index: str = Field(
        "auto",
        min_length=1,
        description="column that names the rows and is no feature: a name, first, or none; auto: a first column that plainly is one",
    )
    missing: Literal["refuse", "drop", "median"] = Field(
        "refuse",
        description="missing features of a table: refuse, drop their rows, or the median of their column over the pool (of words the commonest)",
    )
    categories: Literal["auto", "none"] | tuple[str, ...] = Field(
        "auto",
        description="columns of a table that hold categories, a column of 0 and 1 for each; auto: those of words; names: these besides, even of numbers; none: columns of words and dates are refused",
    )
    channels: Literal["auto", "first", "last"] = Field(
        "auto",
        description="axis of an image's channels; auto: the one of 1 to 4, first if both are",
    )
    image_size: StrictInt | None = Field(
        None,
        ge=1,
        description="side in pixels that encoded pictures are brought to; null: as they are",
    )
    groups: str | None = Field(
        None,
        description="column of groups (patients, speakers): no group is on two sides of pool, validation and test, and subsets take whole groups",
    )
    order: str | None = Field(
        None,
        description="column of times: validation comes after what is trained on, test after both",
    )
    split: str | None = Field(
        None, description="column that says train, validation or test for each row"
    )
    folds: Annotated[StrictInt, Field(ge=2)] | str | None = Field(
        None,
        description="cross-validation: how many folds the rows are dealt into, or a column that names the fold of each; one of them is the test set",
    )
    fold: StrictInt | str | None = Field(
        None,
        description="which fold is the test set, 1 to data.folds or a value of its column; sweep it to have each be it once: data.fold: [1, 2, 3]. null: the first",
    )
    indices: str | None = Field(
        None,
        description="a file (npz, json or csv) that names the train, validation and test rows by their ids, or by their positions from 0 where rows have none",
    )
    test: str | None = Field(
        None, description="a second file with the test rows, read as the first one is"
    )
    text: str | None = Field(
        None,
        description="column of a table whose texts are the inputs, as tokens; the other columns are left out",
    )
    tokens: Literal["characters", "words", "bpe"] = Field(
        "characters",
        description="of text: characters, words (and marks), or bpe, byte pairs learned from the pool (needs the package tokenizers)",
    )
    window: StrictInt = Field(
        64,
        ge=1,
        le=100_000,
        description="of text: tokens in one example; of a column of texts, the most",
    )
    vocabulary: StrictInt | None = Field(
        None,
        ge=2,
        description="of text: most tokens that are told apart, the commonest of the pool; the others are one unknown token. null: all of them, of bpe 1000",
    )
    canaries: tuple[StrictInt, ...] = Field(
        (),
        description="of text: secrets planted in what is trained on, by how often an epoch shows one: [0, 1, 4, 16] measures exposure_0 to exposure_16 and extracted_0 to extracted_16; []: none",
    )
    positive: str | StrictInt | None = Field(
        None,
        description="which of two classes is the positive one, for precision, recall and their kind; it becomes class 1",
    )
    levels: tuple[str, ...] | None = Field(
        None,
        description="names of ordered classes, the lowest first: [low, middle, high]; task is ordinal then. null: numbers in their own order",
    )
    task: Literal["auto", "classification", "ordinal", "regression", "multilabel"] = Field(
        "auto",
        description="ordinal: classes with an order, as grades. auto: whole-number or text targets are classes, several columns of 0 and 1 labels of which an example may have any number (multilabel), others are values",
    )

    @property
    def targets(self) -> tuple[str, ...]:
        """The target columns that are named, one after the other."""
        return (self.target,) if isinstance(self.target, str) else self.target or ()


class ReplicasConfig(BaseModel):
    """How many networks a trial trains, and how their training sets are drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: StrictInt = Field(8, ge=1, le=4096, description="networks per trial (R)")
    draw: Draw = Field(
        "subset",
        description="how training subsets are drawn from the pool: subset (without replacement, each its own), disjoint (blocks of one permutation), bootstrap (with replacement), fresh (new examples each, generated data only), complementary (pairs that together cover the pool evenly)",
    )
    inits: StrictInt = Field(
        1,
        ge=1,
        description="networks per subset; above 1 the variance is split in data and initialization; count = draws x inits",
    )
    seed: StrictInt = Field(
        0,
        ge=0,
        lt=2**31,
        description="seed of subsets, validation, label noise, initialization, batch order and dropout",
    )
    stack: Literal["auto"] | StrictInt = Field(
        "auto",
        description="replicas trained in one stack: auto, or a number (1: one by one); results agree within float tolerance",
    )
