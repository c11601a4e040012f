"""Geometry: nothing moves, nothing is stretched, padding is known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glint.io.letterbox import Letterbox, letterbox

SHAPES = st.tuples(st.integers(32, 1500), st.integers(32, 1500)).filter(lambda s: max(s) <= 5 * min(s))
SIZES = st.sampled_from([96, 192, 224])
SHARES = st.floats(0, 1)


@given(shape=SHAPES, size=SIZES, u=SHARES, v=SHARES)
def test_points__come_back_within_half_a_pixel(shape: tuple[int, int], size: int, u: float, v: float) -> None:
    fit = Letterbox.fit(shape, size)
    x, y = u * (shape[1] - 1), v * (shape[0] - 1)
    square = fit.point_to_square(x, y)
    assert all(-0.5 <= value <= size - 0.5 for value in square)
    back = fit.point_to_native(*square)
    assert abs(back[0] - x) < 0.5
    assert abs(back[1] - y) < 0.5


@given(shape=SHAPES, size=SIZES)
def test_fit__fills_the_longer_side_and_keeps_the_ratio(shape: tuple[int, int], size: int) -> None:
    fit = Letterbox.fit(shape, size)
    assert max(fit.inner) == size
    for axis in (0, 1):
        assert abs(fit.inner[axis] - shape[axis] * size / max(shape)) <= 0.5
        assert abs(2 * fit.offset[axis] + fit.inner[axis] - size) <= 1


@settings(max_examples=25, deadline=None)
@given(shape=SHAPES, u=st.floats(0.2, 0.8), v=st.floats(0.2, 0.8))
def test_letterbox__puts_a_spot_where_the_geometry_says(shape: tuple[int, int], u: float, v: float) -> None:
    y, x = u * shape[0], v * shape[1]
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    width = 0.06 * max(shape)
    spot = np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / (2 * width**2)).astype(np.float32)
    square, fit = letterbox(spot, 192)
    row, column = np.unravel_index(square.argmax(), square.shape)
    expected = fit.point_to_square(x, y)
    near = 0.5 + 0.5 * max(1, 192 / max(shape))  # half a pixel of each of the two grids
    assert abs(column - expected[0]) <= near
    assert abs(row - expected[1]) <= near
    back = fit.to_native(square)
    inside = np.s_[shape[0] // 10 : -(shape[0] // 10), shape[1] // 10 : -(shape[1] // 10)]
    assert back.shape == shape
    assert np.abs(back - spot)[inside].max() < 0.05


@given(shape=SHAPES, stride=st.sampled_from([1, 8, 16]))
def test_valid_patches__touch_the_image(shape: tuple[int, int], stride: int) -> None:
    fit = Letterbox.fit(shape, 192)
    inside = np.zeros((192, 192), dtype=bool)
    (top, left), (height, width) = fit.offset, fit.inner
    inside[top : top + height, left : left + width] = True
    cells = inside.reshape(192 // stride, stride, 192 // stride, stride).any(axis=(1, 3))
    assert (fit.valid_patches(stride) == cells.ravel()).all()


@pytest.mark.parametrize("shape", [(100, 500), (500, 100), (200, 200)])
def test_to_native__does_not_fade_beside_padding(shape: tuple[int, int]) -> None:
    fit = Letterbox.fit(shape, 96)
    tokens = fit.valid_patches(8).reshape(12, 12).astype(np.float32)
    assert (fit.to_native(tokens) == 1).all()


def test_letterbox__pads_with_zero_and_stays_in_range() -> None:
    square, fit = letterbox(np.ones((50, 200), np.float32), 96)
    outside = ~fit.valid_patches(1).reshape(96, 96)
    assert (square[outside] == 0).all()
    assert (square[~outside] == 1).all()
