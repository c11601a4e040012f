"""Source images with marked patient data, findings on them, and the judgement of dciodvfy."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    generate_uid,
)

from glint.io.dicom_out.findings import Finding
from glint.io.dicom_out.stamp import Stamp

MARKED = "ZZPATIENTZZ"
CLASSES = {
    "CR": ComputedRadiographyImageStorage,
    "DX": DigitalXRayImageStorageForPresentation,
    "CT": CTImageStorage,
}


def image(stored: NDArray[np.uint16], modality: str, uids: tuple[str, str], **tags: Any) -> FileDataset:
    """Return one image of a study and series, with a marker in every text that could tell of a patient."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = CLASSES[modality], generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data.SpecificCharacterSet = "ISO_IR 100"
    data.SOPClassUID, data.SOPInstanceUID = CLASSES[modality], meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID = uids
    data.Modality = modality
    data.PatientName, data.PatientID = f"{MARKED}^Jörg", f"{MARKED}1"
    data.PatientBirthDate, data.PatientSex, data.PatientComments = "19500102", "F", MARKED
    data.StudyDate, data.StudyTime, data.StudyID, data.AccessionNumber = (
        "20240203",
        "101112",
        "7",
        f"{MARKED}2",
    )
    data.ReferringPhysicianName, data.OperatorsName = f"{MARKED}^R", f"{MARKED}^O"
    data.InstitutionName, data.StudyDescription, data.SeriesDescription = MARKED, MARKED, MARKED
    data.add_new(0x00091001, "LO", MARKED)
    data.SeriesNumber, data.InstanceNumber = 1, 1
    data.Rows, data.Columns = stored.shape
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelSpacing = [0.2, 0.3]
    data.PixelData = stored.astype("<u2").tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    return data


@pytest.fixture
def marked() -> str:
    """The text that stands for patient data."""
    return MARKED


@pytest.fixture
def radiograph_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a radiograph of 90 x 80 pixels and return its path."""
    numbers = iter(range(1000))

    def write(modality: str = "CR", **tags: Any) -> Path:
        rows, columns = np.mgrid[:90, :80]
        stored = (1800 + 1200 * np.sin(rows / 17) * np.cos(columns / 13)).astype(np.uint16)
        uids = (generate_uid(), generate_uid())
        path = tmp_path / f"image{next(numbers)}.dcm"
        image(stored, modality, uids, PatientOrientation=["L", "F"], **tags).save_as(
            path, enforce_file_format=True
        )
        return path

    return write


@pytest.fixture
def series_folder(tmp_path: Path) -> Callable[..., Path]:
    """Write a CT of stored values with given directions and return its folder."""
    numbers = iter(range(10_000))

    def write(
        stored: NDArray[np.uint16],
        turn: NDArray[np.float64],
        spacing: tuple[float, float, float],
        origin: NDArray[np.float64],
    ) -> Path:
        """Columns of `turn` are the directions of slice, row and column index."""
        folder = tmp_path / f"series{next(numbers)}"
        folder.mkdir()
        study, series, frame = generate_uid(), generate_uid(), generate_uid()
        for n, plane in enumerate(stored):
            data = image(plane, "CT", (study, series), InstanceNumber=n + 1)
            data.FrameOfReferenceUID, data.PositionReferenceIndicator = frame, ""
            data.ImagePositionPatient = [f"{x:.9g}" for x in origin + n * spacing[0] * turn[:, 0]]
            data.ImageOrientationPatient = [f"{x:.12f}" for x in (*turn[:, 2], *turn[:, 1])]
            data.PixelSpacing, data.SliceThickness = [f"{x:.9g}" for x in spacing[1:]], f"{spacing[0]:.9g}"
            data.RescaleSlope, data.RescaleIntercept = 1, -1024
            data.save_as(folder / f"{n:03d}.dcm", enforce_file_format=True)
        return folder

    return write


@pytest.fixture
def stamp() -> Stamp:
    """Who answered."""
    return Stamp("test-model", "0123abcd", 0.5)


@pytest.fixture
def findings() -> list[Finding]:
    """Two findings that overlap and an empty one, on 90 x 80 pixels."""
    first, second = np.zeros((2, 1, 90, 80), dtype=bool)
    first[0, 10:30, 20:50] = second[0, 20:44, 40:71] = True
    return [
        Finding(
            "There is a pleural effusion.",
            0.75,
            first,
            first * np.float32(0.6),
            (0, 15, 25),
            box((20, 10, 50, 30)),
        ),
        Finding(
            'Ünusual "thing" \\ 肺', 0.4, second, second * np.float32(0.8), (0, 30, 60), box((40, 20, 71, 44))
        ),
        Finding("There is a nodule.", 0.05, np.zeros((1, 90, 80), dtype=bool), None, (0, 3, 4)),
    ]


def box(edges: tuple[int, int, int, int]) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return [x0, y0, x1, y1] in array order."""
    x0, y0, x1, y1 = edges
    return (0, y0, x0), (1, y1, x1)


@pytest.fixture
def complaints() -> Callable[[Path], set[str]]:
    """The errors that dciodvfy finds in a file."""
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed (apt-get install dicom3tools)")

    def check(path: Path) -> set[str]:
        done = subprocess.run([program, path], capture_output=True, text=True, check=False)
        lines = done.stderr.splitlines() + done.stdout.splitlines()
        assert lines, "dciodvfy said nothing at all"
        return {line for line in lines if line.startswith("Error")}

    return check
