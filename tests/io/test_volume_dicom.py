"""DICOM series: the scan comes back whatever the files are called; unclear geometry is refused with the reason."""

import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.encaps import encapsulate
from pydicom.uid import generate_uid
from tests.io.conftest import ct_slice

from glint.errors import DataError
from glint.io.volume import Volume, read_volume
from glint.io.volume_steps import to_canonical

Scan = NDArray[np.int16]
MARKED = "ZZPATIENTZZ"
ROW, COLUMN, STEP = np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), np.array([0, 0, 2.5])
SPACING = (0.8, 0.7)
ORIGIN = np.array([-120.0, -90, 40])
JPEG_LOSSLESS, JPEG_LS = "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.80"


def slice_file(stored: NDArray[Any], position: NDArray[np.float64], uid: str, **tags: Any) -> FileDataset:
    """Return one CT image of stored values = HU + 1024, with marked patient data."""
    data = ct_slice(stored, SeriesInstanceUID=uid)
    data.PatientName, data.PatientID, data.SeriesDescription = f"{MARKED}^A", MARKED, MARKED
    data.ImagePositionPatient = [f"{value:.6g}" for value in position]
    data.ImageOrientationPatient = [*ROW, *COLUMN]
    data.PixelSpacing, data.SliceThickness = list(SPACING), 99
    data.RescaleSlope, data.RescaleIntercept = 1, -1024
    for name, value in tags.items():
        setattr(data, name, value)
    return data


def write_series(
    folder: Path,
    scan: Scan,
    step: NDArray[np.float64] = STEP,
    change: Callable[[int, FileDataset], None] = lambda n, data: None,
    **tags: Any,
) -> Path:
    """Write a scan with shuffled file names; `change` may spoil slice n."""
    folder.mkdir(exist_ok=True)
    uid = generate_uid()
    names = list(range(len(scan)))
    random.Random(0).shuffle(names)
    for n, plane in enumerate(scan):
        data = slice_file((plane + 1024).astype(np.int16), ORIGIN + n * step, uid, **tags)
        change(n, data)
        data.save_as(folder / f"IM{names[n]:04d}", enforce_file_format=True)
    return folder


def in_patient(found: Volume, scan: Scan, step: NDArray[np.float64] = STEP) -> None:
    """Check every corner voxel: value and place."""
    canonical = to_canonical(found)
    for z in (0, len(scan) - 1):
        for y, x in ((0, 0), (scan.shape[1] - 1, scan.shape[2] - 1)):
            point = ORIGIN + z * step + y * SPACING[0] * COLUMN + x * SPACING[1] * ROW
            index = np.rint(canonical.grid.to_index(point[None])[0]).astype(int)
            assert np.abs(canonical.grid.to_lps(index[None].astype(float)) - point).max() < 1e-3
            assert canonical.hu[tuple(index)] == scan[z, y, x]


@pytest.mark.parametrize("turn", [False, True])
def test_read__shuffled_and_reversed_series_equal_the_scan(tmp_path: Path, scan: Scan, turn: bool) -> None:
    """Feet first or head first in the file numbering: positions alone count."""
    step = -STEP if turn else STEP
    found = read_volume(write_series(tmp_path / "s", scan, step))
    assert (found.hu == (scan[::-1] if turn else scan)).all()
    assert found.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    assert (found.grid.orientation, found.grid.left_handed) == ("SPL", False)
    assert (found.provenance.format, found.provenance.modality) == ("DICOM", "CT")
    assert MARKED not in repr(found.provenance)
    in_patient(found, scan, step)


def test_read__agrees_with_simpleitk(tmp_path: Path, scan: Scan) -> None:
    sitk = pytest.importorskip("SimpleITK")
    turned = [0, 1, 0, 0, 0, -1]  # sagittal
    folder = write_series(
        tmp_path / "s", scan, np.array([-2.5, 0, 0]), ImageOrientationPatient=turned, RescaleIntercept=-1024
    )
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    theirs = reader.Execute()
    found = read_volume(folder)
    index = np.array([[0, 0, 0], [19, 25, 31], [3, 20, 7]])
    for z, y, x in index:
        point = found.grid.to_lps(np.array([[z, y, x]], dtype=float))[0]
        there = theirs.TransformPhysicalPointToIndex(tuple(point))
        assert theirs[there] == found.hu[z, y, x]
        assert np.abs(np.array(theirs.TransformIndexToPhysicalPoint(there)) - point).max() < 1e-3
    assert found.grid.orientation[0] in "LR"


