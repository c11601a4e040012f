"""A mask of a scan in little memory: the box around it, one bit a voxel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from glint.io.voxel_grid import Triple

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class PackedMask:
    """A mask on the voxels of a scan.

    Attributes:
        shape: (Z, Y, X) of the scan.
        start: First voxel of the box.
        size: (Z, Y, X) voxels of the box; zeros when the mask is empty.
        bits: The box, packed.
    """

    shape: Triple
    start: Triple
    size: Triple
    bits: NDArray[np.uint8]

    @classmethod
    def of(cls, part: Mask, start: Triple, shape: Triple) -> "PackedMask":
        """Pack a part of a scan; all the rest of the scan is outside of the mask.

        Args:
            part: (Z, Y, X) bool.
            start: Its first voxel in the scan.
            shape: Voxels of the scan.
        """
        ends = [np.flatnonzero(part.any(axis)) for axis in ((1, 2), (0, 2), (0, 1))]
        if not len(ends[0]):
            return cls(shape, (0, 0, 0), (0, 0, 0), np.zeros(0, dtype=np.uint8))
        (z0, z1), (y0, y1), (x0, x1) = ((int(e[0]), int(e[-1]) + 1) for e in ends)
        inner = part[z0:z1, y0:y1, x0:x1]
        first = (start[0] + z0, start[1] + y0, start[2] + x0)
        return cls(shape, first, (z1 - z0, y1 - y0, x1 - x0), np.packbits(inner))

    def box(self) -> Mask:
        """Return (Z, Y, X) bool, the box alone."""
        flat = np.unpackbits(self.bits, count=int(np.prod(self.size)))
        return flat.reshape(self.size).view(np.bool_)

    def whole(self) -> Mask:
        """Return (Z, Y, X) bool on all voxels of the scan."""
        mask = np.zeros(self.shape, dtype=bool)
        z, y, x = (slice(a, a + n) for a, n in zip(self.start, self.size, strict=True))
        mask[z, y, x] = self.box()
        return mask
