"""Values from one voxel grid to another: exact where grids share their voxels, else trilinear, antialiased.

Grids with parallel axes (any crop, padding, turn, change of spacing, patches of an encoder) are done axis by axis with
small matrices of weights: exact, fast, and no larger than what goes in and out. Others are sampled point by point.
When an axis shrinks, the triangle of linear interpolation grows as wide as the new voxels: that is the antialiasing.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from glint.io.voxel_grid import VoxelGrid

Floats = NDArray[np.float32]

SNAP = 1e-4
"""Positions so close to a voxel centre, in voxels, are that centre: rounding of affines is no interpolation."""


def regrid(values: NDArray[np.generic], source: VoxelGrid, target: VoxelGrid, *, fill: float) -> Floats:
    """Bring values from one grid to another through patient space.

    Args:
        values: (Z, Y, X) on `source`, finite.
        source: Where the values are.
        target: Where they are wanted.
        fill: For voxels whose centre lies outside of all voxels of `source`. NaN is fine.

    Returns:
        `target.shape` float32. Within half a voxel of its border, `source` goes on with its outermost values.
    """
    matrix = source.steps_from(target)
    linear, offset = matrix[:3, :3], matrix[:3, 3]
    axes = _parallel(linear, target.shape)
    values = np.asarray(values, dtype=np.float32)
    if axes is None:
        return _sampled(values, linear, offset, target.shape, fill)
    values = values.transpose(axes)
    positions = [linear[a, b] * np.arange(target.shape[b]) + offset[a] for b, a in enumerate(axes)]
    widths = [abs(float(linear[a, b])) for b, a in enumerate(axes)]
    outside = [_outside(positions[b], values.shape[b]) for b in range(3)]
    # What shrinks most goes first: all that follows is smaller.
    for b in sorted(range(3), key=lambda b: target.shape[b] / values.shape[b]):
        values = _along(values, b, positions[b], widths[b])
    values = np.array(values, dtype=np.float32, order="C")
    for b, beyond in enumerate(outside):
        values[(slice(None),) * b + (beyond,)] = fill
    return values


def _parallel(linear: NDArray[np.float64], shape: tuple[int, int, int]) -> tuple[int, int, int] | None:
    """Return the source axis along which each target axis runs, or None for oblique grids."""
    sizes = np.abs(linear)
    z, y, x = (int(a) for a in sizes.argmax(axis=0))
    if sorted((z, y, x)) != [0, 1, 2]:
        return None
    drift = sizes * np.array(shape)  # over the whole length of a target axis, in source voxels
    drift[(z, y, x), (0, 1, 2)] = 0
    return (z, y, x) if drift.max() < 1e-3 else None


def _outside(positions: NDArray[np.float64], count: int) -> NDArray[np.bool_]:
    return (positions < -0.5 - SNAP) | (positions > count - 0.5 + SNAP)


def _along(values: Floats, axis: int, positions: NDArray[np.float64], width: float) -> Floats:
    """Interpolate one axis at fractional positions; `width` is the distance of positions."""
    count = values.shape[axis]
    whole = np.rint(positions)
    if width < 1 + SNAP and (np.abs(positions - whole) < SNAP).all():
        return values.take(np.clip(whole, 0, count - 1).astype(np.intp), axis=axis)
    weights = _weights(positions, count, width)
    if axis == 2:
        return values @ weights.T
    if axis == 1:
        return np.matmul(weights, values)
    z, y, x = values.shape
    return (weights @ values.reshape(z, y * x)).reshape(-1, y, x)


def _weights(positions: NDArray[np.float64], count: int, width: float) -> Floats:
    """Return (N, count): triangles at the positions, each row with sum 1, the border continued."""
    centres = np.clip(positions, 0, count - 1)[:, None]
    weights = np.clip(1 - np.abs(centres - np.arange(count)) / max(width, 1.0), 0, None)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def _sampled(
    values: Floats,
    linear: NDArray[np.float64],
    offset: NDArray[np.float64],
    shape: tuple[int, int, int],
    fill: float,
) -> Floats:
    """Interpolate point by point on an oblique grid."""
    for axis, width in enumerate(np.linalg.norm(linear, axis=1)):
        if width > 1 + SNAP:
            values = _along(values, axis, np.arange(values.shape[axis], dtype=np.float64), float(width))
    sampled = ndimage.affine_transform(
        values, linear, offset, output_shape=shape, output=np.float32, order=1, mode="nearest"
    )
    y, x = np.arange(shape[1])[:, None], np.arange(shape[2])
    for z, plane in enumerate(sampled):
        for a in range(3):
            position = linear[a, 0] * z + linear[a, 1] * y + linear[a, 2] * x + offset[a]
            plane[_outside(position, values.shape[a])] = fill
    return sampled
