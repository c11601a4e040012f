"""How well one map answers one query: overlap with the true mask at every threshold, and where its peak lies.

Pure functions of arrays on the native pixels (Y, X) or voxels (Z, Y, X). A pixel belongs to the prediction when
map > threshold.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.float32]
Mask = NDArray[np.bool_]
Curve = NDArray[np.float64]

THRESHOLDS: Curve = np.arange(1, 100) / 100
"""0.01 to 0.99; index of a threshold t is round(100 t) - 1."""
FIXED = 49
"""Index of the fixed threshold 0.5."""
BIOVIL = (9, 19, 29, 39, 49)
"""Indices of 0.1 to 0.5, over which BioViL's mIoU is averaged."""


@dataclass(frozen=True, slots=True)
class Overlap:
    """Dice and IoU of a map with a mask at every threshold of THRESHOLDS, (T,) each."""

    dice: Curve
    iou: Curve


def overlap(values: Map, mask: Mask) -> Overlap:
    """Return Dice and IoU at all thresholds at once, from two histograms; NaN where both are empty.

    Args:
        values: Map in [0, 1].
        mask: Truth on the same pixels.
    """
    predicted, hit = areas(values), areas(values[mask])
    total = float(mask.sum())
    both, union = predicted + total, predicted + total - hit
    empty = both == 0
    dice = np.divide(2 * hit, both, out=np.full_like(both, np.nan), where=~empty)
    iou = np.divide(hit, union, out=np.full_like(union, np.nan), where=~empty)
    return Overlap(dice, iou)


def areas(values: NDArray[np.float32]) -> Curve:
    """Return (T,) how many values exceed each threshold."""
    # value > k/100  <=>  ceil(100 value) > k: one pass instead of one comparison a threshold.
    bins = np.ceil(values.ravel() * np.float32(100)).astype(np.int64).clip(0, 100)
    counts = np.bincount(bins, minlength=101)
    return counts[::-1].cumsum()[::-1][2:].astype(np.float64)


def normalised(values: Map) -> Map:
    """Return a map stretched to [0, 1]; zeros when it is flat."""
    low, high = values.min(), values.max()
    if high <= low:
        return np.zeros_like(values)
    return (values - low) / (high - low)


def biovil_miou(values: Map, mask: Mask) -> float:
    """Return the mean IoU of the stretched map over the thresholds 0.1, 0.2 ... 0.5 (BioViL's convention)."""
    return float(overlap(normalised(values), mask).iou[list(BIOVIL)].mean())


def peak(values: Map) -> tuple[int, ...]:
    """Return the index of the highest pixel; the first in reading order among equals."""
    return tuple(int(i) for i in np.unravel_index(int(np.argmax(values)), values.shape))


def hit(point: tuple[int, ...], mask: Mask, tolerance_px: float = 0.0) -> bool:
    """Say whether a point lies in the mask, or within a distance of it (pixels, Euclidean)."""
    if tolerance_px <= 0:
        return bool(mask[point])
    reach = int(np.ceil(tolerance_px))
    first = np.maximum(np.array(point) - reach, 0)
    near = mask[tuple(slice(a, p + reach + 1) for a, p in zip(first.tolist(), point, strict=True))]
    apart = np.argwhere(near) + first - np.array(point)
    return bool((np.square(apart).sum(1) <= tolerance_px**2).any())


def soft_iou(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return sum min(a, b) / sum max(a, b) over the last axis: 1 for equal maps, 0 for maps that share nothing."""
    largest = np.maximum(first, second).sum(-1, dtype=np.float64)
    smallest = np.minimum(first, second).sum(-1, dtype=np.float64)
    return np.divide(smallest, largest, out=np.zeros_like(largest), where=largest > 0)


@dataclass(frozen=True, slots=True)
class Reliability:
    """How far scores are probabilities.

    Attributes:
        centres: Mean score in each non-empty bin.
        observed: Share of positives in it.
        counts: Cases in it.
        ece: Expected calibration error, mean |score - observed| weighted by cases.
        brier: Mean squared difference of score and label.
    """

    centres: list[float]
    observed: list[float]
    counts: list[int]
    ece: float
    brier: float


def reliability(scores: NDArray[np.float64], positive: Mask, bins: int = 10) -> Reliability:
    """Return the reliability of scores in [0, 1] (any shape, matching labels), in bins of equal width."""
    flat, label = scores.ravel(), positive.ravel().astype(np.float64)
    index = np.minimum((flat * bins).astype(np.int64), bins - 1)
    counts = np.bincount(index, minlength=bins)
    full = counts > 0
    centres = np.bincount(index, flat, bins)[full] / counts[full]
    observed = np.bincount(index, label, bins)[full] / counts[full]
    ece = float((np.abs(centres - observed) * counts[full]).sum() / counts.sum())
    brier = float(((flat - label) ** 2).mean())
    return Reliability(centres.tolist(), observed.tolist(), counts[full].tolist(), ece, brier)
