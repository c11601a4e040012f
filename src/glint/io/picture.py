"""Pictures for people: overlays as rows of panels, and mask files.

A panel is the grey radiograph with the heat map (orange, the more opaque the higher), the contour of the mask
(cyan), the box (yellow), the point (white cross) and, where the truth is known, its contour (green).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from glint.io.files import check_output, write_output

HEAT_LOW, HEAT_HIGH = np.array([170, 20, 60]), np.array([255, 170, 30])
HEAT_OPACITY = 0.6
CONTOUR, BOX, POINT, TRUTH = (0, 220, 255), (255, 235, 60), (255, 255, 255), (70, 255, 90)
PAPER, INK = (18, 18, 20), (240, 240, 240)
MIN_SIDE_PX, MAX_SIDE_PX = 512, 2048
COLUMNS = 4

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Panel:
    """One picture of a row; all geometry on the native pixel grid.

    Attributes:
        caption: Text below, wrapped; may be empty.
        heat: (Y, X) in [0, 1], or None.
        mask: (Y, X) bool, or None.
        box: [x0, y0, x1, y1], x1 and y1 exclusive, or None.
        point: [x, y], or None.
        truth: (Y, X) bool, or None.
    """

    caption: str
    heat: NDArray[np.float32] | None = None
    mask: NDArray[np.bool_] | None = None
    box: Box | None = None
    point: tuple[int, int] | None = None
    truth: NDArray[np.bool_] | None = None


def overlay(
    pixels: NDArray[np.float32], panels: Sequence[Panel], *, max_side_px: int = MAX_SIDE_PX
) -> Image.Image:
    """Draw panels side by side, at most four in a row.

    Args:
        pixels: (Y, X) radiograph in [0, 1].
        panels: At least one. A panel has native resolution, unless the image is too small to read
            the caption under it or larger than `max_side_px`.
        max_side_px: Longest side of a panel.
    """
    longer = max(pixels.shape)
    scale = min(max(longer, MIN_SIDE_PX), max_side_px) / longer
    return arranged(
        [drawn(pixels, panel, scale) for panel in panels], [panel.caption for panel in panels], COLUMNS
    )


def arranged(
    pictures: Sequence[Image.Image], captions: Sequence[str], columns: int, *, text_px: int = 0
) -> Image.Image:
    """Put pictures of one size onto a sheet, each with its caption below.

    Args:
        pictures: At least one.
        captions: One a picture; wrapped.
        columns: At most so many in a row.
        text_px: Size of the captions; 0 takes one that fits the width.
    """
    width, height = pictures[0].size
    gap, size = max(4, width // 64), text_px or max(15, width // 30)
    font = ImageFont.load_default(size)
    wrapped = [_wrapped(caption, font, width) for caption in captions]
    columns = min(columns, len(pictures))
    cell_height = height + round(1.3 * size * max(map(len, wrapped))) + 2 * gap
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", ((width + gap) * columns + gap, cell_height * rows + gap), PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, (picture, lines) in enumerate(zip(pictures, wrapped, strict=True)):
        left = gap + number % columns * (width + gap)
        top = gap + number // columns * cell_height
        sheet.paste(picture, (left, top))
        for row, line in enumerate(lines):
            below = top + height + gap // 2 + round(1.3 * size * row)
            pen.text((left, below), line, fill=INK, font=font)
    return sheet


def write_picture(path: Path, picture: Image.Image) -> None:
    """Write a PNG, whole or not at all.

    Raises:
        UsageError: The path does not end in .png or cannot be written.
    """
    check_output(path, ".png")
    write_output(path, lambda part: picture.save(part, format="PNG", compress_level=6))


def write_mask(path: Path, mask: NDArray[np.bool_]) -> None:
    """Write a (Y, X) mask as an 8-bit grey PNG of 0 and 255.

    Raises:
        UsageError: The path does not end in .png or cannot be written.
    """
    write_picture(path, Image.fromarray(mask.astype(np.uint8) * 255))


def drawn(pixels: NDArray[np.float32], panel: Panel, scale: float) -> Image.Image:
    """Return one panel without its caption.

    Args:
        pixels: (Y, X) in [0, 1].
        panel: What is drawn on it.
        scale: Pixels of the picture per pixel of the image.
    """
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    canvas = np.repeat(_resized(pixels, size)[..., None] * 255, 3, axis=2)
    if panel.heat is not None:
        heat = np.clip(_resized(panel.heat, size), 0, 1)[..., None]
        canvas += (HEAT_LOW + (HEAT_HIGH - HEAT_LOW) * heat - canvas) * (HEAT_OPACITY * heat)
    line = max(2, round(max(size) / 320))
    for mask, colour in ((panel.truth, TRUTH), (panel.mask, CONTOUR)):
        if mask is not None:
            canvas[_outline(_resized(mask.astype(np.float32), size) > 0.5, line)] = colour
    picture = Image.fromarray(np.clip(canvas, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    if panel.box is not None:
        x0, y0, x1, y1 = (round(edge * scale) for edge in panel.box)
        pen.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=BOX, width=line)
    if panel.point is not None:
        x, y = panel.point
        _cross(pen, (x + 0.5) * scale, (y + 0.5) * scale, 6 * line, line)
    return picture


def _resized(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """Return (Y, X) values at another size (width, height), antialiased."""
    if size == (values.shape[1], values.shape[0]):
        return values.astype(np.float32)
    picture = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))
    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR), dtype=np.float32)


def _outline(mask: NDArray[np.bool_], line: int) -> NDArray[np.bool_]:
    """Return the inner border of a mask, `line` pixels wide."""
    inner: NDArray[np.bool_] = ndimage.binary_erosion(mask, iterations=line, border_value=0)
    return mask & ~inner


def _cross(pen: ImageDraw.ImageDraw, x: float, y: float, reach: int, line: int) -> None:
    """Draw a cross with a dark edge and an open centre, visible on any ground."""
    for colour, width in (((0, 0, 0), 3 * line), (POINT, line)):
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            inner, outer = reach // 3, reach
            pen.line(
                (x + dx * inner, y + dy * inner, x + dx * outer, y + dy * outer), fill=colour, width=width
            )


def _wrapped(text: str, font: Font, width: int) -> list[str]:
    """Break text into lines that fit a width in pixels; a single long word is broken anywhere."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}" if line else word
            if line and font.getlength(longer) > width:
                lines.append(line)
                longer = word
            while font.getlength(longer) > width and len(longer) > 1:
                keep = next(
                    n for n in range(len(longer), 0, -1) if n == 1 or font.getlength(longer[:n]) <= width
                )
                lines.append(longer[:keep])
                longer = longer[keep:]
            line = longer
        lines.append(line)
    return lines
