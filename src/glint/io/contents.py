"""What a file, a folder or an archive holds, in words that tell of no patient; and which of it is meant."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glint.errors import DataError
from glint.io.dicom_file import quiet
from glint.io.dicom_series import Series, choose, find_series, listed
from glint.io.sources import sources

Reader = Literal["volume", "radiograph", ""]


@dataclass(frozen=True, slots=True)
class Item:
    """A series, a radiograph, or a file of another format.

    Attributes:
        number: Its number in the list; with `series=` it is read.
        alias: Its alias; with `series=` it is read.
        study: Alias of the study, or "".
        kind: "CT", "CR", "MR", "CT localizer", "NIfTI", "PNG" ...
        images: Slices, frames or pictures.
        reader: What reads it: "volume", "radiograph", or "" when GLINT cannot use it.
        text: The line that errors show.
    """

    number: int
    alias: str
    study: str
    kind: str
    images: int
    reader: Reader
    text: str


@dataclass(frozen=True, slots=True)
class Contents:
    """What there is.

    Attributes:
        items: Series, radiographs and files of other formats.
        others: Number of files that are no images.
        damaged: DICOM files that cannot be read: the fields of an error for each.
    """

    items: list[Item]
    others: int
    damaged: list[dict[str, str]]


def contents(path: Path) -> Contents:
    """List what a file, a folder or an archive holds; headers only are read.

    Raises:
        DataError: Missing, an archive that is damaged, or more than a study has.
    """
    with quiet():
        found = find_series(sources(path))
    damaged = [
        {
            "what": one.error.what,
            "where": one.error.where,
            "expected": one.error.expected,
            "fix": one.error.fix,
        }
        for one in found.damaged
    ]
    return Contents([_item(series) for series in found.series], found.others, damaged)


def pick(path: Path, series: str, readers: Sequence[Reader]) -> Item:
    """Return the image of a folder or an archive that is meant.

    Captures that come along with images (dose sheets, screenshots) are meant when there is nothing else.

    Args:
        path: The folder or the archive.
        series: Number, alias or UID of one, or "" for the only one.
        readers: Kinds of images that come into question.

    Raises:
        DataError: Damaged, or none, several, or not the one that was asked for; the message lists them.
    """
    with quiet():
        found = find_series(sources(path))
    usable = [one for one in found.series if _reader(one) in readers]
    images = [one for one in usable if not one.is_capture] or usable
    if not series and len({_reader(one) for one in images}) > 1:
        raise DataError(
            "there are radiographs and CT",
            where=str(path),
            expected=f"one of: {listed(found.series)}",
            fix=f"choose one by its number or alias: --series {images[0].number}; or name a model: it reads one kind",
        )
    what = "image" if len(readers) > 1 else "radiograph" if "radiograph" in readers else "CT series"
    meant = usable if series else images
    return _item(choose(found, series, str(path), what, lambda one: one in meant))


def _item(series: Series) -> Item:
    return Item(
        series.number,
        series.alias,
        series.study,
        series.kind,
        len(series.slices),
        _reader(series),
        series.describe(),
    )


def _reader(series: Series) -> Reader:
    return "volume" if series.is_scan else "radiograph" if series.is_radiograph else ""
