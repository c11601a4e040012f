"""Overlays show everything in its place; masks survive the file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glint.errors import UsageError
from glint.io.picture import BOX, CONTOUR, TRUTH, Panel, overlay, write_mask


def panel() -> Panel:
    mask = np.zeros((600, 550), dtype=bool)
    mask[100:200, 300:400] = True
    truth = np.roll(mask, 250, axis=0)
    return Panel("a query\nscore 0.50", mask.astype(np.float32), mask, (280, 80, 420, 220), (350, 150), truth)


def colours(picture: Image.Image, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows and columns of all pixels of a colour."""
    return np.nonzero((np.asarray(picture) == colour).all(axis=2))


def test_overlay__draws_at_native_resolution_in_place() -> None:
    gap = 550 // 64
    picture = overlay(np.zeros((600, 550), np.float32), [panel()])
    rows, columns = colours(picture, CONTOUR)
    assert (rows.min() - gap, rows.max() - gap) == (100, 199)
    assert (columns.min() - gap, columns.max() - gap) == (300, 399)
    rows, columns = colours(picture, BOX)
    assert (rows.min() - gap, rows.max() - gap, columns.min() - gap, columns.max() - gap) == (
        80,
        219,
        280,
        419,
    )
    rows, _ = colours(picture, TRUTH)
    assert (rows.min() - gap, rows.max() - gap) == (350, 449)


def test_overlay__heat_is_warm_and_only_where_the_map_is() -> None:
    pixels = np.full((600, 550), 0.5, np.float32)
    heated = np.asarray(overlay(pixels, [Panel("", heat=panel().heat)])).astype(int)
    gap = 550 // 64
    inside, outside = heated[gap + 150, gap + 350], heated[gap + 300, gap + 100]
    assert inside[0] > inside[2] + 60
    assert len(set(outside)) == 1


@pytest.mark.parametrize(("count", "columns"), [(1, 1), (3, 3), (4, 4), (6, 4)])
def test_overlay__has_at_most_four_panels_in_a_row(count: int, columns: int) -> None:
    picture = overlay(np.zeros((300, 300), np.float32), [Panel("x")] * count)
    assert picture.width == (512 + 8) * columns + 8


def test_overlay__long_captions_stay_in_their_panel() -> None:
    pixels = np.zeros((600, 600), np.float32)
    long = overlay(pixels, [Panel("word " * 80 + "x" * 300), Panel("")])
    gap = 600 // 64
    below = np.asarray(long)[600 + 2 * gap :]
    assert (below[:, 2 * gap + 600 :] == below[-1, -1]).all()
    assert long.height > overlay(pixels, [Panel("short")]).height


def test_write_mask__is_0_and_255_and_comes_back(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).random((40, 50)) > 0.5
    write_mask(tmp_path / "m.png", mask)
    stored = np.asarray(Image.open(tmp_path / "m.png"))
    assert stored.dtype == np.uint8
    assert (stored == mask * 255).all()
    with pytest.raises(UsageError):
        write_mask(tmp_path / "m.bmp", mask)
