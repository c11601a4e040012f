"""Which files of a folder are one scan, in which order, and where their slices are.

Order, distances and tilt come from ImagePositionPatient and ImageOrientationPatient alone: file names, instance
numbers, slice thickness and the tag of the gantry tilt are often wrong. A series without clear geometry is refused.
"""

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
ANGLE_TOLERANCE = 1e-3
"""Of direction cosines: they are stored with few digits."""
STEP_TOLERANCE, STEP_TOLERANCE_MM = 0.05, 0.06
"""Of a slice distance, and in mm: positions are stored with few digits, some with one behind the point."""
TILT_DEG = 0.1


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


@dataclass(frozen=True, slots=True)
class Stack:
    """Slices in order.

    Attributes:
        slices: Foot to head along the normal of the first image plane, or whatever that normal means.
        affine: (4, 4) array index (slice, row, column, 1) -> LPS mm.
        positions: (N,) where the slices are, in steps of the affine; 0, 1, 2 ... when nothing is missing.
        notes: What was noticed.
    """

    slices: tuple[Slice, ...]
    affine: NDArray[np.float64]
    positions: NDArray[np.float64]
    notes: tuple[str, ...]


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
        if header is None or not header.get("Rows") or not header.get("Columns"):
            if header is not None and _is_cut(header):
                raise DataError(
                    "a DICOM file of the folder is damaged or cut short", where=str(path), fix="copy it again"
                )
            others += 1
            continue
        groups[str(header.get("SeriesInstanceUID", "")), _kind(header)].append(_slice(header, path))
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


def stack(series: Series, where: str, *, fill_gaps: bool) -> Stack:
    """Put the slices of a series in order and say where they are.

    Raises:
        DataError: Geometry missing or mixed, two slices in one place, slices missing, uneven or shifted sideways.
    """
    first = series.slices[0]
    for item in series.slices:
        _check_plane(item, first, where)
    slices, notes = _without_copies(series.slices)
    axes, spacing = _planes(first, where)
    normal = np.cross(axes[0], axes[1])
    slices = tuple(sorted(slices, key=lambda item: float(_position(item, where) @ normal)))
    positions = np.array([_position(item, where) for item in slices])
    depth = (positions - positions[0]) @ normal
    gaps = np.diff(depth)
    if gaps.size == 0 or gaps.min() < 1e-3:
        raise DataError(
            f"{int((gaps < 1e-3).sum()) + 1} slices of the series are in the same place: it holds several phases or "
            "reconstructions",
            where=where,
            fix="put each into a folder of its own",
        )
    steps, gap_notes = _steps(depth, where, fill_gaps)
    step = (positions[-1] - positions[0]) / steps[-1]
    aside = np.linalg.norm(positions - positions[0] - steps[:, None] * step, axis=1).max()
    if aside > max(0.5 * min(spacing), STEP_TOLERANCE * float(np.linalg.norm(step))):
        raise DataError(
            f"the slices of the series are shifted against each other, by up to {aside:.3g} mm",
            where=where,
            expected="slices along one straight line",
        )
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = step, axes[1] * spacing[0], axes[0] * spacing[1]
    affine[:3, 3] = positions[0]
    tilt = float(np.degrees(np.arccos(min(1.0, step @ normal / np.linalg.norm(step)))))
    if tilt > TILT_DEG:
        notes += (f"gantry tilt of {tilt:.1f} degrees: the grid is sheared, its affine is exact",)
    return Stack(slices, affine, steps, notes + gap_notes)


def _steps(
    depth: NDArray[np.float64], where: str, fill_gaps: bool
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return the positions of slices in units of one step, which is the usual distance."""
    gaps = np.diff(depth)
    usual = float(np.median(gaps))
    even = np.arange(len(depth), dtype=np.float64)
    mean = depth[-1] / even[-1]
    slack = max(STEP_TOLERANCE * usual, STEP_TOLERANCE_MM)
    if np.abs(depth - even * mean).max() <= slack:
        return even, ()
    whole = np.rint(gaps / usual)
    if whole.min() >= 1 and np.abs(gaps - whole * usual).max() <= 2 * slack:
        after = ", ".join(str(int(at) + 1) for at in np.nonzero(whole > 1)[0][:5])
        what = f"{int(whole.sum()) - len(gaps)} slices of the series are missing (after slice {after})"
        steps = np.concatenate([[0], np.cumsum(whole)])
    else:
        what = f"the slices of the series are {gaps.min():.3g} to {gaps.max():.3g} mm apart"
        steps = depth / usual
        # The last slice must be on the grid, too: masks are wanted up to it.
        steps *= max(1.0, np.rint(steps[-1])) / steps[-1]
    if not fill_gaps:
        raise DataError(
            what,
            where=where,
            expected="slices at equal distances",
            fix="copy the missing files, or read it with fill_gaps=True: values in between are interpolated",
        )
    return steps, (what + ": interpolated onto a regular grid",)


def _without_copies(slices: tuple[Slice, ...]) -> tuple[tuple[Slice, ...], tuple[str, ...]]:
    """Drop further files of the same instance: exports hold such copies."""
    unique = {item.instance or str(item.path): item for item in reversed(slices)}
    dropped = len(slices) - len(unique)
    return tuple(unique.values()), ((f"{dropped} copies of slices were left out",) if dropped else ())


def _check_plane(item: Slice, first: Slice, where: str) -> None:
    """Refuse slices that are not parallel, or of another size, than the first."""
    axes, spacing = _planes(item, where)
    first_axes, first_spacing = _planes(first, where)
    what = ""
    if item.size != first.size:
        what = "sizes"
    elif np.abs(axes - first_axes).max() > ANGLE_TOLERANCE:
        what = "orientations"
    elif not np.allclose(spacing, first_spacing, rtol=1e-3):
        what = "pixel sizes"
    if what:
        raise DataError(
            f"the slices of the series have different {what}",
            where=where,
            expected="one stack of parallel slices",
            fix="put each stack into a folder of its own",
        )


def _planes(item: Slice, where: str) -> tuple[NDArray[np.float64], tuple[float, float]]:
    """Return orientation and pixel size of a slice."""
    if item.axes is None or item.spacing_mm is None:
        raise _unplaced(where)
    return item.axes, item.spacing_mm


def _position(item: Slice, where: str) -> NDArray[np.float64]:
    if item.position is None:
        raise _unplaced(where)
    return item.position


def _unplaced(where: str) -> DataError:
    return DataError(
        "a slice of the series does not say where it is (position, orientation or pixel size)",
        where=where,
        fix="export the series again",
    )


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
    except (TypeError, ValueError):
        return None
    return values if values.shape == (count,) and np.isfinite(values).all() else None
