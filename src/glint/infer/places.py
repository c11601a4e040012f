"""From maps of a scan to points, masks, boxes and sides in the patient.

Maps lie on cells that cover the laid-out scan: patches, or its voxels after refinement. A mask lies on the voxels of
the scan as it was read. To find it, only the voxels near cells above the threshold are looked at: linear interpolation
never exceeds the cells around a voxel, so this is exact, and small masks cost little whatever the size of the scan.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage

from glint.io.grid_chain import GridChain
from glint.io.packed_mask import PackedMask
from glint.io.voxel_grid import Triple, VoxelGrid

Floats = NDArray[np.float32]
Point = tuple[float, float, float]
Box = tuple[float, float, float, float, float, float]
Laterality = Literal["left", "right", "bilateral", "midline"]

SMOOTHING_TOKENS = 0.5
"""As in 2D: one stray patch shall not win against an area."""
FINE = 8
"""Steps of a patch in which the peak is looked for."""
ONE_SIDE = 0.85
"""Share of a mask on one side from which on it is called after that side."""
MIDLINE_MM, MIDLINE_SHARE = 30.0, 0.4
"""What has so much of itself so near to the midline is midline, not bilateral."""
ENOUGH_VOXELS = 1e6
TOUCHING = np.ones((3, 3, 3), dtype=bool)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a mask is in the patient; all None when it is empty.

    Attributes:
        volume_ml: Volume.
        centroid_lps_mm: Centre of mass.
        box_lps_mm: [x0, y0, z0, x1, y1, z1] of the part with the point in it, else of the largest part; along the
            patient's axes, outer edges of voxels.
        laterality: See `side_of`.
    """

    volume_ml: float = 0.0
    centroid_lps_mm: Point | None = None
    box_lps_mm: Box | None = None
    laterality: Laterality | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A mask.

    Attributes:
        mask: On the voxels of the scan.
        parts_ml: Volumes of its parts, largest first.
        ends: First and last voxel, along each axis, of the part with the point in it, else of the largest part; empty
            without a mask.
    """

    mask: PackedMask
    parts_ml: tuple[float, ...]
    ends: tuple[tuple[int, int], ...]


def smoothed(evidence: Floats) -> Floats:
    """Return evidence (..., Zp, Yp, Xp) of which one stray patch does not win against an area."""
    sigma = [0.0] * (evidence.ndim - 3) + [SMOOTHING_TOKENS] * 3
    return ndimage.gaussian_filter(evidence, sigma, mode="nearest")


def peak_voxel(smooth: Floats, tokens: VoxelGrid, native: VoxelGrid) -> Triple:
    """Return the voxel (z, y, x) of the scan where `smoothed` evidence (Zp, Yp, Xp) is highest."""
    centre = np.unravel_index(int(smooth.argmax()), smooth.shape)
    # A patch is large: the peak between patches is found on a finer grid around the best one.
    low = [max(0, int(c) - 2) for c in centre]
    high = [min(side, int(c) + 3) for c, side in zip(centre, smooth.shape, strict=True)]
    part = smooth[low[0] : high[0], low[1] : high[1], low[2] : high[2]]
    steps = [(n - 1) * FINE + 1 for n in part.shape]
    batch = torch.from_numpy(part)[None, None]
    fine = F.interpolate(batch, steps, mode="trilinear", align_corners=True)[0, 0].numpy()
    fine = ndimage.gaussian_filter(fine, SMOOTHING_TOKENS * FINE, mode="nearest")
    best = np.array(np.unravel_index(int(fine.argmax()), fine.shape)) / FINE + low
    z, y, x = np.rint(native.to_index(tokens.to_lps(best[None]))[0]).astype(int)
    sides = native.shape
    return (
        int(min(max(z, 0), sides[0] - 1)),
        int(min(max(y, 0), sides[1] - 1)),
        int(min(max(x, 0), sides[2] - 1)),
    )


def mask_above(values: Floats, chain: GridChain, threshold: float, min_ml: float, point: Triple) -> Found:
    """Return the mask map > threshold on the voxels of the scan, without its parts below a volume.

    Args:
        values: (Zp, Yp, Xp) cells that cover the laid-out scan.
        chain: Of the laid-out scan.
        threshold: See above.
        min_ml: Parts (voxels that touch, corners included) smaller than this are dropped.
        point: Voxel (z, y, x) that the answer points at.
    """
    native = chain.native
    box = _box_above(values, chain, threshold)
    if box is None:
        return _nothing(native.shape)
    start = box[0]
    mask = chain.to_native(values, box=box) > threshold
    labels, count = ndimage.label(mask, structure=TOUCHING)
    of_voxels = labels[mask]
    volumes = np.bincount(of_voxels, minlength=count + 1)[1:] * voxel_ml(native)
    kept = volumes >= min_ml
    if not kept.any():
        return _nothing(native.shape)
    if not kept.all():
        mask[mask] = np.concatenate([[False], kept])[of_voxels]
    inner = tuple(p - s for p, s in zip(point, start, strict=True))
    inside = all(0 <= i < n for i, n in zip(inner, mask.shape, strict=True)) and bool(mask[inner])
    chosen = int(labels[inner]) if inside else int(volumes.argmax()) + 1
    ends = [(low + s, high + s) for (low, high), s in zip(_ends(labels == chosen), start, strict=True)]
    parts = tuple(sorted(volumes[kept].tolist(), reverse=True))
    return Found(PackedMask.of(mask, start, native.shape), parts, tuple(ends))


def place(found: Found, native: VoxelGrid, midline_mm: float | None) -> Place:
    """Describe a mask.

    Args:
        found: The mask.
        native: The grid of the scan.
        midline_mm: LPS x of the patient's midline; None when the scan does not tell.
    """
    mask = found.mask
    if not found.ends:
        return Place()
    part = mask.box()
    start = np.array(mask.start)
    counts = [part.sum(axis=axes, dtype=np.int64) for axes in ((1, 2), (0, 2), (0, 1))]
    size = int(counts[0].sum())
    centre = [float((np.arange(len(c)) * c).sum()) / size for c in counts]
    return Place(
        size * voxel_ml(native),
        _point(native.to_lps((np.array(centre) + start)[None])[0]),
        _box_around(found.ends, native),
        None if midline_mm is None else side_of(part, mask.start, native, midline_mm),
    )


def side_of(part: NDArray[np.bool_], start: Triple, native: VoxelGrid, midline_mm: float) -> Laterality:
    """Say on which side of the patient's midline a mask lies.

    left, right: at least 85 % of its volume is on that side. Else midline, when at least 40 % of its volume is within
    30 mm of the midline (heart, aorta, spine), or bilateral (both lungs).
    """
    lps_x = native.affine[0]
    # Shares of a large mask do not need all of its voxels.
    step = max(1, round((float(part.sum()) / ENOUGH_VOXELS) ** (1 / 3)))
    z, y, x = (lps_x[a] * (np.arange(0, n, step) + start[a]) for a, n in enumerate(part.shape))
    apart = (z[:, None, None] + y[:, None] + x + (lps_x[3] - midline_mm))[part[::step, ::step, ::step]]
    left = float((apart > 0).mean())
    if left >= ONE_SIDE:
        return "left"
    if left <= 1 - ONE_SIDE:
        return "right"
    return "midline" if float((np.abs(apart) < MIDLINE_MM).mean()) >= MIDLINE_SHARE else "bilateral"


def voxel_ml(grid: VoxelGrid) -> float:
    """Return the volume of a voxel in ml."""
    return abs(float(np.linalg.det(grid.affine[:3, :3]))) / 1000


def _box_above(values: Floats, chain: GridChain, threshold: float) -> tuple[Triple, Triple] | None:
    """Return first voxel and shape of a box of the scan outside of which the map is not above the threshold."""
    above = values > threshold
    if not above.any():
        return None
    z, y, x = values.shape
    cells = chain.current.divided((z, y, x))
    # The values of a cell reach to the centres of its neighbours.
    edges = [(low - 1.0, high + 1.0) for low, high in _ends(above)]
    corners = np.stack(np.meshgrid(*edges, indexing="ij"), axis=-1).reshape(8, 3)
    found = chain.native.to_index(cells.to_lps(corners))
    low = np.clip(np.floor(found.min(axis=0)), 0, None).astype(int)
    high = np.minimum(np.ceil(found.max(axis=0)).astype(int) + 1, chain.native.shape)
    if (high <= low).any():
        return None
    size = high - low
    return (int(low[0]), int(low[1]), int(low[2])), (int(size[0]), int(size[1]), int(size[2]))


def _box_around(ends: tuple[tuple[int, int], ...], native: VoxelGrid) -> Box:
    """Return the box along the patient's axes around a box of voxels."""
    edges = [(low - 0.5, high + 0.5) for low, high in ends]
    corners = native.to_lps(np.stack(np.meshgrid(*edges, indexing="ij"), axis=-1).reshape(8, 3))
    x0, y0, z0 = corners.min(axis=0).tolist()
    x1, y1, z1 = corners.max(axis=0).tolist()
    return x0, y0, z0, x1, y1, z1


def _ends(mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the first and last index, along each axis, of a mask that is not empty."""
    found = [np.flatnonzero(mask.any(axis)) for axis in ((1, 2), (0, 2), (0, 1))]
    return [(int(each[0]), int(each[-1])) for each in found]


def _nothing(shape: Triple) -> Found:
    return Found(PackedMask.of(np.zeros((1, 1, 1), dtype=bool), (0, 0, 0), shape), (), ())


def _point(lps: NDArray[np.float64]) -> Point:
    x, y, z = lps.tolist()
    return x, y, z
