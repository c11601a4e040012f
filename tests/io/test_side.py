"""Where the patient's midline is, measured or assumed, and the channel that tells of it."""

from pathlib import Path

import numpy as np
import pytest

from glint.io.grid_chain import GridChain
from glint.io.side import FAR_MM, SIDE_MM, assumed_midline, columns_mm, midline, side_channel
from glint.io.volume import Provenance, Volume
from glint.io.voxel_grid import VoxelGrid


def scan(width_mm: float, middle_mm: float, body_mm: tuple[float, float]) -> Volume:
    """Return a canonical scan of 5 mm voxels around `middle_mm` with soft tissue between two LPS x."""
    columns = round(width_mm / 5)
    affine = np.zeros((4, 4))
    affine[[0, 1, 2, 3], [2, 1, 0, 3]] = 5, 5, 5, 1
    affine[0, 3] = middle_mm - (columns - 1) * 2.5
    grid = VoxelGrid((6, 41, columns), affine)
    x = columns_mm(grid, np.arange(columns, dtype=float))
    middle, half = sum(body_mm) / 2, (body_mm[1] - body_mm[0]) / 2
    y = np.linspace(-1, 1, grid.shape[1])[:, None]  # an ellipse: it tapers at both sides, as patients do
    hu = np.where(((x - middle) / half) ** 2 + y**2 <= 1, np.float32(40), np.float32(-1000))
    values = np.broadcast_to(hu, grid.shape).copy()
    return Volume(values, None, Provenance(Path("made"), "NIfTI"), GridChain.begin(grid))


def test_assumed_midline__is_measured_where_both_sides_are_there():
    whole = scan(400, 30, (-130, 170))
    assert midline(whole) == pytest.approx(20, abs=3)
    assert assumed_midline(whole) == midline(whole)


def test_assumed_midline__a_part_is_taken_to_lie_around_the_isocentre():
    block = scan(120, 90, (-200, 200))
    assert midline(block) == pytest.approx(90, abs=3), "its own middle, which is not the patient's"
    assert assumed_midline(block) == 0
    half = scan(270, 135, (-170, 170))
    assert midline(half) is None
    assert assumed_midline(half) == 0


def test_assumed_midline__a_frame_without_isocentre_leaves_the_middle():
    beside = scan(150, FAR_MM, (0, 2 * FAR_MM))
    assert assumed_midline(beside) == pytest.approx(FAR_MM)


def test_side_channel__runs_from_right_to_left_and_ends():
    values = side_channel(np.array([-3 * SIDE_MM, -SIDE_MM / 2, 0, SIDE_MM / 2, 3 * SIDE_MM]))
    np.testing.assert_allclose(values, [0, 0.25, 0.5, 0.75, 1])
