"""Which files of a folder belong together: DICOM series found, listed without patient data, and chosen from."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import CTImageStorage

from glint.errors import DataError
from glint.io.dicom_file import read_dataset
from glint.io.limits import MIN_VOLUME_SIDE

MAX_FILES = 20_000
TAGS = (
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesInstanceUID",
    "Modality",
    "ImageType",
    "Rows",
    "Columns",
    "NumberOfFrames",
    "ImagePositionPatient",
    "ImageOrientationPatient",
    "PixelSpacing",
)


@dataclass(frozen=True, slots=True)
class Slice:
    """The header of one file.

    Attributes:
        path: The file.
        instance: SOPInstanceUID.
        size: (rows, columns).
        position: (3,) LPS mm of the first pixel, or None when the file does not say.
        axes: (2, 3) unit vectors of growing column and row index, or None.
        spacing_mm: (between rows, between columns), or None.
    """

    path: Path
    instance: str
    size: tuple[int, int]
    position: NDArray[np.float64] | None
    axes: NDArray[np.float64] | None
    spacing_mm: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class Series:
    """The slices that share a SeriesInstanceUID.

    Attributes:
        number: Its number in the list of the folder, 1 for the longest.
        uid: SeriesInstanceUID.
        kind: "CT", another modality, "CT localizer" or "CT multi-frame".
        slices: In the order of file names.
    """

    number: int
    uid: str
    kind: str
    slices: tuple[Slice, ...]

    @property
    def usable(self) -> bool:
        """Whether it could be a scan."""
        return self.kind == "CT" and len(self.slices) >= MIN_VOLUME_SIDE

    def describe(self) -> str:
        """Return number, kind and size: nothing that could tell of a patient."""
        rows, columns = self.slices[0].size
        return f"{self.number}: {self.kind}, {len(self.slices)} slices of {columns} x {rows}"


def find_series(folder: Path) -> tuple[list[Series], int]:
    """Read the headers of all DICOM files under a folder; call it inside `quiet`.

    Returns:
        The series, longest first, and the number of files that are no DICOM images.

    Raises:
        DataError: Too many files, or a damaged one.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    if len(paths) > MAX_FILES:
        raise DataError(
            f"the folder holds {len(paths)} files",
            where=str(folder),
            expected=f"at most {MAX_FILES}",
            fix="name the folder of one study",
        )
    groups: dict[tuple[str, str], list[Slice]] = defaultdict(list)
    others = 0
    for path in paths:
        header = read_dataset(path, TAGS) if _is_dicom(path) else None
        try:
            if header is not None and header.get("Rows") and header.get("Columns"):
                groups[str(header.get("SeriesInstanceUID", "")), _kind(header)].append(_slice(header, path))
                continue
            cut = header is not None and _is_cut(header)
        except Exception:  # noqa: BLE001 - pydicom parses elements late, and raises anything on damaged ones
            cut = True
        if cut:
            raise DataError(
                "a DICOM file of the folder is damaged or cut short", where=str(path), fix="copy it again"
            )
        others += 1
    ordered = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
    return [Series(n, uid, kind, tuple(found)) for n, ((uid, kind), found) in enumerate(ordered, 1)], others


def choose(found: Sequence[Series], wanted: str, where: str) -> Series:
    """Return the series that was asked for, or the only CT.

    Raises:
        DataError: None, several, or not the one that was asked for; the message lists them.
    """
    listed = "; ".join(series.describe() for series in found)
    if wanted:
        match = [series for series in found if wanted in (str(series.number), series.uid)]
        if len(match) == 1 and match[0].usable:
            return match[0]
        raise DataError(
            "there is no such series in the folder" if not match else "this series is no CT volume",
            where=where,
            expected=f"one of: {listed}" if listed else "",
        )
    usable = [series for series in found if series.usable]
    if not usable:
        raise DataError(
            "the folder holds no CT series" if found else "the folder holds no DICOM images",
            where=where,
            expected=f"CT slices of one series, {MIN_VOLUME_SIDE} or more, one slice a file",
            fix=f"there are: {listed}" if listed else "name the folder with the slices",
        )
    if len(usable) > 1:
        raise DataError(
            f"the folder holds {len(usable)} CT series",
            where=where,
            expected=f"one of: {listed}",
            fix=f'choose one by its number, e.g. series="{usable[0].number}"',
        )
    return usable[0]


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(132)[128:] == b"DICM"


def _is_cut(header: FileDataset) -> bool:
    """Say whether a file without an image should have one; reports, plans and directories need not."""
    meaning = header.get("SOPClassUID") or header.file_meta.get("MediaStorageSOPClassUID")
    return not meaning or meaning == CTImageStorage


def _kind(header: Dataset) -> str:
    modality = str(header.get("Modality") or "")
    kind = modality if modality.isalnum() and len(modality) <= 4 else "unknown"
    if str(header.get("NumberOfFrames") or 1) != "1":
        return f"{kind} multi-frame"
    is_localizer = "LOCALIZER" in [str(part).upper() for part in header.get("ImageType") or ()]
    return f"{kind} localizer" if is_localizer else kind


def _slice(header: Dataset, path: Path) -> Slice:
    axes = _numbers(header, "ImageOrientationPatient", 6)
    if axes is not None:
        axes = axes.reshape(2, 3)
        lengths = np.linalg.norm(axes, axis=1)
        good = np.abs(lengths - 1).max() < 0.01 and abs(float(axes[0] @ axes[1])) < 0.01
        axes = axes / lengths[:, None] if good else None
    spacing = _numbers(header, "PixelSpacing", 2)
    found = Slice(
        path,
        str(header.get("SOPInstanceUID", "")),
        (int(header.Rows), int(header.Columns)),
        _numbers(header, "ImagePositionPatient", 3),
        axes,
        None,
    )
    if spacing is None or spacing.min() <= 0:
        return found
    return replace(found, spacing_mm=(float(spacing[0]), float(spacing[1])))


def _numbers(header: Dataset, name: str, count: int) -> NDArray[np.float64] | None:
    """Return finite numbers of an element, or None."""
    try:
        values = np.array([float(value) for value in header.get(name) or ()])
    except (TypeError, ValueError):  # text, or a single number
        return None
    return values if values.shape == (count,) and np.isfinite(values).all() else None
