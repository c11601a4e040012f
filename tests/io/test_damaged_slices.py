"""Damaged files among the slices of a CT: named where a slice would be missing, else left out with a note."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.io.test_volume_dicom import without, write_series

from glint.errors import DataError
from glint.io.contents import contents
from glint.io.volume import read_volume

Scan = NDArray[np.int16]


@pytest.mark.parametrize("length", [150, 200, 300, 500, 800])
def test_read__a_slice_cut_in_its_header_is_not_passed_over(tmp_path: Path, scan: Scan, length: int) -> None:
    """At an end of the stack nothing else would tell that it is missing."""
    folder = without(tmp_path / "s", scan)
    (damaged,) = (path for path in folder.iterdir() if int(pydicom.dcmread(path).InstanceNumber) == 0)
    damaged.write_bytes(damaged.read_bytes()[:length])
    with pytest.raises(DataError, match=r"damaged|cut short|does not say where") as caught:
        read_volume(folder)
    assert str(folder) in caught.value.where
    if "may be slices" in str(caught.value):
        filled = read_volume(folder, fill_gaps=True)
        assert len(filled.hu) < len(scan)
        assert any("1 damaged DICOM files were left out" in note for note in filled.provenance.notes)


def test_read__a_damaged_file_of_another_series_takes_nothing_along(tmp_path: Path, scan: Scan) -> None:
    folder = write_series(tmp_path / "s", scan)
    other = write_series(tmp_path / "other", scan[:9])
    for path in other.iterdir():
        path.rename(folder / f"other {path.name}")
    (first, second, *_) = sorted(folder.glob("other *"))
    whole = first.read_bytes()
    first.write_bytes(whole[: whole.index(b"\x28\0\x10\0US") + 7])
    found = contents(folder)
    assert [(item.kind, item.images) for item in found.items] == [("CT", len(scan)), ("CT", 8)]
    assert len(found.damaged) == 1
    number = found.damaged[0]["where"].split()[-3]
    assert f"file {number} of" in found.damaged[0]["where"]
    volume = read_volume(folder, series="1")
    assert (volume.hu == scan).all()
    assert any("1 damaged DICOM files were left out" in note for note in volume.provenance.notes)
    with pytest.raises(DataError, match="may be slices of the series") as caught:
        read_volume(folder, series="2")
    assert caught.value.where == found.damaged[0]["where"]
    second.write_bytes(second.read_bytes()[:200])  # does not say of which series it is
    with pytest.raises(DataError, match="1 DICOM files are damaged"):
        read_volume(folder, series="1")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(128, 1500), byte=st.integers(0, 255))
def test_read__any_damaged_slice_is_read_or_refused(tmp_path: Path, scan: Scan, at: int, byte: int) -> None:
    folder = tmp_path / "s"
    if not folder.exists():
        write_series(folder, scan[:9])
    path = folder / "IM0004"
    whole = path.read_bytes()
    path.write_bytes(whole[:at] + bytes([byte]) + whole[at + 1 :])
    try:
        with suppress(DataError):
            assert read_volume(folder, fill_gaps=True).hu.shape[0] >= 8
    finally:
        path.write_bytes(whole)
