"""Aliases tell nothing and stay the same; de-identified data sets hold nothing that names the patient."""

import stat
from pathlib import Path
from typing import Any

import pytest
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from glint.io import phi

CANARY = "ZZCANARY"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: Any) -> Path:
    monkeypatch.setenv("GLINT_HOME", str(tmp_path))
    monkeypatch.setattr(phi, "_given", [])
    phi._stored_key.cache_clear()
    yield tmp_path
    phi._stored_key.cache_clear()


def test_alias__is_stable_for_an_installation_and_needs_its_key(home: Path) -> None:
    first = phi.alias("1.2.3")
    phi._stored_key.cache_clear()
    assert phi.alias("1.2.3") == first
    assert phi.alias("1.2.4") != first
    assert first.startswith("study-")
    assert stat.S_IMODE((home / "alias.key").stat().st_mode) == 0o600
    (home / "alias.key").unlink()
    phi._stored_key.cache_clear()
    assert phi.alias("1.2.3") != first


def test_alias__works_where_no_key_can_be_kept(home: Path, monkeypatch: Any) -> None:
    (home / "file").write_text("")
    monkeypatch.setenv("GLINT_HOME", str(home / "file"))
    assert phi.alias("1.2.3") == phi.alias("1.2.3")


def test_alias__in_a_child_is_that_of_its_parent(home: Path) -> None:
    from glint.io.untrusted import read_contents

    data = everything()
    data.Rows, data.Columns, data.Modality = 64, 64, "CR"
    data.save_as(home / "x.dcm", enforce_file_format=True)
    items = read_contents(home / "x.dcm").items
    assert items[0].study == phi.alias(str(data.StudyInstanceUID))


def everything() -> FileDataset:
    """A data set with a canary in every text element that DICOM knows, nested ones and private ones, too."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CTImageStorage, "1.2.99"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    fill(data)
    data.add_new(0x00091001, "LO", CANARY)
    data.add_new(0x60003000, "OW", CANARY.encode())
    data.add_new(0x60001500, "LO", CANARY)
    nested = Dataset()
    fill(nested)
    data.ReferencedStudySequence = Sequence([nested])
    data.SOPClassUID, data.SOPInstanceUID, data.StudyInstanceUID = CTImageStorage, "1.2.99", "1.2.77"
    data.FrameOfReferenceUID, data.SeriesInstanceUID = "1.2.55", "1.2.66"
    data.Rows, data.PixelSpacing = 5, [0.5, 0.5]
    return data


def fill(data: Dataset) -> None:
    for tag, (vr, *_rest) in DicomDictionary.items():
        if vr in ("PN", "LO", "SH", "LT", "ST", "UT", "UC") and tag >> 16 not in (0, 2):
            data.add_new(tag, vr, CANARY)
        elif vr in ("DA", "TM", "DT", "AS"):
            data.add_new(
                tag, vr, {"DA": "19001231", "TM": "112233", "DT": "19001231112233", "AS": "077Y"}[vr]
            )


def test_deidentify__nothing_that_identifies_stays(home: Path) -> None:
    data = everything()
    phi.deidentify(data)
    text = str(data)
    kept = [line for line in text.splitlines() if CANARY in line]
    names = {
        element.keyword for element in data.iterall() if CANARY in str(element.value) and element.VR != "SQ"
    }
    assert names <= phi.KEPT_TEXT, kept
    for trace in ("19001231", "112233", "077Y", "1.2.77", "1.2.99", "1.2.66"):
        assert trace not in text + str(data.file_meta)
    assert not [element for element in data if element.tag.is_private or element.tag.group >> 8 == 0x60]
    assert (data.PatientName, data.PatientIdentityRemoved) == ("", "YES")
    assert (data.SOPClassUID, data.Rows, data.PixelSpacing) == (CTImageStorage, 5, [0.5, 0.5])
    assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID


def test_deidentify__uids_still_refer_to_each_other(home: Path) -> None:
    first, second = everything(), everything()
    second.SOPInstanceUID = "1.2.100"
    phi.deidentify(first)
    phi.deidentify(second)
    assert first.StudyInstanceUID == second.StudyInstanceUID == phi.new_uid("1.2.77")
    assert first.SOPInstanceUID != second.SOPInstanceUID
    assert first.PatientID == second.PatientID
    assert first.StudyInstanceUID.is_valid
