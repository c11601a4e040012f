"""A real Orthanc on a free loopback port, radiographs with marked patient data, and a question answered at once."""

import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    generate_uid,
)

from glint.archive.address import parse_address
from glint.archive.answers import DicomOptions
from glint.archive.client import Archive
from glint.archive.studies import Question
from glint.io.packed_mask import PackedMask
from glint.io.radiograph import read_radiograph
from glint.io.volume import read_volume
from glint.results import Answer, Answers
from glint.volume_results import VolumeAnswer, VolumeAnswers

MARKED = "ZZPATIENTZZ"
PLUGINS = ("/usr/share/orthanc/plugins/libOrthancDicomWeb.so", "/usr/lib/orthanc/libOrthancDicomWeb.so")


def radiograph(seed: int = 0, **tags: Any) -> FileDataset:
    """Return a CR image of a new study, with a marker in every text that could tell of a patient."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = generate_uid(), ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID = ComputedRadiographyImageStorage, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = generate_uid(), generate_uid(), "CR"
    data.PatientName, data.PatientID, data.AccessionNumber = f"{MARKED}^A", f"{MARKED}1", f"{MARKED}2"
    data.PatientBirthDate, data.PatientSex, data.ReferringPhysicianName = "19500102", "F", f"{MARKED}^R"
    data.InstitutionName = data.OperatorsName = data.StudyDescription = data.SeriesDescription = f"{MARKED}9"
    data.PatientComments, data.StudyID, data.StudyDate, data.StudyTime = (
        f"{MARKED}9",
        "7",
        "20240203",
        "101112",
    )
    rows, columns = np.mgrid[:90, :80]
    wave = 1800 + 1200 * np.sin(rows / (10 + seed)) * np.cos(columns / 13)
    data.Rows, data.Columns, data.SamplesPerPixel, data.PhotometricInterpretation = 90, 80, 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 12, 11, 0
    data.PixelSpacing, data.SeriesNumber, data.InstanceNumber = [0.2, 0.3], 1, 1
    data.PixelData = wave.astype("<u2").tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    return data


def ct_series(seed: int = 0, count: int = 12, **tags: Any) -> list[FileDataset]:
    """Return the slices of a small chest CT in HU + 1024: air, body, two lungs, and a bone at one side.

    Slices are 20 x 24 pixels of 12 x 10 mm, 8 mm apart, feet last, in no order.
    """
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, side) for side in (count, 20, 24)], indexing="ij")
    hu = np.where(x**2 / 0.8 + y**2 / 0.6 < 1, 40.0, -1000.0)
    for side in (-0.45, 0.45):
        hu[(x - side) ** 2 / 0.09 + y**2 / 0.25 < 1] = -850
    hu[(np.abs(z) < 0.5) & (y > 0.2) & (y < 0.6) & (x > 0) & (x < 0.3)] = 700 + seed
    hu += np.random.default_rng(seed).normal(0, 5, hu.shape)
    uids = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    uids |= {"FrameOfReferenceUID": generate_uid(), "SOPClassUID": CTImageStorage} | tags
    found: list[FileDataset] = []
    for n in np.random.default_rng(seed).permutation(count):
        data = radiograph(Modality="CT", PixelData=(hu[n] + 1024).astype("<u2").tobytes(), **uids)
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID
        data.Rows, data.Columns, data.RescaleSlope, data.RescaleIntercept = 20, 24, 1, -1024
        data.PixelSpacing, data.ImageOrientationPatient = [12, 10], [1, 0, 0, 0, 1, 0]
        data.ImagePositionPatient = [-115, -114, -8 * int(n)]
        found.append(data)
    return found


@pytest.fixture
def make_ct() -> Callable[..., list[FileDataset]]:
    """See `ct_series`."""
    return ct_series


@pytest.fixture
def make_radiograph() -> Callable[..., FileDataset]:
    """See `radiograph`."""
    return radiograph


@pytest.fixture
def marked() -> str:
    """The text that stands for patient data."""
    return MARKED


def ask(path: Path) -> Answers:
    """Answer one query with the bright part of the upper half of the image."""
    image = read_radiograph(path)
    mask = image.pixels > 0.7
    mask[45:] = False
    y, x = np.unravel_index(int(image.pixels[:45].argmax()), (45, image.pixels.shape[1]))
    answer = Answer(
        "There is a mass.", 0.7, (int(x), int(y)), (0, 0, 80, 45), int(mask.sum()), mask, image.pixels
    )
    return Answers("segment", str(path), "bright-part", 0.5, (answer,), image)


def ask_scan(folder: Path) -> VolumeAnswers:
    """Answer one query with all that is denser than 300 HU."""
    volume = read_volume(folder)
    mask = volume.hu > 300
    z, y, x = (int(place[0]) for place in np.nonzero(mask))
    x_mm, y_mm, z_mm = volume.grid.to_lps(np.array([[z, y, x]], dtype=float))[0].tolist()
    packed = PackedMask.of(mask, (0, 0, 0), volume.grid.shape)
    answer = VolumeAnswer("There is a bone.", 0.8, (x_mm, y_mm, z_mm), (x, y, z), packed=packed)
    return VolumeAnswers("segment", str(folder), "bone", 0.5, "none", 0.05, (answer,), volume, volume)


@pytest.fixture
def question() -> Question:
    """A question without a network."""
    return Question(ask, "0123abcd", DicomOptions())


@pytest.fixture
def both(question: Question) -> Question:
    """The same with one about CT."""
    return replace(question, ask_scan=ask_scan, scan_digest="4567cdef")


@dataclass
class Orthanc:
    """A server that can be killed and started again."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def address(self) -> str:
        return f"dicomweb://127.0.0.1:{self.port}/dicom-web"

    @property
    def archive(self) -> Archive:
        return Archive(parse_address(self.address))

    def get(self, path: str) -> Any:
        """Ask Orthanc's own interface."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=10) as answer:
            return json.load(answer)

    def start(self) -> None:
        plugin = next((path for path in PLUGINS if Path(path).exists()), None)
        program = shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
        if plugin is None or program is None:
            pytest.skip("Orthanc is not installed (apt-get install orthanc orthanc-dicomweb)")
        config = {
            "StorageDirectory": str(self.folder / "db"),
            "IndexDirectory": str(self.folder / "db"),
            "HttpPort": self.port,
            "RemoteAccessAllowed": False,  # binds HTTP to loopback
            "DicomServerEnabled": False,  # its port would be open to all
            "Plugins": [plugin],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }
        (self.folder / "orthanc.json").write_text(json.dumps(config))
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([program, self.folder / "orthanc.json"], stdout=log, stderr=log)
        for _ in range(150):
            try:
                self.get("/system")
            except OSError:
                time.sleep(0.1)
            else:
                return
        raise AssertionError((self.folder / "log").read_text()[-2000:])

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def results(self) -> dict[str, list[str]]:
        """Return {StudyInstanceUID: sorted modalities of all objects}."""
        found: dict[str, list[str]] = {}
        for study in self.get("/studies?expand"):
            series = self.get(f"/studies/{study['ID']}/series?expand")
            kinds = [s["MainDicomTags"]["Modality"] for s in series for _ in s["Instances"]]
            found[study["MainDicomTags"]["StudyInstanceUID"]] = sorted(kinds)
        return found


@pytest.fixture
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Generator[Orthanc]:
    """A fresh server with nothing in it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = Orthanc(tmp_path_factory.mktemp("orthanc"), port)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def studies(orthanc: Orthanc) -> list[pydicom.Dataset]:
    """Three studies of one radiograph, stored in the server by STOW."""
    stored = [radiograph(seed) for seed in range(3)]
    for data in stored:
        orthanc.archive.store([data])
    return list(stored)
