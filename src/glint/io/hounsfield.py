"""Are these Hounsfield units? Padding becomes air, and what is no CT, or rescaled twice or never, is refused.

Air is near -1000 HU and soft tissue near 0 to 100 HU, by definition of the unit. A chest CT shows both, so their
absence tells of a wrong rescale. GLINT says what it looks like and how to put it right, and does not guess.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from glint.errors import DataError

AIR_HU = -1000.0
PADDING_BELOW_HU = -1500.0
"""Nothing in a scanner is so thin: -2000, -2048 and -3024 stand for "no data", blends with air lie in between."""
SOFT_HU = (-200.0, 200.0)
GAS_HU = -500.0
MAX_HU = 100_000.0
"""Stored numbers have 16 bits, and a slope is near 1: only damage gives more."""
SHIFT_HU = 1024.0
"""The usual rescale intercept is -1024: applied twice, or never, it moves everything by this much."""
SAMPLE_SIDE = 160
"""Statistics look at about so many voxels along each axis."""
MIN_SHARE = 0.001


class Hounsfield(NamedTuple):
    """Checked values.

    Attributes:
        hu: (Z, Y, X) float32, padding replaced by air.
        valid: (Z, Y, X) bool, False in padding; None when all voxels are valid.
        notes: What was done.
    """

    hu: NDArray[np.float32]
    valid: NDArray[np.bool_] | None
    notes: tuple[str, ...]


def hounsfield(
    values: NDArray[np.float32], valid: NDArray[np.bool_] | None, where: str, add_hu: float = 0.0
) -> Hounsfield:
    """Check values as a file holds them, and separate padding.

    Args:
        values: (Z, Y, X) float32; changed in place.
        valid: Where the header says that there are data, or None.
        where: File, for messages.
        add_hu: Added first, for files that are known to be shifted.

    Raises:
        DataError: Not finite, constant, no CT, or not rescaled properly.
    """
    # One pass without a temporary: a sum is finite only if all its terms are.
    if not np.isfinite(values.sum(dtype=np.float64)):
        raise DataError("the volume holds values that are not numbers (NaN or infinite)", where=where)
    if max(float(values.max()), -float(values.min())) > MAX_HU:
        raise DataError(
            f"the volume holds values beyond {MAX_HU:,.0f}: it is damaged, or no CT",
            where=where,
            expected="Hounsfield units; metal has up to 30,000",
        )
    notes = (f"{add_hu:+g} HU were added on request",) if add_hu else ()
    if add_hu:
        values += np.float32(add_hu)
    _check_range(values, valid, where)
    padding = values < PADDING_BELOW_HU
    if padding.any():
        notes += (f"{100 * padding.mean():.1f} % of the voxels are below -1500 HU: padding, taken as air",)
        valid = ~padding if valid is None else valid & ~padding
    if valid is not None and valid.all():
        valid = None
    if valid is not None:
        values[~valid] = AIR_HU
    return Hounsfield(values, valid, notes)


def _check_range(values: NDArray[np.float32], valid: NDArray[np.bool_] | None, where: str) -> None:
    """Refuse what cannot be a chest CT in HU, saying what it looks like."""
    thin = tuple(slice(None, None, max(1, side // SAMPLE_SIDE)) for side in values.shape)
    sample = values[thin] if valid is None else values[thin][valid[thin]]
    if sample.size == 0 or sample.min() == sample.max():
        raise DataError("the volume is constant: every voxel has the same value", where=where)
    _check_shift(sample, where)
    low, high = float(sample.min()), float(sample.max())
    if _share(sample, high=GAS_HU) < MIN_SHARE:
        kind = "they are no Hounsfield units"
        if low >= -1 and high <= 1:
            kind = "they were scaled to [0, 1] or [-1, 1]"
        elif low >= 0 and high <= 255:
            kind = "they were scaled to grey levels, or are labels"
        raise DataError(
            f"the values of the volume go from {low:g} to {high:g}: {kind}, or this is no CT of a chest",
            where=where,
            expected="a chest CT in Hounsfield units: lungs and the air around the body are below -500",
            fix="give the scan as it came from the scanner",
        )
    if _share(sample, low=GAS_HU) < MIN_SHARE:
        raise DataError(
            "the volume shows nothing but air: no value is above -500 HU",
            where=where,
            expected="a chest CT in Hounsfield units",
        )


def _check_shift(sample: NDArray[np.float32], where: str) -> None:
    """Refuse values that were rescaled twice, never or wrongly."""
    # The lowest value may be padding, which says nothing about the scale.
    above = sample[sample > sample.min()]
    body = above if sample.min() < PADDING_BELOW_HU else sample
    what, add = "", 0.0
    if _share(body, high=PADDING_BELOW_HU) > 0.005 and _soft(body) < 0.02 and _soft(body, -SHIFT_HU) > 0.1:
        what = "is about 1024 HU too low: the rescale intercept seems to have been applied twice"
        add = SHIFT_HU
    elif above.min() > SOFT_HU[0] and _soft(above, SHIFT_HU) > 0.1:
        what = "looks like stored values without rescale: everything is about 1024 HU too high"
        add = -SHIFT_HU
    elif _share(body, high=PADDING_BELOW_HU) > 0.9:
        what = "has hardly any value above -1500 HU: its rescale is wrong"
    if what:
        raise DataError(
            f"the volume {what}",
            where=where,
            expected="air near -1000 and soft tissue near 40 HU",
            fix="convert the scan again"
            + (f", or read it with add_hu={add:g} once you know that it is a CT" if add else ""),
        )


def _soft(values: NDArray[np.float32], shift_hu: float = 0.0) -> float:
    """Return the share of voxels that would be soft tissue in a scale that is shifted."""
    return _share(values, SOFT_HU[0] + shift_hu, SOFT_HU[1] + shift_hu)


def _share(values: NDArray[np.float32], low: float = -np.inf, high: float = np.inf) -> float:
    """Return the share of values in [low, high]."""
    return float(((values >= low) & (values <= high)).mean()) if values.size else 0.0
