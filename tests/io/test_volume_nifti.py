"""NIfTI: any orientation to the same patient, headers that lie, files that end early."""

import gzip
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from glint.errors import DataError, UsageError
from glint.io.volume import read_volume
from glint.io.volume_nifti import write_nifti
from glint.io.volume_steps import to_canonical
from glint.io.voxel_grid import VoxelGrid

Scan = NDArray[np.int16]
RAS = np.array([[-0.7, 0, 0, 120], [0, -0.8, 0, 90], [0, 0, 2.5, -300], [0, 0, 0, 1.0]])
"""Of a canonical (i, j, k) array: +x left, +y posterior, +z superior."""


def image(scan: Scan, kind: Any = nib.Nifti1Image, affine: NDArray[np.float64] = RAS) -> Any:
    made = kind(scan.transpose(2, 1, 0), affine)
    made.header.set_xyzt_units("mm")
    return made


def save(folder: Path, made: Any, name: str = "scan.nii.gz") -> Path:
    nib.save(made, folder / name)
    return folder / name


@pytest.mark.parametrize("name", ["scan.nii", "scan.nii.gz"])
@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
def test_read__gives_hu_in_place(tmp_path: Path, scan: Scan, name: str, kind: Any) -> None:
    found = read_volume(save(tmp_path, image(scan, kind), name))
    assert found.hu.dtype == np.float32
    assert (found.hu == scan).all()
    assert found.grid.orientation == "SPL"
    assert found.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    np.testing.assert_allclose(found.affine[:3, 3], [-120, -90, -300])
    assert (found.provenance.format, found.provenance.modality, found.valid) == ("NIfTI", "", None)


def test_read__content_decides_not_the_name(tmp_path: Path, scan: Scan) -> None:
    path = save(tmp_path, image(scan))
    assert (read_volume(path.rename(tmp_path / "study")).hu == scan).all()


def test_read__every_orientation_is_the_same_patient(tmp_path: Path, scan: Scan) -> None:
    made = image(scan)
    for code in ("RAS", "LPS", "LAS", "SAR", "PIR", "ASL"):
        target = nib.orientations.axcodes2ornt(tuple(code))
        turned = made.as_reoriented(nib.orientations.ornt_transform(nib.io_orientation(made.affine), target))
        found = read_volume(save(tmp_path, turned))
        assert found.grid.orientation == code[::-1]
        canonical = to_canonical(found)
        assert (canonical.hu == scan).all()
        np.testing.assert_allclose(canonical.affine, read_volume(save(tmp_path, made)).affine, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.float64, ">i2"])
def test_read__types_and_byte_orders(tmp_path: Path, scan: Scan, dtype: Any) -> None:
    made = nib.Nifti1Image(scan.astype(dtype).transpose(2, 1, 0), RAS)
    if dtype == ">i2":
        made = nib.Nifti1Image(scan.transpose(2, 1, 0), RAS, nib.Nifti1Header(endianness=">"))
        made.set_data_dtype(np.int16)
    assert (read_volume(save(tmp_path, made)).hu == scan).all()


