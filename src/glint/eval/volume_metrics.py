"""Metrics of volumes: how maps rank voxels, and which parts of a mask are the right ones.

Parts are compared after ReXGroundingCT: one true part a finding, one predicted part a connected component of at least
MIN_ML, matched one to one.

    instance: a match counts when its Dice is at least 0.2
    distance: a match counts when parts lie at most twice the longest edge of a voxel apart: their centroids for focal
        kinds, their surfaces on average (ASSD) for the others

precision = matches / predicted, recall = matches / true, F1 their harmonic mean; no prediction: 0.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from glint.eval.subject import Mask
from glint.infer.places import TOUCHING, voxel_ml
from glint.io.voxel_grid import VoxelGrid

Array = NDArray[np.float64]
BINS = 4096
MIN_ML = 0.05
INSTANCE_DICE = 0.2
DISTANCE_EDGES = 2.0
FOCAL = frozenset(
    {
        "nodule",
        "mass",
        "hilar_lymphadenopathy",
        "mediastinal_lymphadenopathy",
        "coronary_calcification",
        "aortic_calcification",
    }
)


def average_precision(values: NDArray[np.float32], mask: Mask) -> float:
    """Return the area under precision and recall of voxels, ranked by their map in [0, 1] in 4,096 steps."""
    bins = np.minimum((values.ravel() * BINS).astype(np.int64), BINS - 1)
    every = np.bincount(bins, minlength=BINS)[::-1].cumsum().astype(np.float64)
    true = np.bincount(bins[mask.ravel()], minlength=BINS)[::-1].cumsum().astype(np.float64)
    precision = np.divide(true, every, out=np.zeros_like(true), where=every > 0)
    return float((np.diff(true, prepend=0.0) * precision).sum() / true[-1])


def parts_found(predicted: Mask, truths: Sequence[Mask], grid: VoxelGrid, kind: str) -> dict[str, float]:
    """Compare the parts of a predicted mask with true ones.

    Args:
        predicted: (Z, Y, X).
        truths: One mask a finding, not empty.
        grid: Where the voxels are.
        kind: Decides which distance counts.
    """
    labels, count = ndimage.label(predicted, structure=TOUCHING)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)[1:].astype(np.float64)
    kept = np.flatnonzero(sizes * voxel_ml(grid) >= MIN_ML)
    truths = [truth for truth in truths if truth.any()]
    shared = np.array(
        [np.bincount(labels[t], minlength=count + 1)[1:][kept] for t in truths], dtype=np.float64
    )
    dice = 2 * shared / (sizes[kept] + np.array([[t.sum()] for t in truths]))
    reach = DISTANCE_EDGES * max(grid.spacing_mm)
    apart = _apart(labels, kept, truths, shared, grid, kind in FOCAL)
    return {
        **_rates("instance", dice, dice >= INSTANCE_DICE),
        **_rates("distance", -apart, apart <= reach),
    }


def _rates(name: str, merit: Array, counts: Mask) -> dict[str, float]:
    """Match (true, predicted) pairs one to one, as many as count, then by their merit."""
    true, predicted = merit.shape
    ranked = np.where(counts, 1e6 + merit, 0.0)
    rows, columns = linear_sum_assignment(ranked, maximize=True)
    matches = float(counts[rows, columns].sum())
    precision, recall = matches / predicted if predicted else 0.0, matches / true
    both = precision + recall
    return {
        f"{name}_precision": precision,
        f"{name}_recall": recall,
        f"{name}_f1": 2 * precision * recall / both if both else 0.0,
    }


def _apart(
    labels: NDArray[np.int32],
    kept: NDArray[np.int64],
    truths: Sequence[Mask],
    shared: Array,
    grid: VoxelGrid,
    focal: bool,
) -> Array:
    """Return (true, predicted) distances in mm; infinite for surfaces of parts that share no voxel."""
    apart = np.full(shared.shape, np.inf)
    if not apart.size:
        return apart
    if focal:
        ends = np.array(ndimage.center_of_mass(labels > 0, labels, kept + 1))
        starts = np.array([ndimage.center_of_mass(truth) for truth in truths])
        return np.linalg.norm(grid.to_lps(starts)[:, None] - grid.to_lps(ends)[None], axis=-1)
    for t, p in np.argwhere(shared > 0):
        apart[t, p] = surface_distance(truths[t], labels == kept[p] + 1, grid.spacing_mm)
    return apart


def surface_distance(first: Mask, second: Mask, spacing_mm: tuple[float, float, float]) -> float:
    """Return the average symmetric surface distance of two masks that are not empty, in mm."""
    (box,) = ndimage.find_objects((first | second).astype(np.uint8))
    edges = [part & ~ndimage.binary_erosion(part) for part in (np.pad(m[box], 1) for m in (first, second))]
    away = [ndimage.distance_transform_edt(~edge, sampling=spacing_mm) for edge in edges]
    both = [*away[1][edges[0]].tolist(), *away[0][edges[1]].tolist()]
    return float(np.mean(both))
