"""Any rectangle into a square and back, without stretching.

Pixel coordinates count from the centre of the first pixel: the centre of pixel i is at i, its edges at
i -+ 0.5. So a scale s maps x to (x + 0.5) * s - 0.5. Axes: Y down, X right; points are (x, y).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Letterbox:
    """Where an image lies in its square.

    Attributes:
        native: (Y, X) of the image in its file.
        size_px: Side of the square.
        inner: (Y, X) of the scaled image.
        offset: (y, x) of its first pixel in the square.
    """

    native: tuple[int, int]
    size_px: int
    inner: tuple[int, int]
    offset: tuple[int, int]

    @classmethod
    def fit(cls, native: tuple[int, int], size_px: int) -> "Letterbox":
        """Return the geometry that fits the longer side and centres the shorter one."""
        longer = max(native)
        height, width = (max(1, round(side * size_px / longer)) for side in native)
        offset = ((size_px - height) // 2, (size_px - width) // 2)
        return cls(native, size_px, (height, width), offset)

    def valid_patches(self, stride: int) -> NDArray[np.bool_]:
        """Return (P,) bool, row by row: False for patches of padding alone."""
        rows, columns = (self._covered(axis, stride) for axis in (0, 1))
        return (rows[:, None] & columns[None]).ravel()

    def point_to_square(self, x: float, y: float) -> tuple[float, float]:
        """Take a native point (x, y) to the square."""
        (h, w), (top, left) = self.inner, self.offset
        return (x + 0.5) * w / self.native[1] - 0.5 + left, (y + 0.5) * h / self.native[0] - 0.5 + top

    def point_to_native(self, x: float, y: float) -> tuple[float, float]:
        """Take a point (x, y) of the square to the native grid; padding maps outside of it."""
        (h, w), (top, left) = self.inner, self.offset
        return (x - left + 0.5) * self.native[1] / w - 0.5, (y - top + 0.5) * self.native[0] / h - 0.5

    def to_native(self, grid: NDArray[np.floating]) -> Floats:
        """Resample a (Yp, Xp) map that covers the square to the native pixels (Y, X), bilinearly."""
        return self._resample(grid, self.native)

    def to_inner(self, grid: NDArray[np.floating]) -> Floats:
        """Resample a (Yp, Xp) map to the scaled image inside the square (Y, X), bilinearly."""
        return self._resample(grid, self.inner)

    def _resample(self, grid: NDArray[np.floating], shape: tuple[int, int]) -> Floats:
        (y0, y1, fy), (x0, x1, fx) = (self._taps(axis, grid.shape[axis], shape[axis]) for axis in (0, 1))
        values = grid.astype(np.float32)
        rows = values[y0] * (1 - fy)[:, None] + values[y1] * fy[:, None]
        return (rows[:, x0] * (1 - fx) + rows[:, x1] * fx).astype(np.float32, copy=False)

    def _taps(self, axis: int, cells: int, length: int) -> tuple[NDArray[np.intp], NDArray[np.intp], Floats]:
        """Return, for each of `length` outputs, the two cells it lies between and the share of the second."""
        stride = self.size_px / cells
        square = (np.arange(length) + 0.5) * self.inner[axis] / length + self.offset[axis]
        # Cells of padding alone carry no value: the border of the image goes on with its last own cell.
        first = int(self.offset[axis] / stride)
        last = int(np.ceil((self.offset[axis] + self.inner[axis]) / stride)) - 1
        position = np.clip(square / stride - 0.5, first, last)
        lower = np.floor(position).astype(np.intp)
        return lower, np.minimum(lower + 1, last), (position - lower).astype(np.float32)

    def _covered(self, axis: int, stride: int) -> NDArray[np.bool_]:
        starts = np.arange(0, self.size_px, stride)
        begin, end = self.offset[axis], self.offset[axis] + self.inner[axis]
        return (starts < end) & (starts + stride > begin)


def letterbox(pixels: NDArray[np.floating], size_px: int) -> tuple[Floats, Letterbox]:
    """Fit an image into a square: longer side to the square's, centred, padded with 0, antialiased.

    Args:
        pixels: (Y, X) in [0, 1].
        size_px: Side of the square.

    Returns:
        (size_px, size_px) float32 in [0, 1], and the geometry.
    """
    native = (int(pixels.shape[0]), int(pixels.shape[1]))
    fit = Letterbox.fit(native, size_px)
    (height, width), (top, left) = fit.inner, fit.offset
    picture = Image.fromarray(np.ascontiguousarray(pixels, dtype=np.float32))
    # Pillow widens the bilinear kernel when it shrinks: that is the antialiasing.
    scaled = np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR), dtype=np.float32)
    square = np.zeros((size_px, size_px), dtype=np.float32)
    square[top : top + height, left : left + width] = scaled
    return square, fit
