"""The real CT as a compressed DICOM series equals its NIfTI file: values and places."""

from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, generate_uid
from tests.io.conftest import ct_slice

from glint.io.volume import Volume, read_volume
from glint.io.volume_steps import to_canonical


def write_j2k(folder: Path, volume: Volume, slices: range) -> None:
    """Write axial slices, JPEG 2000 lossless, 12 bits as from a scanner; padding becomes -2000 as PixelPaddingValue."""
    folder.mkdir()
    series, study = generate_uid(), generate_uid()
    grid = volume.grid
    step, down, right = (grid.affine[:3, axis] for axis in range(3))
    hu = volume.hu.copy()
    if volume.valid is not None:
        hu[~volume.valid] = -1025
    for n in slices:
        stored = np.rint(hu[n] + 1025).astype(np.uint16)
        data = ct_slice(stored, JPEG2000Lossless)
        data.SeriesInstanceUID, data.StudyInstanceUID = series, study
        spacing = [float(np.linalg.norm(down)), float(np.linalg.norm(right))]
        data.ImagePositionPatient = [f"{v:.10g}" for v in grid.affine[:3, 3] + n * step]
        data.ImageOrientationPatient = [f"{v:.10g}" for v in [*right / spacing[1], *down / spacing[0]]]
        data.PixelSpacing = spacing
        data.RescaleSlope, data.RescaleIntercept, data.PixelPaddingValue = 1, -1025, 0
        code = imagecodecs.jpeg2k_encode(stored, level=0, codecformat="j2k", reversible=True)
        data.PixelData = encapsulate([code])
        data["PixelData"].is_undefined_length = True
        data.save_as(folder / f"{pydicom.uid.generate_uid()}", enforce_file_format=True)


@pytest.mark.parametrize("every", [16, pytest.param(1, marks=pytest.mark.slow)])
def test_real_ct__as_a_jpeg_2000_series_equals_its_nifti(tmp_path: Path, real_ct: Path, every: int) -> None:
    nifti = read_volume(real_ct)
    slices = range(0, nifti.hu.shape[0], every)
    write_j2k(tmp_path / "s", nifti, slices)
    series, nifti = to_canonical(read_volume(tmp_path / "s")), to_canonical(nifti)
    assert series.grid.orientation == nifti.grid.orientation == "SPL"
    assert (series.hu == nifti.hu[::every]).all()
    assert series.valid is not None
    assert nifti.valid is not None
    assert (series.valid == nifti.valid[::every]).all()
    corners = np.array(
        [[0, 0, 0], [len(slices) - 1, 511, 0], [0, 0, 511], [len(slices) - 1, 511, 511]], float
    )
    there = nifti.grid.to_lps(corners * [every, 1, 1])
    assert np.abs(series.grid.to_lps(corners) - there).max() < 1e-3
