"""What the two phantom evaluations differ in: kinds of finding, phrase books, masks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glint.errors import DataError
from glint.io.sources import Source
from glint.io.volume_nifti import read_nifti
from glint.phantom.ct.schema import CT_KINDS, HELD_OUT
from glint.phantom.schema import HELD_OUT_COMBINATIONS, KINDS
from glint.phantom.wording import WordingName

Wording = Literal["train", "new"]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Subject:
    """A phantom evaluation.

    Attributes:
        name: What `glint evaluate` calls it.
        command: What makes its data.
        kinds: Kinds of finding, the K axis.
        held_out: (kind, place) pairs that training never shows.
        books: Wording -> phrase book.
        read_mask: Reads a mask on the grid of its image.
        volumes: Whether images are CT volumes.
    """

    name: str
    command: str
    kinds: tuple[str, ...]
    held_out: frozenset[tuple[str, str]]
    books: Mapping[Wording, WordingName]
    read_mask: Callable[[Path], Mask]
    volumes: bool


def read_png(path: Path) -> Mask:
    """Return a mask (Y, X).

    Raises:
        DataError: The file cannot be read.
    """
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("L")) > 127
    except OSError as error:
        raise DataError("cannot read the mask", where=str(path), expected="an 8-bit grey PNG") from error


def read_nifti_mask(path: Path) -> Mask:
    """Return a mask (Z, Y, X); errors as in glint.io.volume_nifti."""
    return read_nifti(Source.of(path)).values > 0.5


CXR = Subject(
    "phantom-cxr",
    "glint phantom",
    tuple(KINDS),
    HELD_OUT_COMBINATIONS,
    {"train": "train", "new": "new"},
    read_png,
    False,
)
CT = Subject(
    "phantom-ct",
    "glint phantom-ct",
    tuple(CT_KINDS),
    HELD_OUT,
    {"train": "ct_train", "new": "ct_new"},
    read_nifti_mask,
    True,
)
SUBJECTS = {subject.name: subject for subject in (CXR, CT)}
