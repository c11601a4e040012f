"""Phantom studies as ordinary files: DICOM CR, mask PNG, Parquet tables.

Every file is written beside its final name and renamed, so a file that exists is whole.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian, generate_uid

from glint.atomic import write_whole

BITS = 12
NOTICE = "Synthetic anatomical phantom made from a public CT. Not a patient. Not for diagnosis."
MANIFEST_COLUMNS = ("study_id", "patient_id", "split", "image", "report", "view")
TRUTH_COLUMNS = ("study_id", "kind", "side", "location", "severity", "size_mm", "mask")
ANATOMY_COLUMNS = ("study_id", "structure", "mask")


def write_mask(path: Path, mask: NDArray[np.bool_]) -> None:
    """Write a (Y, X) mask as an 8-bit grey PNG of 0 and 255."""
    picture = Image.fromarray(mask.astype(np.uint8) * 255)
    write_whole(path, lambda part: picture.save(part, format="PNG", compress_level=3))


def write_table(path: Path, rows: Sequence[dict[str, Any]], columns: tuple[str, ...]) -> None:
    """Write rows as Parquet: text columns, but for `size_mm`, which is a number."""
    schema = pa.schema([(name, pa.float32() if name == "size_mm" else pa.string()) for name in columns])
    table = pa.Table.from_pylist(list(rows), schema=schema)
    write_whole(path, lambda part: pq.write_table(table, part))


def write_dicom(
    path: Path,
    pixels: NDArray[np.int32],
    *,
    study_id: str,
    patient_id: str,
    view: str,
    kvp: float,
    pixel_mm: float,
    inverted: bool,
    uid_seed: str,
) -> None:
    """Write a radiograph as a DICOM Computed Radiography image.

    Args:
        path: Target file.
        pixels: (Y, X) values of 12 bit, bright = dense.
        study_id: Becomes StudyID and AccessionNumber.
        patient_id: Made-up identity; studies of one anatomy share it.
        view: "PA" or "AP".
        kvp: Tube voltage.
        pixel_mm: Pixel size at the detector.
        inverted: Store MONOCHROME1 (values reversed), as some detectors do.
        uid_seed: Text that the unique identifiers are derived from.
    """
    top = (1 << BITS) - 1
    stored = (top - pixels if inverted else pixels).astype("<u2")
    data = FileDataset(str(path), {}, file_meta=_file_meta(uid_seed), preamble=b"\0" * 128)
    _identify(data, study_id, patient_id, uid_seed)
    _describe(data, view, kvp, pixel_mm)
    data.SamplesPerPixel = 1
    data.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
    data.Rows, data.Columns = stored.shape
    data.BitsAllocated, data.BitsStored, data.HighBit, data.PixelRepresentation = 16, BITS, BITS - 1, 0
    low, high = (float(v) for v in np.percentile(stored, (1, 99)))
    data.WindowCenter = f"{(low + high) / 2:.1f}"
    data.WindowWidth = f"{max(high - low, 1.0):.1f}"
    data.PixelData = stored.tobytes()
    write_whole(path, lambda part: data.save_as(part, enforce_file_format=True))


def _uid(*parts: str) -> UID:
    return generate_uid(entropy_srcs=["glint-phantom", *parts])


def _file_meta(uid_seed: str) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = _uid(uid_seed, "image")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return meta


def _identify(data: Dataset, study_id: str, patient_id: str, uid_seed: str) -> None:
    data.SOPClassUID = ComputedRadiographyImageStorage
    data.SOPInstanceUID = _uid(uid_seed, "image")
    data.StudyInstanceUID = _uid(uid_seed, "study")
    data.SeriesInstanceUID = _uid(uid_seed, "series")
    data.PatientName = f"Phantom^{patient_id}"
    data.PatientID = patient_id
    data.PatientBirthDate = data.PatientSex = data.ReferringPhysicianName = ""
    data.StudyDate, data.StudyTime = "20000101", "000000"
    data.StudyID = data.AccessionNumber = study_id[:16]
    data.SeriesNumber = data.InstanceNumber = 1
    data.PatientIdentityRemoved = "YES"
    data.DeidentificationMethod = "Synthetic"
    data.ImageComments = NOTICE


def _describe(data: Dataset, view: str, kvp: float, pixel_mm: float) -> None:
    data.SpecificCharacterSet = "ISO_IR 192"
    data.Modality = "CR"
    data.Manufacturer = "GLINT"
    data.ManufacturerModelName = "anatomical phantom"
    data.ImageType = ["DERIVED", "PRIMARY"]
    data.BodyPartExamined = "CHEST"
    data.ViewPosition = view
    data.Laterality = ""
    data.PatientOrientation = ["L", "F"]
    data.StudyDescription = f"Chest {view} (synthetic phantom)"
    data.KVP = f"{kvp:.1f}"
    data.PixelSpacing = data.ImagerPixelSpacing = [f"{pixel_mm:.5f}"] * 2
    data.BurnedInAnnotation = "NO"
    data.LossyImageCompression = "00"
