"""Where in a CT the patient is: answers about a patient do not lie in the air and the couch around."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from glint.io.volume import Volume
from glint.io.volume_steps import BODY_HU, largest_part

Inside = NDArray[np.bool_]

THIN_MM = 15.0
"""Thinner than this are couches; chest walls are thicker nearly everywhere, and one gap in them does no harm."""


def without_surroundings(scan: Volume) -> Volume:
    """Return a laid-out scan whose voxels outside of the body are not valid; their values stay.

    The body is the largest connected part above -500 HU without what is thin in its slice (the top of a couch that
    the patient touches), and what lies between two of its voxels in the same slice along rows or columns: the lungs,
    also where the field of view cuts the chest wall off at one side, or at left and right. Slices that cut the body
    off at front and back lie within the patient and stay whole.

    Args:
        scan: Canonical: slices are axial.
    """
    dense = scan.hu > BODY_HU
    if scan.valid is not None:
        dense &= scan.valid
    _, y_mm, x_mm = scan.grid.spacing_mm
    size = (1, _odd(THIN_MM / y_mm), _odd(THIN_MM / x_mm))
    # An opening; these filters work axis by axis, which counts where voxels are small.
    core = ndimage.minimum_filter(dense.view(np.uint8), size, mode="constant")
    body = largest_part(ndimage.maximum_filter(core, size, mode="constant"))
    if body is None:
        return scan
    # Twice, since a wall that the field of view cut off is missing along one axis only.
    inside = _between(_between(body, 1), 2) | _between(_between(body, 2), 1)
    inside[body[:, 0].any(axis=1) & body[:, -1].any(axis=1)] = True
    return replace(scan, valid=inside if scan.valid is None else inside & scan.valid)


def _odd(length: float) -> int:
    """Return the odd number nearest to a length in voxels."""
    return 2 * round((length - 1) / 2) + 1


def _between(mask: Inside, axis: int) -> Inside:
    """Fill from the first to the last voxel of each line along an axis."""
    seen: Inside = np.logical_or.accumulate(mask, axis)
    seen_from_behind: Inside = np.flip(np.logical_or.accumulate(np.flip(mask, axis), axis), axis)
    return seen & seen_from_behind
