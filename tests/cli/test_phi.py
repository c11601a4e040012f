"""A thousand canaries in identifying elements and in file names: none comes out of any command, also when it fails."""

import logging
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ComputedRadiographyImageStorage, CTImageStorage, ExplicitVRLittleEndian

from glint.io.dicom_out.headers import PATIENT, STUDY

Command = Callable[..., Any]
CANARY = re.compile(rb"(?i)zq\d{4}")
TEXT_VRS = ("PN", "LO", "SH", "LT", "ST", "UT", "UC")
FREE = [
    tag
    for tag, (vr, _, name, *_rest) in DicomDictionary.items()
    if vr in TEXT_VRS and tag >> 16 in (0x0008, 0x0010, 0x0018, 0x0020, 0x0032, 0x0038, 0x0040)
]


class Canaries:
    """Gives out canaries; no two are the same."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        return f"ZQ{self.count:04d}"


def fill(data: Dataset, canary: Canaries, share: slice) -> None:
    """Put canaries into text elements, into dates and UIDs, where they have no business, and into private ones."""
    for tag in FREE[share]:
        data.add_new(tag, DicomDictionary[tag][0], canary())
    for name, vr in (
        ("PatientBirthDate", "DA"),
        ("StudyTime", "TM"),
        ("PatientAge", "AS"),
        ("AcquisitionDateTime", "DT"),
    ):
        data.add_new(name, vr, canary())
    data.StudyInstanceUID, data.FrameOfReferenceUID = f"1.2.{canary()}", f"1.2.{canary()}"
    data.add_new(0x00091001, "LO", canary())
    data.ImageComments, data.SeriesDescription, data.PatientName = (
        canary(),
        canary(),
        f"{canary()}^{canary()}",
    )


def image(stored: Any, canary: Canaries, share: slice, sop_class: str, **tags: Any) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = sop_class, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = f"1.2.{canary()}"
    meta.SourceApplicationEntityTitle = canary()
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    fill(data, canary, share)
    nested = Dataset()
    fill(nested, canary, slice(0, 5))
    data.ReferencedStudySequence = Sequence([nested])
    data.SOPClassUID, data.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.Rows, data.Columns = stored.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 1
    data.PixelData = stored.astype(np.int16).tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    return data


def study(folder: Path, canary: Canaries) -> None:
    """Write radiographs, good and bad ones, and a CT series, under names with canaries."""
    rows, columns = np.mgrid[:90, :80]
    picture = 2000 + 1000 * np.sin(rows / 9) * np.cos(columns / 11)
    uid = f"1.2.{canary()}"
    made: list[FileDataset] = []
    for n, bad in enumerate(
        ({}, {"Rows": 60000}, {"RescaleSlope": "0", "RescaleIntercept": "0"}, {"Modality": "MR"})
    ):
        tags = {"Modality": "CR", "SeriesInstanceUID": uid, "BurnedInAnnotation": "YES"} | bad
        made.append(image(picture, canary, slice(n, None, 4), ComputedRadiographyImageStorage, **tags))
    uid = f"1.2.{canary()}"
    hu = np.where(np.hypot(rows - 45, columns - 40) < 35, 40, -1000)
    for n in range(9):
        tags = {
            "Modality": "CT",
            "SeriesInstanceUID": uid,
            "ImagePositionPatient": [0, 0, 2 * n + 5 * (n == 8)],
            "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
            "PixelSpacing": [1, 1],
        }
        made.append(image(hu + n, canary, slice(n, None, 9), CTImageStorage, **tags))
    for n, data in enumerate(made):
        (folder / canary()).mkdir(parents=True)
        data.save_as(next(iter(sorted(folder.iterdir()))) / f"{n} {canary()}.dcm")


def words(folder: Path, archive: Path, model: Path, out: Path, count: int) -> Iterator[list[object]]:
    """Yield command lines that succeed and that fail in many places."""
    ask = ["-q", "There is a nodule.", "-m", model]
    yield ["check", archive, "--json"]
    yield ["classify", folder, *ask]
    for given in (folder, archive) if count > 1 else ():
        yield ["check", given]
        yield ["segment", given, *ask]
    for path in sorted(folder.rglob("*.dcm"))[:count]:
        # Named by the user: not in the output of this process's own words, so under a name without canary.
        plain = out / f"plain{len(list(out.iterdir()))}.dcm"
        plain.write_bytes(path.read_bytes())
        yield ["check", plain, "--json"]
        yield ["segment", plain, *ask, "--json", "-o", out / "mask.png", "--png", out / "overlay.png"]
        plain.write_bytes(path.read_bytes()[:3000])
        yield ["classify", plain, *ask]
        plain.unlink()


@pytest.mark.parametrize("count", [1, pytest.param(6, marks=pytest.mark.slow)])
def test_commands__tell_nothing_of_a_thousand_canaries(
    glint: Command, model_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, count: int
) -> None:
    canary = Canaries()
    folder, out, archive = tmp_path / "study", tmp_path / "out", tmp_path / "study.zip"
    out.mkdir()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydicom finds canaries in dates odd
        study(folder, canary)
    assert canary.count >= 1000
    with zipfile.ZipFile(archive, "w") as stream:
        for path in folder.rglob("*.dcm"):
            stream.write(path, path.relative_to(folder))
    statuses: set[int] = set()
    caplog.clear()
    with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for command in words(folder, archive, model_folder, out, count):
            done = glint(*command)
            statuses.add(done.status)
            told = CANARY.search((done.out + done.err).encode())
            assert told is None, (command[0], told, done.out + done.err)
    assert statuses == {0, 3}
    assert not CANARY.search(caplog.text.encode())
    assert not [one for one in caught if CANARY.search(str(one.message).encode())]
    written = [path for path in out.iterdir() if path.is_file()]
    assert {path.name for path in written} == {"mask.png", "overlay.png"}
    assert not [path for path in written if CANARY.search(path.read_bytes())]


@pytest.mark.parametrize("deidentify", [False, True])
def test_dicom_results__hold_only_the_canaries_of_the_listed_elements(
    glint: Command, model_folder: Path, tmp_path: Path, deidentify: bool
) -> None:
    """These are the bytes that go to an archive, too."""
    pytest.importorskip("highdicom", reason="the extra dicom is not installed")
    canary = Canaries()
    rows, columns = np.mgrid[:90, :80]
    uids = {f"{what}InstanceUID": f"1.2.3.{n}" for n, what in enumerate(("Study", "Series"))}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = image(
            2000 + 1000 * np.sin(rows / 9) * np.cos(columns / 11),
            canary,
            slice(None),
            ComputedRadiographyImageStorage,
            Modality="CR",
            PatientBirthDate="19310203",
            StudyTime="101112",
            **uids,
        )
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = "1.2.3.4"
        data.save_as(tmp_path / "image.dcm")
    assert canary.count > 300
    words = [
        "-q",
        "There is a nodule.",
        "-m",
        model_folder,
        "--threshold",
        "0.0001",
        "--dicom-out",
        tmp_path / "out",
    ]
    done = glint("segment", tmp_path / "image.dcm", *words, *(["--deidentify"] if deidentify else []))
    assert done.status == 0, done.err
    listed = () if deidentify else (*PATIENT, *STUDY)
    known = {found.lower() for name in listed for found in CANARY.findall(str(data.get(name, "")).encode())}
    written = [path.read_bytes() for path in (tmp_path / "out").iterdir()]
    assert len(written) == 4
    assert {found.lower() for content in written for found in CANARY.findall(content)} == known
    assert not deidentify or not any(b"19310203" in content for content in written)


def test_typed_names__are_shown_as_they_were_typed(glint: Command, tmp_path: Path) -> None:
    """What the user wrote is no secret to the user: an error must say which of the files it means."""
    done = glint("check", tmp_path / "ZQ0001.dcm")
    assert "ZQ0001.dcm" in done.out
