"""Segmentations: right voxels for every reader, empty frames and segments left out, nothing of the patient too much."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray

from glint.errors import DataError
from glint.io.dicom_out.findings import Finding
from glint.io.dicom_out.headers import read_header, read_series_headers
from glint.io.dicom_out.segmentation import SEG_TYPES, segmentation
from glint.io.dicom_out.stamp import Stamp
from glint.io.volume import read_volume

Points = NDArray[np.float64]
Write = Callable[..., Path]


@pytest.mark.parametrize("modality", ["CR", "DX"])
@pytest.mark.parametrize("kind", SEG_TYPES)
def test_radiograph__mask_comes_back_pixel_by_pixel(
    radiograph_file: Write, findings: list[Finding], stamp: Stamp, tmp_path: Path, modality: str, kind: Any
) -> None:
    headers = [read_header(radiograph_file(modality))]
    written = segmentation(headers, findings, stamp, seg_type=kind)
    assert written is not None
    written.save_as(tmp_path / "seg.dcm")
    found = hd.seg.segread(tmp_path / "seg.dcm")
    assert found.segment_numbers == [1, 2]
    pixels = found.get_pixels_by_source_instance([headers[0].SOPInstanceUID], segment_numbers=[1, 2])[0]
    if kind == "fractional":
        expected = [finding.heat for finding in findings[:2]]
        assert np.abs(pixels - np.stack([heat[0] for heat in expected if heat is not None], -1)).max() < 0.003
        return
    masks = [finding.mask[0] for finding in findings[:2]]
    if kind == "labelmap":  # the higher score wins
        masks[1] = masks[1] & ~masks[0]
    for number, mask in enumerate(masks):
        assert (pixels[..., number] == mask).all()


def test_radiograph__simpleitk_reads_the_same_masks(
    radiograph_file: Write, findings: list[Finding], stamp: Stamp, tmp_path: Path
) -> None:
    sitk = pytest.importorskip("SimpleITK")
    written = segmentation([read_header(radiograph_file())], findings, stamp)
    assert written is not None
    written.save_as(tmp_path / "seg.dcm")
    frames = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "seg.dcm")))
    assert ((frames > 0) == np.concatenate([finding.mask for finding in findings[:2]])).all()


def test_empty__no_segment_and_no_file(radiograph_file: Write, findings: list[Finding], stamp: Stamp) -> None:
    headers = [read_header(radiograph_file())]
    written = segmentation(headers, findings, stamp)
    assert written is not None
    assert [item.SegmentLabel for item in written.SegmentSequence] == [
        f.query.replace("\\", "/") for f in findings[:2]
    ]
    assert written.NumberOfFrames == 2
    assert segmentation(headers, findings[2:], stamp) is None


def test_uids__depend_on_input_and_settings_alone(
    radiograph_file: Write, findings: list[Finding], stamp: Stamp
) -> None:
    one, other = ([read_header(radiograph_file())] for _ in range(2))

    def uid(*args: Any, **options: Any) -> str:
        return segmentation(*args, **options).SOPInstanceUID  # type: ignore[union-attr]

    first = uid(one, findings, stamp)
    assert uid(one, findings, stamp) == first
    others = {
        uid(other, findings, stamp),
        uid(one, findings[:2], stamp),
        uid(one, findings, replace(stamp, threshold=0.4)),
        uid(one, findings, replace(stamp, fingerprint="f")),
        uid(one, findings, stamp, seg_type="fractional"),
        first,
    }
    assert len(others) == 6
    assert all(pydicom.uid.UID(text).is_valid and text.startswith("2.25.") for text in others)


@pytest.mark.parametrize("kind", ["binary", "fractional"])
def test_dciodvfy__finds_no_error_that_the_source_had_not(
    radiograph_file: Write, series_folder: Write, findings: list[Finding], stamp: Stamp, tmp_path: Path,
    complaints: Callable[[Path], set[str]], kind: Any,
) -> None:  # fmt: skip
    for modality in ("CR", "DX"):
        source = radiograph_file(modality)
        written = segmentation([read_header(source)], findings, stamp, seg_type=kind)
        assert written is not None
        written.save_as(tmp_path / "seg.dcm")
        assert complaints(tmp_path / "seg.dcm") - complaints(source) == set()
    headers, found, _ = oblique(series_folder, seed=3)
    written = segmentation(headers, [found], stamp, seg_type=kind)
    assert written is not None
    written.save_as(tmp_path / "seg.dcm")
    assert complaints(tmp_path / "seg.dcm") == set()


def test_shape__of_another_grid_is_refused(
    radiograph_file: Write, findings: list[Finding], stamp: Stamp
) -> None:
    header = read_header(radiograph_file())
    header.Rows = 91
    with pytest.raises(DataError, match="shape"):
        segmentation([header], findings, stamp)


# --- geometry of CT -------------------------------------------------------------------------------------------


def oblique(
    series_folder: Write, seed: int, turn: NDArray[np.float64] | None = None
) -> tuple[list[pydicom.Dataset], Finding, Points]:
    """Write a small CT in some place, find something in it; return headers, finding, and its voxels in LPS mm."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(side) for side in rng.integers(8, 13, 3))
    stored = rng.integers(24, 80, shape).astype(np.uint16)  # air
    stored[2:-2, 2:-2, 2:-2] += 1000
    if turn is None:
        turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    spacing = tuple(float(step) for step in rng.uniform(0.5, 4, 3))
    folder = series_folder(stored, turn, spacing, rng.uniform(-300, 300, 3))
    volume = read_volume(folder)
    mask = np.zeros(shape, dtype=bool)
    z, y, x = (int(rng.integers(0, side - 4)) for side in shape)
    mask[z : z + 2, y : y + 3, x : x + 4] = mask[z + 3, y, x] = True  # no symmetry: every flip shows
    finding = Finding("There is a mass.", 0.6, mask, None, (z, y, x), ((z, y, x), (z + 4, y + 3, x + 4)))
    return read_series_headers(folder), finding, volume.grid.to_lps(np.argwhere(mask).astype(float))


