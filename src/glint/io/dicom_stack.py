"""In which order the slices of a DICOM series are, and where.

Order, distances and tilt come from ImagePositionPatient and ImageOrientationPatient alone: file names, instance
numbers, slice thickness and the tag of the gantry tilt are often wrong. A series without clear geometry is refused.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glint.errors import DataError
from glint.io.dicom_series import Series, Slice

ANGLE_TOLERANCE = 1e-3
"""Of direction cosines: they are stored with few digits."""
STEP_TOLERANCE, STEP_TOLERANCE_MM = 0.05, 0.06
"""Of a slice distance, and in mm: positions are stored with few digits, some with one behind the point."""
TILT_DEG = 0.1


@dataclass(frozen=True, slots=True)
class Stack:
    """Slices in order.

    Attributes:
        slices: In order along the normal of the image plane (row direction x column direction).
        affine: (4, 4) array index (slice, row, column, 1) -> LPS mm.
        positions: (N,) where the slices are, in steps of the affine; 0, 1, 2 ... when nothing is missing.
        notes: What was noticed.
    """

    slices: tuple[Slice, ...]
    affine: NDArray[np.float64]
    positions: NDArray[np.float64]
    notes: tuple[str, ...]


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
            f"{int((gaps < 1e-3).sum())} of {len(slices)} slices of the series are where another one is: it holds "
            "several phases or reconstructions",
            where=where,
            fix="put each into a folder of its own",
        )
    steps, gap_notes = _steps(depth, where, fill_gaps)
    origin, step = _line(steps, positions)
    aside = np.linalg.norm(positions - origin - steps[:, None] * step, axis=1).max()
    if aside > max(0.5 * min(spacing), STEP_TOLERANCE * float(np.linalg.norm(step))):
        raise DataError(
            f"the slices of the series are shifted against each other, by up to {aside:.3g} mm",
            where=where,
            expected="slices along one straight line",
        )
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = step, axes[1] * spacing[0], axes[0] * spacing[1]
    affine[:3, 3] = origin
    tilt = float(np.degrees(np.arccos(min(1.0, step @ normal / np.linalg.norm(step)))))
    if tilt > TILT_DEG:
        notes += (f"gantry tilt of {tilt:.1f} degrees: the grid is sheared, its affine is exact",)
    return Stack(slices, affine, steps, notes + gap_notes)


def _line(
    steps: NDArray[np.float64], positions: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return origin and step of the line through all positions: a fit is closer than two rounded ends."""
    centred = steps - steps.mean()
    step = centred @ (positions - positions.mean(axis=0)) / (centred @ centred)
    return positions.mean(axis=0) - steps.mean() * step, step


def _steps(
    depth: NDArray[np.float64], where: str, fill_gaps: bool
) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """Return where slices are, in units of one step: the usual distance.

    Args:
        depth: (N,) growing positions along the normal, mm.
        where: Folder, for messages.
        fill_gaps: Accept missing slices and uneven distances.
    """
    gaps = np.diff(depth)
    usual = float(np.median(gaps))
    even = np.arange(len(depth), dtype=np.float64)
    origin, step = _line(even, depth)
    slack = max(STEP_TOLERANCE * usual, STEP_TOLERANCE_MM)
    if np.abs(depth - origin - even * step).max() <= slack:
        return even, ()
    whole = np.rint(gaps / usual)
    if 1 == whole.min() < whole.max() and np.abs(gaps - whole * usual).max() <= 2 * slack:
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
    unique = {(item.instance or item.source.shown, item.frame): item for item in reversed(slices)}
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