def test_read__applies_the_slope_of_the_header_once(tmp_path: Path, scan: Scan) -> None:
    made = image(((scan + 1024) // 2).astype(np.int16))
    path = save(tmp_path, made, "scan.nii")
    raw = bytearray(path.read_bytes())
    raw[112:120] = np.array([2, -1024], "<f4").tobytes()
    path.write_bytes(raw)
    found = read_volume(path)
    assert np.abs(found.hu - scan).max() <= 1
    assert "2 x stored -1024" in found.provenance.notes[0]


def test_read__ct_rate_style_double_rescale_is_refused(tmp_path: Path, scan: Scan) -> None:
    path = save(tmp_path, image(scan), "scan.nii")
    raw = bytearray(path.read_bytes())
    raw[112:120] = np.array([1, -1024], "<f4").tobytes()  # HU are stored already
    path.write_bytes(raw)
    with pytest.raises(DataError, match="applied twice"):
        read_volume(path)
    assert np.median(np.abs(read_volume(path, add_hu=1024).hu - scan)) == 0


def forms(scan: Scan, sform: Any, qform: Any) -> Any:
    made = image(scan)
    made.set_sform(sform, 0 if sform is None else 1)
    made.set_qform(qform, 0 if qform is None else 1)
    return made


@pytest.mark.parametrize(("sform", "qform"), [(RAS, None), (None, RAS), (RAS, RAS)])
def test_read__one_form_is_enough(tmp_path: Path, scan: Scan, sform: Any, qform: Any) -> None:
    found = read_volume(save(tmp_path, forms(scan, sform, qform)))
    np.testing.assert_allclose(found.affine[:3, 3], [-120, -90, -300], atol=1e-4)
    assert found.grid.orientation == "SPL"


def test_read__no_form_or_two_that_disagree(tmp_path: Path, scan: Scan) -> None:
    with pytest.raises(DataError, match="which side is left"):
        read_volume(save(tmp_path, forms(scan, None, None)))
    mirrored = RAS @ np.diag([-1.0, 1, 1, 1])
    with pytest.raises(DataError, match="contradict"):
        read_volume(save(tmp_path, forms(scan, RAS, mirrored)))
    shifted = RAS.copy()
    shifted[0, 3] += 5
    found = read_volume(save(tmp_path, forms(scan, RAS, shifted)))
    assert "differ by up to 5 mm: the sform is used" in found.provenance.notes[0]
    np.testing.assert_allclose(found.affine[0, 3], -120)


def test_read__units_of_the_header_count(tmp_path: Path, scan: Scan) -> None:
    made = image(scan, affine=np.diag([1e-3, 1e-3, 1e-3, 1]) @ RAS)
    made.header.set_xyzt_units("meter")
    made.set_qform(None, 0)
    found = read_volume(save(tmp_path, made))
    assert found.spacing_mm == pytest.approx((2.5, 0.8, 0.7))


def patched(offset: int, value: bytes) -> Callable[[Path, Scan], Path]:
    def make(folder: Path, scan: Scan) -> Path:
        path = save(folder, image(scan), "scan.nii")
        raw = bytearray(path.read_bytes())
        raw[offset : offset + len(value)] = value
        path.write_bytes(raw)
        return path

    return make


def bomb(folder: Path, _: Scan) -> Path:
    """A few hundred bytes whose header claims 65,535 x 65,535 voxels a slice."""
    header = nib.Nifti2Header()
    header.set_data_dtype(np.int16)
    header["dim"][:4] = (3, 65535, 65535, 100)
    header["magic"], header["vox_offset"], header["sform_code"] = b"n+2\0\r\n\x1a\n", 544, 1
    header.set_sform(RAS, 1)
    (folder / "bomb.nii").write_bytes(header.binaryblock + bytes(128))
    return folder / "bomb.nii"


def packed_bomb(folder: Path, scan: Scan) -> Path:
    """100 MB of zeros in 0.1 MB."""
    start = bytearray(save(folder, image(scan), "scan.nii").read_bytes()[:352])
    start[42:48] = np.array([1000, 1000, 50], "<i2").tobytes()
    with gzip.open(folder / "bomb.nii.gz", "wb", compresslevel=9) as stream:
        stream.write(start)
        for _ in range(50):
            stream.write(bytes(2_000_000))
    return folder / "bomb.nii.gz"


def cut(share: float, name: str) -> Callable[[Path, Scan], Path]:
    def make(folder: Path, scan: Scan) -> Path:
        path = save(folder, image(scan), name)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(share * len(whole))])
        return path

    return make


def flipped(folder: Path, scan: Scan) -> Path:
    path = save(folder, image(scan))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    path.write_bytes(raw)
    return path


