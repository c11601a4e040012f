"""Answers about a CT as DICOM: the same writers, with whatever class answers."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from numpy.typing import NDArray
from pydicom.uid import CTImageStorage, generate_uid

from glint.archive.answers import DicomOptions, write_volume_dicom
from glint.errors import DataError, UsageError
from glint.io.volume import read_volume


@dataclass(frozen=True)
class VolumeAnswer:
    query: str
    score: float
    point_ijk: tuple[int, int, int] | None
    mask: NDArray[np.bool_] | None
    heat: NDArray[np.float32] | None


@dataclass(frozen=True)
class VolumeAnswers:
    results: tuple[VolumeAnswer, ...]
    model: str = "some/folder/model"
    threshold: float = 0.5
    refine: str = "none"
    min_ml: float = 0.05


def write_ct(folder: Path, make: Any) -> NDArray[np.int16]:
    """Write a small CT, head first, in files named the other way round; return its stored values."""
    folder.mkdir()
    stored = np.full((10, 12, 14), 24, dtype=np.int16)
    stored[2:-2, 2:-2, 2:-2] = 1060
    uids = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    for n, plane in enumerate(stored):
        data = make(Modality="CT", SOPClassUID=CTImageStorage, PixelData=plane.tobytes(), **uids)
        data.file_meta.MediaStorageSOPClassUID = CTImageStorage
        data.Rows, data.Columns, data.RescaleSlope, data.RescaleIntercept = 12, 14, 1, -1024
        data.FrameOfReferenceUID, data.ImageOrientationPatient = "1.2.3", [1, 0, 0, 0, 1, 0]
        data.ImagePositionPatient = [-5, 7, 100 - 2.5 * n]
        data.save_as(folder / f"{n:02d}.dcm", enforce_file_format=True)
    return stored


def answers() -> VolumeAnswers:
    mask = np.zeros((10, 12, 14), dtype=bool)
    mask[3:5, 4:6, 5:9] = mask[8, 8, 8:10] = True
    heat = mask * np.float32(0.8)
    empty = VolumeAnswer("nothing", 0.1, (0, 0, 0), mask & False, heat * 0)
    return VolumeAnswers((VolumeAnswer("There is a mass.", 0.7, (6, 5, 4), mask, heat), empty))


@pytest.mark.parametrize("kind", ["binary", "labelmap", "fractional"])
def test_volume__segmentation_and_report_lie_on_the_scan(
    tmp_path: Path, make_radiograph: Any, kind: Any, marked: str
) -> None:
    write_ct(tmp_path / "ct", make_radiograph)
    options = DicomOptions(kind, deidentify=True)
    paths = write_volume_dicom(answers(), tmp_path / "ct", tmp_path / "out", options, digest="abc")
    written = {data.Modality: data for data in map(pydicom.dcmread, paths)}
    assert set(written) == {"SEG", "SR"}
    seg = written["SEG"]
    frames = np.asarray(seg.pixel_array).reshape(-1, 12, 14) > 0
    grid = read_volume(tmp_path / "ct").grid
    mask = answers().results[0].mask
    assert mask is not None
    places = [
        item.PlanePositionSequence[0].ImagePositionPatient for item in seg.PerFrameFunctionalGroupsSequence
    ]
    assert len(places) == 3
    for frame, place in zip(frames, places, strict=True):
        z = round(float(grid.to_index(np.array([place], dtype=float))[0][0]))
        assert (frame == mask[z]).all()
    assert not any(marked.encode() in path.read_bytes() for path in paths)


def test_volume__a_classification_has_nothing_to_write(tmp_path: Path, make_radiograph: Any) -> None:
    write_ct(tmp_path / "ct", make_radiograph)
    scored = VolumeAnswers((VolumeAnswer("a", 0.5, None, None, None),))
    with pytest.raises(UsageError, match="no mask"):
        write_volume_dicom(scored, tmp_path / "ct", tmp_path / "out", DicomOptions(), digest="")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("tag", "said"),
    # A slice of another study is another series to the reader: what is left has a gap.
    [
        ("FrameOfReferenceUID", "FrameOfReferenceUID"),
        ("StudyInstanceUID", "slices of the series are missing"),
    ],
)
def test_volume__slices_without_a_common_frame_are_refused(
    tmp_path: Path, make_radiograph: Any, tag: str, said: str
) -> None:
    write_ct(tmp_path / "ct", make_radiograph)
    changed = pydicom.dcmread(tmp_path / "ct" / "03.dcm")
    setattr(changed, tag, "1.9.9")
    changed.save_as(tmp_path / "ct" / "03.dcm")
    with pytest.raises(DataError, match=said):
        write_volume_dicom(answers(), tmp_path / "ct", tmp_path / "out", DicomOptions(), digest="")
