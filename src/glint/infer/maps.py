"""From a map on the token grid to a point, a box and a mask on the pixel grid of the file.

Maps are in [0, 1]; a mask is map > threshold. Point: highest place of the evidence (what each patch adds to the score)
smoothed by a twentieth of the image, so that a few stray tokens, or the edge of a finding, do not win against its
middle. Box: the connected area above half of the value at the point that contains the point. Points are [x, y] pixel
indices; boxes are [x0, y0, x1, y1], x1 and y1 exclusive.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from glint.io.letterbox import Letterbox

Floats = NDArray[np.float32]
BOX_LEVEL = 0.5
SMOOTHING = 3 / 64
"""Of the side of the square that the model sees, whatever its tokens: 12 of 256 pixels. Chosen on validation studies
among 0 to 24 pixels with tokens of 8 (docs/experiments.md, "Mixed images"); with finer ones 8 to 24 are alike."""
SPREAD_SMOOTHING = 1 / 64
"""Of evidence that has spread over what looks alike (ops/spread.py), and is smooth already."""


def smoothing_of(rounds: int) -> float:
    """Return how much evidence is smoothed before its peak is looked for, after so many rounds of spreading."""
    return SPREAD_SMOOTHING if rounds else SMOOTHING


def native_map(grid: NDArray[np.floating], fit: Letterbox) -> Floats:
    """Return a (Yp, Xp) map on the native pixels (Y, X), bilinear, within [0, 1]."""
    return np.clip(fit.to_native(grid), 0, 1)


def peak_point(grid: NDArray[np.floating], fit: Letterbox, smoothing: float = SMOOTHING) -> tuple[int, int]:
    """Return the native pixel [x, y] where the smoothed (Yp, Xp) map is highest."""
    inner = fit.to_inner(grid)
    smooth = ndimage.gaussian_filter(inner, smoothing * fit.size_px, mode="nearest")
    row, column = np.unravel_index(int(smooth.argmax()), smooth.shape)
    top, left = fit.offset
    x, y = fit.point_to_native(float(column) + left, float(row) + top)
    height, width = fit.native
    return min(max(round(x), 0), width - 1), min(max(round(y), 0), height - 1)


def box_around(heat: Floats, point: tuple[int, int]) -> tuple[int, int, int, int] | None:
    """Return the box of the connected area that contains a point; None when the map is 0 there.

    Args:
        heat: (Y, X) native map.
        point: [x, y] pixel.
    """
    x, y = point
    if heat[y, x] <= 0:
        return None
    areas, _ = ndimage.label(heat > BOX_LEVEL * heat[y, x], structure=np.ones((3, 3)))
    rows, columns = ndimage.find_objects(areas)[areas[y, x] - 1]
    return int(columns.start), int(rows.start), int(columns.stop), int(rows.stop)
