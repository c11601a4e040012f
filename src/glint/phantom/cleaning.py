"""Make the real CT a normal, unenhanced chest: no table, no mass, no contrast agent.

Arrays are (Z, Y, X); HU are float32.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Spacing = tuple[float, float, float]
MASS_MARGIN_MM = 11.0  # spiculation and haze reach beyond the outlines
FEATHER_MM = 4.0


def body_mask(hu: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return the patient: the largest solid component, holes filled slice by slice, without the table."""
    # Opened along x only: in front, the chest wall of a thin patient is two voxels thick along y.
    solid = ndimage.binary_opening(hu > -300, structure=np.ones((1, 1, 5)))
    parts, count = ndimage.label(solid)
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sizes[0] = 0
    patient = ndimage.binary_dilation(parts == sizes.argmax(), structure=np.ones((1, 3, 3)))
    pad = 4  # edges are continued outwards: the scanner's field cuts the arms
    for k, part in enumerate(patient):
        closed = ndimage.binary_closing(np.pad(part & (hu[k] > -500), pad, mode="edge"), iterations=pad)
        patient[k] = ndimage.binary_fill_holes(closed)[pad:-pad, pad:-pad]
    return patient


def remove_contrast(hu: NDArray[np.float32], skeleton: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Compress soft tissue above 52 HU, where only contrast agent can be, to what it is in a plain chest.

    Args:
        hu: (Z, Y, X) Hounsfield units.
        skeleton: True on bones, a little dilated: kept as they are.
    """
    # No bone of this patient reaches 2000 HU; undiluted agent in the right subclavian vein does.
    agent = ndimage.binary_dilation(hu > 2000, structure=np.ones((3, 3, 3)), iterations=6)
    skeleton = skeleton & ~(agent & (hu > 600))
    plain = 52 + 6 * np.tanh((hu - 52) / 120)
    return np.where((hu > 52) & ~skeleton, plain, hu).astype(np.float32)


def fill_bowel_gas(
    hu: NDArray[np.float32], kept: NDArray[np.bool_], below: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Fill gas in the abdomen: its pattern would mark every patient as this one.

    Args:
        hu: (Z, Y, X) Hounsfield units.
        kept: Where gas stays (lungs, airways, stomach, outside).
        below: Where gas may be filled.
    """
    gas = (hu < -150) & below & ~kept
    gas = ndimage.binary_dilation(gas, iterations=2) & below & ~kept & (hu < 30)
    texture = np.random.default_rng(0).normal(20, 12, size=hu.shape).astype(np.float32)
    return np.where(gas, texture, hu)


def inpaint_mass(
    hu: NDArray[np.float32],
    labels: NDArray[np.uint8],
    outlined: NDArray[np.bool_],
    lung: tuple[int, ...],
    lobe: int,
    spacing: Spacing,
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Replace the mass by lung of the same side, copied from where it fits its surroundings best.

    Args:
        hu: (Z, Y, X) Hounsfield units.
        labels: Structure codes.
        outlined: Union of the readers' outlines.
        lung: Codes of the lobes of this lung.
        lobe: Code that the former mass gets.
        spacing: (z, y, x) in mm.

    Returns:
        New HU and new labels.
    """
    labels = np.where(outlined, np.uint8(lobe), labels).astype(np.uint8)
    here = tuple(
        slice(max(int(p.min()) - 30, 0), int(p.max()) + 31) for p in np.nonzero(outlined)
    )  # distances are needed near the mass only
    margin = np.full(hu.shape, 1e3, dtype=np.float32)
    margin[here] = ndimage.distance_transform_edt(~outlined[here], sampling=spacing)
    airy = np.isin(labels, lung)
    region = (margin <= MASS_MARGIN_MM) & airy
    ring = (margin > MASS_MARGIN_MM) & (margin <= MASS_MARGIN_MM + 4) & airy
    shift = _best_shift(hu, region, ring, airy & (margin > 2), spacing)

    inside = np.argwhere(region)
    source = inside + shift
    patch = hu[tuple(source.T)]
    weight = np.clip((MASS_MARGIN_MM - margin[region]) / FEATHER_MM, 0, 1)
    filled = hu.copy()
    filled[region] = weight * patch + (1 - weight) * hu[region]
    return filled, labels


def _best_shift(
    hu: NDArray[np.float32],
    region: NDArray[np.bool_],
    ring: NDArray[np.bool_],
    allowed: NDArray[np.bool_],
    spacing: Spacing,
) -> NDArray[np.int64]:
    """Return the (z, y, x) shift whose lung continues the ring around the mass with the least step."""
    smooth = ndimage.uniform_filter(hu, size=(1, 3, 3))
    inside = np.argwhere(region)[::23]
    border = np.argwhere(ring)[::11]
    wanted = smooth[tuple(border.T)]
    limit = np.array(hu.shape) - 1
    step = np.round(np.array([5.0, 4.0, 4.0]) / np.array(spacing)).astype(int)
    best, best_cost = np.zeros(3, dtype=np.int64), np.inf
    for factors in np.ndindex(25, 25, 25):
        shift = (np.array(factors) - 12) * step
        moved = inside + shift
        if (moved < 0).any() or (moved > limit).any() or not allowed[tuple(moved.T)].all():
            continue
        there = np.clip(border + shift, 0, limit)
        cost = float(np.abs(smooth[tuple(there.T)] - wanted).mean())
        if cost < best_cost:
            best, best_cost = shift, cost
    if not np.isfinite(best_cost):
        raise AssertionError("the pinned CT has room for the patch")
    return best
