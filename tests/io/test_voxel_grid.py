"""Grids: a voxel keeps its place in the patient whatever is done, by our reckoning and by nibabel's and SimpleITK's."""

from itertools import permutations, product

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from glint.errors import DataError, UsageError
from glint.io.voxel_grid import VoxelGrid, check_affine

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
REVERSED = np.eye(4)[[2, 1, 0, 3]]
ORIENTATIONS = [
    "".join(letters[axis] for axis in order)
    for letters in product("LR", "PA", "SI")
    for order in permutations(range(3))
]
ANGLES = st.tuples(st.floats(-180, 180), st.floats(-90, 90), st.floats(-180, 180))
SPACINGS = st.tuples(*[st.floats(0.3, 6)] * 3)
SHAPES = st.tuples(*[st.integers(2, 40)] * 3)


def oblique(angles: tuple[float, ...], spacing: tuple[float, ...], mirror: bool) -> NDArray[np.float64]:
    """Return an affine of rotated, perhaps mirrored axes with an origin off centre."""
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * np.array(spacing)
    affine[:3, 1] *= -1 if mirror else 1
    affine[:3, 3] = (-120.5, 33.25, 1800)
    return affine


def corners(shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.array(list(product(*[(0, side - 1) for side in shape])), dtype=np.float64)


def test_frame__index_order_is_zyx_and_points_are_lps_xyz() -> None:
    affine = np.array([[0, 0, 0.7, -100], [0, 0.8, 0, -120], [2.5, 0, 0, 40], [0, 0, 0, 1.0]])
    grid = VoxelGrid((10, 20, 30), affine)
    assert grid.orientation == "SPL"
    assert grid.spacing_mm == (2.5, 0.8, 0.7)
    np.testing.assert_allclose(grid.to_lps(np.array([[2.0, 1.0, 4.0]])), [[-97.2, -119.2, 45]])
    assert grid.tilt_deg == grid.shear_deg == 0
    assert not grid.left_handed


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_turned__all_48_orders_keep_every_voxel_in_place(orientation: str) -> None:
    """A value that is a function of the LPS point must follow it, from and to every orientation."""
    canonical = VoxelGrid((3, 4, 5), np.array([[0, 0, 2, -7], [0, 3, 0, 5], [4, 0, 0, 9], [0, 0, 0, 1.0]]))
    grid, axes, backwards = canonical.turned(orientation)
    indices = np.indices((3, 4, 5)).reshape(3, -1).T
    values = (canonical.to_lps(indices) @ (1.0, 100.0, 10000.0)).reshape(3, 4, 5)
    turned = np.flip(values.transpose(axes), backwards)
    assert grid.orientation == orientation
    assert grid.shape == turned.shape
    there = np.indices(turned.shape).reshape(3, -1).T
    np.testing.assert_allclose(grid.to_lps(there) @ (1.0, 100.0, 10000.0), turned.ravel(), atol=1e-3)
    again, axes, backwards = grid.turned("SPL")
    assert (np.flip(turned.transpose(axes), backwards) == values).all()
    np.testing.assert_allclose(again.affine, canonical.affine, atol=1e-9)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_orientation__agrees_with_nibabel(orientation: str) -> None:
    """Array and letters in nibabel's order (i, j, k), in RAS."""
    canonical = VoxelGrid((3, 4, 5), np.array([[0, 0, 2, -7], [0, 3, 0, 5], [4, 0, 0, 9], [0, 0, 0, 1.0]]))
    grid, _, _ = canonical.turned(orientation)
    ras = RAS_TO_LPS @ grid.affine @ REVERSED
    assert "".join(nib.aff2axcodes(ras)) == grid.orientation[::-1]
    image = nib.Nifti1Image(np.arange(60.0).reshape(grid.shape).transpose(2, 1, 0), ras)
    theirs = nib.as_closest_canonical(image)  # RAS in (i, j, k) is SAR in array order
    ours, axes, backwards = grid.turned("SAR")
    turned = np.flip(np.arange(60.0).reshape(grid.shape).transpose(axes), backwards)
    assert (turned.transpose(2, 1, 0) == np.asarray(theirs.dataobj)).all()
    np.testing.assert_allclose(RAS_TO_LPS @ ours.affine @ REVERSED, theirs.affine, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(angles=ANGLES, spacing=SPACINGS, shape=SHAPES, mirror=st.booleans(), to=st.sampled_from(ORIENTATIONS))
def test_turned__random_obliques_move_no_voxel(
    angles: tuple[float, ...],
    spacing: tuple[float, float, float],
    shape: tuple[int, int, int],
    mirror: bool,
    to: str,
) -> None:
    grid = VoxelGrid(shape, oblique(angles, spacing, mirror))
    turned, axes, backwards = grid.turned(to)
    new = corners(turned.shape)
    old = np.zeros_like(new)
    for b, a in enumerate(axes):
        old[:, a] = shape[a] - 1 - new[:, b] if b in backwards else new[:, b]
    assert np.linalg.norm(turned.to_lps(new) - grid.to_lps(old), axis=1).max() <= 1e-3
    assert np.linalg.norm(turned.to_index(turned.to_lps(new)) - new, axis=1).max() <= 1e-6
    assert sorted(turned.spacing_mm) == pytest.approx(sorted(spacing))
    assert grid.left_handed == (np.linalg.det(grid.affine[:3, [2, 1, 0]]) < 0)


@settings(max_examples=60, deadline=None)
@given(angles=ANGLES, mirror=st.booleans())
def test_orientation__of_obliques_agrees_with_nibabel(angles: tuple[float, ...], mirror: bool) -> None:
    """Where one axis is clearly nearest: at 45 degrees either name is right."""
    grid = VoxelGrid((8, 8, 8), oblique(angles, (1.0, 2.0, 3.0), mirror))
    if grid.tilt_deg < 40:
        assert "".join(nib.aff2axcodes(RAS_TO_LPS @ grid.affine @ REVERSED)) == grid.orientation[::-1]


@settings(max_examples=40, deadline=None)
@given(angles=ANGLES, spacing=SPACINGS, shape=SHAPES, mirror=st.booleans())
def test_points__agree_with_simpleitk(
    angles: tuple[float, ...],
    spacing: tuple[float, float, float],
    shape: tuple[int, int, int],
    mirror: bool,
) -> None:
    sitk = pytest.importorskip("SimpleITK")
    grid = VoxelGrid(shape, oblique(angles, spacing, mirror))
    image = sitk.Image([1, 1, 1], sitk.sitkUInt8)
    columns = grid.affine[:3, :3][:, ::-1]
    image.SetSpacing(grid.spacing_mm[::-1])
    image.SetDirection((columns / np.array(grid.spacing_mm[::-1])).ravel())
    image.SetOrigin(grid.affine[:3, 3])
    index = corners(shape)
    theirs = [image.TransformContinuousIndexToPhysicalPoint(tuple(point[::-1])) for point in index]
    assert np.abs(grid.to_lps(index) - theirs).max() <= 1e-3


@settings(max_examples=60, deadline=None)
@given(angles=ANGLES, spacing=SPACINGS, shape=SHAPES, new=SPACINGS)
def test_spaced_and_straightened__cover_the_box(
    angles: tuple[float, ...],
    spacing: tuple[float, float, float],
    shape: tuple[int, int, int],
    new: tuple[float, float, float],
) -> None:
    grid = VoxelGrid(shape, oblique(angles, spacing, mirror=True))
    edges = np.array(list(product(*[(-0.5, side - 0.5) for side in shape])))
    for covering, spare in ((grid.spaced(new), 1.0), (grid.straightened(new), None)):
        assert covering.spacing_mm == pytest.approx(new)
        index = covering.to_index(grid.to_lps(edges))
        assert index.min() >= -0.5 - 1e-5
        assert (index.max(axis=0) <= np.array(covering.shape) - 0.5 + 1e-5).all()
        if spare:
            assert (np.array(covering.shape) - np.ptp(index, axis=0) < spare + 1e-5).all()
    assert grid.straightened(new).orientation == "SPL"
    assert grid.straightened(new).tilt_deg < 1e-3


@given(shape=SHAPES, cells=SHAPES)
def test_divided__has_the_same_box(shape: tuple[int, int, int], cells: tuple[int, int, int]) -> None:
    grid = VoxelGrid(shape, oblique((10, 20, 30), (1, 2, 3), mirror=False))
    coarse = grid.divided(cells)
    for edge in (np.full(3, -0.5), np.array(shape) - 0.5):
        expected = np.where(edge < 0, -0.5, np.array(cells) - 0.5)
        np.testing.assert_allclose(coarse.to_index(grid.to_lps(edge[None])), expected[None], atol=1e-6)


def test_shear__is_measured() -> None:
    affine = np.array([[0, 0, 1.0, 0], [np.tan(np.radians(12)) * 2, 1, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])
    grid = VoxelGrid((9, 9, 9), affine)
    assert grid.shear_deg == pytest.approx(12)
    assert grid.tilt_deg == pytest.approx(12)


@pytest.mark.parametrize(
    ("affine", "words"),
    [
        (np.diag([1.0, 1, np.nan, 1]), "NaN"),
        (np.diag([1.0, 1, 0, 1]), "singular"),
        (np.zeros((4, 4)), "4 x 4"),
        (np.array([[1.0, 1, 0, 0], [1, 1.01, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "singular"),
        (np.eye(3), "4 x 4"),
    ],
)
def test_affine__that_is_no_place_is_refused(affine: NDArray[np.float64], words: str) -> None:
    with pytest.raises(DataError, match=words):
        VoxelGrid((9, 9, 9), affine)


@pytest.mark.parametrize("step", [2000.0, 0.001])
def test_affine__of_a_scan_has_a_sensible_spacing(step: float) -> None:
    VoxelGrid((9, 9, 9), np.diag([1.0, 1, step, 1]))  # patches may be large
    with pytest.raises(DataError, match="impossible size"):
        check_affine(np.diag([1.0, 1, step, 1]), "scan.nii")


@pytest.mark.parametrize("name", ["", "RA", "SPP", "XYZ", "SPLL", "spl"])
def test_turned__refuses_what_is_no_orientation(name: str) -> None:
    with pytest.raises(UsageError, match="no orientation"):
        VoxelGrid((9, 9, 9), np.eye(4)).turned(name)
