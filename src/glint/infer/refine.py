"""Edges for maps of patches from the CT itself: the guided filter, which needs no mask and no training.

    He, Sun, Tang, "Guided image filtering" (TPAMI 2013): within each box the map is taken for a linear function of the
    guide, p ~ a I + b with a = cov(I, p) / (var(I) + eps); the result is mean(a) I + mean(b).

Where the guide is flat, a is near 0 and the map stays smooth; at an edge of the guide the map gets that edge.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from glint.config.volume import Range
from glint.io.ct import windowed
from glint.io.regrid import regrid
from glint.io.volume import Volume
from glint.io.voxel_grid import Triple

Floats = NDArray[np.float32]

GUIDE_HU: Range = (-1000, 250)
"""Lung, fat, soft tissue and bright vessels are apart; bone and metal look alike."""
EPSILON = 0.02**2
"""Variance of the guide below which a box counts as flat: 25 HU, the noise of a scan."""
NEGLIGIBLE = 0.02
"""Only what lies near cells above this is filtered."""


class GuidedFilter:
    """Refines maps of one scan; what depends on the scan alone is computed once.

    Args:
        scan: As laid out.
        patch: (Z, Y, X) voxels of a patch; boxes reach as far to each side.
    """

    def __init__(self, scan: Volume, patch: Triple) -> None:
        self.scan, self.size = scan, tuple(2 * p + 1 for p in patch)
        self.guide: Floats = windowed(scan.hu, [GUIDE_HU])[0]
        self.mean = self._mean(self.guide)
        self.variance = self._mean(self.guide**2) - self.mean**2

    def refine(self, cells: Floats) -> Floats:
        """Return a map (Zp, Yp, Xp) of patches on the voxels of the laid-out scan, with edges of the CT, in [0, 1].

        Only voxels near cells that say anything are filtered.
        """
        grid = self.scan.grid
        z, y, x = cells.shape
        values = np.clip(regrid(cells, grid.divided((z, y, x)), grid, fill=0.0), 0, 1)
        near = ndimage.binary_dilation(cells > NEGLIGIBLE, iterations=3)
        found = ndimage.find_objects(near.astype(np.uint8))
        if not found:
            return values
        box = tuple(
            slice(part.start * side // n, part.stop * side // n)
            for part, side, n in zip(found[0], grid.shape, cells.shape, strict=True)
        )
        part, guide = values[box], self.guide[box]
        mean = self._mean(part)
        covariance = self._mean(part * guide) - mean * self.mean[box]
        slope: Floats = np.divide(covariance, self.variance[box] + np.float32(EPSILON), dtype=np.float32)
        offset: Floats = np.subtract(mean, slope * self.mean[box], dtype=np.float32)
        values[box] = np.clip(self._mean(slope) * guide + self._mean(offset), 0, 1)
        return values

    def _mean(self, values: Floats) -> Floats:
        return ndimage.uniform_filter(values, self.size, mode="nearest")
