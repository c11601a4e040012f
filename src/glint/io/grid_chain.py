"""What was done to the grid of a volume, step by step, and the way back to the voxels of the scan."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glint.errors import UsageError
from glint.io.regrid import Floats, regrid
from glint.io.voxel_grid import Triple, VoxelGrid

PADDED = "padded"


@dataclass(frozen=True, slots=True)
class GridChain:
    """The grids that a volume has been on. Every step is known by its affine, so all of them can be undone at once.

    Attributes:
        steps: (name, grid), the scan's own grid first, the present one last.
    """

    steps: tuple[tuple[str, VoxelGrid], ...]

    @classmethod
    def begin(cls, native: VoxelGrid) -> "GridChain":
        """Start with the grid of the file."""
        return cls((("read", native),))

    @property
    def native(self) -> VoxelGrid:
        """The grid of the scan."""
        return self.steps[0][1]

    @property
    def current(self) -> VoxelGrid:
        """The grid that the volume is on now."""
        return self.steps[-1][1]

    @property
    def content(self) -> VoxelGrid:
        """The present grid without the padding that was put around it last."""
        return next(grid for name, grid in reversed(self.steps) if name != PADDED)

    def then(self, name: str, grid: VoxelGrid) -> "GridChain":
        """Add a step."""
        return GridChain((*self.steps, (name, grid)))

    def to_native(
        self, values: NDArray[np.generic], *, fill: float = 0.0, box: tuple[Triple, Triple] | None = None
    ) -> Floats:
        """Bring a map back to the voxels of the scan, trilinearly.

        Args:
            values: (Zp, Yp, Xp) cells that cover the present grid: its voxels, or patches of them. Cells that hold
                nothing but padding are left out, so the border of the scan does not fade into them.
            fill: For voxels of the scan that were cropped away.
            box: First voxel and shape of the part of the scan that is wanted; None: all of it.

        Returns:
            (Z, Y, X) float32 on the grid of the scan. A mask is this > threshold.

        Raises:
            UsageError: Not three axes.
        """
        if values.ndim != 3:
            raise UsageError(f"a map with {values.ndim} axes was given", expected="(Z, Y, X)")
        z, y, x = values.shape
        cells = self.current.divided((z, y, x))
        first, last = _touched(cells, self.content)
        kept = values[first[0] : last[0], first[1] : last[1], first[2] : last[2]]
        z, y, x = kept.shape
        target = self.native if box is None else self.native.box(*box)
        return regrid(kept, cells.box(first, (z, y, x)), target, fill=fill)


def _touched(cells: VoxelGrid, content: VoxelGrid) -> tuple[Triple, Triple]:
    """Return first and one-past-last cell, along each axis, that lies in part inside of another grid."""
    ends = np.array([[-0.5] * 3, [side - 0.5 for side in content.shape]])
    edges = cells.to_index(content.to_lps(ends)) + 0.5
    low = np.clip(np.floor(edges.min(axis=0) + 1e-4), 0, None).astype(int)
    high = np.minimum(np.ceil(edges.max(axis=0) - 1e-4), cells.shape).astype(int)
    return (int(low[0]), int(low[1]), int(low[2])), (int(high[0]), int(high[1]), int(high[2]))
