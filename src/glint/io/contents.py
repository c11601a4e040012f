"""What a file, a folder or an archive holds, in words that tell of no patient."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from glint.io.dicom_file import quiet
from glint.io.dicom_series import find_series
from glint.io.sources import sources


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
    reader: Literal["volume", "radiograph", ""]
    text: str


def contents(path: Path) -> tuple[list[Item], int]:
    """Read headers only.

    Returns:
        The items, and the number of files that are no images.

    Raises:
        DataError: Missing, damaged, or more than a study has.
    """
    with quiet():
        found, others = find_series(sources(path))
    items: list[Item] = []
    for series in found:
        reader = "volume" if series.is_scan else "radiograph" if series.is_radiograph else ""
        items.append(
            Item(
                series.number,
                series.alias,
                series.study,
                series.kind,
                len(series.slices),
                reader,
                series.describe(),
            )
        )
    return items, others