def distance(found: Points, expected: Points) -> float:
    """Return the largest distance of two sets of points in any order; infinite when they differ in number."""
    if found.shape != expected.shape:
        return np.inf
    gaps = np.linalg.norm(found[:, None] - expected[None], axis=-1)
    return float(max(gaps.min(0).max(), gaps.min(1).max()))


def by_pydicom(path: Path) -> Points:
    """Return the voxels of segment 1 in LPS mm, by nothing but the words of the standard."""
    data = pydicom.dcmread(path)
    shared = data.SharedFunctionalGroupsSequence[0]
    row, column = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float).reshape(
        2, 3
    )
    dy, dx = (float(step) for step in shared.PixelMeasuresSequence[0].PixelSpacing)
    frames = data.pixel_array.reshape(-1, data.Rows, data.Columns)
    points = []
    for frame, item in zip(frames, data.PerFrameFunctionalGroupsSequence, strict=True):
        origin = np.array(item.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        points += [origin + x * dx * row + y * dy * column for y, x in np.argwhere(frame)]
    return np.array(points)


def by_highdicom(path: Path) -> Points:
    volume = hd.seg.segread(path).get_volume(combine_segments=True)
    index = np.argwhere(volume.array > 0)
    return np.array(volume.map_indices_to_reference(index))


def by_dcmqi(path: Path) -> Points:
    """Return the voxels as dcmqi converts them, read by SimpleITK."""
    sitk = pytest.importorskip("SimpleITK")
    folder = path.parent / "dcmqi"
    folder.mkdir(exist_ok=True)
    program = Path(sys.executable).with_name("segimage2itkimage")
    if not program.exists():
        pytest.skip("dcmqi is not installed")
    words = [program, "--inputDICOM", path, "--outputDirectory", folder, "--outputType", "nrrd"]
    subprocess.run(words, check=True, capture_output=True)
    converted = sitk.ReadImage(str(folder / "1.nrrd"))
    index = np.argwhere(sitk.GetArrayFromImage(converted) > 0)[:, ::-1]
    return np.array([converted.TransformIndexToPhysicalPoint([int(i) for i in item]) for item in index])


def worst(
    series_folder: Write, stamp: Stamp, path: Path, turns: Sequence[Any], readers: Sequence[Any]
) -> float:
    """Return the largest error in mm over geometries and readers."""
    error = 0.0
    for seed, turn in enumerate(turns):
        headers, finding, expected = oblique(series_folder, seed, turn)
        written = segmentation(headers, [finding], stamp)
        assert written is not None
        assert written.FrameOfReferenceUID == headers[0].FrameOfReferenceUID
        assert written.NumberOfFrames == 3  # of the planes, those with something in them
        written.save_as(path)
        error = max(error, *(distance(read(path), expected) for read in readers))
    return error


def signed_axes() -> list[NDArray[np.float64]]:
    """Return all 48 ways to put three axes along those of the patient."""
    found = []
    for order, signs in product(permutations(range(3)), product((-1.0, 1.0), repeat=3)):
        turn = np.zeros((3, 3))
        turn[order, range(3)] = signs
        found.append(turn)
    return found


def test_ct__same_voxels_in_axis_orders_and_obliques(
    series_folder: Write, stamp: Stamp, tmp_path: Path
) -> None:
    turns = [*signed_axes()[::9], *[None] * 4]
    assert worst(series_folder, stamp, tmp_path / "seg.dcm", turns, [by_pydicom, by_highdicom]) <= 1e-3


def test_ct__same_voxels_for_dcmqi_and_simpleitk(series_folder: Write, stamp: Stamp, tmp_path: Path) -> None:
    turns = [*signed_axes()[::20], *[None] * 2]
    assert worst(series_folder, stamp, tmp_path / "seg.dcm", turns, [by_dcmqi]) <= 1e-3


@pytest.mark.slow
def test_ct__same_voxels_in_48_axis_orders_and_1000_obliques(
    series_folder: Write, stamp: Stamp, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    turns = [*signed_axes(), *[None] * 1000]
    error = worst(series_folder, stamp, tmp_path / "seg.dcm", turns, [by_pydicom, by_highdicom])
    with capsys.disabled():
        print(f"\nlargest geometry error of 48 axis orders and 1,000 obliques: {error:.2e} mm")
    assert error <= 1e-3
