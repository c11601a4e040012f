"""Points, boxes and masks on the native grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glint.infer.maps import box_around, native_map, peak_point
from glint.io.letterbox import Letterbox

SHAPES = st.tuples(st.integers(40, 900), st.integers(40, 900)).filter(lambda s: max(s) <= 5 * min(s))


@settings(max_examples=50, deadline=None)
@given(shape=SHAPES, u=st.floats(0.1, 0.9), v=st.floats(0.1, 0.9), stride=st.sampled_from([8, 16]))
def test_peak_point__finds_a_blob_within_the_smoothing(
    shape: tuple[int, int], u: float, v: float, stride: int
) -> None:
    fit = Letterbox.fit(shape, 192)
    x, y = v * (shape[1] - 1), u * (shape[0] - 1)
    square_x, square_y = fit.point_to_square(x, y)
    centres = (np.arange(192 // stride) + 0.5) * stride - 0.5
    distance = (centres[:, None] - square_y) ** 2 + (centres[None] - square_x) ** 2
    grid = np.exp(-distance / (2 * (1.5 * stride) ** 2)) * fit.valid_patches(stride).reshape(distance.shape)
    point = peak_point(grid, fit)
    # Beside the border smoothing draws the peak towards it, by less than its own width.
    token = stride * max(shape) / 192
    inside = min(x, y, shape[1] - 1 - x, shape[0] - 1 - y) > 3 * token
    reach = token if inside else 1.5 * token
    assert abs(point[0] - x) <= reach
    assert abs(point[1] - y) <= reach
    heat = native_map(grid, fit)
    assert heat.shape == shape
    box = box_around(heat, point)
    assert box is not None
    assert box[0] <= point[0] < box[2]
    assert box[1] <= point[1] < box[3]


def test_peak_point__prefers_an_area_to_a_stray_token() -> None:
    grid = np.zeros((12, 12))
    grid[2:5, 2:5] = 0.9
    grid[9, 9] = 1.0
    x, y = peak_point(grid, Letterbox.fit((192, 192), 192))
    assert 32 <= x < 80
    assert 32 <= y < 80


def test_box_around__takes_the_connected_area_only() -> None:
    heat = np.zeros((50, 60), np.float32)
    heat[10:20, 5:15] = 0.8
    heat[20:22, 15:17] = 0.5  # touches by a corner
    heat[40:45, 40:50] = 0.9
    assert box_around(heat, (8, 12)) == (5, 10, 17, 22)
    assert box_around(heat, (41, 41)) == (40, 40, 50, 45)


def test_box_around__nothing_there() -> None:
    assert box_around(np.zeros((10, 10), np.float32), (3, 3)) is None


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_native_map__of_a_constant_is_constant(value: float) -> None:
    heat = native_map(np.full((6, 6), value), Letterbox.fit((70, 40), 96))
    assert (heat == value).all()
