"""NRRD: the spaces of ITK and Slicer, packed or not; what has no place or is not whole is refused."""

import bz2
import gzip
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from glint.errors import DataError
from glint.io.volume import read_volume

nrrd = pytest.importorskip("nrrd")
Scan = NDArray[np.int16]
HEADER: dict[str, Any] = {
    "space": "left-posterior-superior",
    "space directions": np.diag([0.7, 0.8, 2.5]),
    "space origin": np.array([-120.0, -90, 40]),
    "kinds": ["domain", "domain", "domain"],
}


def save(folder: Path, scan: Scan, **fields: Any) -> Path:
    header = {name: value for name, value in (HEADER | fields).items() if value is not None}
    nrrd.write(str(folder / "scan.nrrd"), scan.T, header)
    return folder / "scan.nrrd"


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
def test_read__gives_hu_in_place(tmp_path: Path, scan: Scan, encoding: str) -> None:
    found = read_volume(save(tmp_path, scan, encoding=encoding))
    assert (found.hu == scan).all()
    assert found.grid.orientation == "SPL"
    assert found.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    np.testing.assert_allclose(found.affine[:3, 3], [-120, -90, 40])
    assert found.provenance.format == "NRRD"


def test_read__spaces_are_turned_to_lps(tmp_path: Path, scan: Scan) -> None:
    lps = read_volume(save(tmp_path, scan)).affine
    for space, signs in (("right-anterior-superior", (-1, -1, 1)), ("LAS", (1, -1, 1))):
        path = save(
            tmp_path,
            scan,
            **{
                "space": space,
                "space directions": HEADER["space directions"] * np.array(signs),
                "space origin": HEADER["space origin"] * np.array(signs),
            },
        )
        np.testing.assert_allclose(read_volume(path).affine, lps)


def test_read__agrees_with_simpleitk(tmp_path: Path, scan: Scan) -> None:
    sitk = pytest.importorskip("SimpleITK")
    made = sitk.GetImageFromArray(scan)
    made.SetSpacing((0.7, 0.8, 2.5))
    made.SetOrigin((-11, 7, 300))
    made.SetDirection((0, -1, 0, 1, 0, 0, 0, 0, 1))
    for name in ("scan.nrrd", "scan.nii.gz"):
        sitk.WriteImage(made, str(tmp_path / name), useCompression=True)
        found = read_volume(tmp_path / name)
        assert (found.hu == scan).all()
        index = np.array([[0.0, 0, 0], [19, 25, 31], [3, 20, 7]])
        theirs = [made.TransformContinuousIndexToPhysicalPoint(tuple(point[::-1])) for point in index]
        np.testing.assert_allclose(found.grid.to_lps(index), theirs, atol=1e-3)


def written(folder: Path, text: str, values: bytes) -> Path:
    (folder / "scan.nrrd").write_bytes(text.encode() + b"\n\n" + values)
    return folder / "scan.nrrd"


TEXT = """NRRD0004
type: short
dimension: 3
space: LPS
sizes: 32 26 20
space directions: (0.7,0,0) (0,0.8,0) (0,0,2.5)
space origin: (0,0,0)
endian: big
encoding: {}"""


def test_read__big_endian_by_hand(tmp_path: Path, scan: Scan) -> None:
    values = scan.astype(">i2").tobytes()
    for encoding, packed in (("raw", values), ("gz", gzip.compress(values)), ("bz2", bz2.compress(values))):
        assert (read_volume(written(tmp_path, TEXT.format(encoding), packed)).hu == scan).all()


def test_read__bad_files_say_what_is_wrong(tmp_path: Path, scan: Scan) -> None:
    values = scan.astype(">i2").tobytes()
    raw = TEXT.format("raw")
    huge = TEXT.format("gzip").replace("32 26 20", "4000 4000 20")
    cases = {
        "no space": (raw.replace("space: LPS\n", ""), values, "which side is left"),
        "no origin": (raw.replace("space origin: (0,0,0)\n", ""), values, "which side is left"),
        "unknown space": (raw.replace("LPS", "scanner-xyz"), values, "which side is left"),
        "4D": (raw.replace("dimension: 3", "dimension: 4").replace("26 20", "26 20 1"), values, "4 axes"),
        "sizes": (raw.replace("32 26 20", "32 26"), values, "damaged"),
        "negative": (raw.replace("32 26 20", "32 -26 20"), values, "damaged"),
        "block": (raw.replace("short", "block"), values, "no plain numbers"),
        "hex": (raw.replace("raw", "hex"), values, "unknown way"),
        "skip": (raw + "\nbyte skip: 5", values, "skips"),
        "elsewhere": (raw + "\ndata file: ../secret.raw", values, "another file"),
        "cut": (raw, values[:-4], "cut short"),
        "gzip cut": (TEXT.format("gzip"), gzip.compress(values)[:-9], "cut short"),
        "bomb": (huge, gzip.compress(bytes(1000)), "promises more"),
        "too large": (raw.replace("32 26 20", "65535 65535 20"), values, "too large"),
        "singular": (raw.replace("(0,0,2.5)", "(0,0,0)"), values, "singular"),
        "NaN": (raw.replace("(0,0,2.5)", "(0,0,nan)"), values, "NaN"),
        "junk": ("NRRD0004\nnonsense", values, "header is damaged"),
    }
    for name, (text, stored, words) in cases.items():
        path = written(tmp_path, text, stored)
        with pytest.raises(DataError) as caught:
            read_volume(path)
        assert words in caught.value.what, name
        assert caught.value.where == str(path), name
    (tmp_path / "scan.nrrd").write_bytes(b"NRRD0004\n" + b"x" * 100)
    with pytest.raises(DataError, match="header is damaged"):
        read_volume(tmp_path / "scan.nrrd")


def test_read__other_files_say_what_they_are(tmp_path: Path) -> None:
    dicom = bytes(128) + b"DICM" + bytes(300)
    for content, words in (
        (b"\x89PNG" + bytes(400), "picture"),
        (dicom, "damaged"),
        (b"text", "not a volume"),
    ):
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(DataError, match=words):
            read_volume(tmp_path / "file")
    (tmp_path / "file").write_bytes(gzip.compress(bytes(5000))[:20])
    with pytest.raises(DataError, match="cut short"):
        read_volume(tmp_path / "file")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(4, len(TEXT) + 2), byte=st.integers(0, 255))
def test_read__any_damaged_header_is_read_or_refused(tmp_path: Path, scan: Scan, at: int, byte: int) -> None:
    path = written(tmp_path, TEXT.format("raw"), scan.astype(">i2").tobytes())
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
    with suppress(DataError):
        assert read_volume(path).hu.shape[0] >= 8
