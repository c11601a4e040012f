"""Numbers that tell whether the grey values of an image are what they should be; `glint check` shows them.

What cannot be a CT in HU is refused when a volume is read (hounsfield.py). A radiograph has no unit, so these are
warnings only.
"""

import numpy as np
from numpy.typing import NDArray

from glint.io.hounsfield import GAS_HU, SOFT_HU
from glint.io.radiograph import Radiograph
from glint.io.volume import Volume

MIDDLE = (0.3, 0.8, 0.45, 0.55)
LUNGS = ((0.25, 0.6, 0.2, 0.35), (0.25, 0.6, 0.65, 0.8))
"""Top, bottom, left, right as shares of the picture: spine and mediastinum, and the two lungs, of a frontal chest."""
CLEAR = 0.1
"""On 300 X-rays of the phantom, the middle is brighter by 0.11 to 0.72, on a real one by 0.39."""
FEW_LEVELS = 64
EMPTY_SHARE = 0.6


def radiograph_numbers(image: Radiograph) -> tuple[dict[str, float | int], tuple[str, ...]]:
    """Return what there is to say of the grey values of a radiograph, and warnings.

    Returns:
        contrast: how much brighter the middle of the picture is than the lungs, of 1; levels: number of grey levels;
        empty: share of pixels that are quite black or quite white.
    """
    pixels = image.pixels
    contrast = _mean(pixels, MIDDLE) - float(np.mean([_mean(pixels, lung) for lung in LUNGS]))
    levels = int(np.unique(pixels).size)
    empty = float(((pixels <= 0) | (pixels >= 1)).mean())
    warnings: list[str] = []
    if contrast < -CLEAR:
        warnings.append(
            "the middle of the picture is darker than its sides: polarity seems to be inverted (bone must be "
            "bright), or this is no frontal chest"
        )
    elif contrast < CLEAR:
        warnings.append("neither lungs nor mediastinum stand out: this may be no frontal chest")
    if levels < FEW_LEVELS:
        warnings.append(f"only {levels} grey levels: the picture was reduced before")
    if empty > EMPTY_SHARE:
        warnings.append(f"{100 * empty:.0f} % of the picture are quite black or quite white")
    return {"contrast": round(contrast, 3), "levels": levels, "empty": round(empty, 3)}, tuple(warnings)


def volume_numbers(volume: Volume) -> tuple[dict[str, float | None], tuple[str, ...]]:
    """Return what there is to say of the values of a CT, and warnings.

    Returns:
        low, high: extremes in HU; air, soft: medians below -500 and within -200 to 200 HU; padding: share of voxels
        that the scanner did not see.
    """
    thin = tuple(slice(None, None, max(1, side // 160)) for side in volume.hu.shape)
    valid = None if volume.valid is None else volume.valid[thin]
    seen = volume.hu[thin] if valid is None else volume.hu[thin][valid]
    gas, soft = seen[seen < GAS_HU], seen[(seen > SOFT_HU[0]) & (seen < SOFT_HU[1])]
    numbers: dict[str, float | None] = {
        "low_hu": float(volume.hu.min()),
        "high_hu": float(volume.hu.max()),
        "air_hu": float(np.median(gas)) if gas.size else None,
        "soft_hu": float(np.median(soft)) if soft.size else None,
        "padding": 0.0 if valid is None else round(1 - float(valid.mean()), 4),
    }
    warnings: list[str] = []
    if soft.size < 0.02 * seen.size:
        warnings.append("hardly any soft tissue: this may be no CT of a chest")
    return numbers, tuple(warnings)


def _mean(pixels: NDArray[np.float32], part: tuple[float, float, float, float]) -> float:
    (height, width), (top, bottom, left, right) = pixels.shape, part
    found = pixels[int(top * height) : int(bottom * height), int(left * width) : int(right * width)]
    return float(found.mean())
