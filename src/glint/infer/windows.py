"""Sliding windows on the token grid: where they lie, and how much each of their patches counts.

Windows start on whole patches, so patches of overlapping windows coincide and averages need no voxel grid: a token grid
is hundreds of times smaller than its voxels. A patch counts by a Gaussian around the middle of its window, because an
encoder sees more context there; the weights of all patches in one place add up to 1.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from glint.errors import UsageError
from glint.io.voxel_grid import Triple

SIGMA = 0.125
"""Of the Gaussian, in sides of a window; that of MONAI's sliding window."""
MAX_OVERLAP = 0.9


@dataclass(frozen=True, slots=True)
class Windows:
    """The windows of a scan; all numbers count patches.

    Attributes:
        grid: (Zp, Yp, Xp) patches of the scan.
        size: (Zp, Yp, Xp) patches of a window.
        starts: First patch of each of the W windows.
    """

    grid: Triple
    size: Triple
    starts: tuple[Triple, ...]

    def box(self, number: int) -> tuple[slice, slice, slice]:
        """Return the patches of a window."""
        z, y, x = (slice(a, a + n) for a, n in zip(self.starts[number], self.size, strict=True))
        return z, y, x

    def places(self) -> NDArray[np.int64]:
        """Return (W * P,): for each patch of each window its place in the flat token grid of the scan."""
        index = np.arange(np.prod(self.grid), dtype=np.int64).reshape(self.grid)
        return np.concatenate([index[self.box(w)].ravel() for w in range(len(self.starts))])

    def weights(self, valid: NDArray[np.bool_]) -> NDArray[np.float32]:
        """Return (W * P,): what each patch of each window counts; 0 where nothing is valid.

        Args:
            valid: (Zp, Yp, Xp), False for patches of padding alone.
        """
        bell = _bell(self.size).ravel()
        places = self.places()
        each = np.tile(bell, len(self.starts))
        total = np.bincount(places, each, minlength=int(np.prod(self.grid)))
        return (each / total[places] * valid.ravel()[places]).astype(np.float32)


def plan_windows(shape: Triple, crop: Triple, patch: Triple, overlap: float) -> Windows:
    """Cover a scan with windows, evenly spread and on whole patches.

    Args:
        shape: (Z, Y, X) voxels of the scan; multiples of the patch, and nowhere smaller than the crop.
        crop: (Z, Y, X) voxels of a window.
        patch: (Z, Y, X) voxels of a patch.
        overlap: Least share of its side that a window has in common with the next one.

    Raises:
        UsageError: The overlap is out of range.
    """
    if not 0 <= overlap <= MAX_OVERLAP:
        raise UsageError(
            f"the overlap of windows is {overlap}", where="overlap", expected=f"0 to {MAX_OVERLAP}"
        )
    gz, gy, gx = (side // p for side, p in zip(shape, patch, strict=True))
    sz, sy, sx = (side // p for side, p in zip(crop, patch, strict=True))
    axes = [_starts(g, s, overlap) for g, s in ((gz, sz), (gy, sy), (gx, sx))]
    return Windows((gz, gy, gx), (sz, sy, sx), tuple((z, y, x) for z, y, x in product(*axes)))


def _starts(count: int, size: int, overlap: float) -> list[int]:
    """Return the first patches along one axis: as few windows as the overlap allows, spread evenly."""
    step = max(1, int(size * (1 - overlap)))
    number = -(-(count - size) // step) + 1
    return [round(i * (count - size) / max(1, number - 1)) for i in range(number)]


def _bell(size: Triple) -> NDArray[np.float64]:
    """Return (Zp, Yp, Xp) Gaussian weights around the middle."""
    z, y, x = (
        np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / max(SIGMA * n, 0.5)) ** 2).clip(1e-3) for n in size
    )
    return z[:, None, None] * y[:, None] * x
