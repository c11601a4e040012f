"""Values between grids: exact where voxels are shared, else as torch and SimpleITK interpolate."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from glint.io.regrid import regrid
from glint.io.voxel_grid import VoxelGrid

NOISE = np.random.default_rng(0).normal(0, 300, (13, 17, 11)).astype(np.float32)
GRID = VoxelGrid(
    (13, 17, 11), np.array([[0, 0, 0.7, -100], [0, 0.8, 0, -120], [2.5, 0, 0, 40], [0, 0, 0, 1.0]])
)


def rotated(grid: VoxelGrid, degrees: tuple[float, float, float]) -> VoxelGrid:
    """Return the grid turned in space about its own centre."""
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix()
    centre = grid.to_lps((np.array(grid.shape)[None] - 1) / 2)[0]
    affine = turn @ grid.affine
    affine[:3, 3] += centre - turn[:3, :3] @ centre
    return VoxelGrid(grid.shape, affine)


@settings(deadline=None)
@given(
    orientation=st.sampled_from(["SPL", "IRA", "LPS", "ARI", "RAS"]),
    start=st.tuples(*[st.integers(-4, 6)] * 3),
    shape=st.tuples(*[st.integers(1, 20)] * 3),
    angle=st.floats(-90, 90),
)
def test_regrid__turns_crops_and_paddings_are_exact(
    orientation: str, start: tuple[int, int, int], shape: tuple[int, int, int], angle: float
) -> None:
    source = rotated(GRID, (angle, 20, 5))  # oblique in the patient; the two grids still have parallel axes
    target, axes, backwards = source.turned(orientation)
    padded = np.full([side + 60 for side in target.shape], -7, dtype=np.float32)
    turned = np.flip(NOISE.transpose(axes), backwards)
    padded[30:-30, 30:-30, 30:-30] = turned
    expected = padded[tuple(slice(30 + s, 30 + s + n) for s, n in zip(start, shape, strict=True))]
    assert (regrid(NOISE, source, target.box(start, shape), fill=-7) == expected).all()


@pytest.mark.parametrize("shape", [(13, 34, 22), (26, 17, 30), (40, 40, 40)])
def test_regrid__growing_agrees_with_torch(shape: tuple[int, int, int]) -> None:
    ours = regrid(NOISE, GRID, GRID.divided(shape), fill=np.nan)
    theirs = F.interpolate(torch.from_numpy(NOISE)[None, None], shape, mode="trilinear")[0, 0]
    np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-2)


@pytest.mark.parametrize("shape", [(5, 6, 4), (13, 8, 3)])
def test_regrid__shrinking_agrees_with_antialiased_torch(shape: tuple[int, int, int]) -> None:
    """Torch antialiases two axes at a time: (Y, X) first, then Z as rows of a picture."""
    values = torch.from_numpy(NOISE)[None]
    z, y, x = shape
    flat = F.interpolate(values, (y, x), mode="bilinear", antialias=True).reshape(1, 1, 13, y * x)
    theirs = F.interpolate(flat, (z, y * x), mode="bilinear", antialias=True).reshape(shape)
    ours = regrid(NOISE, GRID, GRID.divided(shape), fill=np.nan)
    np.testing.assert_allclose(ours, theirs.numpy(), atol=0.5)


@settings(max_examples=25, deadline=None)
@given(degrees=st.tuples(*[st.floats(-60, 60)] * 3))
def test_regrid__obliques_agree_with_grid_sample(degrees: tuple[float, float, float]) -> None:
    target = rotated(GRID, degrees).spaced((0.7, 0.7, 0.7))  # finer along every axis: nothing to antialias
    ours = regrid(NOISE, GRID, target, fill=-1000)
    index = np.indices(target.shape).reshape(3, -1).T.astype(np.float64)
    position = GRID.to_index(target.to_lps(index))
    points = ((2 * position + 1) / np.array(GRID.shape) - 1)[:, ::-1].reshape(1, *target.shape, 3)
    theirs = F.grid_sample(
        torch.from_numpy(NOISE).double()[None, None],
        torch.from_numpy(points.copy()),
        padding_mode="border",
        align_corners=False,
    )[0, 0].numpy()
    inside = (np.abs(points) <= 1).all(axis=-1)[0]
    if np.abs(np.array(degrees)).max() > 1:
        np.testing.assert_allclose(ours[inside], theirs[inside], atol=0.1)
        edge = (np.abs(np.abs(points) - 1) < 1e-3).any(axis=-1)[0]
        assert (ours[~inside & ~edge] == -1000).all()


def test_regrid__agrees_with_simpleitk_on_an_oblique_grid() -> None:
    sitk = pytest.importorskip("SimpleITK")
    target = rotated(GRID, (15, -20, 30)).spaced((0.7, 0.7, 0.7))

    def image(grid: VoxelGrid, values: np.ndarray) -> object:
        made = sitk.GetImageFromArray(values)
        made.SetSpacing(grid.spacing_mm[::-1])
        made.SetDirection((grid.affine[:3, 2::-1] / np.array(grid.spacing_mm[::-1])).ravel())
        made.SetOrigin(grid.affine[:3, 3])
        return made

    reference = image(target, np.zeros(target.shape, np.float32))
    theirs = sitk.GetArrayFromImage(
        sitk.Resample(image(GRID, NOISE), reference, sitk.Transform(), sitk.sitkLinear, -1000.0)
    )
    ours = regrid(NOISE, GRID, target, fill=-1000)
    inner = (
        regrid(np.pad(np.ones((11, 15, 9)), 1), GRID, target, fill=0) > 0.999
    )  # off the border, where rules differ
    assert inner.sum() > 1000
    np.testing.assert_allclose(ours[inner], theirs[inner], atol=0.1)


@pytest.mark.parametrize("degrees", [(0.0, 0.0, 0.0), (20.0, 10.0, 5.0)])
def test_regrid__shrinking_keeps_the_mean_and_loses_the_noise(degrees: tuple[float, float, float]) -> None:
    """Without antialiasing the noise of every fourth voxel would stay as loud as before."""
    noise = np.random.default_rng(1).normal(50, 100, (48, 48, 48)).astype(np.float32)
    grid = VoxelGrid((48, 48, 48), np.eye(4))
    small = regrid(noise, grid, rotated(grid, degrees).spaced((4.0, 4.0, 4.0)), fill=np.nan)
    inner = small[3:-3, 3:-3, 3:-3]
    assert abs(inner.mean() - 50) < 3
    assert inner.std() < 25


def test_regrid__constant_stays_constant_up_to_the_border() -> None:
    ones = np.ones(GRID.shape, np.float32)
    for target in (GRID.divided((5, 5, 5)), GRID.divided((40, 40, 40)), rotated(GRID, (0.5, 0.5, 0.5))):
        moved = regrid(ones, GRID, target, fill=1)
        np.testing.assert_allclose(moved, 1, atol=1e-5)
