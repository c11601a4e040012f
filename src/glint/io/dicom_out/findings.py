"""What was found for one query, as the writers take it: plain arrays on the voxels of the source images."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

Index = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Finding:
    """The answer to one query.

    Arrays have the axes (N, Y, X): source image, row, column; N is 1 for a radiograph. Indices have the same order.

    Attributes:
        query: The text that was asked.
        score: 0 to 1.
        mask: (N, Y, X) bool.
        heat: (N, Y, X) float32 map in [0, 1], or None; needed for fractional segmentations only.
        point: (n, y, x) of the best place, or None.
        box: First and last-but-one corner: ((n, y, x), (n, y, x)), the second exclusive; None without a mask.
    """

    query: str
    score: float
    mask: NDArray[np.bool_] = field(repr=False)
    heat: NDArray[np.float32] | None = field(default=None, repr=False)
    point: Index | None = None
    box: tuple[Index, Index] | None = None

    @property
    def empty(self) -> bool:
        """Whether no voxel is in the mask."""
        return not self.mask.any()


def box_around(mask: NDArray[np.bool_], point: Index | None) -> tuple[Index, Index] | None:
    """Return the box around the connected part of a mask with the point in it, else around the largest part.

    Args:
        mask: (N, Y, X).
        point: (n, y, x), or None.
    """
    parts, count = ndimage.label(mask)
    if not count:
        return None
    number = int(parts[point]) if point is not None else 0
    if not number:
        number = 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    edges = ndimage.find_objects(parts)[number - 1]
    return tuple(int(edge.start) for edge in edges), tuple(int(edge.stop) for edge in edges)
