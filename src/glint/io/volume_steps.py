"""What is done to a volume before a model sees it; every step is kept in the volume's chain and can be undone."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from glint.errors import DataError
from glint.io.grid_chain import PADDED
from glint.io.hounsfield import AIR_HU
from glint.io.regrid import regrid
from glint.io.volume import Volume
from glint.io.voxel_grid import CANONICAL, Lengths, Triple, VoxelGrid

BODY_HU = -500.0
BODY_STEP_MM = 4.0
"""The body is searched for on so coarse a grid: its surface is wanted to a centimetre."""


def to_canonical(volume: Volume, orientation: str = CANONICAL) -> Volume:
    """Reorder and reverse axes; every voxel keeps its value and its place in the patient.

    Args:
        volume: Any orientation, oblique and left-handed ones included; an oblique affine stays oblique.
        orientation: Three letters in array order (see voxel_grid.py).

    Raises:
        UsageError: No orientation.
    """
    grid, axes, backwards = volume.grid.turned(orientation)
    hu = np.ascontiguousarray(np.flip(volume.hu.transpose(axes), backwards))
    valid = volume.valid
    if valid is not None:
        valid = np.ascontiguousarray(np.flip(valid.transpose(axes), backwards))
    return _step(volume, f"turned to {orientation}", hu, valid, grid)


def resample(volume: Volume, spacing_mm: Lengths) -> Volume:
    """Change the spacing along the volume's own axes: trilinear, antialiased where it grows.

    Args:
        volume: Any.
        spacing_mm: (z, y, x) of the result, exactly. The centre of the volume stays; less than a voxel of air is
            added where the spacing does not divide its length.
    """
    return _onto(volume, "resampled", volume.grid.spaced(spacing_mm))


def straighten(volume: Volume, spacing_mm: Lengths) -> Volume:
    """Resample an oblique or sheared volume to axes along the patient's, in canonical order.

    Args:
        volume: Any.
        spacing_mm: (z, y, x) of the result. The new box holds all of the old one; its corners are filled with air
            and not valid.
    """
    return _onto(volume, "straightened", volume.grid.straightened(spacing_mm))


def crop_to_body(volume: Volume, margin_mm: float = 10.0) -> Volume:
    """Cut away the air around the body: the box of the largest connected part above -500 HU, with a margin.

    Args:
        volume: Any orientation.
        margin_mm: Kept around the box where the volume has it.

    Raises:
        DataError: Nothing is above -500 HU.
    """
    step = [max(1, round(BODY_STEP_MM / length)) for length in volume.spacing_mm]
    coarse = volume.hu[:: step[0], :: step[1], :: step[2]] > BODY_HU
    body = largest_part(coarse)
    if body is None:
        raise DataError("the volume shows nothing but air", where=str(volume.provenance.source))
    box = ndimage.find_objects(body.view(np.uint8))[0]
    start, stop = [0, 0, 0], [0, 0, 0]
    for a in range(3):
        margin = margin_mm / volume.spacing_mm[a] + step[a]
        start[a] = max(0, int(box[a].start * step[a] - margin))
        stop[a] = min(volume.grid.shape[a], int(np.ceil((box[a].stop - 1) * step[a] + margin)) + 1)
    shape = (stop[0] - start[0], stop[1] - start[1], stop[2] - start[2])
    return _box(volume, "cropped to the body", (start[0], start[1], start[2]), shape)


def largest_part(mask: NDArray[np.generic]) -> NDArray[np.bool_] | None:
    """Return the largest connected part of a mask, or None when it is empty."""
    labels, count = ndimage.label(mask)
    if count == 0:
        return None
    part: NDArray[np.bool_] = labels == int(np.bincount(labels.ravel())[1:].argmax()) + 1
    return part


def pad_to_multiple(volume: Volume, multiple: Triple) -> Volume:
    """Put air around a volume until each side is a multiple, e.g. of what an encoder asks for; as much on each end.

    Args:
        volume: Any.
        multiple: (z, y, x).
    """
    sides = np.array(volume.grid.shape)
    missing = -sides % np.array(multiple)
    if not missing.any():
        return volume
    z, y, x = (int(side) for side in sides + missing)
    start = (-int(missing[0] // 2), -int(missing[1] // 2), -int(missing[2] // 2))
    return _box(volume, PADDED, start, (z, y, x))


def _onto(volume: Volume, name: str, grid: VoxelGrid) -> Volume:
    """Bring values and validity onto another grid."""
    hu = regrid(volume.hu, volume.grid, grid, fill=np.nan)
    valid = ~np.isnan(hu)
    if volume.valid is not None:
        valid &= regrid(volume.valid, volume.grid, grid, fill=0) >= 0.5
    hu[np.isnan(hu)] = AIR_HU
    return _step(volume, name, hu, None if valid.all() else valid, grid)


def _box(volume: Volume, name: str, start: Triple, shape: Triple) -> Volume:
    """Cut a box out; what it has beyond the volume becomes air that is not valid."""
    grid = volume.grid.box(start, shape)
    inside, source = _overlap(volume.grid.shape, start, shape)
    if all(part == slice(0, side) for part, side in zip(inside, shape, strict=True)):
        hu = np.ascontiguousarray(volume.hu[source])
        valid = None if volume.valid is None else np.ascontiguousarray(volume.valid[source])
        return _step(volume, name, hu, valid, grid)
    hu = np.full(shape, AIR_HU, dtype=np.float32)
    hu[inside] = volume.hu[source]
    valid = np.zeros(shape, dtype=bool)
    valid[inside] = True if volume.valid is None else volume.valid[source]
    return _step(volume, name, hu, valid, grid)


def _overlap(old: Triple, start: Triple, shape: Triple) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
    """Return the common part of a volume and a box, in indices of the box and of the volume."""
    low = [max(0, -s) for s in start]
    high = [min(n, side - s) for n, side, s in zip(shape, old, start, strict=True)]
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    source = tuple(slice(a + s, b + s) for a, b, s in zip(low, high, start, strict=True))
    return inside, source


def _step(
    volume: Volume, name: str, hu: NDArray[np.float32], valid: NDArray[np.bool_] | None, grid: VoxelGrid
) -> Volume:
    return replace(volume, hu=hu, valid=valid, chain=volume.chain.then(name, grid))
