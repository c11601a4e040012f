"""Where in a CT the patient is: answers about a patient do not lie in the air and the couch around."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from glint.io.volume import Volume
from glint.io.volume_steps import BODY_HU

Inside = NDArray[np.bool_]


def without_surroundings(scan: Volume) -> Volume:
    """Return a laid-out scan whose voxels outside of the body are not valid; their values stay.

    The body is the largest connected part above -500 HU, and what lies between two of its voxels in the same slice
    along rows or columns: the lungs, also where the field of view cuts the chest wall off at one side. Slices that
    cut the body off at two sides or more lie within the patient and stay whole.

    Args:
        scan: Canonical: slices are axial.
    """
    dense = scan.hu > BODY_HU
    if scan.valid is not None:
        dense &= scan.valid
    labels, count = ndimage.label(dense)
    if count == 0:
        return scan
    body = labels == int(np.bincount(labels.ravel())[1:].argmax()) + 1
    # Twice, since a wall that the field of view cut off is missing along one axis only.
    inside = _between(_between(body, 1), 2) | _between(_between(body, 2), 1)
    edges = (body[:, 0], body[:, -1], body[:, :, 0], body[:, :, -1])
    inside[np.sum([edge.any(axis=1) for edge in edges], axis=0) >= 2] = True
    return replace(scan, valid=inside if scan.valid is None else inside & scan.valid)


def _between(mask: Inside, axis: int) -> Inside:
    """Fill from the first to the last voxel of each line along an axis."""
    seen: Inside = np.logical_or.accumulate(mask, axis)
    seen_from_behind: Inside = np.flip(np.logical_or.accumulate(np.flip(mask, axis), axis), axis)
    return seen & seen_from_behind