@pytest.mark.parametrize(
    ("syntax", "encode"), [(JPEG_LOSSLESS, imagecodecs.ljpeg_encode), (JPEG_LS, imagecodecs.jpegls_encode)]
)
def test_read__compressed_series_equal_the_scan(tmp_path: Path, scan: Scan, syntax: str, encode: Any) -> None:
    def pack(_: int, data: FileDataset) -> None:
        pixels = np.frombuffer(data.PixelData, np.uint16).reshape(data.Rows, data.Columns)
        data.file_meta.TransferSyntaxUID = syntax
        data.PixelData = encapsulate([encode(np.ascontiguousarray(pixels))])
        data["PixelData"].is_undefined_length = True

    tags = {"PixelRepresentation": 0, "BitsStored": 16}
    assert (read_volume(write_series(tmp_path / "s", scan, change=pack, **tags)).hu == scan).all()


def test_read__rescale_of_every_slice_is_its_own(tmp_path: Path, scan: Scan) -> None:
    even = (scan // 4 * 4).astype(np.int16)

    def change(n: int, data: FileDataset) -> None:
        if n % 2:
            data.PixelData = (even[n] // 2).astype(np.int16).tobytes()
            data.RescaleSlope, data.RescaleIntercept = 2, 0

    assert (read_volume(write_series(tmp_path / "s", even, change=change)).hu == even).all()


@pytest.mark.parametrize("padding", [-2000, 63536])
def test_read__padding_is_air_and_not_valid(tmp_path: Path, scan: Scan, padding: int) -> None:
    """63536 is how some scanners write -2000: as if it were unsigned."""
    stored = scan.copy()
    stored[:, :3] = -2000 - 1024

    def change(_: int, data: FileDataset) -> None:
        data.add_new("PixelPaddingValue", "SS" if padding < 0 else "US", padding)

    found = read_volume(write_series(tmp_path / "s", stored, change=change))
    assert found.valid is not None
    assert not found.valid[:, :3].any()
    assert found.valid[:, 3:].all()
    assert (found.hu[:, :3] == -1000).all()
    assert (found.hu[:, 3:] == scan[:, 3:]).all()


def test_read__padding_value_of_the_header_counts_when_it_looks_like_air(tmp_path: Path, scan: Scan) -> None:
    """Here padding is stored as -1024 HU: only the header knows."""
    stored = np.clip(scan, -1020, None).astype(np.int16)
    stored[:, :3] = -1024

    def change(_: int, data: FileDataset) -> None:
        data.add_new("PixelPaddingValue", "SS", 0)

    found = read_volume(write_series(tmp_path / "s", stored, change=change))
    assert found.valid is not None
    assert (~found.valid).sum() == stored[:, :3].size


def test_read__gantry_tilt_is_kept_exactly(tmp_path: Path, scan: Scan) -> None:
    """Slices tilted by 12 degrees and stacked along the table: a sheared grid."""
    tilt = np.radians(12)
    column = [0, np.cos(tilt), np.sin(tilt)]
    found = read_volume(write_series(tmp_path / "s", scan, ImageOrientationPatient=[1, 0, 0, *column]))
    assert (found.hu == scan).all()
    assert found.grid.shear_deg == pytest.approx(12, abs=0.01)
    assert "gantry tilt of 12.0 degrees" in found.provenance.notes[0]
    place = found.grid.to_lps(np.array([[19.0, 25, 31]]))[0]
    expected = ORIGIN + 19 * STEP + 25 * 0.8 * np.array(column) + 31 * 0.7 * ROW
    np.testing.assert_allclose(place, expected, atol=1e-3)


def without(folder: Path, scan: Scan, *missing: int) -> Path:
    def mark(n: int, data: FileDataset) -> None:
        data.InstanceNumber = n

    write_series(folder, scan, change=mark)
    for path in list(folder.iterdir()):
        if int(pydicom.dcmread(path).InstanceNumber) in missing:
            path.unlink()
    return folder


@pytest.mark.parametrize("missing", [(7,), (1,), (18,), (5, 6, 12)])
def test_read__missing_slices_are_refused_or_interpolated(
    tmp_path: Path, scan: Scan, missing: tuple[int, ...]
) -> None:
    folder = without(tmp_path / "s", scan, *missing)
    with pytest.raises(DataError, match=f"{len(missing)} slices of the series are missing") as caught:
        read_volume(folder)
    assert f"after slice {missing[0]}" in caught.value.what
    found = read_volume(folder, fill_gaps=True)
    kept = [n for n in range(len(scan)) if n not in missing]
    assert found.hu.shape == scan.shape
    assert (found.hu[kept] == scan[kept]).all()
    assert "interpolated" in found.provenance.notes[0]
    if missing == (7,):
        np.testing.assert_allclose(found.hu[7], (scan[6].astype(float) + scan[8]) / 2)
    in_patient(found, scan)


def test_read__uneven_slices_are_refused_or_interpolated(tmp_path: Path) -> None:
    """Values are a function of z: interpolated slices must have those of their own place."""
    heights = np.concatenate([np.arange(10) * 2.0, 20 + np.arange(8) * 3.1])
    ramp = np.zeros((len(heights), 16, 16))
    ramp[:] = -900
    ramp[:, 4:12, 4:12] = np.rint(10 * heights)[:, None, None]

    def change(n: int, data: FileDataset) -> None:
        data.ImagePositionPatient = [*ORIGIN[:2], f"{ORIGIN[2] + heights[n]:.4f}"]

    folder = write_series(tmp_path / "s", ramp.astype(np.int16), change=change)
    with pytest.raises(DataError, match=r"2 to 3\.1 mm apart"):
        read_volume(folder)
    found = read_volume(folder, fill_gaps=True)
    z = found.grid.to_lps(np.stack([np.arange(found.hu.shape[0]), *[np.full(found.hu.shape[0], 8)] * 2], 1))[
        :, 2
    ]
    np.testing.assert_allclose(found.hu[:, 8, 8], 10 * (z - ORIGIN[2]), atol=1)
    assert z[-1] == pytest.approx(ORIGIN[2] + heights[-1])


def test_read__rounded_positions_are_even(tmp_path: Path, scan: Scan) -> None:
    def change(n: int, data: FileDataset) -> None:
        data.ImagePositionPatient = [*ORIGIN[:2], f"{ORIGIN[2] + n * 0.625:.1f}"]

    found = read_volume(write_series(tmp_path / "s", scan, np.array([0, 0, 0.625]), change))
    assert found.spacing_mm[0] == pytest.approx(0.625, rel=0.01)


def test_read__copies_of_a_slice_are_left_out(tmp_path: Path, scan: Scan) -> None:
    folder = write_series(tmp_path / "s", scan)
    (folder / "copies").mkdir()
    for path in sorted(folder.glob("IM*"))[:4]:
        shutil.copy(path, folder / "copies" / path.name)
    (folder / "notes.txt").write_text("no DICOM")
    found = read_volume(folder)
    assert (found.hu == scan).all()
    assert found.provenance.notes == (
        "4 copies of slices were left out",
        "1 files are no images",
    )


def test_read__several_series_are_listed_without_patient_data(tmp_path: Path, scan: Scan) -> None:
    write_series(tmp_path / "s", scan)
    write_series(tmp_path / "s" / "b", scan[:12])
    with pytest.raises(DataError, match="2 CT series") as caught:
        read_volume(tmp_path / "s")
    listed = re.findall(r"(\d) \((series-[0-9a-f]{10})\): (CT, \d+ slices of 32 x 26)", caught.value.expected)
    assert [(number, text) for number, _, text in listed] == [
        ("1", "CT, 20 slices of 32 x 26"),
        ("2", "CT, 12 slices of 32 x 26"),
    ]
    assert (read_volume(tmp_path / "s", series=listed[1][1]).hu == scan[:12]).all()
    assert MARKED not in caught.value.message()
    assert (read_volume(tmp_path / "s", series="2").hu == scan[:12]).all()
    uid = str(pydicom.dcmread(next((tmp_path / "s").glob("IM*"))).SeriesInstanceUID)
    assert (read_volume(tmp_path / "s", series=uid).hu == scan).all()
    with pytest.raises(DataError, match="no such series"):
        read_volume(tmp_path / "s", series="3")


def test_read__localizers_and_other_modalities_are_passed_over(tmp_path: Path, scan: Scan) -> None:
    folder = write_series(tmp_path / "s", scan)
    write_series(folder / "b", scan, Modality="MR")
    data = slice_file(
        (scan[0] + 1024).astype(np.int16), ORIGIN, generate_uid(), ImageType=["ORIGINAL", "PRIMARY"]
    )
    data.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    data.SeriesInstanceUID = pydicom.dcmread(next(folder.glob("IM*"))).SeriesInstanceUID
    data.save_as(folder / "scout", enforce_file_format=True)
    found = read_volume(folder)
    assert (found.hu == scan).all()
    assert "of 3" in found.provenance.notes[-1]
    with pytest.raises(DataError, match="no CT series"):
        read_volume(folder, series="3")


def at(which: int, **tags: Any) -> Callable[[int, FileDataset], None]:
    """Change some tags of one slice; None removes them."""

    def change(n: int, data: FileDataset) -> None:
        for name, value in tags.items() if n == which else ():
            if value is None:
                delattr(data, name)
            else:
                setattr(data, name, value)

    return change


def twice(n: int, data: FileDataset) -> None:
    data.ImagePositionPatient = list(ORIGIN + (n // 2) * STEP)


BAD: dict[str, tuple[Callable[[int, FileDataset], None], dict[str, Any], str]] = {
    "two phases": (twice, {}, "10 of 20 slices .* where another"),
    "one place": (
        lambda n, data: setattr(data, "ImagePositionPatient", [0, 0, 0]),
        {},
        "19 of 20 slices",
    ),
    "orientations": (at(5, ImageOrientationPatient=[0, 1, 0, 0, 0, -1]), {}, "different orientations"),
    "pixel sizes": (at(5, PixelSpacing=[0.9, 0.9]), {}, "different pixel sizes"),
    "sizes": (at(5, Rows=13, PixelData=bytes(13 * 32 * 2)), {}, "different sizes"),
    "no position": (at(5, ImagePositionPatient=None), {}, "does not say where"),
    "no orientation": (at(5, ImageOrientationPatient=None), {}, "does not say where"),
    "odd orientation": (at(5, ImageOrientationPatient=[1, 0, 0, 1, 0, 0]), {}, "does not say where"),
    "no spacing": (at(5, PixelSpacing=[0, 0]), {}, "does not say where"),
    "shifted": (at(5, ImagePositionPatient=[-100, -90, 52.5]), {}, "shifted against each other"),
    "colour": (at(5, PhotometricInterpretation="PALETTE COLOR"), {}, "colour"),
    "cut pixels": (at(5, PixelData=bytes(100)), {}, "cannot be decoded"),
    "no pixels": (at(5, PixelData=None), {}, "cannot be decoded"),
    "electron density": (at(5, RescaleType="ED"), {}, "no Hounsfield units"),
    "rescale of 0": (at(5, RescaleSlope="0"), {}, "cannot be decoded"),
    "MR": (at(-1), {"Modality": "MR"}, "no CT series"),
    "enhanced": (at(-1), {"NumberOfFrames": 2}, "no CT series"),
    "no intercept": (at(-1), {"RescaleIntercept": 0}, "without rescale"),
    "rescaled twice": (at(-1), {"RescaleIntercept": -2048}, "applied twice"),
}


@pytest.mark.parametrize("name", BAD)
def test_read__bad_series_say_what_is_wrong(tmp_path: Path, scan: Scan, name: str) -> None:
    change, tags, words = BAD[name]
    folder = write_series(tmp_path / "s", scan, change=change, **tags)
    with pytest.raises(DataError, match=words) as caught:
        read_volume(folder)
    assert str(caught.value.where).startswith(str(folder))
    assert MARKED not in caught.value.message()


def test_read__folders_without_a_scan_say_so(tmp_path: Path, scan: Scan) -> None:
    with pytest.raises(DataError, match="no images"):
        read_volume(tmp_path)
    folder = write_series(tmp_path / "s", scan[:3])
    with pytest.raises(DataError, match="no CT series") as caught:
        read_volume(folder)
    assert "CT, 3 slices" in caught.value.fix


def test_read__reports_and_plans_in_the_folder_do_not_matter(tmp_path: Path, scan: Scan) -> None:
    folder = write_series(tmp_path / "s", scan)
    report = slice_file(scan[0], ORIGIN, generate_uid(), Modality="SR")
    for name in ("PixelData", "Rows", "Columns"):
        delattr(report, name)
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    report.save_as(folder / "report", enforce_file_format=True)
    assert (read_volume(folder).hu == scan).all()
