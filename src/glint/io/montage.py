"""Pictures of answers about a CT: a row of three planes through the point, for each query.

Axial, coronal and sagittal planes along the patient's axes, also of oblique scans, as radiologists look at them: the
patient's right is on the left of the picture, head or front on top. Colours as in glint.io.picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from glint.config.volume import Range
from glint.io.ct import windowed
from glint.io.packed_mask import PackedMask
from glint.io.picture import PAPER, Panel, arranged, drawn
from glint.io.regrid import regrid
from glint.io.volume import Volume
from glint.io.voxel_grid import Triple, VoxelGrid

SHOWN_HU: Range = (-1150, 350)
PLANE_PX = 320
"""Longest side of the scan in the picture."""
MIN_MM = 0.7
GAP_PX = 4
TEXT_PX = 15
TALL = 4
"""More rows than these go into two columns."""
Box = tuple[float, float, float, float, float, float]
PLANES = ((1, 2, 0), (0, 2, 1), (0, 1, 2))
"""(rows, columns, normal) of the axial, coronal and sagittal plane, as axes (z, y, x)."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """What is shown of one answer; everything may be missing but the caption.

    Attributes:
        caption: Text below.
        point_lps_mm: (x, y, z) through which the planes go; None: the middle of the scan.
        cells: (Zp, Yp, Xp) map on cells that cover the laid-out scan.
        mask: On the voxels of the file.
        box_lps_mm: (x0, y0, z0, x1, y1, z1).
        truth: (Z, Y, X) bool on the voxels of the file.
    """

    caption: str
    point_lps_mm: tuple[float, float, float] | None = None
    cells: NDArray[np.float32] | None = None
    mask: PackedMask | None = None
    box_lps_mm: Box | None = None
    truth: NDArray[np.bool_] | None = None


def montage(volume: Volume, scan: Volume, rows: Sequence[Row]) -> Image.Image:
    """Draw rows of three planes.

    Args:
        volume: The scan as read; what is seen comes from its voxels.
        scan: The same as laid out; tells which part of it is the patient.
        rows: At least one.
    """
    content = scan.chain.content
    longest = max(side * mm for side, mm in zip(content.shape, content.spacing_mm, strict=True))
    mm = max(MIN_MM, longest / PLANE_PX)
    space = content.straightened((mm, mm, mm))
    pictures = [_row(volume, scan, space, row) for row in rows]
    return arranged(pictures, [row.caption for row in rows], 1 + (len(rows) > TALL), text_px=TEXT_PX)


def _row(volume: Volume, scan: Volume, space: VoxelGrid, row: Row) -> Image.Image:
    """Return the three planes side by side."""
    centre = [(side - 1) / 2 for side in space.shape]
    place = np.array(centre)
    if row.point_lps_mm is not None:
        place = space.to_index(np.array([row.point_lps_mm]))[0]
    planes = [_plane(volume, scan, space, row, place, axes) for axes in PLANES]
    width = sum(plane.width for plane in planes) + GAP_PX * (len(planes) - 1)
    picture = Image.new("RGB", (width, max(plane.height for plane in planes)), PAPER)
    left = 0
    for plane in planes:
        picture.paste(plane, (left, (picture.height - plane.height) // 2))
        left += plane.width + GAP_PX
    return picture


def _plane(
    volume: Volume, scan: Volume, space: VoxelGrid, row: Row, place: NDArray[np.float64], axes: Triple
) -> Image.Image:
    """Return one plane."""
    down, across, normal = axes
    start, shape = [0, 0, 0], list(space.shape)
    start[normal] = int(np.clip(np.rint(place[normal]), 0, shape[normal] - 1))
    shape[normal] = 1
    grid = space.box((start[0], start[1], start[2]), (shape[0], shape[1], shape[2]))
    upright = down == 0  # slices grow to the head, and the head is shown on top

    def cut(values: NDArray[np.generic], source: VoxelGrid, fill: float) -> NDArray[np.float32]:
        flat = regrid(values, source, grid, fill=fill).squeeze(normal)
        return np.ascontiguousarray(flat[::-1]) if upright else flat

    native = volume.chain.native
    pixels = windowed(cut(volume.hu, native, -1000.0), [SHOWN_HU])[0]
    heat = mask = truth = box = point = None
    if row.cells is not None:
        z, y, x = row.cells.shape
        heat = cut(row.cells, scan.grid.divided((z, y, x)), 0.0)
    if row.mask is not None and len(row.mask.bits):
        mask = cut(row.mask.box(), native.box(row.mask.start, row.mask.size), 0.0) >= 0.5
    if row.truth is not None:
        truth = cut(row.truth, native, 0.0) >= 0.5

    height = pixels.shape[0]
    if row.point_lps_mm is not None:
        y_px, x_px = round(place[down]), round(place[across])
        point = (x_px, height - 1 - y_px if upright else y_px)
    if row.box_lps_mm is not None:
        corners = np.array(row.box_lps_mm).reshape(2, 3)
        low, high = np.sort(space.to_index(corners), axis=0)
        if low[normal] <= start[normal] <= high[normal]:
            y0, y1 = round(low[down] + 0.5), round(high[down] + 0.5)
            if upright:
                y0, y1 = height - y1, height - y0
            box = (round(low[across] + 0.5), y0, round(high[across] + 0.5), y1)
    return drawn(pixels, Panel("", heat, mask, box, point, truth), 1.0)
