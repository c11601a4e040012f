"""Which side of the patient: the midline of a scan, and a channel that tells every voxel how far it lies from it.

A patch that sees a few centimetres of lung cannot know whether it is the left or the right one, and reports say so.
"""

from typing import cast

import numpy as np
from numpy.typing import NDArray

from glint.io.volume import Volume
from glint.io.volume_steps import BODY_HU
from glint.io.voxel_grid import VoxelGrid

CUT_OFF = 0.3
"""A border column of the scan with so much body, compared with the fullest, cuts the patient off."""
WHOLE_MM = 250.0
"""Narrower scans do not show both sides of the chest: their middle says nothing about the patient's."""
FAR_MM = 280.0
"""A scan that reaches so far from x = 0 is in a frame whose origin is not the isocentre of a scanner."""
SIDE_MM = 200.0
"""Distance from the midline at which the side channel ends, as 0 (right) and 1 (left)."""


def midline(scan: Volume) -> float | None:
    """Return LPS x of the patient's midline, or None when the scan cuts the patient off at one side.

    It is the median, over slices, of the middle between the body's outermost voxels at both sides.

    Args:
        scan: As laid out: canonical, so that columns run from the patient's right to the left.
    """
    body = scan.hu > BODY_HU
    if scan.valid is not None:
        body &= scan.valid
    columns = body.sum(axis=(0, 1))
    inner = np.flatnonzero(columns)
    if not len(inner):
        return None
    content = columns[inner[0] : inner[-1] + 1]
    full = CUT_OFF * float(columns.max())
    if (content[0] > full) != (content[-1] > full):
        return None
    across = cast("NDArray[np.bool_]", body.any(axis=1))
    rows = np.flatnonzero(across.any(axis=1))
    first = across[rows].argmax(axis=1)
    last = across.shape[1] - 1 - across[rows, ::-1].argmax(axis=1)
    return float(columns_mm(scan.grid, np.array([np.median((first + last) / 2)]))[0])


def assumed_midline(scan: Volume) -> float:
    """Return LPS x of the midline, whatever the scan shows.

    Measured where both sides of the chest are there; else the isocentre of the scanner, x = 0, in the middle of which
    patients lie; else, in frames whose origin is a corner, the middle of the scan.
    """
    ends = columns_mm(scan.grid, np.array([-0.5, scan.grid.shape[2] - 0.5]))
    measured = midline(scan) if np.ptp(ends) >= WHOLE_MM else None
    if measured is not None:
        return measured
    return 0.0 if np.abs(ends).max() <= FAR_MM else float(ends.mean())


def columns_mm(grid: VoxelGrid, columns: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return LPS x of columns (by index, fractions allowed) in the middle of a canonical grid."""
    z, y, _ = (side / 2 for side in grid.shape)
    index = np.stack([np.full(len(columns), z), np.full(len(columns), y), columns], axis=1)
    return grid.to_lps(index)[:, 0]


def with_side(pixels: NDArray[np.float32], apart_mm: NDArray[np.float64]) -> NDArray[np.float32]:
    """Append the side channel to (..., C, Z, Y, X) for the distances (..., X) of the columns from the midline."""
    *lead, _, z, y, x = pixels.shape
    side = np.broadcast_to(side_channel(apart_mm)[..., None, None, None, :], (*lead, 1, z, y, x))
    return np.concatenate([pixels, side], axis=-4)


def side_channel(apart_mm: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return [0, 1] for distances from the midline, left positive: 0.5 on it."""
    return np.clip(apart_mm / (2 * SIDE_MM) + 0.5, 0, 1).astype(np.float32)
