"""Enhanced multi-frame CT: the same scan as one slice a file, whatever order and groups its frames have."""

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedCTImageStorage, ExplicitVRLittleEndian, generate_uid

from glint.errors import DataError
from glint.io.volume import read_volume

Scan = NDArray[np.int16]
ORIGIN, STEP, SPACING = np.array([-120.0, -90, 40]), np.array([0, 0, 2.5]), (0.8, 0.7)


def item(**tags: Any) -> Sequence:
    data = Dataset()
    for name, value in tags.items():
        setattr(data, name, value)
    return Sequence([data])


def enhanced(scan: Scan, order: list[int], shared: bool = True, **tags: Any) -> FileDataset:
    """Return stored values = HU + 1024, frames in any order."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = EnhancedCTImageStorage, generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data.SOPClassUID, data.SOPInstanceUID = EnhancedCTImageStorage, meta.MediaStorageSOPInstanceUID
    data.StudyInstanceUID, data.SeriesInstanceUID, data.Modality = generate_uid(), generate_uid(), "CT"
    common = {
        "PlaneOrientationSequence": item(ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
        "PixelMeasuresSequence": item(PixelSpacing=list(SPACING)),
        "PixelValueTransformationSequence": item(RescaleSlope=1, RescaleIntercept=-1024, RescaleType="HU"),
    }
    frames = []
    for n in order:
        frame = Dataset()
        frame.PlanePositionSequence = item(ImagePositionPatient=list(ORIGIN + n * STEP))
        for name, value in () if shared else common.items():
            setattr(frame, name, value)
        frames.append(frame)
    data.SharedFunctionalGroupsSequence = item(**common)
    data.PerFrameFunctionalGroupsSequence = Sequence(frames)
    data.NumberOfFrames, data.Rows, data.Columns = len(order), *scan.shape[1:]
    data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, 16, 15, 0
    data.PixelData = (scan[order] + 1024).astype(np.uint16).tobytes()
    for name, value in tags.items():
        setattr(data, name, value)
    return data


def pack(data: FileDataset, syntax: str, encode: Any) -> FileDataset:
    frames = np.frombuffer(data.PixelData, np.uint16).reshape(-1, data.Rows, data.Columns)
    data.file_meta.TransferSyntaxUID = syntax
    data.PixelData = encapsulate([encode(np.ascontiguousarray(frame)) for frame in frames])
    data["PixelData"].is_undefined_length = True
    return data


def save(data: FileDataset, path: Path) -> Path:
    data.save_as(path, enforce_file_format=True)
    return path


@pytest.mark.parametrize("shared", [True, False])
def test_enhanced__shuffled_frames_are_the_scan(tmp_path: Path, scan: Scan, shared: bool) -> None:
    order = list(np.random.default_rng(0).permutation(len(scan)))
    found = read_volume(save(enhanced(scan, order, shared), tmp_path / "ct.dcm"))
    assert (found.hu == scan).all()
    assert found.spacing_mm == pytest.approx((2.5, 0.8, 0.7))
    np.testing.assert_allclose(found.grid.to_lps(np.zeros((1, 3)))[0], ORIGIN)
    assert found.provenance.format == "DICOM"


@pytest.mark.parametrize(
    ("syntax", "encode"),
    [
        (
            "1.2.840.10008.1.2.4.90",
            lambda x: imagecodecs.jpeg2k_encode(x, level=0, codecformat="j2k", reversible=True),
        ),
        ("1.2.840.10008.1.2.4.80", imagecodecs.jpegls_encode),
    ],
)
def test_enhanced__compressed_frames_are_the_scan(
    tmp_path: Path, scan: Scan, syntax: str, encode: Any
) -> None:
    data = pack(enhanced(scan, list(range(len(scan)))), syntax, encode)
    (tmp_path / "folder").mkdir()
    save(data, tmp_path / "folder" / "ct")
    assert (read_volume(tmp_path / "folder").hu == scan).all()


def test_enhanced__rescale_and_padding_of_a_frame_are_its_own(tmp_path: Path, scan: Scan) -> None:
    even = (scan // 2 * 2).astype(np.int16)
    even[3, :5] = -1024
    data = enhanced(even, list(range(len(scan))), PixelPaddingValue=0)
    stored = (even + 1024).astype(np.uint16)
    stored[7] //= 2
    data.PixelData = stored.tobytes()
    own = item(RescaleSlope=2, RescaleIntercept=-1024)
    data.PerFrameFunctionalGroupsSequence[7].PixelValueTransformationSequence = own
    found = read_volume(save(data, tmp_path / "ct.dcm"))
    assert found.valid is not None
    assert not found.valid[3, :5].any()
    assert (found.hu[found.valid] == even[found.valid]).all()


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"NumberOfFrames": 19}, "damaged"),
        ({"PixelData": bytes(100)}, "cannot be decoded"),
        ({"PerFrameFunctionalGroupsSequence": Sequence([])}, "no CT series"),
        ({"SharedFunctionalGroupsSequence": Sequence([])}, "does not say where"),
        ({"Modality": "MR"}, "no CT series"),
        ({"Rows": 60000}, "too large|cannot be decoded"),
    ],
)
def test_enhanced__what_does_not_fit_is_refused(
    tmp_path: Path, scan: Scan, tags: dict[str, Any], words: str
) -> None:
    data = enhanced(scan, list(range(len(scan))), **tags)
    with pytest.raises(DataError, match=words):
        read_volume(save(data, tmp_path / "ct.dcm"))


def test_enhanced__two_phases_in_one_file_are_refused(tmp_path: Path, scan: Scan) -> None:
    order = [*range(len(scan)), *range(len(scan))]
    with pytest.raises(DataError, match="several phases"):
        read_volume(save(enhanced(scan, order), tmp_path / "ct.dcm"))