BAD: dict[str, tuple[Callable[[Path, Scan], Path], str]] = {
    "missing": (lambda folder, _: folder / "no.nii", "no such file"),
    "4D": (lambda folder, scan: save(folder, nib.Nifti1Image(np.stack([scan] * 3, -1), RAS)), "4 axes"),
    "2D": (lambda folder, scan: save(folder, nib.Nifti1Image(scan[0], RAS)), "2 axes"),
    "one slice": (lambda folder, scan: save(folder, image(scan[:1])), "single slice"),
    "colour": (
        lambda folder, scan: save(
            folder, nib.Nifti1Image(np.zeros(scan.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")]), RAS)
        ),
        "not one number",
    ),
    "NaN affine": (patched(280, np.float32(np.nan).tobytes()), "NaN"),
    "singular affine": (patched(280, bytes(16)), "singular"),
    "no dimensions": (patched(40, bytes(2)), "damaged"),
    "negative side": (patched(42, np.int16(-5).tobytes()), "damaged"),
    "offset behind everything": (patched(108, np.float32(1e9).tobytes()), "damaged"),
    "offset NaN": (patched(108, np.float32(np.nan).tobytes()), "damaged"),
    "unknown type": (patched(70, np.int16(77).tobytes()), "damaged"),
    "no magic": (patched(344, b"abc"), "Analyze"),
    "two files": (patched(344, b"ni1\0"), "two files"),
    "bomb": (bomb, "too large"),
    "packed bomb": (packed_bomb, "promises more"),
    "bit flip": (flipped, "damaged"),
    **{f"cut {share}": (cut(share, "scan.nii"), "cut short") for share in (0.1, 0.5, 0.999)},
    **{f"gz cut {share}": (cut(share, "scan.nii.gz"), "cut short") for share in (0.5, 0.999)},
    "zeros": (lambda folder, scan: save(folder, image(scan * 0)), "constant"),
}


@pytest.mark.parametrize("name", BAD)
def test_read__bad_files_say_what_is_wrong(tmp_path: Path, scan: Scan, name: str) -> None:
    make, words = BAD[name]
    path = make(tmp_path, scan)
    with pytest.raises(DataError, match=words) as caught:
        read_volume(path)
    assert caught.value.where == str(path)


def test_read__more_than_memory_is_refused_before_reading(
    tmp_path: Path, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 99 kB\nMemAvailable:    100 kB\n")
    monkeypatch.setattr("glint.io.limits.MEMORY_INFO", tmp_path / "meminfo")
    with pytest.raises(DataError, match="does not fit into memory"):
        read_volume(save(tmp_path, image(scan)))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 351), byte=st.integers(0, 255))
def test_read__any_damaged_header_is_read_or_refused(tmp_path: Path, scan: Scan, at: int, byte: int) -> None:
    path = patched(at, bytes([byte]))(tmp_path, scan)
    with suppress(DataError):
        assert read_volume(path).hu.shape[0] >= 8


@pytest.mark.parametrize("name", ["mask.nii", "mask.nii.gz"])
def test_write__gives_the_scans_affine_back(tmp_path: Path, scan: Scan, name: str) -> None:
    oblique = RAS.copy()
    turn = np.radians(11)
    oblique[:2, :2] = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) @ RAS[:2, :2]
    found = read_volume(save(tmp_path, image(scan, affine=oblique)))
    write_nifti(tmp_path / name, found.hu > 500, found.grid)
    written = nib.load(tmp_path / name)
    assert np.asarray(written.dataobj).dtype == np.uint8
    assert (np.asarray(written.dataobj) == (scan > 500).transpose(2, 1, 0)).all()
    np.testing.assert_allclose(written.affine, nib.load(tmp_path / "scan.nii.gz").affine, atol=1e-5)
    np.testing.assert_allclose(written.get_qform(), oblique, atol=1e-4)
    assert sorted(item.name for item in tmp_path.iterdir()) == sorted([name, "scan.nii.gz"])


def test_write__sheared_grids_have_no_qform(tmp_path: Path) -> None:
    affine = np.array([[0, 0, 1.0, 0], [0.5, 1, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])
    write_nifti(tmp_path / "m.nii", np.ones((9, 9, 9), bool), VoxelGrid((9, 9, 9), affine))
    written = nib.load(tmp_path / "m.nii")
    assert int(written.header["qform_code"]) == 0
    np.testing.assert_allclose(np.linalg.norm(written.affine[:3, 2]), np.hypot(0.5, 2))
    with pytest.raises(UsageError, match="must end in"):
        write_nifti(tmp_path / "m.png", np.ones((9, 9, 9), bool), VoxelGrid((9, 9, 9), affine))
