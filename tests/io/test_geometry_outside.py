"""DICOM -> array -> NIfTI -> array: the same places as SimpleITK and nibabel say, for any axes and any tilt."""

from itertools import permutations, product
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.uid import generate_uid
from tests.io.conftest import ct_slice

from glint.io.volume import read_volume
from glint.io.volume_nifti import write_nifti

sitk: Any = pytest.importorskip("SimpleITK")
Floats = NDArray[np.float64]
SHAPE = (8, 9, 10)
TOLERANCE_MM = 1e-3
RAS = np.array([-1, -1, 1])


def scan() -> NDArray[np.int16]:
    """Every voxel has its own value: air in even places, soft tissue in odd ones."""
    count = np.arange(int(np.prod(SHAPE)))
    return (np.where(count % 2, -100, -1000) + count // 2).astype(np.int16).reshape(SHAPE)


def write_series(
    folder: Path, values: NDArray[np.int16], axes: Floats, spacing: Floats, origin: Floats
) -> None:
    """Write slices; columns of `axes` are the unit vectors of (slice, row, column) steps in LPS."""
    folder.mkdir()
    uid = generate_uid()
    for n, plane in enumerate(values):
        data = ct_slice(plane)
        data.SeriesInstanceUID, data.StudyInstanceUID, data.InstanceNumber = uid, uid, n + 1
        data.ImagePositionPatient = [f"{v:.9g}" for v in origin + n * spacing[0] * axes[:, 0]]
        data.ImageOrientationPatient = [f"{v:.9g}" for v in [*axes[:, 2], *axes[:, 1]]]
        data.PixelSpacing = [f"{spacing[1]:.9g}", f"{spacing[2]:.9g}"]
        data.RescaleSlope, data.RescaleIntercept = 1, 0
        data.save_as(folder / f"{(n * 5) % 8}.dcm", enforce_file_format=True)


def check(folder: Path, axes: Floats, spacing: Floats, origin: Floats) -> float:
    """Go all the way and return the largest distance between any two that speak of the same voxel, in mm."""
    values = scan()
    write_series(folder / "s", values, axes, spacing, origin)
    index = np.array(list(product(*[(0, 3, side - 1) for side in SHAPE])), dtype=float)
    truth = origin + (index * spacing) @ axes.T
    flat = {int(values[tuple(n)]): point for n, point in zip(index.astype(int), truth, strict=True)}
    dicom = read_volume(folder / "s")
    write_nifti(folder / "x.nii", dicom.hu.astype(np.int16), dicom.grid)
    nifti = read_volume(folder / "x.nii")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder / "s")))
    images = [reader.Execute(), sitk.ReadImage(str(folder / "x.nii"))]
    theirs = nibabel.load(folder / "x.nii")
    worst = 0.0
    for value, point in flat.items():
        for ours in (dicom, nifti):
            at = np.argwhere(ours.hu == value)
            assert len(at) == 1
            worst = max(worst, float(np.abs(ours.grid.to_lps(at.astype(float))[0] - point).max()))
        for image in images:
            near = image.TransformPhysicalPointToIndex(tuple(point))
            assert image[near] == value
            worst = max(
                worst, float(np.abs(np.array(image.TransformIndexToPhysicalPoint(near)) - point).max())
            )
        at = np.argwhere(np.asarray(theirs.dataobj) == value)[0]
        worst = max(worst, float(np.abs((theirs.affine @ [*at, 1])[:3] * RAS - point).max()))
    return worst


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_axes__all_48_orders_agree_with_others(tmp_path: Path, order: tuple[int, int, int]) -> None:
    for n, signs in enumerate(product((1, -1), repeat=3)):
        axes = np.zeros((3, 3))
        axes[list(order), range(3)] = signs
        (tmp_path / str(n)).mkdir()
        worst = check(tmp_path / str(n), axes, np.array([2.5, 0.8, 0.7]), np.array([-120.5, 90.25, 40]))
        assert worst <= TOLERANCE_MM


@pytest.mark.parametrize("count", [12, pytest.param(1000, marks=pytest.mark.slow)])
def test_axes__random_obliques_agree_with_others(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    worst = 0.0
    for n in range(count):
        axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        spacing, origin = rng.uniform(0.3, 4, 3), rng.uniform(-400, 400, 3)
        (tmp_path / str(n)).mkdir()
        worst = max(worst, check(tmp_path / str(n), axes, spacing, origin))
    print(f"{count} obliques: largest error {worst:.2e} mm")
    assert worst <= TOLERANCE_MM
