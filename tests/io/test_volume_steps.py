"""Steps and back: what a model marks lies on the same voxels of the scan."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from glint.errors import DataError
from glint.io.grid_chain import GridChain
from glint.io.volume import Provenance, Volume
from glint.io.volume_steps import crop_to_body, pad_to_multiple, resample, straighten, to_canonical
from glint.io.voxel_grid import VoxelGrid


def volume(
    hu: NDArray[np.generic],
    degrees: tuple[float, float, float] = (0, 0, 0),
    spacing: tuple[float, float, float] = (5.0, 2.0, 2.0),
    orientation: str = "SPL",
) -> Volume:
    """Return a volume with an orientation, turned in space by some degrees."""
    affine = np.eye(4)
    turn = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    affine[:3, :3] = turn @ np.diag(spacing[::-1])[:, ::-1]
    affine[:3, 3] = (-55, 20, 700)
    shape = hu.shape[0], hu.shape[1], hu.shape[2]
    grid, axes, backwards = VoxelGrid(shape, affine).turned(orientation)
    turned = np.flip(hu.transpose(axes), backwards).astype(np.float32)
    return Volume(turned, None, Provenance(Path("made"), "made"), GridChain.begin(grid))


def ball(grid: VoxelGrid, centre: NDArray[np.float64], radius: float) -> NDArray[np.bool_]:
    points = grid.to_lps(np.indices(grid.shape).reshape(3, -1).T)
    return (np.linalg.norm(points - centre, axis=1) < radius).reshape(grid.shape)


@settings(max_examples=30, deadline=None)
@given(
    degrees=st.tuples(*[st.floats(-180, 180)] * 3),
    orientation=st.sampled_from(["SPL", "IAR", "LPS", "RSA", "PIL"]),
    spacing=st.tuples(st.floats(1, 5), st.floats(1, 3), st.floats(1, 3)),
    straight=st.booleans(),
)
def test_mask__drawn_on_the_models_grid_comes_back_onto_the_scan(
    degrees: tuple[float, float, float],
    orientation: str,
    spacing: tuple[float, float, float],
    straight: bool,
) -> None:
    """A ball drawn by LPS coordinates on the last grid must be the ball drawn by them on the scan."""
    scan = volume(np.zeros((24, 40, 36)), degrees, (2.5, 1.5, 1.5), orientation)
    change = straighten if straight else resample
    ready = pad_to_multiple(change(to_canonical(scan), spacing), (2, 16, 16))
    centre = scan.grid.to_lps((np.array(scan.grid.shape)[None] - 1) / 2)[0] + (3, -2, 4)
    drawn = ball(ready.grid, centre, 16.0)
    back = ready.chain.to_native(drawn) > 0.5
    truth = ball(scan.grid, centre, 16.0)
    assert back.shape == scan.hu.shape
    assert 2 * (back & truth).sum() / (back.sum() + truth.sum()) > 0.9
    offset = np.argwhere(back).mean(axis=0) - np.argwhere(truth).mean(axis=0)
    assert np.abs(offset * scan.spacing_mm).max() < 0.3 * max(spacing)


def test_exact_steps__come_back_bit_for_bit(scan: NDArray[np.int16]) -> None:
    start = volume(scan, (10, 20, 30), orientation="IRA")
    ready = pad_to_multiple(crop_to_body(to_canonical(start), margin_mm=0), (16, 16, 16))
    assert [side % 16 for side in ready.grid.shape] == [0, 0, 0]
    back = ready.chain.to_native(ready.hu, fill=np.nan)
    kept = ~np.isnan(back)
    assert 0.3 < kept.mean() < 1
    assert (back[kept] == start.hu[kept]).all()
    assert [name for name, _ in ready.chain.steps] == [
        "read",
        "turned to SPL",
        "cropped to the body",
        "padded",
    ]


@pytest.mark.parametrize("degrees", [(0.0, 0.0, 0.0), (7.0, -4.0, 3.0)])
def test_resample__puts_a_point_where_its_lps_coordinates_say(degrees: tuple[float, float, float]) -> None:
    points = np.zeros((30, 50, 50))
    points[9, 20, 31] = 1000
    start = volume(points, degrees, (3.0, 1.0, 1.0))
    place = start.grid.to_lps(np.array([[9.0, 20.0, 31.0]]))
    for changed in (resample(start, (2.0, 1.7, 1.7)), straighten(start, (2.0, 1.7, 1.7))):
        weights = np.clip(changed.hu, 0, None).ravel()  # without the air that fills corners
        where = changed.grid.to_lps(np.indices(changed.grid.shape).reshape(3, -1).T)
        centre = (where * weights[:, None]).sum(axis=0) / weights.sum()
        assert np.abs(centre - place).max() < 0.5


def test_patches__of_padding_do_not_fade_into_the_scan() -> None:
    """Patches of padding alone hold nonsense; here they are 0 where the scan has 1."""
    ready = pad_to_multiple(volume(np.zeros((21, 40, 36))), (8, 32, 32))
    patches = np.zeros((3, 2, 2), np.float32)
    inside = ready.valid
    assert inside is not None
    touched = inside.reshape(3, 8, 2, 32, 2, 32).any(axis=(1, 3, 5))
    patches[touched] = 1
    assert (ready.chain.to_native(patches) == 1).all()
    wide = pad_to_multiple(volume(np.zeros((16, 32, 32))), (24, 96, 96))
    patches = np.zeros((3, 3, 3), np.float32)
    patches[1, 1, 1] = 1  # the only patches that touch the scan
    patches[0, 1, 1] = patches[2, 1, 1] = 1
    assert (wide.chain.to_native(patches) == 1).all()


def test_valid__follows_and_air_fills(scan: NDArray[np.int16]) -> None:
    start = volume(scan)
    ready = straighten(volume(scan, (0, 0, 25)), (5.0, 2.0, 2.0))
    assert resample(start, (5.0, 2.0, 2.0)).valid is None
    assert ready.valid is not None
    assert (ready.hu[~ready.valid] == -1000).all()
    assert ready.valid.sum() == pytest.approx(scan.size, rel=0.05)
    padded = pad_to_multiple(start, (64, 64, 64))
    assert padded.valid is not None
    assert padded.valid.sum() == scan.size
    assert padded.hu.min() >= -1024


def test_crop_to_body__leaves_the_table_and_keeps_the_margin() -> None:
    hu = np.full((30, 60, 60), -1000.0)
    hu[5:25, 20:40, 15:45] = 40
    hu[:, 55:57, 10:50] = 300  # a table, not connected
    start = volume(hu, spacing=(2.0, 2.0, 2.0))
    cropped = crop_to_body(start, margin_mm=6)
    assert (cropped.hu == 40).sum() == (hu == 40).sum()
    assert cropped.grid.shape[1] < 45
    low, high = np.argwhere(cropped.hu == 40).min(axis=0), np.argwhere(cropped.hu == 40).max(axis=0)
    assert (low * 2 >= 5).all()
    assert ((np.array(cropped.grid.shape) - 1 - high) * 2 >= 5).all()
    with pytest.raises(DataError, match="nothing but air"):
        crop_to_body(volume(np.full((9, 9, 9), -1000.0)))
